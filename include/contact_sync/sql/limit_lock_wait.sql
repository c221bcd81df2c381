-- No wait for a lock in this transaction is longer than this many milliseconds.
SELECT set_config('lock_timeout', %(milliseconds)s::text, true)
