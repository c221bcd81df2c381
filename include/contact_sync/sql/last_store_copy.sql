-- The newest run before this one that kept a copy of the store, and what tells that copy from all others.
SELECT id, steps -> 'match_contacts' ->> 'store_copy' AS token FROM contact_store.sync_runs
WHERE id < %(run_id)s AND steps -> 'match_contacts' ? 'store_copy'
ORDER BY id DESC
LIMIT 1
