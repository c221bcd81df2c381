"""The embedded server: made once, started again, reached only with its password, never in anybody's way."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from include.demo.postgres import Server, remove_postgres, start_postgres, temporary_postgres
from include.demo.processes import DemoError, Parts, accepts_connections, free_port
from tests.demo.watching import wait_for

IS_ROOT = os.geteuid() == 0


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for a server. As root it lies where PostgreSQL's user cannot go, since pytest's folders are private."""
    yield tmp_path / "with a space" / "postgres"
    remove_postgres(tmp_path / "with a space" / "postgres")


@contextmanager
def running(folder: Path, *databases: str) -> Generator[tuple[Server, Parts]]:
    folder.parent.mkdir(exist_ok=True)
    with Parts(folder.parent / "logs", folder.parent / "processes.json") as parts:
        yield start_postgres(folder, databases, parts), parts


def ask(server: Server, database: str, statement: str) -> object:
    with psycopg.connect(server.uri(database)) as connection:
        row = connection.execute(statement).fetchone()
        return row[0] if row else None


def test_stopping_and_starting_again_loses_nothing(folder: Path) -> None:
    with running(folder, "contacts") as (server, _), psycopg.connect(server.uri("contacts")) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 'Çağla 🙂' AS name")
    with running(folder, "contacts", "one_more") as (server, _):
        assert ask(server, "contacts", "SELECT name FROM kept") == "Çağla 🙂"
        assert ask(server, "one_more", "SELECT current_database()") == "one_more"


def test_text_is_utf_8_and_sorts_alike_on_every_machine(folder: Path) -> None:
    with running(folder) as (server, _):
        setting = "SELECT concat_ws(' ', pg_encoding_to_char(encoding), datlocprovider, datlocale) FROM pg_database"
        assert ask(server, "postgres", setting) == "UTF8 b C.UTF-8"


def test_it_is_reached_on_loopback_only_and_with_the_password(folder: Path) -> None:
    with running(folder) as (server, _):
        assert ask(server, "postgres", "SHOW listen_addresses") == "127.0.0.1"
        assert ask(server, "postgres", "SHOW unix_socket_directories") == ""
        without = server.uri("postgres").replace(server.password, "wrong")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(without)
        assert server.password not in repr(server)


def test_an_airflow_connection_names_the_same_server(folder: Path) -> None:
    with running(folder, "contacts") as (server, _):
        told = server.airflow_connection("contacts")
        with psycopg.connect(
            host=told["host"],
            port=told["port"],
            user=told["login"],
            password=told["password"],
            dbname=told["schema"],
        ) as connection:
            assert connection.info.dbname == "contacts"


def test_other_users_can_read_neither_data_nor_password_and_no_folder_above_is_opened(folder: Path) -> None:
    folder.parent.mkdir(mode=0o711 if IS_ROOT else 0o700)
    above = {path: stat.S_IMODE(path.stat().st_mode) for path in folder.parents}
    with running(folder) as (server, _):
        data = Path(str(ask(server, "postgres", "SHOW data_directory")))

    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "password").stat().st_mode) == 0o600
    assert {path: stat.S_IMODE(path.stat().st_mode) for path in folder.parents} == above


def test_it_never_runs_as_root(folder: Path) -> None:
    with running(folder) as (server, _):
        at_port = (one for one in psutil.net_connections("tcp4") if one.laddr and one.laddr.port == server.port)
        listener = next(one for one in at_port if one.status == psutil.CONN_LISTEN)
        assert psutil.Process(listener.pid).uids().real != 0


def test_where_its_user_can_go_the_data_lies_in_the_folder_itself() -> None:
    folder = Path(tempfile.mkdtemp(prefix="contacts-test-"))
    folder.chmod(0o711)
    try:
        with running(folder / "postgres") as (server, _):
            assert ask(server, "postgres", "SHOW data_directory") == str(folder / "postgres" / "data")
    finally:
        shutil.rmtree(folder)


def test_a_second_start_on_the_same_data_ends_the_server_that_is_still_running(folder: Path) -> None:
    with running(folder) as (_, first):
        (part,) = first._parts
        with Parts(folder.parent / "other-logs", folder.parent / "other.json") as parts:
            start_postgres(folder, [], parts)
            assert part.process.wait(10) == 0


@pytest.mark.parametrize("number", ["999999", str(os.getpid()), ""])
def test_the_lock_file_of_a_killed_server_is_dropped_also_where_its_number_is_in_use(folder: Path, number: str) -> None:
    with running(folder):
        pass
    (folder / "data" / "postmaster.pid").write_text(f"{number}\n{folder}/data\n")
    with running(folder) as (server, _):
        assert ask(server, "postgres", "SELECT 1") == 1


def test_after_a_crash_it_recovers(folder: Path) -> None:
    with running(folder) as (server, parts):
        with psycopg.connect(server.uri("postgres")) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
        parts._parts[0].process.send_signal(signal.SIGKILL)
        parts._parts[0].process.wait()
    with running(folder) as (server, _):
        assert ask(server, "postgres", "SELECT one FROM kept") == 1


def test_a_data_folder_whose_making_was_broken_off_is_made_again(folder: Path) -> None:
    with running(folder):
        pass
    (folder / "data").rename(folder / "data.new")
    (folder / "data.new" / "PG_VERSION").unlink()
    with running(folder) as (server, _):
        assert ask(server, "postgres", "SELECT 1") == 1


def test_why_a_data_folder_cannot_be_made_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("include.demo.postgres._ENVIRONMENT", {"LD_BIND_NOW": "1", "PGCLIENTENCODING": "x", "TZ": "x"})
    monkeypatch.setattr("include.demo.postgres.SUPERUSER", "pg_reserved")
    with pytest.raises(DemoError, match=r"(?s)could not create its data folder .*pg_reserved"), running(folder):
        raise AssertionError


def test_a_taken_port_is_given_up_for_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as quicker:
        offered = iter([quicker.getsockname()[1]])
        monkeypatch.setattr("include.demo.processes.free_port", lambda first: next(offered, None) or free_port())
        with running(folder) as (server, _):
            assert server.port != quicker.getsockname()[1]
            assert ask(server, "postgres", "SELECT 1") == 1


def test_the_programs_come_along(folder: Path) -> None:
    with running(folder, "contacts") as (server, _):
        answer = subprocess.run(
            [server.programs / "psql", server.uri("contacts"), "-Atc", "SELECT 6 * 7"], capture_output=True, check=True
        )
    assert answer.stdout == b"42\n"


def test_a_temporary_server_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_postgres(["contacts"]) as server:
        data = Path(str(ask(server, "contacts", "SHOW data_directory")))
        assert data.exists()
    assert not data.parent.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_server_can_listen_on_a_private_socket_instead() -> None:
    parent = Path(tempfile.mkdtemp(prefix="a b "))
    parent.chmod(0o711)
    sockets = parent / "sockets"
    try:
        with temporary_postgres(["contacts"], sockets) as server:
            with psycopg.connect(host=str(sockets), user="postgres", dbname="contacts") as connection:
                assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
            assert ask(server, "contacts", "SELECT 1") == 1
            assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    finally:
        shutil.rmtree(parent)


def test_a_killed_program_takes_its_server_along(tmp_path: Path) -> None:
    program = (
        "import os, signal\nfrom include.demo.postgres import temporary_postgres\n"
        "with temporary_postgres() as server:\n print(server.port, flush=True)\n os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "TMPDIR": str(tmp_path)}
    killed = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False
    )
    port = int(killed.stdout)

    wait_for(lambda: not accepts_connections(port))
    for link in tmp_path.glob("*/postgres"):
        remove_postgres(link)
