-- One row where the run is running.
SELECT 1 FROM contact_store.sync_runs WHERE id = %(run_id)s AND state = 'running'
