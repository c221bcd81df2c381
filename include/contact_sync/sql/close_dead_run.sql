-- Closes as failed the running run whose lease has passed.
UPDATE contact_store.sync_runs
SET state = 'failed', ended_at = now()
WHERE state = 'running' AND alive_until < now()
RETURNING id
