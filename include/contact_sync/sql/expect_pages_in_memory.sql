-- Looks rows up one by one where they are few: the fingerprint has just read every page of the tables.
SELECT set_config('random_page_cost', '1.1', true)
