-- Merges facts of a step into what is known of it.
UPDATE contact_store.sync_runs
SET steps = steps || jsonb_build_object(%(step)s::text, coalesce(steps -> %(step)s::text, '{}') || %(facts)s)
WHERE id = %(run_id)s
