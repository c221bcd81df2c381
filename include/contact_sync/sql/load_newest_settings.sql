-- The newest version of the settings.
SELECT version, settings, saved_by, saved_at FROM contact_store.sync_settings ORDER BY version DESC LIMIT 1
