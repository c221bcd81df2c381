-- Saves a new version of the settings, unless the newest one says the same; returns the version that says it.
WITH newest AS (
    SELECT version, settings FROM contact_store.sync_settings ORDER BY version DESC LIMIT 1
), saved AS (
    INSERT INTO contact_store.sync_settings (settings, saved_by)
    SELECT %(settings)s, %(saved_by)s
    WHERE NOT EXISTS (SELECT 1 FROM newest WHERE settings = %(settings)s)
    RETURNING version
)
SELECT version FROM saved
UNION ALL
SELECT version FROM newest WHERE settings = %(settings)s
