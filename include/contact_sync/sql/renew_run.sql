-- Renews the lease of a running run.
UPDATE contact_store.sync_runs SET alive_until = now() + %(alive_for)s WHERE id = %(run_id)s AND state = 'running'
