-- Makes room for the next list of handles.
TRUNCATE pg_temp.part_handles
