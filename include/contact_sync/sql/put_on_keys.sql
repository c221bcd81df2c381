-- Puts on again, as the migrations made them, the keys that take_off_keys took off; a row that breaks one fails the load.
ALTER TABLE contact_store.contacts
    ADD CONSTRAINT contacts_external_id_key UNIQUE (external_id),
    ADD CONSTRAINT contacts_account_id_fkey FOREIGN KEY (account_id) REFERENCES contact_store.accounts ON DELETE SET NULL;
CREATE INDEX contacts_by_account ON contact_store.contacts (account_id) WHERE account_id IS NOT NULL;
ALTER TABLE contact_store.contact_handles
    ADD CONSTRAINT contact_handles_pkey PRIMARY KEY (source, handle),
    ADD CONSTRAINT contact_handles_contact_id_fkey FOREIGN KEY (contact_id) REFERENCES contact_store.contacts ON DELETE CASCADE;
CREATE INDEX contact_handles_by_contact ON contact_store.contact_handles (contact_id);
CREATE INDEX sync_changes_by_record ON contact_store.sync_changes (record_id, run_id)
