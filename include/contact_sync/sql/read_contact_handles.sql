-- Who owns which handle.
SELECT contact_id AS record_id, source, handle, salesforce_field FROM contact_store.contact_handles WHERE {wanted}
