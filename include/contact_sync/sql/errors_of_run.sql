-- What a run met (new, still open) and what it closed (resolved).
SELECT
    id, part, code, level, external_id, salesforce_field, value, detail, holders::text AS holders,
    opened_run, opened_at, last_run, closed_run, closed_at,
    CASE
        WHEN closed_run = {run_id} THEN 'resolved'
        WHEN opened_run = {run_id} THEN 'new'
        ELSE 'still_open'
    END AS status
FROM contact_store.sync_errors
WHERE (opened_run = {run_id} OR last_run = {run_id} OR closed_run = {run_id})
    AND closed_run IS DISTINCT FROM opened_run  -- a retry that got through leaves nothing to tell
ORDER BY part, code, external_id, salesforce_field, id
