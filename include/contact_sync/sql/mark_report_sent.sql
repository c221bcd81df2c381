-- Remembers when the run's e-mail went out.
UPDATE contact_store.sync_runs SET report_sent_at = now() WHERE id = %(run_id)s
