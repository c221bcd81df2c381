-- The errors of records and fields of a part that are open; they are found anew by every run.
SELECT id, part, code, level, external_id, salesforce_field, value, detail, holders::text AS holders
FROM contact_store.sync_errors
WHERE part = {part} AND closed_run IS NULL AND (level <> 'run' OR code = 'field_not_found')
