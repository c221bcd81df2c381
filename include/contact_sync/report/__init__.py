"""What people are told about a run (rule 8): `model` decides what is said, `render` and `csv_file` say it, `operator` mails it."""
