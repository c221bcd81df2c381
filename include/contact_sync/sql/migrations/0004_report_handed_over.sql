-- A report that was handed to the mail server is not handed over a second time while the server's answer is unknown.

-- Airflow's count of tries (max_tries) under which that was done; it grows when a person clears the task.
ALTER TABLE contact_store.sync_runs ADD report_handed_over_in integer;
