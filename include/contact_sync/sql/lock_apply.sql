-- Lets one load at a time apply its outcomes; released by the end of its transaction.
SELECT pg_advisory_xact_lock(hashtextextended('contact_store.apply', 0))
