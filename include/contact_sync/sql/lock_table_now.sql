-- The same, or nothing where somebody holds the table.
LOCK TABLE contact_store.{table} IN SHARE ROW EXCLUSIVE MODE NOWAIT
