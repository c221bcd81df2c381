-- Remembers when the mail server took the run's e-mail.
UPDATE contact_store.sync_runs SET report_sent_at = now(), report_handed_over_in = NULL WHERE id = %(run_id)s
