-- A run over the whole source leaves an error that is still open alone where it finds it as it was: no night rewrites them
-- all any more, and their pages need no room for that (migration 0005). A run over a window still writes those that it met.
ALTER TABLE contact_store.sync_errors RESET (fillfactor);
COMMENT ON COLUMN contact_store.sync_errors.last_run IS
    'The newest run that wrote the error: opened it, found it otherwise, met it within a window or was stopped by it. Every run over the whole source met it too as long as it was open';
