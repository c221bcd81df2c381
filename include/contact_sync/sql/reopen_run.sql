-- Opens a failed run again; what its e-mail said is out of date.
UPDATE contact_store.sync_runs
SET
    state = 'running', ended_at = NULL, alive_until = now() + %(alive_for)s,
    report_sent_at = NULL, report_handed_over_in = NULL
WHERE id = %(run_id)s
