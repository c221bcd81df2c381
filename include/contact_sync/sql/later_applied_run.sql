-- The first later run that has applied something.
SELECT id FROM contact_store.sync_runs
WHERE id > %(run_id)s AND (accounts_applied_at IS NOT NULL OR contacts_applied_at IS NOT NULL)
ORDER BY id
LIMIT 1
