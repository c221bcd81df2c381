-- Lets one session at a time migrate; released by the end of its transaction.
SELECT pg_advisory_xact_lock(hashtextextended('contact_store.migrations', 0))
