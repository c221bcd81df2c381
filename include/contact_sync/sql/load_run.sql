-- One run.
SELECT
    id, dag_run_id, trigger, triggered_by, notify, settings_version, settings AS settings_as_saved, dry_run,
    window_start, window_end, state, started_at, ended_at, alive_until, taken_over_by,
    accounts_applied_at, contacts_applied_at, accounts, contacts, steps, report_sent_at,
    report_handed_over_in
FROM contact_store.sync_runs
WHERE id = %(run_id)s
