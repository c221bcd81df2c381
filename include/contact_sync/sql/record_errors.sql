-- Opens the errors of a part that are new and writes down anew those that are open already. One record may collect the
-- same code for the same field twice (the field feeds two of ours): that is one error whose detail says both.
INSERT INTO contact_store.sync_errors AS known
    (part, code, level, external_id, salesforce_field, value, detail, holders, opened_run, last_run)
SELECT
    %(part)s, code, level, external_id, salesforce_field, min(value), string_agg(DISTINCT detail, '; ' ORDER BY detail),
    coalesce((array_agg(holders ORDER BY holders DESC NULLS LAST))[1], '[]'), %(run_id)s, %(run_id)s
FROM pg_temp.part_errors
GROUP BY code, level, external_id, salesforce_field
ON CONFLICT (part, code, external_id, salesforce_field) WHERE closed_run IS NULL DO UPDATE
SET last_run = excluded.last_run, value = excluded.value, detail = excluded.detail, holders = excluded.holders
