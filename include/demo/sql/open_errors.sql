-- How many errors of each code a run found, old ones included.
SELECT part, code, level, count(*) AS errors, count(*) FILTER (WHERE opened_run = %(run_id)s) AS new_errors
FROM contact_store.sync_errors
WHERE last_run = %(run_id)s AND closed_run IS NULL
GROUP BY part, code, level
ORDER BY part, errors DESC, code
