"""Opening the contact store and reading from it in bulk."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import adbc_driver_manager.dbapi
import adbc_driver_postgresql
import psycopg
import pyarrow as pa
import pytest
from psycopg.sql import SQL, Literal

from include.contact_sync.errors import StoreUnavailable
from include.contact_sync.store import connection as connection_module
from include.contact_sync.store.connection import connect, one_moment, own_transaction, read_frame, read_frames, sql
from tests.conftest import ROOT, DatabaseServer, Store

PASSWORD = "p'a s\\s@/%ä"


def test_a_connection_is_recognisable_speaks_utc_and_returns_tuples_whatever_the_extra_says(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = json.loads(os.environ["AIRFLOW_CONN_CONTACTS_DB"])
    monkeypatch.setenv("AIRFLOW_CONN_CONTACTS_DB", json.dumps({**described, "extra": {"cursor": "dictcursor"}}))
    with connect() as connection:
        row = connection.execute(
            "SELECT current_setting('application_name'), current_setting('TimeZone'), '{}'::jsonb"
        ).fetchone()
        assert row == ("contact_sync", "UTC", {})
        assert not connection.autocommit


def test_a_fresh_connection_has_no_open_transaction(store: Store) -> None:
    with connect() as connection, own_transaction(connection) as cursor:
        cursor.execute("SELECT 1")


def test_own_transaction_commits_and_refuses_to_be_a_savepoint(store: Store) -> None:
    with connect() as connection:
        with own_transaction(connection) as cursor:
            cursor.execute("CREATE TABLE kept ()")
        assert store.execute("SELECT * FROM kept") == []
        connection.execute("SELECT 1")
        with pytest.raises(RuntimeError), own_transaction(connection):
            pass


@pytest.mark.parametrize("form", ["json", "uri"])
def test_password_socket_host_and_options_reach_both_ways_of_reading(
    store: Store, postgres: DatabaseServer, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    database = psycopg.conninfo.conninfo_to_dict(store.uri)["dbname"]
    folder = str(postgres.folder)
    forms = {
        "json": json.dumps(
            {
                "conn_type": "postgres",
                "host": folder,
                "login": "postgres",
                "password": PASSWORD,
                "schema": database,
                "extra": {"sslmode": "prefer", "options": "-c statement_timeout=7s"},
            }
        ),
        "uri": f"postgres://postgres:{quote(PASSWORD, safe='')}@{quote(folder, safe='')}/{database}"
        f"?sslmode=prefer&options={quote('-c statement_timeout=7s')}",
    }
    monkeypatch.setenv("AIRFLOW_CONN_OTHER_DB", forms[form])
    with connect("other_db") as connection:
        assert connection.info.password == PASSWORD
        assert connection.execute("SHOW statement_timeout").fetchone() == ("7s",)
    timeout = read_frame(
        "SELECT current_setting('statement_timeout') AS timeout, current_database() AS base", "other_db"
    )
    assert timeout.to_pylist() == [{"timeout": "7s", "base": database}]


def test_read_frame_returns_arrow_with_exact_text_and_no_extension_types(store: Store) -> None:
    query = SQL(
        "SELECT {} AS text, '{{\"a\": 1}}'::jsonb AS json, 1.50::numeric AS number, NULL::text AS nothing"
    ).format(Literal("it's \\ % {} 🙂\n"))
    frame = read_frame(query)
    assert frame.to_pylist() == [{"text": "it's \\ % {} 🙂\n", "json": '{"a": 1}', "number": "1.50", "nothing": None}]
    assert set(frame.schema.types) == {pa.string()}


def test_an_empty_result_has_its_columns(store: Store) -> None:
    frame = read_frame("SELECT external_id, id FROM contact_store.contacts")
    assert frame.schema.equals(pa.schema([("external_id", pa.string()), ("id", pa.int64())]))
    assert frame.num_rows == 0


def test_a_result_arrives_in_one_piece_unless_it_is_too_large_for_one(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "CASE n % 3 WHEN 0 THEN NULL WHEN 1 THEN '' ELSE repeat('é', n % 50) END"
    query = f"SELECT n, {text} AS text FROM generate_series(1, 400000) AS n"
    whole = read_frame(query)
    monkeypatch.setattr(connection_module, "PIECE", 1 << 20)
    pieces = read_frame(query)
    assert (whole["n"].num_chunks, whole.num_rows) == (1, 400_000)
    assert pieces["n"].num_chunks > 1
    assert pieces.equals(whole)


def test_rule_6_2_frames_that_are_read_together_show_one_moment_whoever_edits_meanwhile(store: Store) -> None:
    add = "INSERT INTO contact_store.contacts (name) VALUES ('quick')"
    editing = threading.Timer(0.3, lambda: store.execute(add))
    count = "SELECT count(*) AS n FROM contact_store.contacts"
    editing.start()
    with one_moment() as moment:
        first, _, last = read_frames([count, "SELECT pg_sleep(1)::text AS slept", count], moment)
    editing.join()
    assert (first, last) == (last, first)
    assert read_frame(count)["n"].to_pylist() == [1]


def test_sessions_of_the_bulk_driver_open_and_close_one_after_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = threading.Lock()
    opened, close = adbc_driver_manager.AdbcConnection, adbc_driver_manager.dbapi.Connection.close

    def alone(work: Callable[..., Any]) -> Callable[..., Any]:
        def work_alone(*values: Any) -> Any:
            assert busy.acquire(blocking=False)
            time.sleep(0.01)
            outcome = work(*values)
            busy.release()
            return outcome

        return work_alone

    monkeypatch.setattr(adbc_driver_manager, "AdbcConnection", alone(opened))
    monkeypatch.setattr(adbc_driver_manager.dbapi.Connection, "close", alone(close))
    with one_moment() as moment:
        frames = read_frames([f"SELECT {number} AS number" for number in range(8)], moment)
    assert [frame["number"].to_pylist() for frame in frames] == [[number] for number in range(8)]


def test_the_bulk_driver_keeps_only_the_store_that_was_read_last(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[adbc_driver_manager.AdbcDatabase] = []
    open_database = adbc_driver_postgresql.connect

    def noted(address: str) -> adbc_driver_manager.AdbcDatabase:
        opened.append(open_database(address))
        return opened[-1]

    monkeypatch.setattr(adbc_driver_postgresql, "connect", noted)
    here = json.loads(os.environ["AIRFLOW_CONN_CONTACTS_DB"])
    for address in (here, here, here | {"schema": "postgres"}, here):
        monkeypatch.setenv("AIRFLOW_CONN_CONTACTS_DB", json.dumps(address))
        assert read_frame("SELECT current_database() AS base")["base"].to_pylist() == [address["schema"]]
    *others, last = opened
    assert len(others) == 2
    for database in others:
        with pytest.raises(adbc_driver_manager.Error):
            adbc_driver_manager.AdbcConnection(database)
    adbc_driver_manager.AdbcConnection(last).close()


def test_a_session_that_waits_for_others_to_read_is_not_ended_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = json.loads(os.environ["AIRFLOW_CONN_CONTACTS_DB"])
    impatient = address | {"extra": {"options": "-c idle_in_transaction_session_timeout=100"}}
    monkeypatch.setenv("AIRFLOW_CONN_CONTACTS_DB", json.dumps(impatient))
    with one_moment() as moment:
        frames = read_frames(["SELECT pg_sleep(0.5)::text AS nothing", "SELECT 1 AS one"], moment)
    assert frames[1]["one"].to_pylist() == [1]


def test_a_store_that_goes_away_while_it_is_read_is_unavailable(store: Store) -> None:
    end_reader = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE query LIKE '%pg_sleep(9)%' AND state = 'active' AND pid <> pg_backend_pid()"
    )

    def end_readers() -> None:
        while not store.execute(end_reader):
            time.sleep(0.05)

    ending = threading.Thread(target=end_readers)
    ending.start()
    with one_moment() as moment, pytest.raises(StoreUnavailable, match="went away"):
        read_frames(["SELECT pg_sleep(9)::text AS nothing", "SELECT 1 AS one"], moment)
    ending.join()


def test_a_store_that_does_not_answer_is_named_by_its_connection_never_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CONTACTS_DB", "postgres://someone:hidden-secret@127.0.0.1:1/nowhere")
    with pytest.raises(StoreUnavailable, match=r"contacts_db.*refused") as unavailable:
        connect()
    assert "hidden-secret" not in str(unavailable.value)
    with pytest.raises(StoreUnavailable, match="contacts_db"):
        read_frame("SELECT 1")


def test_a_connection_with_an_unknown_option_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CONTACTS_DB", "postgres://someone:hidden-secret@127.0.0.1:1/nowhere?colour=red")
    with pytest.raises(StoreUnavailable, match="colour"):
        connect()


def test_a_connection_that_is_not_defined_is_named() -> None:
    with pytest.raises(StoreUnavailable, match="contacts_db is not defined"):
        connect()


def test_outside_airflow_a_variable_is_enough_and_no_metadata_database_appears(store: Store, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")}
    program = (
        "from include.contact_sync.store.connection import connect, read_frame\n"
        "with connect() as connection: pass\n"
        "print(read_frame('SELECT 42 AS answer').to_pylist())\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment, "AIRFLOW_HOME": str(tmp_path / "home")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.strip().endswith("[{'answer': 42}]")
    assert not list(tmp_path.rglob("*.db"))


def test_every_statement_begins_with_a_sentence_of_purpose() -> None:
    folder = ROOT / "include" / "contact_sync" / "sql"
    for file in folder.glob("*.sql"):
        text = sql(file.stem)
        assert text.startswith("-- "), file.name
