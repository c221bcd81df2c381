-- Takes the ids up to the one where the sequence goes on.
ALTER SEQUENCE contact_store.{sequence} RESTART WITH {next}
