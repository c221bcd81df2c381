-- Opens an error that stopped a run, or touches it where it is still open.
INSERT INTO contact_store.sync_errors AS known (part, code, level, detail, opened_run, last_run)
VALUES (%(part)s, %(code)s, 'run', %(detail)s, %(run_id)s, %(run_id)s)
ON CONFLICT (part, code, external_id, salesforce_field) WHERE closed_run IS NULL DO UPDATE
SET last_run = excluded.last_run, detail = excluded.detail
