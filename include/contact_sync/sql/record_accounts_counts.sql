-- Records the outcome counts of a accounts part that was planned but not applied.
UPDATE contact_store.sync_runs SET accounts = %(counts)s WHERE id = %(run_id)s
