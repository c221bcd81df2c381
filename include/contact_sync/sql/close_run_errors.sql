-- Closes the errors that stopped earlier runs at a part that this one got through.
UPDATE contact_store.sync_errors
SET closed_run = %(run_id)s, closed_at = now()
WHERE part = %(part)s AND closed_run IS NULL AND level = 'run' AND code = ANY (%(stopping)s) AND code <> ALL (%(still)s)
