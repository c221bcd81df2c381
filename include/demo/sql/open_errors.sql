-- How many errors of each code are open after a run, and how many of them it opened.
SELECT part, code, level, count(*) AS errors, count(*) FILTER (WHERE opened_run = %(run_id)s) AS new_errors
FROM contact_store.sync_errors
WHERE closed_run IS NULL
GROUP BY part, code, level
ORDER BY part, errors DESC, code
