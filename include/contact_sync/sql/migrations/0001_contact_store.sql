-- The contact store: accounts, contacts, what reaches them, and what the sync did to them.

CREATE TABLE contact_store.accounts (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    external_id       text COLLATE "C" UNIQUE CHECK (length(external_id) = 18),
    name              text,
    description       text,
    logo_url          text,
    custom_fields     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(custom_fields) = 'object'),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    not_syncing_since timestamptz
);
COMMENT ON COLUMN contact_store.accounts.external_id IS 'The link: the 18-character id of the Salesforce account';
COMMENT ON COLUMN contact_store.accounts.not_syncing_since IS 'When a run that read the whole source first missed the linked account (rule 2.6)';

CREATE TABLE contact_store.account_domains (
    domain           text COLLATE "C" PRIMARY KEY CHECK (domain <> '' AND domain !~ '[A-Z/[:space:]]'),
    account_id       bigint NOT NULL REFERENCES contact_store.accounts ON DELETE CASCADE,
    origin           text NOT NULL DEFAULT 'person' CHECK (origin IN ('salesforce', 'person')),
    salesforce_field text,
    CHECK ((origin = 'salesforce') = (salesforce_field IS NOT NULL))
);
CREATE INDEX account_domains_by_account ON contact_store.account_domains (account_id);

CREATE TABLE contact_store.contacts (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    external_id       text COLLATE "C" UNIQUE CHECK (length(external_id) = 18),
    account_id        bigint REFERENCES contact_store.accounts ON DELETE SET NULL,
    synced_account_id bigint,
    name              text,
    description       text,
    links             jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(links) = 'array'),
    custom_fields     jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(custom_fields) = 'object'),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    not_syncing_since timestamptz
);
CREATE INDEX contacts_by_account ON contact_store.contacts (account_id) WHERE account_id IS NOT NULL;
COMMENT ON COLUMN contact_store.contacts.external_id IS 'The link: the 18-character id of the Salesforce contact';
COMMENT ON COLUMN contact_store.contacts.synced_account_id IS 'The account that the sync set; where account_id differs from it, a person set account_id (rule 5)';
COMMENT ON COLUMN contact_store.contacts.not_syncing_since IS 'When a run that read the whole source first missed the linked contact (rule 2.6)';

CREATE TABLE contact_store.contact_handles (
    source           text COLLATE "C" NOT NULL CHECK (source IN ('email', 'phone', 'twitter', 'facebook', 'custom')),
    handle           text COLLATE "C" NOT NULL CHECK (handle <> ''),
    contact_id       bigint NOT NULL REFERENCES contact_store.contacts ON DELETE CASCADE,
    origin           text NOT NULL DEFAULT 'person' CHECK (origin IN ('salesforce', 'person')),
    salesforce_field text,
    PRIMARY KEY (source, handle),
    CHECK ((origin = 'salesforce') = (salesforce_field IS NOT NULL)),
    CHECK (source NOT IN ('email', 'twitter') OR handle = lower(handle))
);
CREATE INDEX contact_handles_by_contact ON contact_store.contact_handles (contact_id);

CREATE TABLE contact_store.sync_settings (
    version  integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    settings jsonb NOT NULL,
    saved_by text NOT NULL,
    saved_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE contact_store.sync_runs (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    dag_run_id          text,
    trigger             text NOT NULL CHECK (trigger IN ('schedule', 'manual', 'backfill')),
    triggered_by        text,
    notify              text,
    settings_version    integer REFERENCES contact_store.sync_settings,
    settings            jsonb NOT NULL,
    dry_run             boolean NOT NULL DEFAULT false,
    window_start        timestamptz,
    window_end          timestamptz,
    state               text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'succeeded', 'failed')),
    started_at          timestamptz NOT NULL DEFAULT now(),
    ended_at            timestamptz,
    alive_until         timestamptz NOT NULL,
    taken_over_by       bigint REFERENCES contact_store.sync_runs,
    accounts_applied_at timestamptz,
    contacts_applied_at timestamptz,
    accounts            jsonb,
    contacts            jsonb,
    steps               jsonb NOT NULL DEFAULT '{}',
    report_sent_at      timestamptz,
    CHECK ((state = 'running') = (ended_at IS NULL)),
    CHECK ((window_start IS NULL) = (window_end IS NULL))
);
CREATE UNIQUE INDEX sync_runs_one_at_a_time ON contact_store.sync_runs ((true)) WHERE state = 'running';
CREATE INDEX sync_runs_by_dag_run ON contact_store.sync_runs (dag_run_id);
COMMENT ON COLUMN contact_store.sync_runs.settings IS 'What the run used, also where it came from a file instead of a saved version';
COMMENT ON COLUMN contact_store.sync_runs.alive_until IS 'A running run that gave no sign of life until then has died; the next run may take over (rule 6.3)';
COMMENT ON COLUMN contact_store.sync_runs.taken_over_by IS 'The run that closed this one as failed because it gave no sign of life';
COMMENT ON COLUMN contact_store.sync_runs.accounts IS 'Outcome counts: read, created, linked, updated, unchanged, error';
COMMENT ON COLUMN contact_store.sync_runs.steps IS 'Per step: seconds, peak memory in MB, and its counts';

CREATE TABLE contact_store.sync_changes (
    run_id         bigint NOT NULL,
    part           text NOT NULL CHECK (part IN ('accounts', 'contacts')),
    record_id      bigint NOT NULL,
    external_id    text COLLATE "C" NOT NULL,
    outcome        text NOT NULL CHECK (outcome IN ('created', 'linked', 'updated')),
    rule           text NOT NULL,
    matched_source text,
    matched_handle text,
    old_values     jsonb NOT NULL,
    new_values     jsonb NOT NULL
);
CREATE INDEX sync_changes_by_record ON contact_store.sync_changes (part, record_id, run_id);
COMMENT ON COLUMN contact_store.sync_changes.run_id IS 'sync_runs.id; not a foreign key, which would be checked once for each of a million entries of one run';
COMMENT ON COLUMN contact_store.sync_changes.record_id IS 'accounts.id or contacts.id; kept after the row is gone';

CREATE TABLE contact_store.sync_errors (
    id               bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    part             text NOT NULL CHECK (part IN ('run', 'accounts', 'contacts')),
    code             text NOT NULL,
    level            text NOT NULL CHECK (level IN ('contact', 'account', 'warning', 'run')),
    external_id      text COLLATE "C",
    salesforce_field text,
    value            text,
    detail           text,
    holders          jsonb NOT NULL DEFAULT '[]',
    opened_run       bigint NOT NULL REFERENCES contact_store.sync_runs,
    opened_at        timestamptz NOT NULL DEFAULT now(),
    last_run         bigint NOT NULL REFERENCES contact_store.sync_runs,
    closed_run       bigint REFERENCES contact_store.sync_runs,
    closed_at        timestamptz,
    CHECK ((closed_run IS NULL) = (closed_at IS NULL))
);
CREATE UNIQUE INDEX sync_errors_open ON contact_store.sync_errors (part, code, external_id, salesforce_field)
    NULLS NOT DISTINCT WHERE closed_run IS NULL;
CREATE INDEX sync_errors_by_opened_run ON contact_store.sync_errors (opened_run);
CREATE INDEX sync_errors_by_last_run ON contact_store.sync_errors (last_run);
CREATE INDEX sync_errors_by_closed_run ON contact_store.sync_errors (closed_run) WHERE closed_run IS NOT NULL;
COMMENT ON COLUMN contact_store.sync_errors.holders IS 'For a taken error: [{"contact_id" or "account_id", "external_id", "source", "handle"}], every holder of every colliding handle';

-- When each contact was last synced (rule 6.5): derived, so that an unchanged contact is not rewritten every night.
CREATE VIEW contact_store.contacts_last_synced AS
WITH last_whole_run AS (
    SELECT ended_at, started_at
    FROM contact_store.sync_runs
    WHERE state = 'succeeded' AND NOT dry_run AND window_start IS NULL AND contacts_applied_at IS NOT NULL
    ORDER BY id DESC
    LIMIT 1
)
SELECT
    contacts.id AS contact_id,
    CASE
        WHEN contacts.external_id IS NULL OR contacts.not_syncing_since IS NOT NULL OR open_error.code IS NOT NULL THEN NULL
        ELSE greatest(
            (SELECT ended_at FROM last_whole_run WHERE contacts.created_at <= last_whole_run.ended_at),
            (SELECT max(sync_runs.ended_at)
             FROM contact_store.sync_changes JOIN contact_store.sync_runs ON sync_runs.id = sync_changes.run_id
             WHERE sync_changes.part = 'contacts' AND sync_changes.record_id = contacts.id
               AND sync_changes.external_id = contacts.external_id)
        )
    END AS last_synced_at,
    contacts.not_syncing_since,
    open_error.code AS open_error
FROM contact_store.contacts
LEFT JOIN LATERAL (
    SELECT code FROM contact_store.sync_errors
    WHERE part = 'contacts' AND level = 'contact' AND closed_run IS NULL AND sync_errors.external_id = contacts.external_id
    LIMIT 1
) AS open_error ON true;
