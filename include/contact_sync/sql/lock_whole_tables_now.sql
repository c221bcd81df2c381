-- Keeps readers away too, from the tables whose keys are taken off; or nothing where somebody holds one.
LOCK TABLE contact_store.accounts, contact_store.contacts, contact_store.contact_handles, contact_store.sync_changes
IN ACCESS EXCLUSIVE MODE NOWAIT
