-- Waits for a lock a little longer than PostgreSQL takes to notice a deadlock: so it is always the sync that gives way, never a person.
SELECT set_config('lock_timeout', (extract(epoch FROM current_setting('deadlock_timeout')::interval) * 1500)::integer || 'ms', true)
