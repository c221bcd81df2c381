"""Applies a plan to the store in one transaction, or not at all (rule 6). Decides nothing.

While it applies, nobody else changes the part's tables: an edit that lands after the plan was made is seen in the
fingerprint, and the plan is made again on what is there (rule 6.2). Created rows go in by COPY; of the others only
what differs is touched. What happened to each record is kept in `sync_changes`, in the same transaction.
"""

import json
import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from psycopg import sql as compose

from include.contact_sync.arrays import Ints, differ, is_ascending, join_present, json_strings, one_piece, wrapped
from include.contact_sync.columns import Columns, Part
from include.contact_sync.errors import RetryableError, StoreRefused, StoreUnavailable
from include.contact_sync.plan import Plan
from include.contact_sync.store import error_book, runs
from include.contact_sync.store.connection import connect, sql
from include.contact_sync.transform import ERRORS_SCHEMA, CleanRecords

log = logging.getLogger(__name__)

LONGEST_LOCK_WAIT = 600.0
"""Seconds to wait for people's open transactions before this attempt is given up."""

LOCK_WAIT = 10_000
"""Milliseconds to wait for one table; longer than PostgreSQL's own house-keeping takes to give way."""

LOCKED_TABLES = {
    Part.ACCOUNTS: ("accounts", "account_domains"),
    Part.CONTACTS: ("contacts", "contact_handles", "accounts"),
}

ROWS_PER_COPY = 50_000
ROWS_PER_PORTION = 100_000

JsonTexts = dict[Any, Any]

MANY_HANDLES = 100_000
"""A load that writes fewer leaves the keys of the tables alone."""


@dataclass(frozen=True)
class PlannedPart:
    """A plan and the fingerprint of the store it was made for."""

    plan: Plan
    fingerprint: str


def apply_plan(
    run_id: int,
    clean: CleanRecords,
    columns: Columns,
    planned: PlannedPart,
    judge_again: Callable[[], Plan],
    read_fingerprint: Callable[[], str],
    *,
    field_errors: pa.Table,
    whole_source: bool,
) -> dict[str, int]:
    """Apply `planned` and return its counts; makes the plan again where the store has changed since.

    Args:
        clean: of which only `external_id` and the warnings are asked for.
        judge_again: makes the plan anew on the store as it is now.
        field_errors: errors of the part as a whole (`field_not_found`), in the shape of `ERRORS_SCHEMA`.
        whole_source: whether errors that were not met again are closed (rule 1.3).

    Raises:
        RunRefused: the run was taken over by another.
        RetryableError: `not_balanced`; nothing was changed.
        StoreRefused: PostgreSQL did not take it; nothing was changed.
    """
    with _named_refusals(columns.part), connect() as connection, connection.cursor() as cursor:
        runs.begin_apply(cursor, run_id)
        # Before anything is locked: what another session reads could wait for a lock that its holder never gives up.
        open_errors = error_book.open_record_errors(columns.part.value) if whole_source else None
        _lock_tables(connection, columns.part)
        plan = planned.plan
        if read_fingerprint() != planned.fingerprint:
            log.info("The store was edited since the plan was made; judging again on what is there")
            plan = judge_again()
        _refuse_unbalanced(plan, clean)
        cursor.execute(sql("expect_pages_in_memory"))
        created_ids = _write_records(cursor, run_id, clean, columns, plan)
        _write_errors(cursor, run_id, clean, columns, plan, field_errors, created_ids, open_errors)
        counts = plan.counts()
        runs.mark_applied(cursor, run_id, columns.part.value, counts)
    return counts


@contextmanager
def _named_refusals(part: Part) -> Generator[None, None, None]:
    """What PostgreSQL refuses, without the rows that it quotes: the message ends up in task logs (rule 8.4)."""
    try:
        yield
    except psycopg.Error as refusal:
        told = refusal.diag
        where = ", ".join(name for name in (told.table_name, told.constraint_name) if name)
        raise StoreRefused(
            f"PostgreSQL did not take the {part}: {type(refusal).__name__}"
            f"{f' ({where})' if where else ''}; nothing of them was changed"
        ) from None


def _refuse_unbalanced(plan: Plan, clean: CleanRecords) -> None:
    """Rule 6.4: every record that was read has exactly one outcome."""
    counts = plan.counts()
    outcomes = sum(count for outcome, count in counts.items() if outcome != "read")
    ids = one_piece(clean.records["external_id"])
    same_ids = one_piece(plan.outcomes["external_id"]).equals(ids)
    if not same_ids or not is_ascending(ids) or outcomes != counts["read"]:
        raise RetryableError("not_balanced", f"{clean.records.num_rows} records were read, {outcomes} have an outcome")


def _lock_tables(connection: psycopg.Connection, part: Part) -> None:
    """Lock the part's tables.

    It waits only while it holds none of them, so it can be part of no deadlock: PostgreSQL would end one by breaking
    off either the load or a person's edit.
    """
    tables = list(LOCKED_TABLES[part])
    give_up_at = time.monotonic() + LONGEST_LOCK_WAIT
    while (busy := _locked_by_others(connection, tables)) is not None:
        if time.monotonic() > give_up_at:
            raise StoreUnavailable(f"Other sessions have kept {busy} locked for {LONGEST_LOCK_WAIT:.0f} seconds")
        tables.sort(key=lambda table: table != busy)


def _locked_by_others(connection: psycopg.Connection, tables: list[str]) -> str | None:
    """Lock all tables, waiting for the first one; or none, and the name of the one that somebody else holds."""
    table = ""
    try:
        with connection.transaction():
            connection.execute(sql("limit_lock_wait"), {"milliseconds": LOCK_WAIT})
            for table in tables:
                statement = sql("lock_table" if table == tables[0] else "lock_table_now")
                connection.execute(compose.SQL(statement).format(table=compose.Identifier(table)))
            connection.execute(sql("limit_lock_wait"), {"milliseconds": 0})
    except psycopg.errors.LockNotAvailable:
        return table
    return None


# ------------------------------------------------------------------------------------------------------- records


def _write_records(cursor: psycopg.Cursor, run_id: int, clean: CleanRecords, columns: Columns, plan: Plan) -> Ints:
    """Write every change of the plan; returns the id of each created record at its row in the clean records, else 0."""
    keys_are_off = columns.part is Part.CONTACTS and _take_off_keys(cursor, plan)
    created_ids = _new_ids(cursor, clean, columns.part, plan)
    ids = _filled_ids(plan.writes, created_ids)
    writes = plan.writes.set_column(plan.writes.schema.get_field_index("id"), "id", ids)
    _release_handles(cursor, columns.part, plan.released)
    _update_records(cursor, clean, columns, writes.filter(pc.not_equal(writes["outcome"], "created")))
    _insert_records(cursor, clean, columns, writes)
    _give_handles(cursor, columns.part, plan.handles, created_ids)
    _write_changes(cursor, run_id, columns, plan, writes)
    if keys_are_off:
        cursor.execute(sql("put_on_keys"))
    if plan.stopped.num_rows:
        statement = compose.SQL(sql("mark_stopped")).format(table=compose.Identifier(columns.part.value))
        cursor.execute(statement, {"ids": plan.stopped["id"].to_pylist()})
    return created_ids


def _portions(rows: pa.Table) -> Iterator[pa.Table]:
    """The rows in portions that keep what is made of them small."""
    for start in range(0, rows.num_rows, ROWS_PER_PORTION):
        yield rows.slice(start, ROWS_PER_PORTION).combine_chunks()


def _take_off_keys(cursor: psycopg.Cursor, plan: Plan) -> bool:
    """Whether a load that writes a large share of all handles has its keys checked and built at once, at its end.

    A first sync of a million contacts gets much shorter by it; nobody can read the two tables meanwhile.
    Where somebody else's tables, views or replicas lean on the keys, they stay on.
    """
    (known,) = cursor.execute(sql("count_handles_roughly")).fetchone() or (0,)
    if plan.handles.num_rows < max(MANY_HANDLES, known // 2):
        return False
    if cursor.execute(sql("keys_are_needed")).fetchone() == (True,):
        return False
    try:
        with cursor.connection.transaction():
            cursor.execute(sql("lock_whole_tables_now"))
            cursor.execute(sql("take_off_keys"))
            cursor.execute(sql("sort_in_memory"))
    except (psycopg.errors.LockNotAvailable, psycopg.errors.DependentObjectsStillExist):
        return False
    return True


def _new_ids(cursor: psycopg.Cursor, clean: CleanRecords, part: Part, plan: Plan) -> Ints:
    """An id for each record that is created, consecutive ones that nobody else will get; 0 for all other records."""
    ids = np.zeros(clean.records.num_rows, dtype=np.int64)
    created = plan.writes["record"].filter(pc.equal(plan.writes["outcome"], "created")).to_numpy()
    if not len(created):
        return ids
    sequence = compose.Identifier(f"{part}_id_seq")
    cursor.execute(compose.SQL(sql("lock_ids")).format(sequence=sequence))
    row = cursor.execute(sql("next_id"), {"table": f"contact_store.{part}"}).fetchone()
    assert row is not None
    after = compose.Literal(row[0] + len(created))
    cursor.execute(compose.SQL(sql("take_ids")).format(sequence=sequence, next=after))
    ids[created] = np.arange(row[0], row[0] + len(created))
    return ids


def _filled_ids(rows: pa.Table, created_ids: Ints) -> pa.Array:
    """The `id` of each row; that of the created record where there is none."""
    return pc.coalesce(one_piece(rows["id"]), pa.array(created_ids[rows["record"].to_numpy()], pa.int64()))


def _insert_records(cursor: psycopg.Cursor, clean: CleanRecords, columns: Columns, writes: pa.Table) -> None:
    created = (portion.filter(pc.equal(portion["outcome"], "created")) for portion in _portions(writes))
    portions = (_new_rows(clean, columns, portion) for portion in created)
    _copy(cursor, f"contact_store.{columns.part}", portions)


def _new_rows(clean: CleanRecords, columns: Columns, created: pa.Table) -> pa.Table:
    rows = {"id": created["id"], "external_id": _external_ids(clean, created)}
    if columns.part is Part.CONTACTS:
        rows |= {"account_id": created["account_id"], "synced_account_id": created["synced_account_id"]}
    for field in columns.plain:
        rows[field.name] = pc.fill_null(created[field.name], "[]") if field.name == "links" else created[field.name]
    if columns.custom:
        pieces = {field.custom_field: created[field.name] for field in columns.custom}
        rows["custom_fields"] = _json_object(pieces)
    return pa.table(rows)


def _update_records(cursor: psycopg.Cursor, clean: CleanRecords, columns: Columns, changed: pa.Table) -> None:
    if not changed.num_rows:
        return
    plain = [compose.Identifier(field.name) for field in columns.plain]
    types = [compose.SQL("jsonb" if field.name == "links" else "text") for field in columns.plain]
    fields = [compose.SQL(", {} {}").format(name, kind) for name, kind in zip(plain, types, strict=True)]
    cursor.execute(compose.SQL(sql("create_part_rows")).format(fields=compose.SQL("").join(fields)))
    is_contacts = columns.part is Part.CONTACTS
    names = plain + [compose.Identifier(name) for name in ("account_id", "synced_account_id") if is_contacts]
    new = {
        field.custom_field: pc.if_else(
            changed[f"changed {field.name}"], changed[field.name], pa.scalar(None, pa.string())
        )
        for field in columns.custom
    }
    cleared = [
        pc.if_else(
            pc.and_(changed[f"changed {field.name}"], pc.is_null(changed[field.name])),
            json.dumps(field.custom_field, ensure_ascii=False),
            pa.scalar(None, pa.string()),
        )
        for field in columns.custom
    ]
    count = changed.num_rows
    rows = {
        "id": changed["id"],
        "external_id": _external_ids(clean, changed),
        "custom_set": _json_object(new) if new else pa.repeat("{}", count),
        "custom_clear": wrapped("[", join_present(cleared), "]") if cleared else pa.repeat("[]", count),
    }
    rows |= {field.name: changed[field.name] for field in columns.plain}
    if is_contacts:
        rows |= {"account_id": changed["account_id"], "synced_account_id": changed["synced_account_id"]}
    _copy(cursor, "pg_temp.part_rows", [pa.table(rows)])
    assignments = [compose.SQL("{name} = part_rows.{name},").format(name=name) for name in names]
    statement = compose.SQL(sql("update_records")).format(
        table=compose.Identifier(columns.part.value), assignments=compose.SQL(" ").join(assignments)
    )
    cursor.execute(statement)
    _expect(cursor, count, "updated records")


def _external_ids(clean: CleanRecords, rows: pa.Table) -> pa.ChunkedArray:
    return clean.records["external_id"].take(rows["record"])


# ------------------------------------------------------------------------------------------------------- handles


def _release_handles(cursor: psycopg.Cursor, part: Part, released: pa.Table) -> None:
    cursor.execute(sql("create_part_handles"))
    if released.num_rows:
        _copy(cursor, "pg_temp.part_handles", [_handle_rows(released, released["id"])])
        cursor.execute(sql("release_contacts_handles" if part is Part.CONTACTS else "release_accounts_handles"))
        _expect(cursor, released.num_rows, "released handles")


def _give_handles(cursor: psycopg.Cursor, part: Part, handles: pa.Table, created_ids: Ints) -> None:
    is_contacts = part is Part.CONTACTS
    regiven = handles.filter(pc.invert(handles["is_new"]))
    if regiven.num_rows:
        cursor.execute(sql("empty_part_handles"))
        _copy(
            cursor,
            "pg_temp.part_handles",
            [_handle_rows(regiven, regiven["id"]).append_column("salesforce_field", regiven["salesforce_field"])],
        )
        cursor.execute(sql("regive_contacts_handles" if is_contacts else "regive_accounts_handles"))
        _expect(cursor, regiven.num_rows, "handles given again")
    new = (portion.filter(portion["is_new"]) for portion in _portions(handles))
    portions = (_new_handles(part, portion, created_ids) for portion in new)
    _copy(cursor, "contact_store.contact_handles" if is_contacts else "contact_store.account_domains", portions)


def _new_handles(part: Part, new: pa.Table, created_ids: Ints) -> pa.Table:
    is_contacts = part is Part.CONTACTS
    rows = {
        "contact_id" if is_contacts else "account_id": _filled_ids(new, created_ids),
        "handle" if is_contacts else "domain": new["handle"],
        "origin": pa.repeat("salesforce", new.num_rows),
        "salesforce_field": new["salesforce_field"],
    }
    return pa.table(rows | {"source": new["source"]} if is_contacts else rows)


def _handle_rows(handles: pa.Table, ids: pa.ChunkedArray) -> pa.Table:
    return pa.table({"record_id": ids, "source": handles["source"], "handle": handles["handle"]})


# ------------------------------------------------------------------------------------------------------- changes


def _write_changes(cursor: psycopg.Cursor, run_id: int, columns: Columns, plan: Plan, writes: pa.Table) -> None:
    """One entry for each created, linked or updated record: the rule that decided, old and new values (rule 6.5)."""
    given = plan.handles.select(["record", "source", "handle"]).sort_by("record")
    released = plan.released.sort_by("record")
    portions = (_changes(run_id, columns, plan, portion, given, released) for portion in _portions(writes))
    _copy(cursor, "contact_store.sync_changes", portions)


def _changes(
    run_id: int, columns: Columns, plan: Plan, writes: pa.Table, given: pa.Table, released: pa.Table
) -> pa.Table:
    outcomes = plan.outcomes.take(writes["record"]).combine_chunks()
    old, new = _changed_values(columns, writes, outcomes)
    old["handles"] = _handles_as_json(released, writes["record"].to_numpy())
    new["handles"] = _handles_as_json(given, writes["record"].to_numpy())
    rows = {
        "run_id": pa.repeat(run_id, writes.num_rows),
        "part": pa.repeat(columns.part.value, writes.num_rows),
        "record_id": writes["id"],
        "old_values": _json_object(old),
        "new_values": _json_object(new),
    }
    names = ("external_id", "outcome", "rule", "matched_source", "matched_handle")
    return pa.table(rows | {name: outcomes[name] for name in names})


def _changed_values(columns: Columns, writes: pa.Table, outcomes: pa.Table) -> tuple[JsonTexts, JsonTexts]:
    """Old and new values as JSON texts by name; null where nothing changed."""
    old: JsonTexts = {}
    new: JsonTexts = {}
    moved = pc.fill_null(pc.not_equal(outcomes["external_id"], writes["old_external_id"]), True)
    old["external_id"] = _only_where(moved, json_strings(one_piece(writes["old_external_id"])))
    new["external_id"] = _only_where(moved, json_strings(one_piece(outcomes["external_id"])))
    if columns.part is Part.CONTACTS:
        for values, name in ((old, "old_account_id"), (new, "account_id")):
            values["account_id"] = _only_where(writes["changed account_id"], writes[name].cast(pa.string()))
    for field in columns.fields:
        is_json = field.custom_field is not None or field.name == "links"
        for values, name in ((old, f"old {field.name}"), (new, field.name)):
            text = one_piece(writes[name])
            values[field.name] = _only_where(writes[f"changed {field.name}"], text if is_json else json_strings(text))
    return old, new


def _handles_as_json(handles: pa.Table, records: Ints) -> pa.Array:
    """For each record the JSON list of its handles, null where there is none. Both arguments are ordered by record."""
    at = handles["record"].to_numpy()
    starts = np.searchsorted(at, records, side="left")
    ends = np.searchsorted(at, records, side="right")
    rows = handles.slice(starts[0], ends[-1] - starts[0]).combine_chunks()
    entries = wrapped('{"source": "', rows["source"], '", "handle": ', json_strings(one_piece(rows["handle"])), "}")
    offsets = pa.array(np.append(starts, ends[-1]) - starts[0], pa.int32())
    joined = wrapped("[", pc.binary_join(pa.ListArray.from_arrays(offsets, entries), ", "), "]")
    return _only_where(pa.array(ends > starts), joined)


# -------------------------------------------------------------------------------------------------------- errors


def _write_errors(
    cursor: psycopg.Cursor,
    run_id: int,
    clean: CleanRecords,
    columns: Columns,
    plan: Plan,
    field_errors: pa.Table,
    created_ids: Ints,
    open_errors: pa.Table | None,
) -> None:
    """Record the errors of the part; `open_errors` are those that were open, None after a run over a window."""
    errors = _with_created_holders(plan.errors.select(ERRORS_SCHEMA.names), clean, columns, created_ids)
    met = pa.concat_tables([errors, clean.warnings, field_errors])
    error_book.create_part_tables(cursor)
    if open_errors is not None:
        differing, resolved = compare_errors(met, open_errors)
        _copy(cursor, "pg_temp.part_errors", [differing])
        error_book.record_errors(cursor, run_id, columns.part.value, resolved.to_pylist())
        error_book.close_run_errors(cursor, run_id, columns.part.value)
    else:
        _copy(cursor, "pg_temp.part_errors", [met])
        _copy(cursor, "pg_temp.part_read", [clean.records.select(["external_id"])])
        error_book.record_errors_of_window(cursor, run_id, columns.part.value)
        # A window says nothing about the size of the whole source (rule 1.3).
        error_book.close_run_errors(cursor, run_id, columns.part.value, ("too_many_contacts",))


def compare_errors(met: pa.Table, open_errors: pa.Table) -> tuple[pa.Table, pa.Array]:
    """Which errors a run over the whole source has to write, and the ids of the open ones that it did not meet.

    What is open as it was met need not be written: nearly all, on an ordinary night.

    Args:
        met: in the shape of `ERRORS_SCHEMA`, of one part.
        open_errors: as `error_book.open_record_errors` reads them.
    """
    keys, open_keys = (_error_keys(errors) for errors in (met, open_errors))
    place = pc.index_in(keys, value_set=open_keys)
    differs = pc.is_null(place)
    for name in ("value", "detail", "holders"):
        stands = one_piece(open_errors[name]).take(place)
        differs = pc.or_(differs, differ(one_piece(met[name]), stands))
    to_write = pc.is_in(keys, value_set=keys.filter(differs))  # also the rows that tell one error together with these
    return met.filter(to_write), open_errors["id"].filter(pc.invert(pc.is_in(open_keys, value_set=keys)))


def _error_keys(errors: pa.Table) -> pa.Array:
    """What tells one open error of a part from another, in one text."""
    keys = (one_piece(errors[name]) for name in ("code", "external_id", "salesforce_field"))
    return pc.binary_join_element_wise(*keys, " ", null_handling="replace", null_replacement="")


def _with_created_holders(errors: pa.Table, clean: CleanRecords, columns: Columns, created_ids: Ints) -> pa.Table:
    """Name the contacts that this run created, which had no id yet when they were found to hold a handle."""
    if not created_ids.any():
        return errors
    key = "contact_id" if columns.part is Part.CONTACTS else "account_id"
    texts = one_piece(errors["holders"])
    has_unnamed = pc.match_substring(texts, f'"{key}": null,')  # within a value the quotes are escaped
    found = [json.loads(text) for text in texts.filter(has_unnamed).to_pylist()]
    unnamed = pa.array({h["external_id"] for holders in found for h in holders if h[key] is None}, pa.string())
    rows = pc.indices_nonzero(pc.is_in(clean.records["external_id"], value_set=unnamed))
    names = clean.records["external_id"].take(rows).to_pylist()
    ids = dict(zip(names, created_ids[rows.to_numpy()].tolist(), strict=True))
    named = [
        [{**h, key: h[key] if h[key] is not None else ids[h["external_id"]]} for h in holders] for holders in found
    ]
    new = pa.array([json.dumps(holders, ensure_ascii=False) for holders in named], pa.string())
    holders = pc.replace_with_mask(texts, has_unnamed, new)
    return errors.set_column(errors.schema.get_field_index("holders"), "holders", holders)


# --------------------------------------------------------------------------------------------------------- arrays


def _only_where(mask: pa.ChunkedArray, texts: Any) -> Any:
    return pc.if_else(mask, texts, pa.scalar(None, pa.string()))


def _json_object(values: JsonTexts) -> pa.Array:
    """One JSON object a row, of JSON texts by key; null values are left out."""
    pieces = [wrapped(f"{json.dumps(key, ensure_ascii=False)}: ", text) for key, text in values.items()]
    return wrapped("{", join_present(pieces), "}")


def _copy(cursor: psycopg.Cursor, table: str, portions: Iterable[pa.Table]) -> None:
    """Append rows to `table` (`schema.name`); columns by name, null as null, text exactly.

    While PostgreSQL takes one portion the next is made.
    """
    portions = iter(portions)
    first = next((rows for rows in portions if rows.num_rows), None)
    if first is None:
        return
    statement = compose.SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        compose.Identifier(*table.split(".")), compose.SQL(", ").join(map(compose.Identifier, first.column_names))
    )
    with cursor.copy(statement) as copy, closing(_made_ahead(_csv_batches(chain([first], portions)))) as batches:
        for batch in batches:
            copy.write(batch)


def _csv_batches(portions: Iterable[pa.Table]) -> Iterator[memoryview]:
    """CSV in which every text is quoted, so that PostgreSQL tells an empty text from null."""
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="needed")
    for rows in portions:
        for start in range(0, rows.num_rows, ROWS_PER_COPY):
            target = pa.BufferOutputStream()
            pyarrow.csv.write_csv(rows.slice(start, ROWS_PER_COPY), target, options)
            yield memoryview(target.getvalue())


def _made_ahead(items: Iterator[memoryview]) -> Generator[memoryview]:
    """The same items, each made by another thread while the one before is worked on."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="load-ahead") as ahead:
        following = ahead.submit(next, items, None)
        while (item := following.result()) is not None:
            following = ahead.submit(next, items, None)
            yield item


def _expect(cursor: psycopg.Cursor, count: int, what: str) -> None:
    if cursor.rowcount != count:
        raise RetryableError("not_balanced", f"{count} {what} were planned, {cursor.rowcount} were written")
