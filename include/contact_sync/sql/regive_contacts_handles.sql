-- Remembers which Salesforce field gives a handle that the contact has already.
UPDATE contact_store.contact_handles AS stored
SET origin = 'salesforce', salesforce_field = part_handles.salesforce_field
FROM pg_temp.part_handles
WHERE stored.source = part_handles.source AND stored.handle = part_handles.handle AND stored.contact_id = part_handles.record_id
