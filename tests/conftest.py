"""One PostgreSQL for all tests, a fresh contact store for each that asks, and an Airflow that touches nothing else.

The server is that of the demo, listens on a socket only, starts with the first test that needs it
and is stopped at the end. Every test's store is cloned from a template that was migrated once. Airflow reads its
environment when it is first imported, so everything it needs is set here before any test module is.
"""

import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import hypothesis
import psycopg
import pytest
from psycopg import sql

from include.contact_sync.staging import Staging
from include.contact_sync.store.migrations import migrate
from include.demo.postgres import temporary_postgres

pytest_plugins = ["tests.whole_runs"]

ROOT = Path(__file__).resolve().parents[1]
_ROOM_FOR_A_SOCKET = 50  # a socket's whole path has at most about 107 bytes


def _temporary_folder() -> Path:
    """Where server and Airflow live. A long TMPDIR would not leave room for the server's socket."""
    usual = Path(tempfile.gettempdir())
    parent = usual if len(str(usual)) < _ROOM_FOR_A_SOCKET else Path("/tmp")
    return Path(tempfile.mkdtemp(prefix="contact-sync-", dir=parent)).resolve()


TEMPORARY_FOLDER = _temporary_folder()
POSTGRES_FOLDER = TEMPORARY_FOLDER / "postgres"
METADATA_DATABASE = "airflow_metadata"

for name in list(os.environ):
    # A developer's own Airflow, connections and databases must not be reached by tests.
    if name.startswith(("AIRFLOW_", "_AIRFLOW_", "CONTACT_SYNC_", "PG")):
        del os.environ[name]

os.environ.update(
    AIRFLOW_HOME=str(TEMPORARY_FOLDER / "airflow"),
    AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    AIRFLOW__CORE__PLUGINS_FOLDER=str(ROOT / "plugins"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    # The database appears with the fixture `airflow_db`; a test that does not ask for it must not need one.
    AIRFLOW__DATABASE__SQL_ALCHEMY_CONN=f"postgresql+psycopg2://postgres@/{METADATA_DATABASE}?host={POSTGRES_FOLDER}",
)


def pytest_configure(config: pytest.Config) -> None:
    # Told to stop, end as after Ctrl-C: with every server stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Airflow's in-process API server uses starlette's test client, which would rather have another HTTP library.
    config.addinivalue_line("filterwarnings", "ignore:Using `httpx` with `starlette.testclient`")


def pytest_unconfigure() -> None:
    shutil.rmtree(TEMPORARY_FOLDER, ignore_errors=True)


hypothesis.settings.register_profile("tests", deadline=None)  # a busy machine is not a failure
hypothesis.settings.load_profile("tests")


@dataclass(frozen=True)
class DatabaseServer:
    """The server of this test session."""

    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def uri(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def create_database(self, name: str, template: str = "template1") -> None:
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
        self._execute(statement)

    def drop_database(self, name: str) -> None:
        self._execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def fresh_database(self, template: str = "template1") -> Generator[str]:
        """A database of its own for one test; yields its name."""
        name = f"test_{next(self._numbers)}"
        self.create_database(name, template)
        try:
            yield name
        finally:
            self.drop_database(name)

    def _execute(self, statement: sql.Composable) -> None:
        with psycopg.connect(self.uri("postgres"), autocommit=True) as connection:
            connection.execute(statement)


@dataclass(frozen=True)
class Store:
    """A contact store of its own, which the Airflow connection `contacts_db` names while the test runs."""

    uri: str
    _connections: list[psycopg.Connection] = field(default_factory=list)

    def connect(self) -> psycopg.Connection:
        """One more session; closed at the end of the test."""
        connection = psycopg.connect(self.uri)
        self._connections.append(connection)
        return connection

    def execute(self, statement: str, values: object = None) -> list[tuple]:
        """Run one statement in a session and transaction of its own; returns its rows."""
        with psycopg.connect(self.uri) as connection:
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

    def close(self) -> None:
        for connection in self._connections:
            connection.close()


@pytest.fixture(scope="session")
def postgres() -> Iterator[DatabaseServer]:
    """The server; works as root, too (it then runs as a system user of its own)."""
    TEMPORARY_FOLDER.chmod(0o711 if os.geteuid() == 0 else 0o700)  # so that this user gets to its socket's folder
    with temporary_postgres(socket_folder=POSTGRES_FOLDER):
        server = DatabaseServer(POSTGRES_FOLDER)
        with psycopg.connect(server.uri("postgres"), autocommit=True) as connection:
            for setting in ("fsync", "synchronous_commit", "full_page_writes"):  # nothing here outlives the tests
                connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
            connection.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="session")
def store_template(postgres: DatabaseServer) -> str:
    """The name of a database with every migration applied, to clone stores from."""
    name = "store_template"
    postgres.create_database(name)
    with psycopg.connect(postgres.uri(name)) as connection:
        migrate(connection)
    return name


@pytest.fixture
def empty_database(postgres: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A database without a contact store in it, as a new installation has."""
    yield from _store(postgres, "template1", monkeypatch)


@pytest.fixture
def store(postgres: DatabaseServer, store_template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A fresh, migrated contact store."""
    yield from _store(postgres, store_template, monkeypatch)


def _store(postgres: DatabaseServer, template: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with postgres.fresh_database(template) as database:
        fresh = Store(postgres.uri(database))
        airflow_connection = {
            "conn_type": "postgres",
            "host": str(postgres.folder),
            "login": "postgres",
            "schema": database,
        }
        monkeypatch.setenv("AIRFLOW_CONN_CONTACTS_DB", json.dumps(airflow_connection))
        try:
            yield fresh
        finally:
            fresh.close()


@pytest.fixture
def staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Staging:
    """A staging place of its own, which CONTACT_SYNC_STAGING names while the test runs."""
    monkeypatch.setenv("CONTACT_SYNC_STAGING", f"file://{tmp_path}/staging")
    return Staging.from_environment()


@pytest.fixture(scope="session")
def airflow_db(postgres: DatabaseServer) -> Iterator[None]:
    """Airflow's metadata database, initialised once; only for tests that run DAGs."""
    postgres.create_database(METADATA_DATABASE)
    from airflow import settings
    from airflow.utils.db import initdb

    initdb()
    yield
    # Airflow would close its sessions when Python ends; by then the server is gone.
    settings.Session.remove()
    settings.dispose_orm(do_log=False)
