-- Ends what limit_lock_wait began.
SELECT set_config('lock_timeout', '0', true)
