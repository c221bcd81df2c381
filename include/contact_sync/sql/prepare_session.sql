-- Makes a session recognisable in pg_stat_activity, and its times UTC. A session that waits while other sessions read for
-- it, or while a plan is made, is not to be ended for that.
SELECT
    set_config('application_name', 'contact_sync', false),
    set_config('TimeZone', 'UTC', false),
    set_config('idle_in_transaction_session_timeout', '0', false)
