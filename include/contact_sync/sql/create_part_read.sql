-- The records that a load's source held; gone with its transaction.
CREATE TEMPORARY TABLE part_read (external_id text COLLATE "C" NOT NULL) ON COMMIT DROP
