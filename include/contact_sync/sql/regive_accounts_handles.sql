-- Remembers which Salesforce field gives a domain that the account has already.
UPDATE contact_store.account_domains AS stored
SET origin = 'salesforce', salesforce_field = part_handles.salesforce_field
FROM pg_temp.part_handles
WHERE stored.domain = part_handles.handle AND stored.account_id = part_handles.record_id
