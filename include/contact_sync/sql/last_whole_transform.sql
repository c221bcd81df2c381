-- The newest run before this one in which a step read the values of a whole source; accounts are always whole.
SELECT id FROM contact_store.sync_runs
WHERE id < %(run_id)s AND steps ? %(step)s AND (window_start IS NULL OR %(step)s = 'sync_accounts')
ORDER BY id DESC
LIMIT 1
