"""Worlds in PostgreSQL: a store filled from a world, one part applied as `flow` does it, and the store read back."""

import json
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
import pyarrow as pa

from include.contact_sync.columns import Columns, Part
from include.contact_sync.load import PlannedPart, apply_plan
from include.contact_sync.match import Plan, match
from include.contact_sync.settings import Settings
from include.contact_sync.store import runs
from include.contact_sync.store.connection import connect
from include.contact_sync.store.records import read_fingerprint, read_stored_records
from include.contact_sync.transform import ERRORS_SCHEMA, CleanRecords
from tests.conftest import Store
from tests.contact_sync.specification import Contact, World
from tests.contact_sync.worlds import UNLINKED_ACCOUNT, clean_records, columns_of, settings_of

CUSTOM = "custom_fields."
NO_MERGES = pa.table({"loser": pa.array([], pa.string()), "winner": pa.array([], pa.string())})


def open_run(chosen: Settings) -> int:
    with connect() as connection:
        return runs.open_run(
            connection,
            dag_run_id=None,
            trigger="manual",
            triggered_by=None,
            notify=None,
            settings_version=None,
            settings=chosen,
            dry_run=False,
            window=None,
        ).id


def close_run(run_id: int) -> None:
    with connect() as connection:
        runs.close_run(connection, run_id, "succeeded")


def plan_and_apply(
    run_id: int,
    clean: CleanRecords,
    columns: Columns,
    merges: pa.Table = NO_MERGES,
    *,
    whole_source: bool = True,
    between: Callable[[], object] | None = None,
) -> dict[str, int]:
    """Plan, let `between` happen, apply."""

    def judge() -> Plan:
        return match(clean, read_stored_records(columns, merges), columns, whole_source=whole_source)

    planned = PlannedPart(fingerprint=read_fingerprint(columns.part).text, plan=judge())
    if between:
        between()
    return apply_plan(
        run_id,
        clean,
        columns,
        planned,
        judge,
        lambda: read_fingerprint(columns.part).text,
        field_errors=ERRORS_SCHEMA.empty_table(),
        whole_source=whole_source,
    )


def run_world(world: World, between: Callable[[], object] | None = None) -> dict[str, int]:
    """One run of the part that the world is about, as far as it is stored in PostgreSQL; returns its counts."""
    run_id = open_run(settings_of(world))
    counts = plan_and_apply(run_id, clean_records(world), columns_of(world), merges_of(world), between=between)
    close_run(run_id)
    return counts


def merges_of(world: World) -> pa.Table:
    merged = list(world.merges), list(world.merges.values())
    return pa.table([pa.array(ids, pa.string()) for ids in merged], names=["loser", "winner"])


def fill_store(store: Store, world: World) -> None:
    """Nothing but the world's contacts (accounts, where it is about them); ids that the store gives begin far above."""
    part = columns_of(world).part
    highest = max([contact.id for contact in world.store], default=0)
    table = "contact_handles" if part is Part.CONTACTS else "account_domains"
    with store.connect() as connection, connection.cursor() as cursor:
        cursor.execute("TRUNCATE contact_store.contacts, contact_store.accounts, contact_store.sync_runs CASCADE")
        cursor.execute(f"ALTER SEQUENCE contact_store.{part}_id_seq RESTART WITH {highest + 1000}")
        if part is Part.CONTACTS:
            _copy(cursor, "accounts (external_id, id)", [*world.accounts.items(), (None, UNLINKED_ACCOUNT)])
        names = ", ".join(ROW[part])
        _copy(cursor, f"{part} ({names})", [_row(contact, ROW[part]) for contact in world.store])
        handles = [
            (*h, c.id, "salesforce" if name else "person", name) for c in world.store for h, name in c.handles.items()
        ]
        _copy(cursor, table, handles if part is Part.CONTACTS else [row[1:] for row in handles])


ROW = {
    Part.CONTACTS: [
        "id",
        "external_id",
        "account_id",
        "synced_account_id",
        "name",
        "description",
        "links",
        "custom_fields",
    ],
    Part.ACCOUNTS: ["id", "external_id", "name", "description", "logo_url", "custom_fields"],
}


def _copy(cursor: psycopg.Cursor, table: str, rows: Iterable[tuple]) -> None:
    with cursor.copy(f"COPY contact_store.{table} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _row(contact: Contact, names: list[str]) -> tuple:
    custom = {name.removeprefix(CUSTOM): value for name, value in contact.values.items() if name.startswith(CUSTOM)}
    row = contact.values | {
        "id": contact.id,
        "external_id": contact.external_id,
        "account_id": contact.account,
        "synced_account_id": contact.synced_account,
        "links": json.dumps(contact.values.get("url", [])),
        "custom_fields": json.dumps(custom),
    }
    return tuple(row.get(name) for name in names)


def read_store(store: Store, world: World) -> list[Contact]:
    """What the store holds now. A contact that is not in the world has the id -1, since worlds do not number those."""
    part = columns_of(world).part
    read_handles = {
        Part.CONTACTS: "SELECT contact_id, source, handle, salesforce_field FROM contact_store.contact_handles",
        Part.ACCOUNTS: "SELECT account_id, 'domain', domain, salesforce_field FROM contact_store.account_domains",
    }
    known = {contact.id for contact in world.store}
    rows = store.execute(f"SELECT {', '.join(ROW[part])} FROM contact_store.{part}")
    found = {row[0]: _contact(dict(zip(ROW[part], row, strict=True)), known) for row in rows}
    for number, source, handle, field in store.execute(read_handles[part]):
        found[number].handles[source, handle] = field
    return list(found.values())


def _contact(row: dict[str, Any], known: set[int]) -> Contact:
    """The contact that a row is, without its handles."""
    number = row.pop("id")
    contact = Contact(number if number in known else -1, row.pop("external_id"))
    contact.account, contact.synced_account = row.pop("account_id", None), row.pop("synced_account_id", None)
    row |= {CUSTOM + name: value for name, value in row.pop("custom_fields").items()} | {"url": row.pop("links", [])}
    contact.values = {name: value for name, value in row.items() if value not in (None, [])}
    return contact
