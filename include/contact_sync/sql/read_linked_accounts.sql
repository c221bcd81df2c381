-- The accounts that are linked to a Salesforce account.
SELECT id, external_id FROM contact_store.accounts WHERE external_id IS NOT NULL
