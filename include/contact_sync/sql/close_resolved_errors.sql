-- Closes the open errors that a run over the whole source no more met.
-- Errors that stop a run are not about records and close when a run gets through (close_run_errors).
UPDATE contact_store.sync_errors SET closed_run = %(run_id)s, closed_at = now() WHERE id = ANY (%(ids)s) AND closed_run IS NULL
