-- The schema of the contact store.
CREATE SCHEMA contact_store
