-- Gives the building of indexes room to sort in memory.
SELECT set_config('maintenance_work_mem', '512MB', true)
