-- Remembers that the mail server is given the run's e-mail, unless it was already, under the same count of tries.
UPDATE contact_store.sync_runs
SET report_handed_over_in = %(tries)s
WHERE id = %(run_id)s AND report_sent_at IS NULL AND report_handed_over_in IS DISTINCT FROM %(tries)s
