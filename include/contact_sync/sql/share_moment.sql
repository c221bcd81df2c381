-- Names what this transaction sees, for other sessions to see the same.
SELECT pg_export_snapshot()
