-- The accounts as matching needs them.
SELECT id, external_id, not_syncing_since {fields} FROM contact_store.accounts ORDER BY id
