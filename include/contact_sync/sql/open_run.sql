-- Opens a run; returns nothing where another one is running (rule 6.3).
INSERT INTO contact_store.sync_runs (
    dag_run_id, trigger, triggered_by, notify, settings_version, settings, dry_run, window_start, window_end, alive_until
) VALUES (
    %(dag_run_id)s, %(trigger)s, %(triggered_by)s, %(notify)s, %(settings_version)s, %(settings)s, %(dry_run)s,
    %(window_start)s, %(window_end)s, now() + %(alive_for)s
)
ON CONFLICT ((true)) WHERE state = 'running' DO NOTHING
RETURNING id
