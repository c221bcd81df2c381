-- A large load spends much of its time on keeping indexes up: as few and as small as the questions allow.

-- Entries are looked up by their record; a key without text costs half as much.
DROP INDEX contact_store.sync_changes_by_record;
CREATE INDEX sync_changes_by_record ON contact_store.sync_changes (record_id, run_id);

-- Every night touches every error that is still open: in place, where there is room and no index holds what changes.
DROP INDEX contact_store.sync_errors_by_last_run;
ALTER TABLE contact_store.sync_errors SET (fillfactor = 70);
