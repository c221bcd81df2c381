-- The errors of records that are open, as a dry run compares what it found with them.
SELECT part, code, external_id, salesforce_field, 'still_open' AS status_before
FROM contact_store.sync_errors
WHERE closed_run IS NULL AND (level <> 'run' OR code = 'field_not_found')
