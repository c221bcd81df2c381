"""Transforms only the records whose text differs from what an earlier run was sent; the others were read already. Pure.

What a record is read as depends on its own text and on the reader alone: the mapping with the types of the fields, the
code and its libraries. So the outcome is that of transforming the whole snapshot. On an ordinary night nearly every
record is as it was the night before.
"""

import logging
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync import arrays, phones, settings, transform
from include.contact_sync import columns as columns_module
from include.contact_sync.arrays import NONE, Bools, Ints, coded, is_ascending, one_piece
from include.contact_sync.columns import SOURCE_ORDER, Columns
from include.contact_sync.errors import RunRefused
from include.contact_sync.transform import READERS, CleanRecords, Snapshot

Origin = dict[bytes, bytes]
"""Who read values, and from which snapshot; it stands in the schema of each table of clean records."""

log = logging.getLogger(__name__)

MOST_DIFFERING = 0.1
"""The share of records from which on it costs less time and memory to read all."""

_LIBRARIES = [platform.python_version(), np.__version__, pa.__version__, pd.__version__, phones.numbering_plans()]
_SOURCES = [__file__, *(str(module.__file__) for module in (transform, arrays, phones, columns_module, settings))]
# Now, and not when it is asked for: by then the files may be those of the next release.
_CODE = " ".join([*_LIBRARIES, *(sha256(Path(source).read_bytes()).hexdigest() for source in _SOURCES)])


@dataclass(frozen=True)
class Earlier:
    """What a run over the whole source was sent (a row per record, in any order), and what it read that as."""

    snapshot: Snapshot
    clean: CleanRecords


def origin(columns: Columns, snapshot: str) -> Origin:
    """What tells whether values hold: as long as it is the same, they would be read the same.

    Args:
        snapshot: what tells this snapshot from every other.
    """
    reader = sha256(f"{_CODE} {columns!r}".encode()).hexdigest()
    return {b"read_by": reader.encode(), b"read_from": snapshot.encode()}


def marked(clean: CleanRecords, origin: Origin) -> CleanRecords:
    """The records, each table with where it comes from."""
    tables = {field.name: getattr(clean, field.name) for field in fields(clean)}
    return CleanRecords(**{name: table.replace_schema_metadata(origin) for name, table in tables.items()})


def comes_from(clean: CleanRecords, origin: Origin) -> bool:
    """Whether every table is marked with this origin."""
    return all(getattr(clean, field.name).schema.metadata == origin for field in fields(clean))


def transform_what_differs(
    snapshot: Snapshot, columns: Columns, read_earlier: Callable[[], Earlier | None]
) -> tuple[CleanRecords, int]:
    """What `transform` makes of the snapshot, and how many of its records had to be read for that.

    Args:
        read_earlier: gives what the same reader read earlier; None where there is nothing. It only saves time: where it
            is gone or damaged, everything is read. Asked for here, so that its memory is free before that.
    """
    try:
        known = _Known.of(snapshot, read_earlier())
    except (RunRefused, OSError, ValueError, pa.ArrowException) as lost:
        log.info("What was read earlier cannot be used, everything is read anew: %s", lost)
        known = None
    if known is None:
        clean = transform.transform(snapshot, columns)
        return clean, clean.records.num_rows
    if not known.differs.any() and known.kept.all():
        return known.clean, 0
    differing = transform.transform(_filter(snapshot, known.differs), columns)
    return _put_together(known.clean, known.kept, differing, columns), differing.records.num_rows


@dataclass(frozen=True)
class _Known:
    """What is known of a snapshot: which rows of `clean.records` hold, and which of the snapshot must be read."""

    clean: CleanRecords
    kept: Bools
    differs: Bools

    @classmethod
    def of(cls, snapshot: Snapshot, earlier: Earlier | None) -> "_Known | None":
        """None where it is of no use: other fields, too much that differs, too much text to be put together."""
        if earlier is None or snapshot.schema != earlier.snapshot.schema:
            return None
        if any(_is_too_large(column) for column in earlier.clean.records.columns):
            return None
        ids, ids_before = (one_piece(table["Id"]) for table in (snapshot, earlier.snapshot))
        order = None if is_ascending(ids_before) else pc.sort_indices(ids_before)  # the clean records are in this order
        if one_piece(earlier.clean.records["external_id"]) != _taken(ids_before, order):
            return None
        place = None if ids == ids_before else pc.index_in(ids, value_set=ids_before)
        is_same = _same(snapshot, earlier.snapshot, place)
        if np.count_nonzero(~is_same) > MOST_DIFFERING * len(is_same):
            return None
        held = np.zeros(len(ids_before), dtype=bool)
        held[is_same if place is None else place.filter(pa.array(is_same)).to_numpy()] = True
        return cls(earlier.clean, held if order is None else held[order.to_numpy()], ~is_same)


def _filter(snapshot: Snapshot, rows: Bools) -> pa.Table:
    """Some rows; columns are read at the same time."""
    names, chosen = snapshot.schema.names, pa.array(rows)
    with ThreadPoolExecutor(READERS, thread_name_prefix="filter") as readers:
        return pa.table([*readers.map(lambda name: snapshot[name].filter(chosen), names)], schema=snapshot.schema)


def _is_too_large(column: pa.ChunkedArray) -> bool:
    """Whether the column and another of its size could not be put together."""
    return bool(column.nbytes > transform.MOST_TEXT // 2)


def _same(some: Snapshot, others: Snapshot, place: pa.Array | None) -> Bools:
    """Which rows are equal in every column to those in the same place, or in `place`; null is equal to null."""

    def same(name: str) -> Bools:
        left, right = some[name], others[name]
        if _is_too_large(left) or _is_too_large(right):
            return np.zeros(len(left), dtype=bool)
        right = _taken(right, place)
        both_null = pc.and_(pc.is_null(left), pc.is_null(right))
        found: Bools = pc.coalesce(pc.equal(left, right), both_null).to_numpy()
        return found

    with ThreadPoolExecutor(READERS, thread_name_prefix="compare") as readers:
        return np.logical_and.reduce([*readers.map(same, some.schema.names)])


def _taken(column: pa.Array | pa.ChunkedArray, rows: pa.Array | None) -> Any:
    """These rows of the column; None stands for all as they are."""
    return column if rows is None else column.take(rows)


def _put_together(before: CleanRecords, kept: Bools, differing: CleanRecords, columns: Columns) -> CleanRecords:
    """The records that are kept and those that were read now, as if all of them had been read at once."""
    both = [before, differing]
    left, ids = np.flatnonzero(kept), one_piece(differing.records["external_id"])
    ids_left = one_piece(before.records["external_id"]).filter(pa.array(kept))
    places = pc.search_sorted(ids_left, ids).to_numpy().astype(np.int64)
    records: Ints = np.insert(left, places, len(kept) + np.arange(len(ids)))
    now: Ints = np.full(len(kept) + len(ids), NONE)
    now[records] = np.arange(len(records))
    rows = np.split(now, [len(kept)])
    by_source = sorted(columns.handles, key=lambda giver: SOURCE_ORDER.index(giver.source))
    givers = [(giver.source, giver.salesforce_field) for giver in by_source]
    readable = [(field.name, field.salesforce_fields[0]) for field in columns.fields]
    readable += [(giver.source, giver.salesforce_field) for giver in columns.handles]
    handles, unreadable = [read.handles for read in both], [read.unreadable for read in both]
    faults = _in_order(unreadable, rows, ("column", "salesforce_field"), readable)
    return CleanRecords(
        _take([read.records for read in both], records),
        _take(_renumbered(handles, rows), _in_order(handles, rows, ("source", "salesforce_field"), givers)),
        _take(_renumbered(unreadable, rows), faults),
        _take([read.warnings for read in both], faults),
    )


def _renumbered(tables: Sequence[pa.Table], rows: Sequence[Ints]) -> list[pa.Table]:
    """The tables with the records' rows as they are now."""
    return [
        table.set_column(0, table.schema.field("record"), pa.array(now[table["record"].to_numpy()], pa.int32()))
        for table, now in zip(tables, rows, strict=True)
    ]


def _in_order(
    tables: Sequence[pa.Table], rows: Sequence[Ints], names: tuple[str, str], order: Sequence[tuple[str, str]]
) -> Ints:
    """Which rows of two tables, one below the other, are left, in the order of what two columns name, then of the records.

    The tables are in that order themselves.
    """
    count = max(int(now.max(initial=0)) for now in rows) + 1
    places = []
    for table, now in zip(tables, rows, strict=True):
        record = now[table["record"].to_numpy()]
        place = _places(table, names, order) * count + record
        places.append(np.where(record == NONE, NONE, place))
    left = np.flatnonzero(places[0] != NONE)
    new = np.arange(len(places[1]))
    return np.insert(left, np.searchsorted(places[0][left], places[1]), len(places[0]) + new)


def _take(tables: Sequence[pa.Table], rows: Ints) -> pa.Table:
    """Rows of two tables, one below the other; columns are taken at the same time.

    Where every row of the first table stays in its place or gives it to one of the second, most columns are as they were.
    """
    first, second = tables
    is_replaced = rows != np.arange(len(rows))
    replacing = rows[is_replaced] - len(first)
    all_stay_in_place = len(rows) == len(first) and bool((replacing >= 0).all())
    # Text is copied in runs of rows that follow one another in one of the tables.
    starts = np.flatnonzero((np.diff(rows, prepend=NONE - 1) != 1) | (rows == len(first)))
    runs = [*zip(rows[starts].tolist(), np.diff(starts, append=len(rows)).tolist(), strict=True)]

    def take(name: str) -> pa.Array:
        before, new = one_piece(first[name]), one_piece(second[name])
        if all_stay_in_place:
            replaced, by = before.filter(pa.array(is_replaced)), new.take(pa.array(replacing))
            if replaced.cast(pa.string()) == by.cast(pa.string()):
                return before
        if pa.types.is_string(before.type) and runs:
            return pa.concat_arrays(
                before.slice(row, count) if row < len(first) else new.slice(row - len(first), count)
                for row, count in runs
            )
        return one_piece(pa.chunked_array([before, new], before.type)).take(pa.array(rows))

    with ThreadPoolExecutor(READERS, thread_name_prefix="take") as readers:
        names = tables[0].column_names
        return pa.table([*readers.map(take, names)], schema=tables[0].schema)


def _places(table: pa.Table, names: tuple[str, str], order: Sequence[tuple[str, str]]) -> Ints:
    """Where in the order the pair stands that each row has in two columns."""
    (first, firsts), (second, seconds) = (coded(table[name]) for name in names)
    places = {pair: place for place, pair in enumerate(order)}
    known = np.array(
        [[places.get((one, other), NONE) for other in seconds.to_pylist()] for one in firsts.to_pylist()],
        dtype=np.int64,
    )
    return known.reshape(len(firsts), len(seconds))[first, second]
