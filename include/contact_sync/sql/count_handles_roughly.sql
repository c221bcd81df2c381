-- About how many handles there are, as PostgreSQL has last counted them.
SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'contact_store.contact_handles'::regclass
