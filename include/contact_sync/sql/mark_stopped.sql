-- Says since when linked records are no longer in the source (rule 2.6).
UPDATE contact_store.{table} SET not_syncing_since = now() WHERE id = ANY (%(ids)s)
