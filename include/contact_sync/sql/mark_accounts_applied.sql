-- Records the outcome counts of the accounts part with its load; no row where the run is no longer running.
UPDATE contact_store.sync_runs
SET accounts = %(counts)s, accounts_applied_at = clock_timestamp()
WHERE id = %(run_id)s AND state = 'running'
