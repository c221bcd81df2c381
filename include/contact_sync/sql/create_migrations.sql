-- Which migrations the store has; the checksum shows that a file was changed afterwards.
CREATE TABLE IF NOT EXISTS contact_store.migrations (
    name       text COLLATE "C" PRIMARY KEY,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
