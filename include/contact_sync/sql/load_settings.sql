-- One version of the settings.
SELECT version, settings, saved_by, saved_at FROM contact_store.sync_settings WHERE version = %(version)s
