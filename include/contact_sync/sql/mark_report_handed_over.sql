-- Remembers that the run's e-mail is on its way to the mail server, or that the server refused it.
UPDATE contact_store.sync_runs SET report_handed_over_in = %(tries)s WHERE id = %(run_id)s
