-- Who owns which handle.
SELECT contact_id AS record_id, source, handle, origin, salesforce_field FROM contact_store.contact_handles
