-- Records the outcome counts of the contacts part with its load; no row where the run is no longer running.
UPDATE contact_store.sync_runs
SET contacts = %(counts)s, contacts_applied_at = clock_timestamp()
WHERE id = %(run_id)s AND state = 'running'
