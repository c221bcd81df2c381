-- Keeps everybody else's changes away until the transaction ends; reading goes on.
LOCK TABLE contact_store.accounts, contact_store.contacts, contact_store.contact_handles IN SHARE ROW EXCLUSIVE MODE
