"""Keeps the errors from run to run: opened, still open, closed by themselves (rule 7, last paragraph).

`record_errors`, `record_errors_of_window` and `close_run_errors` belong to the transaction of a part's load; an error
that stopped a run is recorded in a short transaction of its own, after the load was rolled back. Which errors there are
is decided by `transform` and `match`; how they are told is `report`'s business.
"""

from collections.abc import Collection
from typing import TYPE_CHECKING, Literal

import psycopg
from psycopg.sql import SQL
from psycopg.sql import Literal as Value

from include.contact_sync.errors import CATALOGUE, Level, RunError
from include.contact_sync.store.connection import own_transaction, read_frame, sql
from include.contact_sync.store.runs import Part

if TYPE_CHECKING:
    import pyarrow as pa

STOPPING_CODES = [entry.code for entry in CATALOGUE.values() if entry.level is Level.RUN and entry.stops]
"""Codes of errors that stop a part or a run; all others are about records or fields and found anew by every run."""


def open_record_errors(part: Part) -> "pa.Table":
    """The open errors of a part's records and fields: `id` and what `part_errors` holds, `holders` as text."""
    return read_frame(SQL(sql("open_record_errors")).format(part=Value(part)))


def create_part_tables(cursor: psycopg.Cursor) -> None:
    """Create, empty, the tables that the load fills for `record_errors` and `record_errors_of_window`; they end with its transaction."""
    cursor.execute(sql("create_part_errors"))
    cursor.execute(sql("create_part_read"))


def record_errors(cursor: psycopg.Cursor, run_id: int, part: Part, resolved: Collection[int]) -> None:
    """Bring the errors of a part up to date after a run over the whole source.

    Args:
        resolved: ids of the open errors that it did not meet. Those that it met and that are not in
            `pg_temp.part_errors` stay as they are.
    """
    cursor.execute(sql("record_errors"), {"run_id": run_id, "part": part})
    if resolved:
        cursor.execute(sql("close_resolved_errors"), {"run_id": run_id, "ids": list(resolved)})


def record_errors_of_window(cursor: psycopg.Cursor, run_id: int, part: Part) -> None:
    """Bring the errors of a part up to date after a run over a window, which met `pg_temp.part_errors`.

    It touches and closes only errors of the records that it read, `pg_temp.part_read` (rule 1.3).
    """
    values = {"run_id": run_id, "part": part}
    cursor.execute(sql("record_errors"), values)
    cursor.execute(sql("analyze_part_read"))
    cursor.execute(sql("close_resolved_errors_read"), values)


def record_run_error(
    connection: psycopg.Connection, run_id: int, part: Literal["run", "accounts", "contacts"], error: RunError
) -> None:
    """Record what stopped a run at a part (`run`: before either)."""
    values = {"run_id": run_id, "part": part, "code": error.code, "detail": error.detail or None}
    with own_transaction(connection) as cursor:
        cursor.execute(sql("record_run_error"), values)


def close_run_errors(
    cursor: psycopg.Cursor, run_id: int, part: Literal["run", "accounts", "contacts"], still: Collection[str] = ()
) -> None:
    """Close what stopped earlier runs at a part that this run got through; `still` are codes that stopped it anyway."""
    values = {"run_id": run_id, "part": part, "stopping": STOPPING_CODES, "still": list(still)}
    cursor.execute(sql("close_run_errors"), values)


def errors_of_run(run_id: int) -> "pa.Table":
    """Every error that the run met or closed, in the order of their ids, with its `status`: new, still_open or resolved."""
    return read_frame(SQL(sql("errors_of_run")).format(run_id=Value(run_id)))
