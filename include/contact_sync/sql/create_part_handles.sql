-- The handles to release, or to remember another giver for.
CREATE TEMPORARY TABLE part_handles (record_id bigint, source text, handle text, salesforce_field text) ON COMMIT DROP
