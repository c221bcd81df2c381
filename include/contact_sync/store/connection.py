"""Opens the contact store that an Airflow connection names, and reads from it in bulk.

The credentials, options and tokens are the business of the provider's `PostgresHook`; this is the one place that asks
it. A store that cannot be reached becomes `StoreUnavailable` here. The texts of SQL statements come from the folder
`sql/`; values are bound to them by whoever runs them, never pasted in.
"""

from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, LiteralString, cast

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import TransactionStatus
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Composable, Literal

from include.contact_sync.errors import StoreUnavailable

if TYPE_CHECKING:
    import pyarrow as pa
    from adbc_driver_manager import AdbcDatabase
    from adbc_driver_manager.dbapi import Connection, _SharedDatabase

PIECE = 1 << 30
"""Bytes that a query may return in one piece; Arrow takes 2 GB of a text, and columns in pieces are copied by whoever uses them."""

_OPENING_OR_CLOSING = Lock()
"""The bulk driver counts a database's sessions without a lock of its own."""

_KEPT: "dict[str, tuple[AdbcDatabase, _SharedDatabase]]" = {}
"""By its address the store that was read last, as the bulk driver knows it."""

SQL_FOLDER = Path(__file__).parent.parent / "sql"


@cache
def sql(name: str) -> LiteralString:
    """The text of `sql/<name>.sql`."""
    return (SQL_FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def connect(conn_id: str = "contacts_db") -> psycopg.Connection:
    """Open the store; the caller closes it (`with connect() as connection`).

    Raises:
        StoreUnavailable: the Airflow connection is not defined or not usable, or its server does not answer.
    """
    # Airflow takes seconds to import; parsing the DAG or asking the command for help must not pay for it.
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = cast("psycopg.Connection", PostgresHook(postgres_conn_id=conn_id).get_conn())
        connection.row_factory = tuple_row  # the Airflow connection's extra may have chosen another
        connection.execute(sql("prepare_session"))
        connection.commit()
    except AirflowNotFoundException as missing:
        raise StoreUnavailable(
            f"The Airflow connection {conn_id} is not defined; it must name the contact store"
        ) from missing
    except psycopg.Error as failure:
        raise unavailable(failure, conn_id) from failure
    return connection


@dataclass(frozen=True)
class Moment:
    """The store as it was at one moment, whoever edits it meanwhile.

    Attributes:
        session: sees it, and writes nothing.
        name: by which other sessions can see the same, as long as the session lasts.
    """

    session: psycopg.Connection
    name: str


@contextmanager
def one_moment(conn_id: str = "contacts_db") -> Generator[Moment]:
    """Keep the store as it is now in sight."""
    with connect(conn_id) as connection:
        connection.execute(sql("read_one_moment"))
        row = connection.execute(sql("share_moment")).fetchone()  # the first query decides what is seen
        assert row is not None
        yield Moment(connection, row[0])


def read_frame(query: LiteralString | Composable, conn_id: str = "contacts_db") -> "pa.Table":
    """Everything that a query returns, as Arrow, through a session of its own: it sees what is committed, nothing else.

    JSON and numbers of arbitrary precision arrive as text.

    Raises:
        StoreUnavailable: the store cannot be reached, or went away.
    """
    with one_moment(conn_id) as moment:
        return read_frames([query], moment)[0]


def read_frames(queries: Sequence[LiteralString | Composable], moment: Moment) -> "list[pa.Table]":
    """As `read_frame`, for several queries at once, which see the store at the same moment.

    Raises:
        StoreUnavailable: the store cannot be reached, or went away.
    """
    import adbc_driver_postgresql.dbapi as adbc

    session = moment.session
    see = SQL(sql("see_moment")).format(moment=Literal(moment.name)).as_string(session)
    texts = [query.as_string(session) if isinstance(query, Composable) else query for query in queries]
    address = make_conninfo(**session.info.get_parameters(), password=session.info.password or None)
    try:
        with ThreadPoolExecutor(len(queries), thread_name_prefix="frame") as readers:
            return list(readers.map(partial(_frame, address, see), texts))
    except (adbc.Error, psycopg.Error) as failure:
        raise unavailable(failure) from failure


def _frame(address: str, moment: str, query: str) -> "pa.Table":
    from adbc_driver_postgresql import StatementOptions

    with _bulk_session(address) as connection, connection.cursor() as cursor:
        cursor.execute(sql("read_one_moment"))
        cursor.execute(moment)
        cursor.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: str(PIECE)})
        cursor.execute(query)
        return _without_extension_types(cursor.fetch_arrow_table())


@contextmanager
def _bulk_session(address: str) -> "Generator[Connection]":
    from adbc_driver_manager import AdbcConnection
    from adbc_driver_manager.dbapi import Connection

    with _OPENING_OR_CLOSING:
        database, shared = _database(address)
        connection = Connection(shared, AdbcConnection(database))
    try:
        yield connection
    finally:
        with _OPENING_OR_CLOSING:
            connection.close()


def _database(address: str) -> "tuple[AdbcDatabase, _SharedDatabase]":
    """What the bulk driver knows of a store; to learn PostgreSQL's types takes it longer than most queries of a night.

    It is closed with the last of its sessions when another store is read. Types that are made later are not known to it.
    """
    from adbc_driver_manager.dbapi import _SharedDatabase
    from adbc_driver_postgresql import connect as open_database

    if address not in _KEPT:
        for _, others in _KEPT.values():
            others.close()
        _KEPT.clear()
        database = open_database(address)
        _KEPT[address] = database, _SharedDatabase(database)
    return _KEPT[address]


@contextmanager
def own_transaction(connection: psycopg.Connection) -> Generator[psycopg.Cursor]:
    """A short transaction that is committed at its end, whatever the caller does afterwards.

    Inside a transaction that is already open it would be a mere savepoint: a lease that nobody sees until a long load
    ends, and a row lock kept as long. That is a mistake of the caller's and refused.
    """
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        raise RuntimeError("needs a connection without an open transaction")
    with connection.transaction(), connection.cursor() as cursor:
        yield cursor


def session_is_gone(failure: psycopg.OperationalError) -> bool:
    """Whether the server ended the session or cannot be heard any more; a deadlock or a full disk is something else."""
    return failure.sqlstate is None or failure.sqlstate.startswith(("08", "57P"))


def unavailable(failure: Exception, conn_id: str = "contacts_db") -> StoreUnavailable:
    """What the driver says of a store that cannot be reached or went away, as an error that names the connection."""
    reason = str(failure).strip().partition("\n")[0]
    return StoreUnavailable(
        f"The contact store cannot be reached with the Airflow connection {conn_id}, or went away: {reason}"
    )


def _without_extension_types(table: "pa.Table") -> "pa.Table":
    for number, field in enumerate(table.schema):
        storage = getattr(field.type, "storage_type", None)
        if storage is not None:
            table = table.set_column(number, field.name, table.column(number).cast(storage))
    return table
