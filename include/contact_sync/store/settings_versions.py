"""Keeps the sync settings in the store: every version, who saved it and when. What is in them is `settings`' business."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString

import psycopg
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from include.contact_sync.errors import RunError
from include.contact_sync.settings import Settings, parse_settings
from include.contact_sync.store.connection import own_transaction, sql

_NOTHING_SAVED = "no settings were saved yet; `settings apply FILE.yaml` saves them"


@dataclass(frozen=True)
class SettingsVersion:
    """One saved version, without the settings themselves."""

    version: int
    saved_by: str
    saved_at: datetime


@dataclass(frozen=True)
class SavedSettings(SettingsVersion):
    """One saved version with its settings."""

    settings: Settings


def save_settings(connection: psycopg.Connection, settings: Settings, saved_by: str) -> int:
    """Save a new version and return its number; settings equal to the newest version's are not saved again."""
    with own_transaction(connection) as cursor:
        cursor.execute(sql("lock_settings"))
        row = cursor.execute(
            sql("save_settings"), {"settings": Jsonb(settings.as_json), "saved_by": saved_by}
        ).fetchone()
    assert row is not None  # the statement returns the new or the newest version
    return int(row[0])


def load_settings(connection: psycopg.Connection, version: int | None = None) -> SavedSettings:
    """Load a version, by default the newest.

    Raises:
        RunError: `settings_invalid` where it does not exist or, saved by an older release, is no longer valid.
    """
    with own_transaction(connection) as cursor:
        row = cursor.execute(_load_statement(version), {"version": version}).fetchone()
    if row is None and version is None:
        raise RunError("settings_invalid", _NOTHING_SAVED)
    if row is None:
        raise RunError("settings_invalid", f"settings version {version} does not exist")
    number, values, saved_by, saved_at = row
    return SavedSettings(number, saved_by, saved_at, parse_settings(values))


def load_as_saved(connection: psycopg.Connection) -> tuple[int, dict[str, Any]]:
    """The newest version's number and content, valid or not.

    Raises:
        RunError: `settings_invalid` where nothing was saved yet.
    """
    with own_transaction(connection) as cursor:
        row = cursor.execute(sql("load_newest_settings")).fetchone()
    if row is None:
        raise RunError("settings_invalid", _NOTHING_SAVED)
    return row[0], row[1]


def list_versions(connection: psycopg.Connection) -> list[SettingsVersion]:
    """Every saved version, the newest first."""
    with own_transaction(connection), connection.cursor(row_factory=class_row(SettingsVersion)) as cursor:
        return cursor.execute(sql("list_settings_versions")).fetchall()


def _load_statement(version: int | None) -> LiteralString:
    return sql("load_newest_settings" if version is None else "load_settings")
