"""What must hold in every store after every run, as SQL. Each query finds what breaks its invariant."""

import psycopg

from tests.conftest import Store

NEWEST_RUN = "(SELECT max(id) FROM contact_store.sync_runs)"
STORED_NOW = """
    WITH stored AS (
        SELECT 'contacts' AS part, id AS record_id, {row} AS row FROM contact_store.contacts AS record
        UNION ALL SELECT 'accounts', id, {row} FROM contact_store.accounts AS record
    )""".format(
    row="jsonb_strip_nulls(to_jsonb(record)) || (SELECT coalesce(jsonb_object_agg('custom_fields.' || key, value), '{}') "
    "FROM jsonb_each(custom_fields))"
)
"""Every record of the store as the entries name its values: what is empty is left out."""

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
    "after a run, who collides is named with holders that hold the handle": f"""
        WITH held (part, holder_id, source, handle, external_id) AS (
            SELECT 'contacts', contacts.id, source, handle, external_id
            FROM contact_store.contact_handles JOIN contact_store.contacts ON contacts.id = contact_id
            UNION ALL SELECT 'accounts', accounts.id, 'domain', domain, external_id
            FROM contact_store.account_domains JOIN contact_store.accounts ON accounts.id = account_id
        )
        SELECT sync_errors.part, sync_errors.external_id FROM contact_store.sync_errors
        WHERE closed_run IS NULL AND code LIKE '%taken' AND last_run = {NEWEST_RUN} AND (jsonb_array_length(holders) = 0 OR EXISTS (
            SELECT FROM jsonb_to_recordset(holders)
                AS holder (contact_id bigint, account_id bigint, source text, handle text)
            LEFT JOIN held ON held.part = sync_errors.part AND held.holder_id = coalesce(contact_id, account_id)
                AND (held.source, held.handle) = (holder.source, holder.handle)
            WHERE held.holder_id IS NULL OR held.external_id = sync_errors.external_id))""",
    "after a run, the store holds the values, links and accounts that the run's entries say": f"""
        {STORED_NOW}
        SELECT part, entry.external_id, name FROM stored JOIN contact_store.sync_changes AS entry USING (part, record_id),
            LATERAL jsonb_object_keys(old_values::jsonb || new_values::jsonb) AS name
        WHERE run_id = {NEWEST_RUN} AND name <> 'handles' AND new_values::jsonb -> name IS DISTINCT FROM stored.row -> name""",
    "after a run, the store holds the handles that the run's entries say, and none that they say are gone": f"""
        SELECT entry.external_id, handle FROM contact_store.sync_changes AS entry,
            LATERAL (VALUES (true, new_values::jsonb), (false, old_values::jsonb)) AS said (is_given, told),
            LATERAL jsonb_to_recordset(told -> 'handles') AS handle (source text, handle text)
        WHERE run_id = {NEWEST_RUN} AND is_given <> EXISTS (
            SELECT FROM contact_store.contact_handles
            WHERE part = 'contacts' AND contact_id = record_id
                AND (contact_handles.source, contact_handles.handle) = (handle.source, handle.handle)
            UNION ALL
            SELECT FROM contact_store.account_domains
            WHERE part = 'accounts' AND account_id = record_id AND domain = handle.handle)""",
    "after a run, whom it wrote belongs to the account that the sync set, a linked one, if it set one": f"""
        SELECT contacts.id FROM contact_store.contacts JOIN contact_store.sync_changes ON record_id = contacts.id
            LEFT JOIN contact_store.accounts ON accounts.id = synced_account_id
        WHERE part = 'contacts' AND run_id = {NEWEST_RUN} AND synced_account_id IS NOT NULL
            AND (account_id IS DISTINCT FROM synced_account_id OR accounts.external_id IS NULL)""",
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
