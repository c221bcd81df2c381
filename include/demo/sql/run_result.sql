-- What one DAG run did, by the store's own record.
SELECT id, state, accounts, contacts, report_sent_at IS NOT NULL AS report_sent
FROM contact_store.sync_runs
WHERE dag_run_id = %(dag_run_id)s
ORDER BY id DESC
LIMIT 1
