-- The errors that a load met, one row each; gone with its transaction.
CREATE TEMPORARY TABLE part_errors (
    code             text NOT NULL,
    level            text NOT NULL,
    external_id      text COLLATE "C",
    salesforce_field text,
    value            text,
    detail           text,
    holders          jsonb
) ON COMMIT DROP
