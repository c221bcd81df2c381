"""What must hold in every store after every run, as SQL. Each query finds what breaks its invariant."""

import psycopg

from tests.conftest import Store

INVARIANTS = {
    "a handle belongs to one contact": """
        SELECT source, handle FROM contact_store.contact_handles GROUP BY source, handle HAVING count(*) > 1""",
    "a domain belongs to one account": """
        SELECT domain FROM contact_store.account_domains GROUP BY domain HAVING count(*) > 1""",
    "a link belongs to one contact": """
        SELECT external_id FROM contact_store.contacts WHERE external_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1""",
    "a link belongs to one account": """
        SELECT external_id FROM contact_store.accounts WHERE external_id IS NOT NULL GROUP BY 1 HAVING count(*) > 1""",
    "read = created + linked + updated + unchanged + error": """
        SELECT id, part.counts FROM contact_store.sync_runs,
            LATERAL (VALUES (accounts), (contacts)) AS part (counts)
        WHERE part.counts IS NOT NULL AND (part.counts ->> 'read')::bigint <>
            (SELECT sum(value::bigint) FROM jsonb_each_text(part.counts) WHERE key <> 'read')""",
    "every created, linked and updated record has one entry, and nothing else has": """
        SELECT sync_runs.id, part.name, kind.outcome
        FROM contact_store.sync_runs,
            LATERAL (VALUES ('accounts', accounts, accounts_applied_at), ('contacts', contacts, contacts_applied_at))
                AS part (name, counts, applied_at),
            (VALUES ('created'), ('linked'), ('updated')) AS kind (outcome)
        WHERE (CASE WHEN part.applied_at IS NULL THEN 0 ELSE (part.counts ->> kind.outcome)::bigint END) <>
            (SELECT count(*) FROM contact_store.sync_changes
             WHERE run_id = sync_runs.id AND sync_changes.part = part.name AND sync_changes.outcome = kind.outcome)""",
    "no record has two entries of one run": """
        SELECT run_id, part, external_id FROM contact_store.sync_changes GROUP BY 1, 2, 3 HAVING count(*) > 1""",
    "the newest whole run left as many open errors on records as it counted": """
        SELECT newest.id, part.name FROM (
            SELECT * FROM contact_store.sync_runs ORDER BY id DESC LIMIT 1
        ) AS newest, LATERAL (VALUES
            ('accounts', newest.accounts, newest.accounts_applied_at), ('contacts', newest.contacts, newest.contacts_applied_at)
        ) AS part (name, counts, applied_at)
        WHERE part.applied_at IS NOT NULL AND newest.window_start IS NULL AND (part.counts ->> 'error')::bigint <>
            (SELECT count(*) FROM contact_store.sync_errors
             WHERE sync_errors.part = part.name AND level IN ('contact', 'account') AND closed_run IS NULL)""",
    "nobody is written and in error in one run": """
        SELECT run_id, external_id FROM contact_store.sync_changes JOIN contact_store.sync_errors USING (part, external_id)
        WHERE level IN ('contact', 'account') AND last_run = run_id AND closed_run IS NULL""",
    "after a run, who collides is named with holders that hold the handle": """
        SELECT sync_errors.external_id FROM contact_store.sync_errors
        WHERE closed_run IS NULL AND part = 'contacts' AND code LIKE '%taken' AND last_run = (
            SELECT id FROM contact_store.sync_runs ORDER BY id DESC LIMIT 1
        ) AND (jsonb_array_length(holders) = 0 OR EXISTS (
            SELECT FROM jsonb_to_recordset(holders) AS holder (contact_id bigint, source text, handle text)
            LEFT JOIN contact_store.contact_handles USING (contact_id, source, handle)
            WHERE contact_handles.origin IS NULL))""",
    "a contact that stopped syncing is linked": """
        SELECT id FROM contact_store.contacts WHERE not_syncing_since IS NOT NULL AND external_id IS NULL""",
    "a contact that a run wrote last has the link the run gave it": """
        SELECT contacts.id FROM contact_store.sync_changes JOIN contact_store.contacts ON contacts.id = record_id
        WHERE part = 'contacts' AND run_id = (SELECT max(run_id) FROM contact_store.sync_changes WHERE part = 'contacts')
            AND sync_changes.external_id <> contacts.external_id""",
    "at most one run is running, and none that ended says it lives": """
        SELECT count(*) FROM contact_store.sync_runs WHERE state = 'running' HAVING count(*) > 1""",
}


def broken(store: Store) -> dict[str, list[tuple]]:
    """The invariants that do not hold, with what breaks them."""
    with psycopg.connect(store.uri) as connection:
        found = {name: connection.execute(query).fetchall() for name, query in INVARIANTS.items()}
    return {name: rows for name, rows in found.items() if rows}
