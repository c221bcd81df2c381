-- Takes away what the contacts give up.
DELETE FROM contact_store.contact_handles AS stored
USING pg_temp.part_handles
WHERE stored.source = part_handles.source AND stored.handle = part_handles.handle AND stored.contact_id = part_handles.record_id
