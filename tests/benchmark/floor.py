"""The least that a sync has to do, for comparison: `python -m tests.benchmark.floor first FOLDER | night`.

- first: download the same records by the same API and throw them away; put the same rows into the same tables, with all
  their keys and checks, in PostgreSQL's own binary form.
- night: the same download; read the stored keys and mapped values.

Each is one fresh process that starts as a sync does and opens the same Airflow connections.
"""

import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql

from include.contact_sync.__main__ import collecting_rarely
from include.contact_sync.columns import Part, resolve_columns
from include.contact_sync.salesforce.soql import Query, is_set
from include.contact_sync.settings import Settings, read_settings
from include.contact_sync.store.connection import connect
from include.contact_sync.store.records import read_stored_records
from tests.benchmark.stage import SETTINGS

TABLES = (
    "sync_runs",
    "accounts",
    "account_domains",
    "contacts",
    "contact_handles",
    "sync_changes",
    "sync_errors",
)
"""What a first sync fills, in an order that the foreign keys allow."""

_BLOCK = 1 << 20
_ROWS = 100_000


def main() -> int:
    """Do what the command line names, once."""
    from airflow.providers.salesforce.hooks.salesforce import SalesforceHook

    download(SalesforceHook("salesforce_default").get_conn(), _settings())
    if sys.argv[1] == "first":
        with connect() as connection:
            ingest(connection, Path(sys.argv[2]))
    else:
        read(_settings())
    return 0


def download(client: Any, settings: Settings) -> int:
    """Both queries of the sync by Bulk API 2.0; returns the bytes that came."""
    accounts = Query("Account", ("Id", *(line.salesforce_field for line in settings.accounts.mapping)))
    names = (line.salesforce_field for line in settings.contacts.mapping)
    contacts = Query("Contact", ("Id", "AccountId", *names), conditions=(is_set("AccountId"),))
    return sum(_download(client, query.select()) for query in (accounts, contacts))


def _download(client: Any, query: str) -> int:
    jobs = f"{client.base_url}jobs/query"
    job = client.session.post(jobs, json={"operation": "query", "query": query}, headers=client.headers).json()["id"]
    while client.session.get(f"{jobs}/{job}", headers=client.headers).json()["state"] != "JobComplete":
        time.sleep(0.05)
    received, locator = 0, None
    while locator != "null":
        wanted = {"maxRecords": _ROWS, **({"locator": locator} if locator else {})}
        answer = client.session.get(f"{jobs}/{job}/results", params=wanted, headers=client.headers)
        received, locator = received + len(answer.content), answer.headers["Sforce-Locator"]
    client.session.delete(f"{jobs}/{job}", headers=client.headers)
    return received


def ingest(connection: psycopg.Connection, folder: Path) -> None:
    """The tables' rows from the files that `dump` wrote, in one transaction."""
    for table in TABLES:
        statement = sql.SQL("COPY contact_store.{} FROM STDIN (FORMAT binary)").format(sql.Identifier(table))
        with (folder / table).open("rb") as rows, connection.cursor() as cursor, cursor.copy(statement) as copy:
            while block := rows.read(_BLOCK):
                copy.write(block)
    connection.commit()


def dump(connection: psycopg.Connection[Any], folder: Path) -> None:
    """Write each table's rows to a file of its name."""
    folder.mkdir()
    for table in TABLES:
        statement = sql.SQL("COPY contact_store.{} TO STDOUT (FORMAT binary)").format(sql.Identifier(table))
        with (folder / table).open("wb") as rows, connection.cursor() as cursor, cursor.copy(statement) as copy:
            for block in copy:
                rows.write(block)


def read(settings: Settings) -> None:
    """Keys and mapped values of the contacts and accounts, as Arrow."""
    no_merges = pa.table({"loser": pa.array([], pa.string()), "winner": pa.array([], pa.string())})
    for part in Part:
        read_stored_records(resolve_columns(part, settings, {}, ()), no_merges)


def _settings() -> Settings:
    return read_settings(SETTINGS.read_text(encoding="utf-8"))


if __name__ == "__main__":
    sys.exit(collecting_rarely(main))
