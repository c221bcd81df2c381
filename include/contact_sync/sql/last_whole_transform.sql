-- The newest run before this one that read the values of a whole source of contacts.
SELECT id FROM contact_store.sync_runs
WHERE id < %(run_id)s AND window_start IS NULL AND steps ? 'transform_contacts'
ORDER BY id DESC
LIMIT 1
