-- Closes the open errors of a part that a run over the whole source no more met. Errors that stop a run are not
-- about records and close when a run gets through (close_run_errors). Ids and fields are never empty, so that
-- coalesce compares them NULLs included, in a way that can be hashed.
UPDATE contact_store.sync_errors AS known
SET closed_run = %(run_id)s, closed_at = now()
WHERE known.part = %(part)s
  AND known.closed_run IS NULL
  AND known.code <> ALL (%(stopping)s)
  AND NOT EXISTS (
    SELECT 1 FROM pg_temp.part_errors AS met
    WHERE met.code = known.code
      AND coalesce(met.external_id, '') = coalesce(known.external_id, '')
      AND coalesce(met.salesforce_field, '') = coalesce(known.salesforce_field, '')
  )
