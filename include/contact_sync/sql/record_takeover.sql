-- Remembers which run took over from a dead one, so that the dead one is never opened again.
UPDATE contact_store.sync_runs SET taken_over_by = %(run_id)s WHERE id = %(dead)s
