-- The rows to update.
CREATE TEMPORARY TABLE part_rows (
    id bigint PRIMARY KEY,
    external_id text,
    account_id bigint,
    synced_account_id bigint,
    custom_set jsonb,
    custom_clear jsonb
    {fields}
) ON COMMIT DROP
