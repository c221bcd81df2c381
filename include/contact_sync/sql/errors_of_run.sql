-- What a run met (new, still open) and what it closed (resolved). What was open before a run over the whole source, and
-- still after it, was met by it; such a run writes it only where it found it otherwise. What was open before a run over a
-- window is told as long as no later run writes it: which records such a run read is not kept.
SELECT
    error.id, part, code, level, external_id, salesforce_field, value, detail, holders::text AS holders,
    opened_run, opened_at, last_run, closed_run, closed_at,
    CASE
        WHEN closed_run = {run_id} THEN 'resolved'
        WHEN opened_run = {run_id} THEN 'new'
        ELSE 'still_open'
    END AS status
FROM contact_store.sync_errors AS error
JOIN contact_store.sync_runs AS run ON run.id = {run_id}
WHERE
    (
        opened_run = run.id OR last_run = run.id OR closed_run = run.id
        OR (
            opened_run < run.id AND (closed_run IS NULL OR closed_run > run.id)
            AND (
                (part = 'accounts' AND accounts_applied_at IS NOT NULL)
                OR (part = 'contacts' AND contacts_applied_at IS NOT NULL AND window_start IS NULL)
                OR run.steps -> (part || '_failed') ->> 'code' = code
            )
        )
    )
    AND closed_run IS DISTINCT FROM opened_run  -- a retry that got through leaves nothing to tell
ORDER BY error.id
