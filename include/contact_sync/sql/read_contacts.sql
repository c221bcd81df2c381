-- The contacts as matching needs them.
SELECT id, external_id, account_id, synced_account_id, not_syncing_since {fields}
FROM contact_store.contacts
WHERE {wanted}
ORDER BY id
