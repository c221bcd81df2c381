-- The newest run of a DAG run.
SELECT id FROM contact_store.sync_runs WHERE dag_run_id = %(dag_run_id)s ORDER BY id DESC LIMIT 1
