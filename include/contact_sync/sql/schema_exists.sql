-- One row where the schema of the contact store exists.
SELECT 1 FROM pg_namespace WHERE nspname = 'contact_store'
