-- The errors of records and fields that are open, as a dry run compares what it found with them.
SELECT part, code, level, external_id, salesforce_field, value, detail, holders::text AS holders
FROM contact_store.sync_errors
WHERE closed_run IS NULL AND (level <> 'run' OR code = 'field_not_found')
