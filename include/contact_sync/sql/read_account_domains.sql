-- Who owns which domain.
SELECT account_id AS record_id, 'domain' AS source, domain AS handle, salesforce_field
FROM contact_store.account_domains
