-- Keeps everybody else's changes away until the transaction ends; reading goes on.
LOCK TABLE contact_store.accounts, contact_store.account_domains IN SHARE ROW EXCLUSIVE MODE
