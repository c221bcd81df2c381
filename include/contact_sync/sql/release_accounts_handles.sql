-- Takes away what the accounts give up.
DELETE FROM contact_store.account_domains AS stored
USING pg_temp.part_handles
WHERE stored.domain = part_handles.handle AND stored.account_id = part_handles.record_id
