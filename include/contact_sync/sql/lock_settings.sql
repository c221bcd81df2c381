-- Lets one session at a time save settings; released by the end of its transaction.
SELECT pg_advisory_xact_lock(hashtextextended('contact_store.sync_settings', 0))
