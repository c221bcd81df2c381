-- Keeps everybody else's changes away until the transaction ends; reading goes on.
LOCK TABLE contact_store.{table} IN SHARE ROW EXCLUSIVE MODE
