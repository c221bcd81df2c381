-- Closes the open errors of a part that a run over the whole source no more met; record_errors touched those it met.
-- Errors that stop a run are not about records and close when a run gets through (close_run_errors).
UPDATE contact_store.sync_errors
SET closed_run = %(run_id)s, closed_at = now()
WHERE part = %(part)s AND closed_run IS NULL AND last_run <> %(run_id)s AND code <> ALL (%(stopping)s)
