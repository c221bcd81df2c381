-- The first of the ids that are taken.
SELECT nextval(pg_get_serial_sequence(%(table)s, 'id'))
