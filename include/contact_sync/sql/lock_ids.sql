-- Nobody else takes an id until the transaction ends.
ALTER SEQUENCE contact_store.{sequence} NO CYCLE
