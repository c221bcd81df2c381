"""Brings the schema `contact_store` up to date with the numbered files of `sql/migrations`.

Every file is applied once, in the order of its number, and never changed afterwards: a store that was migrated by
other files than the ones here belongs to another version of this project and is left alone.
"""

import hashlib
import logging
from pathlib import Path

import psycopg

from include.contact_sync.errors import RunRefused
from include.contact_sync.store.connection import SQL_FOLDER, own_transaction, sql

MIGRATIONS_FOLDER = SQL_FOLDER / "migrations"

log = logging.getLogger(__name__)


def migrate(connection: psycopg.Connection, folder: Path = MIGRATIONS_FOLDER) -> list[str]:
    """Apply what is missing, all or nothing; return the names applied. Of two that start at once the second waits.

    Raises:
        RunRefused: the store holds a migration that is not here, or that was another text when it was applied.
    """
    files = {file.stem: file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.sql"))}
    with own_transaction(connection) as cursor:
        applied = _applied_migrations(cursor)
        _refuse_foreign_migrations(files, applied)
        missing = [name for name in files if name not in applied]
        for name in missing:
            cursor.execute(files[name].encode())
            cursor.execute(sql("record_migration"), {"name": name, "checksum": _checksum(files[name])})
    if missing:
        log.info("Applied %d migrations to the contact store: %s", len(missing), ", ".join(missing))
    return missing


def _applied_migrations(cursor: psycopg.Cursor) -> dict[str, str]:
    cursor.execute(sql("lock_migrations"))
    cursor.execute(sql("schema_exists"))
    if not cursor.fetchone():
        # Only where it is missing: CREATE SCHEMA IF NOT EXISTS asks for a privilege on the database in either case.
        cursor.execute(sql("create_schema"))
    cursor.execute(sql("create_migrations"))
    return dict(cursor.execute(sql("applied_migrations")).fetchall())


def _refuse_foreign_migrations(files: dict[str, str], applied: dict[str, str]) -> None:
    unknown = sorted(set(applied) - set(files))
    if unknown:
        raise RunRefused(f"The contact store was migrated by a newer version of this project: {', '.join(unknown)}")
    changed = [name for name, checksum in applied.items() if checksum != _checksum(files[name])]
    if changed:
        raise RunRefused(
            f"These migrations were changed after they were applied to the contact store: {', '.join(changed)};"
            " restore the files and write a new migration instead"
        )
    newest = max(applied, default="")
    skipped = [name for name in files if name not in applied and name < newest]
    if skipped:
        raise RunRefused(
            f"These migrations come before {newest}, which the contact store already has: {', '.join(skipped)}"
        )


def _checksum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
