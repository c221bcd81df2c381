-- The migrations that the store has, in order.
SELECT name, checksum FROM contact_store.migrations ORDER BY name
