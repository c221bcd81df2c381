"""What must hold in every store after every run, as SQL. Each query finds what breaks its invariant.

Some can only be asked by who knows what Salesforce held when the newest run read it: which records, with which handles,
and who was merged into whom. They find that in three temporary tables.
"""

from collections.abc import Iterable

import psycopg

from tests.conftest import Store
from tests.contact_sync.specification import World, end_of_chain, given

NEWEST_RUN = "(SELECT max(id) FROM contact_store.sync_runs)"
MET_BY_NEWEST = f"""(sync_errors.closed_run IS NULL AND (sync_errors.last_run = {NEWEST_RUN} OR EXISTS (
    SELECT FROM contact_store.sync_runs AS newest
    WHERE newest.id = {NEWEST_RUN} AND CASE sync_errors.part
        WHEN 'accounts' THEN newest.accounts_applied_at IS NOT NULL
        WHEN 'contacts' THEN newest.contacts_applied_at IS NOT NULL AND newest.window_start IS NULL
    END)))"""
"""Errors that the newest run found: what is open after a run over the whole source, it found."""
STORED_NOW = """
    WITH stored AS (
        SELECT 'contacts' AS part, id AS record_id, {row} AS row FROM contact_store.contacts AS record
        UNION ALL SELECT 'accounts', id, {row} FROM contact_store.accounts AS record
    )""".format(
    row="jsonb_strip_nulls(to_jsonb(record)) || (SELECT coalesce(jsonb_object_agg('custom_fields.' || key, value), '{}') "
    "FROM jsonb_each(custom_fields))"
)
"""Every record of the store as the entries name its values: what is empty is left out."""

HELD = """
    held (part, holder_id, source, handle, external_id) AS (
        SELECT 'contacts', contacts.id, source, handle, external_id
        FROM contact_store.contact_handles JOIN contact_store.contacts ON contacts.id = contact_id
        UNION ALL SELECT 'accounts', accounts.id, 'domain', domain, external_id
        FROM contact_store.account_domains JOIN contact_store.accounts ON accounts.id = account_id
    )"""

OF_THE_STORE = {
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
        JOIN contact_store.sync_runs AS run ON run.id = run_id
        WHERE level IN ('contact', 'account') AND (
            (last_run = run_id AND closed_run IS NULL)
            OR ((part = 'accounts' OR window_start IS NULL) AND opened_run <= run_id AND coalesce(closed_run > run_id, true)))""",
    "after a run, who collides is named with holders that hold the handle": f"""
        WITH {HELD}
        SELECT sync_errors.part, sync_errors.external_id FROM contact_store.sync_errors
        WHERE {MET_BY_NEWEST} AND code LIKE '%taken' AND (jsonb_array_length(holders) = 0 OR EXISTS (
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

LINKED = """
    linked AS (
        SELECT 'contacts' AS part, id, external_id FROM contact_store.contacts WHERE external_id IS NOT NULL
        UNION ALL SELECT 'accounts', id, external_id FROM contact_store.accounts WHERE external_id IS NOT NULL
    )"""
OUTCOMES = f"""
    WITH {LINKED}, newest AS (
        SELECT part.name AS part, counts FROM contact_store.sync_runs, LATERAL (VALUES
            ('accounts', accounts, accounts_applied_at), ('contacts', contacts, contacts_applied_at)
        ) AS part (name, counts, applied_at)
        WHERE id = {NEWEST_RUN} AND applied_at IS NOT NULL
    ), told AS (
        SELECT part, external_id, outcome FROM contact_store.sync_changes WHERE run_id = {NEWEST_RUN}
        UNION ALL SELECT part, external_id, 'error' FROM contact_store.sync_errors
        WHERE {MET_BY_NEWEST} AND level IN ('contact', 'account')
    ), outcomes AS (
        SELECT part, external_id, coalesce(outcome, 'unchanged') AS outcome, sent.part IS NOT NULL AS was_sent
        FROM (SELECT sent.* FROM pg_temp.sent JOIN newest USING (part)) AS sent FULL JOIN told USING (part, external_id)
    )"""
"""What the newest run wrote down that it did, and of whom it was sent: where it wrote nothing, the record must be unchanged."""
COLLISIONS = f"""
    WITH {LINKED}, {HELD}, own AS (
        SELECT DISTINCT ON (part, key) part, key AS external_id, id AS own_id
        FROM linked JOIN (TABLE pg_temp.merged UNION ALL SELECT external_id, external_id FROM pg_temp.sent)
            AS linking (external_id, key) USING (external_id)
        ORDER BY part, key, key <> linked.external_id, linked.external_id
    ), skipped AS (
        SELECT part, external_id, code, holders, own_id
        FROM contact_store.sync_errors LEFT JOIN own USING (part, external_id)
        WHERE {MET_BY_NEWEST} AND level IN ('contact', 'account')
    ), collisions AS (
        SELECT part, skipped.external_id, holder_id, source, handle, held.external_id AS link
        FROM skipped JOIN pg_temp.given USING (external_id) JOIN held USING (part, source, handle)
        WHERE holder_id IS DISTINCT FROM own_id
    )"""
"""Who holds the handles of those whom the newest run skipped; `own_id`: what they are linked to, or would be by a merge (4.11)."""

OF_WHAT_WAS_SENT = {
    "whom the newest run wrote or left in error was sent by Salesforce": f"""
        {OUTCOMES} SELECT part, external_id, outcome FROM outcomes WHERE NOT was_sent""",
    "the newest run counted whom Salesforce sent, each once and with the outcome that it wrote down": f"""
        {OUTCOMES}
        SELECT part, counted.* FROM newest, LATERAL jsonb_each_text(counts) AS counted (name, number)
        WHERE number::bigint <> (
            SELECT count(*) FROM outcomes
            WHERE outcomes.part = newest.part AND (outcome = name OR (name = 'read' AND was_sent)))""",
    "after a run, who was sent and neither written nor left in error is linked": f"""
        {OUTCOMES}
        SELECT part, external_id FROM outcomes LEFT JOIN linked USING (part, external_id)
        WHERE outcome = 'unchanged' AND linked.id IS NULL""",
    "after a run, nobody whom it skipped could be synced": f"""
        {COLLISIONS}
        SELECT part, external_id FROM skipped LEFT JOIN collisions USING (part, external_id)
        WHERE code <> 'no_handle' OR external_id IN (SELECT external_id FROM pg_temp.given)
        GROUP BY part, external_id
        HAVING count(holder_id) = 0 OR (count(DISTINCT holder_id) = 1 AND bool_and(own_id IS NULL AND link IS NULL))""",
    "after a run, whom it skipped is told every holder of every handle that is taken, and no other": f"""
        {COLLISIONS}, named AS (
            SELECT part, external_id, coalesce(contact_id, account_id), source, handle
            FROM skipped, jsonb_to_recordset(holders)
                AS holder (contact_id bigint, account_id bigint, source text, handle text)
        ), found AS (SELECT part, external_id, holder_id, source, handle FROM collisions)
        (TABLE named EXCEPT TABLE found) UNION ALL (TABLE found EXCEPT TABLE named)""",
}
"""Rules 6.4, 4.9 and 4.13."""

INVARIANTS = OF_THE_STORE | OF_WHAT_WAS_SENT

TABLES = {
    "sent": 'part text, external_id text COLLATE "C"',
    "given": 'external_id text COLLATE "C", source text COLLATE "C", handle text COLLATE "C"',
    "merged": 'loser text COLLATE "C", winner text COLLATE "C"',
}
"""What Salesforce held: all records, the handles that the rules read in them, and those that are gone with their winners."""


def broken(store: Store, *sent: World) -> dict[str, list[tuple]]:
    """The invariants that do not hold, with what breaks them.

    `sent`: what Salesforce held of each part that the newest run read (their stores are not looked at). Without it, where more
    was sent than the specification can read, only what can be asked then.
    """
    with psycopg.connect(store.uri) as connection:
        if sent:
            _tell(connection, sent)
        asked = INVARIANTS if sent else OF_THE_STORE
        found = {name: connection.execute(query).fetchall() for name, query in asked.items()}
    return {name: rows for name, rows in found.items() if rows}


def _tell(connection: psycopg.Connection, sent: Iterable[World]) -> None:
    rows: dict[str, list[tuple]] = {name: [] for name in TABLES}
    for world in sent:
        rows["sent"] += [("contacts" if world.needs_handle else "accounts", key) for key in world.source]
        rows["given"] += [(key, *handle) for key in world.source for handle in given(world, key)]
        ends = {loser: end_of_chain(world.merges, loser) for loser in world.merges.keys() - world.source.keys()}
        rows["merged"] += [(loser, winner) for loser, winner in ends.items() if winner]
    for name, columns in TABLES.items():
        connection.execute(f"CREATE TEMPORARY TABLE {name} ({columns})")
        with connection.cursor().copy(f"COPY pg_temp.{name} FROM STDIN") as copy:
            for row in rows[name]:
                copy.write_row(row)
