-- Makes a session recognisable in pg_stat_activity, and its times UTC.
SELECT set_config('application_name', 'contact_sync', false), set_config('TimeZone', 'UTC', false)
