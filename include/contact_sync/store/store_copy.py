"""A copy of the contacts and their handles, beside which a later run reads only the rows that are newer.

PostgreSQL never changes a row in place: whoever updates it writes another one, which bears the number of his transaction
(`xmin`). At the moment of the copy every transaction below some number was over; so what came since bears that number or
a higher one, and a row that bears a lower one is in the copy, as it is. Copy and newer rows together hold all that is
there; where they are more, something was deleted since. Whether the numbers are those of the same tables is told by the
database itself, and whether the store was set back meanwhile by its own record of the run that kept the copy, which `flow`
looks up.

See https://www.postgresql.org/docs/current/ddl-system-columns.html and, for snapshots, functions-info.html there.
"""

import json
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from hashlib import sha256
from typing import Self
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from psycopg.errors import FeatureNotSupported, InsufficientPrivilege, UndefinedFunction
from psycopg.sql import SQL, Literal

from include.contact_sync.arrays import Bools, LazyTable, RowMerge, one_piece
from include.contact_sync.columns import Columns
from include.contact_sync.match import StoredRecords
from include.contact_sync.store.connection import Moment, read_frames, sql
from include.contact_sync.store.records import Fingerprint, handles_query, named, records_query, with_few_texts
from include.contact_sync.transform import MOST_TEXT

log = logging.getLogger(__name__)

SHARE_NEWER, SOME_NEWER = 0.1, 1_000
"""Where more contacts are newer than this share of all and these few, it takes less time to read everything."""

ROUND = 2**32
"""Numbers of transactions go round; of two that are less than half a round apart PostgreSQL tells which is higher."""

_KEY = b"store_copy"


@dataclass(frozen=True)
class CopyOrigin:
    """Of what a copy is one.

    Attributes:
        token: tells the copy from all others.
        queries: what was asked.
        tables: of which database and tables, and who saw them.
        oldest_open: all transactions below this number were over.
        next_transaction: none from this number on had begun.
    """

    token: str
    queries: str
    tables: str
    oldest_open: int
    next_transaction: int

    @classmethod
    def at(cls, moment: Moment, columns: Columns) -> Self | None:
        """The origin of a copy that is read at this moment; None where PostgreSQL does not tell its user which database it is."""
        asked = " ".join(query.as_string(moment.session) for query in (records_query(columns), handles_query()))
        try:
            with moment.session.transaction():
                row = moment.session.execute(sql("place_moment")).fetchone()
        except (InsufficientPrivilege, FeatureNotSupported, UndefinedFunction) as refusal:
            log.info("Without pg_control_system() no copy of the store can be kept: %s", type(refusal).__name__)
            return None
        assert row is not None
        return cls(uuid4().hex, sha256(asked.encode()).hexdigest(), *row)

    def precedes(self, later: Self) -> bool:
        """Whether what is newer than a copy of this origin makes it one of `later`, and can be told."""
        passed = later.next_transaction - self.oldest_open
        # PostgreSQL tells twice as far, but others go on while it is asked.
        return (self.queries, self.tables) == (later.queries, later.tables) and 0 <= passed < ROUND // 4


@dataclass(frozen=True)
class StoreCopy:
    """Contacts and handles, as in `StoredRecords`; each table bears its origin.

    Columns of a copy that is staged are read when they are asked for: memory is short, and costs time.
    """

    records: LazyTable
    handles: LazyTable

    @classmethod
    def of(cls, stored: StoredRecords, origin: CopyOrigin) -> "StoreCopy | None":
        """None where a column has so much text that it could not be put together with another."""
        tables = [stored.records, stored.handles]
        if any(column.nbytes > MOST_TEXT // 2 for table in tables for column in table.columns):
            return None
        return cls(*(table.replace_schema_metadata({_KEY: json.dumps(asdict(origin))}) for table in tables))

    @property
    def origin(self) -> CopyOrigin | None:
        """None where the tables do not belong together, or another release wrote them."""
        told, also_told = ((table.schema.metadata or {}).get(_KEY) for table in (self.records, self.handles))
        facts = json.loads(told) if told and told == also_told else {}
        return CopyOrigin(**facts) if facts.keys() == {field.name for field in fields(CopyOrigin)} else None


def most_newer(records: int) -> int:
    """How many of so many records may be newer than a copy for it to be of use."""
    return SOME_NEWER + round(SHARE_NEWER * records)


def read_newer(
    copy: StoreCopy, columns: Columns, merges: pa.Table, moment: Moment, read_fingerprint: Callable[[], Fingerprint]
) -> StoredRecords | None:
    """What `read_stored_records` would read at this moment, made of the copy and of what is newer.

    None where too much is newer, or something that is not is gone: then everything has to be read.

    Args:
        copy: whose origin precedes the moment.
        read_fingerprint: gives that of the moment.
    """
    assert copy.origin is not None
    is_newer = SQL(sql("is_newer")).format(oldest_open=Literal(str(copy.origin.oldest_open % ROUND)))
    most = most_newer(len(copy.records["id"]))
    [records] = read_frames([SQL("{} LIMIT {}").format(records_query(columns, is_newer), Literal(most + 1))], moment)
    if records.num_rows > most:
        log.info("Too much of the store is newer than its copy, everything is read")
        return None
    # A sync that takes a handle away also writes its contact: read with all of its handles, none of them is found gone.
    ids = one_piece(records["id"])
    of_newer = SQL("{} OR contact_id = ANY ({}::bigint[])").format(is_newer, Literal(ids.to_pylist()))
    records = named(records, columns)
    if records.schema != copy.records.schema:
        return None
    with ThreadPoolExecutor(1, thread_name_prefix="copy") as beside:
        all_records = beside.submit(_with_newer_records, copy.records, records)
        handles, accounts = read_frames([handles_query(of_newer), sql("read_linked_accounts")], moment)
        handles = with_few_texts(handles)
        if handles.schema != copy.handles.schema:
            return None
        all_handles = _with_newer_handles(copy.handles, handles, ids)
    stored = StoredRecords(all_records.result(), all_handles, accounts, merges)
    # Nothing that is there can be lacking here; so where there are as many, there is nothing that is gone.
    there_are = read_fingerprint()
    if (stored.records.num_rows, stored.handles.num_rows) != (there_are.records, there_are.handles):
        log.info("Something of the store is gone since it was copied, everything is read")
        return None
    return stored


def _with_newer_records(before: LazyTable, newer: pa.Table) -> pa.Table:
    """The contacts of both; of those that are in both the newer ones."""
    ids, newer_ids = (one_piece(records["id"]) for records in (before, newer))
    places = pc.search_sorted(ids, newer_ids).to_numpy().astype(np.int64)
    return RowMerge(~_is_in(ids, newer_ids), places).take(before, newer)


def _with_newer_handles(before: LazyTable, newer: pa.Table, newer_records: pa.Array) -> pa.Table:
    """The handles of both, without those before that are of newer contacts, or newer themselves."""
    stays = ~_is_in(before["record_id"], newer_records)
    texts = before["handle"]
    alike = np.flatnonzero(_is_in(texts, newer["handle"]))
    same = pa.array(alike)
    pairs = _pairs(before["source"].take(same), texts.take(same))
    stays[alike[_is_in(pairs, _pairs(newer["source"], newer["handle"]))]] = False
    return RowMerge(stays, np.full(newer.num_rows, len(stays))).take(before, newer)


def _is_in(values: pa.Array | pa.ChunkedArray, others: pa.Array | pa.ChunkedArray) -> Bools:
    found: Bools = pc.is_in(values, value_set=others).to_numpy(zero_copy_only=False)
    return found


def _pairs(sources: pa.ChunkedArray, handles: pa.ChunkedArray) -> pa.ChunkedArray:
    """Source and value of each handle in one text; no source has a space."""
    return pc.binary_join_element_wise(sources.cast(pa.string()), handles, " ")
