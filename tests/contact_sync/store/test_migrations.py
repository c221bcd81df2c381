"""Bringing a store up to date."""

import threading
from pathlib import Path

import psycopg
import pytest

from include.contact_sync.errors import RunRefused
from include.contact_sync.store.migrations import MIGRATIONS_FOLDER, migrate
from tests.conftest import Store

ALL_MIGRATIONS = [file.stem for file in sorted(MIGRATIONS_FOLDER.glob("*.sql"))]


def relations_of(store: Store) -> dict[str, str]:
    return dict(
        store.execute(
            "SELECT relname, relkind::text FROM pg_class"
            " WHERE relnamespace = 'contact_store'::regnamespace AND relkind IN ('r', 'v')"
        )
    )


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.sql").write_text(text)
    return folder


def test_a_new_database_gets_the_schema_and_a_second_time_nothing(empty_database: Store) -> None:
    connection = empty_database.connect()
    assert migrate(connection) == ALL_MIGRATIONS
    assert relations_of(empty_database) == {
        "accounts": "r",
        "account_domains": "r",
        "contacts": "r",
        "contact_handles": "r",
        "contacts_last_synced": "v",
        "migrations": "r",
        "sync_changes": "r",
        "sync_errors": "r",
        "sync_runs": "r",
        "sync_settings": "r",
    }
    assert migrate(connection) == []
    assert [name for (name,) in empty_database.execute("SELECT name FROM contact_store.migrations")] == ALL_MIGRATIONS


def test_of_two_that_start_at_once_one_migrates_and_the_other_finds_nothing_to_do(empty_database: Store) -> None:
    applied: list[list[str]] = []
    together = threading.Barrier(2)

    def start() -> None:
        connection = empty_database.connect()
        together.wait()
        applied.append(migrate(connection))

    starters = [threading.Thread(target=start) for _ in range(2)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert sorted(applied) == [[], ALL_MIGRATIONS]


def test_files_are_applied_in_the_order_of_their_numbers(empty_database: Store, tmp_path: Path) -> None:
    connection = empty_database.connect()
    folder = write(
        tmp_path, **{"0002_b": "ALTER TABLE contact_store.a ADD b int", "0001_a": "CREATE TABLE contact_store.a ()"}
    )
    assert migrate(connection, folder) == ["0001_a", "0002_b"]
    write(folder, **{"0003_c": "ALTER TABLE contact_store.a ADD c int"})
    assert migrate(connection, folder) == ["0003_c"]


def test_a_migration_that_fails_leaves_nothing_behind(empty_database: Store, tmp_path: Path) -> None:
    folder = write(
        tmp_path, **{"0001_a": "CREATE TABLE contact_store.a ()", "0002_b": "CREATE TABLE contact_store.a ()"}
    )
    with pytest.raises(psycopg.errors.DuplicateTable):
        migrate(empty_database.connect(), folder)
    assert empty_database.execute("SELECT to_regnamespace('contact_store')") == [(None,)]


def test_an_applied_migration_that_was_changed_afterwards_is_refused(empty_database: Store, tmp_path: Path) -> None:
    connection = empty_database.connect()
    folder = write(tmp_path, **{"0001_a": "CREATE TABLE contact_store.a ()"})
    migrate(connection, folder)
    write(folder, **{"0001_a": "CREATE TABLE contact_store.a (b int)", "0002_b": "SELECT 1"})
    with pytest.raises(RunRefused, match=r"changed.*0001_a"):
        migrate(connection, folder)
    assert empty_database.execute("SELECT name FROM contact_store.migrations") == [("0001_a",)]


def test_a_store_of_a_newer_version_is_refused(empty_database: Store, tmp_path: Path) -> None:
    connection = empty_database.connect()
    folder = write(tmp_path, **{"0001_a": "CREATE TABLE contact_store.a ()", "0002_b": "SELECT 1"})
    migrate(connection, folder)
    (folder / "0002_b.sql").unlink()
    with pytest.raises(RunRefused, match=r"newer version.*0002_b"):
        migrate(connection, folder)


def test_a_migration_that_appears_before_an_applied_one_is_refused(empty_database: Store, tmp_path: Path) -> None:
    connection = empty_database.connect()
    folder = write(tmp_path, **{"0002_b": "CREATE TABLE contact_store.a ()"})
    migrate(connection, folder)
    write(folder, **{"0001_a": "SELECT 1"})
    with pytest.raises(RunRefused, match=r"come before 0002_b.*0001_a"):
        migrate(connection, folder)


def test_a_user_who_may_not_create_schemas_can_migrate_one_made_for_him(empty_database: Store) -> None:
    database = psycopg.conninfo.conninfo_to_dict(empty_database.uri)["dbname"]
    role = f"{database}_user"
    empty_database.execute(f"CREATE ROLE {role} LOGIN")
    empty_database.execute(f"CREATE SCHEMA contact_store AUTHORIZATION {role}")
    try:
        with psycopg.connect(psycopg.conninfo.make_conninfo(empty_database.uri, user=role)) as connection:
            assert migrate(connection) == ALL_MIGRATIONS
    finally:
        empty_database.execute(f"DROP OWNED BY {role}")
        empty_database.execute(f"DROP ROLE {role}")
