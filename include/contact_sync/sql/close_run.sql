-- Ends a running run.
UPDATE contact_store.sync_runs SET state = %(state)s, ended_at = now() WHERE id = %(run_id)s AND state = 'running'
