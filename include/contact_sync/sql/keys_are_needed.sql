-- Whether a table whose keys would be taken off is published: without its key PostgreSQL refuses to delete from it then.
SELECT EXISTS (
    SELECT FROM pg_publication_tables
    WHERE schemaname = 'contact_store' AND tablename IN ('contacts', 'contact_handles')
)
