-- Closes the open errors of the records that a run over a part of the source read and no more met (rule 1.3).
UPDATE contact_store.sync_errors AS known
SET closed_run = %(run_id)s, closed_at = now()
FROM (SELECT DISTINCT external_id FROM pg_temp.part_read) AS read_record
WHERE known.part = %(part)s
  AND known.closed_run IS NULL
  AND known.last_run <> %(run_id)s
  AND known.external_id = read_record.external_id
