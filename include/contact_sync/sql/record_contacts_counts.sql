-- Records the outcome counts of a contacts part that was planned but not applied.
UPDATE contact_store.sync_runs SET contacts = %(counts)s WHERE id = %(run_id)s
