-- A run over the whole source leaves an error that is still open alone where it finds it as it was: no night rewrites them
-- all any more, and their pages need no room for that (migration 0005).
ALTER TABLE contact_store.sync_errors RESET (fillfactor);
COMMENT ON COLUMN contact_store.sync_errors.last_run IS
    'The newest run that opened it, found it otherwise, met it within a window or was stopped by it; runs over the whole source met it too as long as it was open';
