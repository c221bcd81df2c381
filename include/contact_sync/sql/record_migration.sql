-- Remembers an applied migration.
INSERT INTO contact_store.migrations (name, checksum) VALUES (%(name)s, %(checksum)s)
