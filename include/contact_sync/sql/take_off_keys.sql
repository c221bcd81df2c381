-- Takes off what PostgreSQL would check and index row by row; put_on_keys checks and indexes all rows at once.
ALTER TABLE contact_store.contact_handles
    DROP CONSTRAINT contact_handles_pkey,
    DROP CONSTRAINT contact_handles_contact_id_fkey;
DROP INDEX contact_store.contact_handles_by_contact;
ALTER TABLE contact_store.contacts
    DROP CONSTRAINT contacts_external_id_key,
    DROP CONSTRAINT contacts_account_id_fkey;
DROP INDEX contact_store.contacts_by_account;
DROP INDEX contact_store.sync_changes_by_record
