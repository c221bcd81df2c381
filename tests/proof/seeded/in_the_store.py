"""Defects of loads, looked for in PostgreSQL: what every store must hold, what is written, all or nothing."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from include.contact_sync import load, match, plan, transform
from include.contact_sync.errors import AnotherRunIsActive
from include.contact_sync.store import runs
from include.contact_sync.store.connection import connect
from tests.conftest import Store
from tests.contact_sync import worlds
from tests.contact_sync.applying import fill_store, open_run, run_world
from tests.contact_sync.specification import Contact, World
from tests.contact_sync.worlds import batch_of_worlds, salesforce_id, settings_of, together
from tests.proof import prove_applying, prove_portions
from tests.proof.conftest import Score
from tests.proof.invariants import broken
from tests.proof.seeded.defect import Broken, Defect, Invariant, Scene, every, instead, statement, without
from tests.proof.seeded.in_matching import MERGES, the_old_one, the_old_one_if_any, with_account

ENOUGH_BATCHES = 40


# ------------------------------------------------------------------------------------------ what is asked in SQL


def worlds_in_the_store(store: Store, wanted: str | None) -> None:
    """Two runs in each of some worlds, the second without half of the source, until the wanted invariant is broken."""
    found: set[str] = set()
    for number in range(ENOUGH_BATCHES if wanted else 4):
        world = together(batch_of_worlds(500 + number, 40))
        fill_store(store, world)
        kept = dict(list(world.source.items())[::2])
        for each in (world, replace(world, source=kept)):
            run_world(each)
            found |= broken(store, each).keys()
            if found:
                break
        if wanted in found:
            break
    if found:
        raise Broken(found)


GIVE_AWAY = """
    UPDATE contact_store.contact_handles AS given
    SET contact_id = (SELECT max(id) FROM contact_store.contacts WHERE external_id IS NOT NULL),
        origin = 'person', salesforce_field = NULL
    FROM contact_store.sync_errors, LATERAL jsonb_to_recordset(holders) AS holder (source text, handle text)
    WHERE (given.source, given.handle) = (holder.source, holder.handle)"""


def worlds_in_which_handles_change_hands(store: Store, wanted: str | None) -> None:
    """Two runs in each of some worlds; between them a person gives every handle that others wanted to one contact."""
    for number in range(ENOUGH_BATCHES if wanted else 4):
        world = together(batch_of_worlds(500 + number, 40))
        fill_store(store, world)
        run_world(world)
        store.execute(GIVE_AWAY)
        run_world(world)
        if found := broken(store, world):
            raise Broken(found)


def worlds_in_a_store_without_keys(store: Store, wanted: str | None) -> None:
    """As a migration would leave it that forgot them: only the matching keeps handles and links apart."""
    for table, key in (
        ("contact_handles", "contact_handles_pkey"),
        ("account_domains", "account_domains_pkey"),
        ("contacts", "contacts_external_id_key"),
        ("accounts", "accounts_external_id_key"),
    ):
        store.execute(f"ALTER TABLE contact_store.{table} DROP CONSTRAINT {key}")
    worlds_in_the_store(store, wanted)


def a_run_that_failed_goes_on_while_another_works(store: Store) -> None:
    settings = settings_of(batch_of_worlds(0, 1)[0])
    with connect() as connection:
        failed = open_run(settings)
        runs.close_run(connection, failed, "failed")
        open_run(settings)
        store.execute("DROP INDEX contact_store.sync_runs_one_at_a_time")
        with suppress(AnotherRunIsActive):
            runs.resume_run(connection, failed)
    if found := broken(store):
        raise Broken(found)


def without_the_created(original: Any) -> Any:
    def write_changes(cursor: Any, run_id: int, columns: Any, planned: Any, writes: pa.Table) -> None:
        original(cursor, run_id, columns, planned, writes.filter(pc.not_equal(writes["outcome"], "created")))

    return write_changes


def twice(original: Any) -> Any:
    def done_twice(*arguments: Any) -> None:
        original(*arguments)
        original(*arguments)

    return done_twice


def counts_no_errors(original: Any) -> Any:
    return lambda cursor, run_id, part, counts: original(cursor, run_id, part, {**counts, "error": 0})


def nobody_collides(_original: Any) -> Any:
    def settle_contested(matching: Any) -> None:
        nobody = np.array([], dtype=np.int64)
        matching.collisions = match._collisions(nobody, nobody, nobody)

    return settle_contested


def as_errors_of_contacts(original: Any) -> Any:
    def warnings(faults: pa.Table, external_ids: pa.Array) -> pa.Table:
        table = original(faults, external_ids)
        return table.set_column(1, "level", pa.repeat("contact", table.num_rows))

    return warnings


def without_the_last(original: Any) -> Any:
    return lambda part, new, ids: original(part, new.slice(0, max(new.num_rows - 1, 0)), ids)


def names_only_who_was_there(original: Any) -> Any:
    return lambda errors, *_: errors


def leaves_holders_alone(original: Any) -> Any:
    """Errors are the same whoever holds the handle."""

    def compare(met: pa.Table, open_errors: pa.Table) -> Any:
        place = met.schema.get_field_index("holders")
        named = pc.index_in(load._error_keys(met), value_set=load._error_keys(open_errors))
        holders = pc.coalesce(open_errors["holders"].combine_chunks().take(named), met["holders"])
        return original(met.set_column(place, "holders", holders), open_errors)

    return compare


def also_the_unlinked(original: Any) -> Any:
    def stopped(matching: Any) -> pa.Table:
        linked = matching.stored_is_linked
        matching.stored_is_linked = linked | True
        try:
            return original(matching)
        finally:
            matching.stored_is_linked = linked

    return stopped


def names_who_it_was_linked_to(original: Any) -> Any:
    def changes(run_id: int, columns: Any, planned: Any, writes: pa.Table, *handles: pa.Table) -> pa.Table:
        entries = original(run_id, columns, planned, writes, *handles)
        ids = pc.coalesce(writes["old_external_id"].combine_chunks(), entries["external_id"].combine_chunks())
        return with_column(entries, "external_id", ids)

    return changes


def with_column(table: pa.Table, name: str, column: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, column)


def without_the_first_record(original: Any) -> Any:
    return lambda snapshot, columns: original(snapshot.slice(1), columns)


def creates_nobody_without_a_handle(original: Any) -> Any:
    def writes(matching: Any, handles: pa.Table, released: pa.Table) -> tuple[pa.Table, pa.Array]:
        rows, outcome = original(matching, handles, released)
        has_handle = pc.is_in(rows["record"], value_set=handles["record"].combine_chunks())
        is_kept = pc.or_(has_handle, pc.not_equal(rows["outcome"], "created"))
        told = np.array(outcome.to_pylist(), dtype=object)
        told[rows.filter(pc.invert(is_kept))["record"].to_numpy()] = "unchanged"
        return rows.filter(is_kept), pa.array(told, pa.string())

    return writes


def links_count_as_taken(original: Any) -> Any:
    return lambda *arguments: {row: replace(one, linked=True) for row, one in original(*arguments).items()}


def tells_one_holder(original: Any) -> Any:
    def errors(matching: Any) -> pa.Table:
        matching.collisions = matching.collisions.drop_duplicates("record")
        return original(matching)

    return errors


FIELDS_KEPT = (
    "(stored.custom_fields - ARRAY(SELECT jsonb_array_elements_text(part_rows.custom_clear))) || part_rows.custom_set"
)
LINKS_STAY = statement("update_records", "external_id = part_rows.external_id,", "")

IN_SQL: list[tuple[str, Any, Scene, str]] = [
    (
        "nobody looks who owns a handle",
        instead(match.Matching, "settle_contested", nobody_collides),
        worlds_in_a_store_without_keys,
        "a handle belongs to one contact",
    ),
    (
        "nobody looks who owns a domain",
        instead(match.Matching, "settle_contested", nobody_collides),
        worlds_in_a_store_without_keys,
        "a domain belongs to one account",
    ),
    (
        "contacts are not looked up by their link",
        instead(match.Matching, "find_linked", without),
        worlds_in_a_store_without_keys,
        "a link belongs to one contact",
    ),
    (
        "accounts are not looked up by their link",
        instead(match.Matching, "find_linked", without),
        worlds_in_a_store_without_keys,
        "a link belongs to one account",
    ),
    (
        "errors are not counted",
        instead(runs, "mark_applied", counts_no_errors),
        worlds_in_the_store,
        "read = created + linked + updated + unchanged + error",
    ),
    (
        "created contacts leave no entry",
        instead(load, "_write_changes", without_the_created),
        worlds_in_the_store,
        "every created, linked and updated record has one entry, and nothing else has",
    ),
    (
        "entries are written twice",
        instead(load, "_write_changes", twice),
        worlds_in_the_store,
        "no record has two entries of one run",
    ),
    (
        "errors that were resolved stay open",
        statement("close_resolved_errors", "AND closed_run IS NULL", "AND false AND closed_run IS NULL"),
        worlds_in_the_store,
        "the newest whole run left as many open errors on records as it counted",
    ),
    (
        "a warning is recorded as an error",
        instead(transform, "_warnings", as_errors_of_contacts),
        worlds_in_the_store,
        "nobody is written and in error in one run",
    ),
    (
        "an open error keeps the holders with whom it was opened",
        instead(load, "compare_errors", leaves_holders_alone),
        worlds_in_which_handles_change_hands,
        "after a run, who collides is named with holders that hold the handle",
    ),
    (
        "holders that the run created have no name",
        instead(load, "_with_created_holders", names_only_who_was_there),
        worlds_in_the_store,
        "after a run, who collides is named with holders that hold the handle",
    ),
    (
        "custom fields that became empty stay as they were",
        statement("update_records", FIELDS_KEPT, "stored.custom_fields || part_rows.custom_set"),
        worlds_in_the_store,
        "after a run, the store holds the values, links and accounts that the run's entries say",
    ),
    (
        "custom fields are not updated",
        statement("update_records", f"custom_fields = {FIELDS_KEPT},", ""),
        worlds_in_the_store,
        "after a run, the store holds the values, links and accounts that the run's entries say",
    ),
    (
        "the last handle of a portion is lost",
        instead(load, "_new_handles", without_the_last),
        worlds_in_the_store,
        "after a run, the store holds the handles that the run's entries say, and none that they say are gone",
    ),
    (
        "contacts belong to no account",
        instead(plan, "_accounts", with_account(the_old_one)),
        worlds_in_the_store,
        "after a run, whom it wrote belongs to the account that the sync set, a linked one, if it set one",
    ),
    (
        "a contact stays with whichever account it has (5)",
        instead(plan, "_accounts", with_account(the_old_one_if_any)),
        worlds_in_the_store,
        "after a run, whom it wrote belongs to the account that the sync set, a linked one, if it set one",
    ),
    (
        "contacts that were never linked stop syncing",
        instead(plan, "_stopped", also_the_unlinked),
        worlds_in_the_store,
        "a contact that stopped syncing is linked",
    ),
    (
        "a link that moves is not written",
        LINKS_STAY,
        worlds_in_the_store,
        "a contact that a run wrote last has the link the run gave it",
    ),
    (
        "a failed run goes on whoever is at work",
        instead(runs, "_refuse_to_reopen", without),
        a_run_that_failed_goes_on_while_another_works,
        "at most one run is running, and none that ended says it lives",
    ),
    (
        "entries name the record that a contact was linked to before (4.11)",
        instead(load, "_changes", names_who_it_was_linked_to),
        worlds_in_the_store,
        "whom the newest run wrote or left in error was sent by Salesforce",
    ),
    (
        "a record falls out before it is counted (6.4)",
        instead(worlds, "transform", without_the_first_record),
        worlds_in_the_store,
        "the newest run counted whom Salesforce sent, each once and with the outcome that it wrote down",
    ),
    (
        "an account without a domain is not created, but counts as unchanged (5)",
        instead(plan, "_writes", creates_nobody_without_a_handle),
        worlds_in_the_store,
        "after a run, who was sent and neither written nor left in error is linked",
    ),
    (
        "an unlinked contact that several want counts as linked (4.8)",
        instead(match.Matching, "_holders", links_count_as_taken),
        worlds_in_the_store,
        "after a run, nobody whom it skipped could be synced",
    ),
    (
        "the winner of a merge is skipped for what the loser's contact holds (4.11)",
        MERGES,
        worlds_in_the_store,
        "after a run, nobody whom it skipped could be synced",
    ),
    (
        "of several holders one is told (4.13)",
        instead(plan, "_collision_errors", tells_one_holder),
        worlds_in_the_store,
        "after a run, whom it skipped is told every holder of every handle that is taken, and no other",
    ),
]


# ------------------------------------------------------------------------------------------------ what is written


def worlds_are_applied(store: Store, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_applying, "BATCHES", 4)
    prove_applying.test_what_is_written_is_what_the_specification_says(store, score, monkeypatch, "row by row")


def portions_of_any_size(store: Store, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    prove_portions.test_portions_of_any_size_write_the_same(store, score, monkeypatch)


def small_world() -> World:
    """One to create, one to link, one to update, with something to give up."""
    ids = [salesforce_id(at) for at in range(3)]
    store = [
        Contact(1, None, {("email", "b@x.co"): None}),
        Contact(2, ids[2], {("email", "c@x.co"): "Email", ("email", "d@x.co"): "Email"}),
    ]
    return World(store, {ids[at]: {"Email": f"{letter}@x.co"} for at, letter in enumerate("abc")}, [("Email", "email")])


def the_last_statement_fails(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rule 6.1."""
    fill_store(store, small_world())
    before = everything(store)

    def fails(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(runs, "mark_applied", fails)
    with pytest.raises(ZeroDivisionError):
        run_world(small_world())
    assert everything(store) == before


def everything(store: Store) -> list[tuple]:
    return store.execute(
        "SELECT contacts, contact_handles FROM contact_store.contacts"
        " FULL JOIN contact_store.contact_handles ON contact_id = id ORDER BY 1, 2"
    )


def commits_half(original: Any) -> Any:
    def write_errors(cursor: psycopg.Cursor, *arguments: Any, **options: Any) -> None:
        cursor.connection.commit()
        original(cursor, *arguments, **options)

    return write_errors


HALF_COMMITTED = instead(load, "_write_errors", commits_half)


def outcomes_with(change: Callable[[pa.Table], pa.Table]) -> Callable[[Any], Any]:
    """The plan's outcomes are not those of the records that were read."""
    return lambda original: lambda matching, outcome: change(original(matching, outcome))


def last_one_missing(outcomes: pa.Table) -> pa.Table:
    return outcomes.slice(0, max(outcomes.num_rows - 1, 1))


def first_one_again(outcomes: pa.Table) -> pa.Table:
    """As many as were read, but not the same ones."""
    return pa.concat_tables([outcomes.slice(0, 1), outcomes.slice(0, outcomes.num_rows - 1)])


def again_every_night(original: Any) -> Any:
    def stopped(matching: Any) -> pa.Table:
        since = pa.nulls(matching.stored.records.num_rows, pa.timestamp("us", "UTC"))
        records = matching.stored.records
        forgotten = records.set_column(records.schema.get_field_index("not_syncing_since"), "not_syncing_since", since)
        stored, matching.stored = matching.stored, replace(matching.stored, records=forgotten)
        try:
            return original(matching)
        finally:
            matching.stored = stored

    return stopped


def only_the_first_portion(original: Any) -> Any:
    return lambda rows: [portion for portion, _ in zip(original(rows), range(1), strict=False)]


def only_the_first_records(original: Any) -> Any:
    def writes(*arguments: Any) -> tuple[pa.Table, pa.Array]:
        rows, outcome = original(*arguments)
        return rows.filter(pc.less(rows["record"], plan.RECORDS_AT_ONCE)), outcome

    return writes


def says_that_merges_are_links(original: Any) -> Any:
    def outcomes(*arguments: Any) -> pa.Table:
        table = original(*arguments)
        return with_column(table, "rule", pc.replace_substring(table["rule"], "4.11", "4.1"))

    return outcomes


def names_the_last_handle(original: Any) -> Any:
    def outcomes(matching: Any, outcome: pa.Array) -> pa.Table:
        table = original(matching, outcome)
        read = (matching.clean.handles[name].to_pylist() for name in ("record", "handle"))
        last = dict(zip(*read, strict=True))
        named = [handle and last[record] for record, handle in enumerate(table["matched_handle"].to_pylist())]
        return with_column(table, "matched_handle", pa.array(named, pa.string()))

    return outcomes


def tells_new_values_as_old(original: Any) -> Any:
    def changed_values(*arguments: Any) -> Any:
        _, new = original(*arguments)
        return dict(new), new

    return changed_values


WRITING = "test_what_is_written_is_what_the_specification_says: assert "
APPLYING = [
    Defect(
        "the link is not written",
        Invariant.WRITTEN,
        LINKS_STAY,
        worlds_are_applied,
        WRITING + "comparable(read_store(store, world)) == comparable(",
    ),
    *(
        Defect(what, Invariant.WRITTEN, plant, worlds_are_applied, WRITING + "read_entries(store) == ")
        for what, plant in (
            (
                "a link that moves is told to be one that was there (6.5)",
                instead(plan, "_outcomes", says_that_merges_are_links),
            ),
            (
                "an entry names the last handle instead of the one that matched (6.5)",
                instead(plan, "_outcomes", names_the_last_handle),
            ),
            (
                "an entry tells the new values as the old ones (6.5)",
                instead(load, "_changed_values", tells_new_values_as_old),
            ),
        )
    ),
    Defect(
        "handles that are given up are not deleted",
        Invariant.WRITTEN,
        statement("release_contacts_handles", "WHERE ", "WHERE false AND "),
        worlds_are_applied,
        "RetryableError: not_balanced",
    ),
    Defect(
        "who stopped syncing is marked again every night",
        Invariant.WRITTEN,
        instead(plan, "_stopped", again_every_night),
        worlds_are_applied,
        WRITING + "store.execute(FINGERPRINT) == before",
    ),
    Defect(
        "the last record has no outcome",
        Invariant.BALANCED,
        instead(plan, "_outcomes", outcomes_with(last_one_missing)),
        the_last_statement_fails,
        "RetryableError: not_balanced",
    ),
    Defect(
        "the first record has two outcomes, the last none",
        Invariant.BALANCED,
        instead(plan, "_outcomes", outcomes_with(first_one_again)),
        the_last_statement_fails,
        "RetryableError: not_balanced",
    ),
    Defect(
        "errors do not count as read, and nobody adds up",
        Invariant.BALANCED,
        every(
            instead(load, "_refuse_unbalanced", without),
            instead(
                plan.Plan,
                "counts",
                lambda original: (
                    lambda self: original(self) | {"read": original(self)["read"] - original(self)["error"]}
                ),
            ),
        ),
        worlds_are_applied,
        WRITING + 'counts == {"read": outcomes.total()}',
    ),
    Defect(
        "the records are committed before the errors (6.1)",
        Invariant.WHOLE_OR_NOT,
        HALF_COMMITTED,
        the_last_statement_fails,
        "the_last_statement_fails: assert everything(store) == before",
    ),
    Defect(
        "only the first portion is written",
        Invariant.ANY_PORTIONS,
        instead(load, "_portions", only_the_first_portion),
        portions_of_any_size,
        "test_portions_of_any_size_write_the_same: assert what_is_written(",
    ),
    Defect(
        "only the first portion is planned",
        Invariant.ANY_PORTIONS,
        instead(plan, "_writes", only_the_first_records),
        portions_of_any_size,
        "StoreRefused: PostgreSQL did not take the contacts: ForeignKeyViolation",
    ),
]


DEFECTS = [
    *(Defect(what, Invariant.IN_SQL, plant, scene, check) for what, plant, scene, check in IN_SQL),
    *APPLYING,
]
