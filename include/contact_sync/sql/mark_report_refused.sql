-- Remembers that the mail server did not take the run's e-mail.
UPDATE contact_store.sync_runs
SET report_handed_over_in = NULL
WHERE id = %(run_id)s AND report_handed_over_in = %(tries)s
