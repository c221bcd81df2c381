-- The run that is running, of which there is at most one.
SELECT id, dag_run_id, started_at FROM contact_store.sync_runs WHERE state = 'running'
