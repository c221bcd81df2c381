-- Lets one session at a time open, resume or take over a run; released by the end of its transaction.
SELECT pg_advisory_xact_lock(hashtextextended('contact_store.sync_runs', 0))
