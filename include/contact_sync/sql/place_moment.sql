-- Which tables these are and who sees them, and where among all transactions the moment is that this one sees: those before
-- oldest_open were over, those from next_transaction on had not begun.
SELECT
    concat_ws(
        ' ',
        (SELECT system_identifier FROM pg_control_system()),
        (SELECT oid FROM pg_database WHERE datname = current_database()),
        current_user,
        (
            SELECT string_agg(concat_ws(' ', attrelid::oid, attnum, attname, atttypid), ' ' ORDER BY attrelid, attnum)
            FROM pg_attribute
            WHERE attrelid IN ('contact_store.contacts'::regclass, 'contact_store.contact_handles'::regclass)
        )
    ) AS tables,
    pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS oldest_open,
    pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next_transaction
