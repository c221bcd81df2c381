-- Who saved which version of the settings, and when; the newest first.
SELECT version, saved_by, saved_at FROM contact_store.sync_settings ORDER BY version DESC
