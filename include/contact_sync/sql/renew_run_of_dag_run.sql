-- Renews the lease of the DAG run's running run, if there is one; NULL, a run without Airflow, finds none.
UPDATE contact_store.sync_runs
SET alive_until = now() + %(alive_for)s
WHERE dag_run_id = %(dag_run_id)s AND state = 'running'
RETURNING id
