-- Writes what changed in the linked and updated records.
UPDATE contact_store.{table} AS stored
SET
    {assignments}
    external_id = part_rows.external_id,
    custom_fields = (stored.custom_fields - ARRAY(SELECT jsonb_array_elements_text(part_rows.custom_clear))) || part_rows.custom_set,
    not_syncing_since = NULL,
    updated_at = now()
FROM pg_temp.part_rows
WHERE stored.id = part_rows.id
