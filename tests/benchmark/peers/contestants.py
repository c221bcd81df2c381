"""Who takes part: this project, and each tool with its own environment, in which its `with_….py` runs.

A contestant syncs all contacts into a database, and hands back what it stored as rows that can be compared. What a
tool is and which versions of it are pinned stands at the top of its program (inline script metadata, PEP 723).
"""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import psycopg
import requests
from psycopg import sql

from include.demo.postgres import SUPERUSER
from tests.benchmark.peers.compare import Values
from tests.benchmark.stage import PROJECT, SETTINGS, Measured, Stage, measure

FIELDS = (
    *("AccountId", "Name", "Email", "Phone", "MobilePhone", "HomePhone", "OtherPhone", "Twitter__c", "LinkedIn__c"),
    *("Description", "Title", "Tier__c", "Score__c"),
)
"""What is read of a contact besides its id."""

LOGIN_HOST = "login.salesforce.com"
_FOLDER = Path(__file__).parent
_PROGRAMS = ("with_simple_salesforce.py", "with_dlt.py", "with_singer.py", "with_pyairbyte.py")
_START = "2021-06-01T00:00:00Z"
"""The day before the organisation's first contact."""
_LONGEST_SYNC = 2 * 3600
"""Seconds."""

Rows = Iterator[tuple[str, Values]]


class Contestant(Protocol):
    """Somebody who can sync contacts. `fields` are those whose values can be compared."""

    name: str
    versions: str
    notes: str
    fields: Sequence[str]

    def sync(self, stage: Stage, database: str, folder: Path) -> Measured:
        """Sync once; `folder` keeps what the next sync into this database needs."""

    def rows(self, connection: psycopg.Connection[Any]) -> Rows:
        """The contacts in the database: id, and the values of `fields`."""

    def reported(self, connection: psycopg.Connection[Any]) -> tuple[set[str], set[str]]:
        """Ids of contacts and of accounts that it says it did not store, and why."""


class Ours:
    """This project. A contact of an account that it reports is not in its source (rule 2.1)."""

    name = "this project"
    versions = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    notes = (
        "Bulk API 2.0; reads everything in each sync, the accounts too, and matches by handle, which none of the others "
        "does; what it normalises by rule (e-mail, telephone, Twitter) is not compared"
    )
    fields = ("AccountId", "Name", "LinkedIn__c", "Description", "Title", "Tier__c", "Score__c")

    def sync(self, stage: Stage, database: str, folder: Path) -> Measured:
        """Sync accounts and contacts; the settings are saved beforehand."""
        if not folder.exists():
            stage.ours(database, ["include.contact_sync", "settings", "apply", str(SETTINGS)])
            folder.mkdir()
        return stage.ours(database, ["include.contact_sync", "run"])

    def rows(self, connection: psycopg.Connection[Any]) -> Rows:
        """The linked contacts."""
        query = """
            SELECT contacts.external_id, accounts.external_id, contacts.name, links ->> 0, contacts.description,
                   contacts.custom_fields ->> 'title', contacts.custom_fields ->> 'tier', contacts.custom_fields ->> 'score'
            FROM contact_store.contacts LEFT JOIN contact_store.accounts ON accounts.id = contacts.account_id
        """
        return _stream(connection, sql.SQL(query))

    def reported(self, connection: psycopg.Connection[Any]) -> tuple[set[str], set[str]]:
        """The open errors."""
        query = "SELECT external_id, level FROM contact_store.sync_errors WHERE closed_run IS NULL"
        errors = connection.execute(query).fetchall()
        contacts, accounts = ({one for one, level in errors if level == wanted} for wanted in ("contact", "account"))
        return contacts, accounts


@dataclass
class Peer:
    """Another tool."""

    name: str
    program: Path
    table: str
    notes: str
    packages: Mapping[str, Sequence[str]]
    shown: Sequence[str]
    environments: Path
    fields: Sequence[str] = FIELDS
    versions: str = ""

    def install(self) -> None:
        """Make its environments, unless they are there from an earlier run, and ask them for the versions.

        Raises:
            subprocess.CalledProcessError: pip could not; what it printed is in `output`.
        """
        self.versions = ", ".join(chain(*self.packages.values()))  # what is wanted, until it is there
        installed: dict[str, str] = {}
        for name, packages in self.packages.items():
            folder = self.environments / name
            pins = folder / "peer.txt"
            if not pins.exists() or pins.read_text() != "\n".join(packages):
                shutil.rmtree(folder, ignore_errors=True)
                _run(sys.executable, "-m", "venv", str(folder))
                _run(str(folder / "bin" / "python"), "-I", "-m", "pip", "install", "--quiet", *packages)
                pins.write_text("\n".join(packages))
            shutil.copy(_FOLDER / "redirect.py", next(folder.glob("lib/python*/site-packages")) / "sitecustomize.py")
            ask = "from importlib.metadata import distributions as d; print({x.name: x.version for x in d()})"
            told = _run(str(folder / "bin" / "python"), "-I", "-c", ask)
            installed |= dict(re.findall(r"'([^']+)': '([^']+)'", told.lower()))
        self.versions = ", ".join(f"{name} {installed[name.lower()]}" for name in self.shown)

    def sync(self, stage: Stage, database: str, folder: Path) -> Measured:
        """Run its program in its environment."""
        folder.mkdir(exist_ok=True)
        postgres = stage.postgres
        login = json.loads((stage.folder / "salesforce" / "simulator.json").read_text())["connections"]
        task = {
            "salesforce": _login(stage, login["oauth_password"]),
            "postgres": {
                "uri": postgres.uri(database),
                "host": postgres.host,
                "port": postgres.port,
                "user": SUPERUSER,
                "password": postgres.password,
                "database": database,
            },
            "fields": ["Id", *self.fields],
            "start": _START,
            "folder": str(folder),
            "environments": {name: str(self.environments / name) for name in self.packages},
        }
        authority = stage.salesforce.environment["REQUESTS_CA_BUNDLE"]
        environment = {
            **{name: value for name, value in stage.base.items() if name != "PYTHONPATH"},
            "HOME": str(folder),
            "REQUESTS_CA_BUNDLE": authority,
            "SSL_CERT_FILE": authority,
            "SIMULATOR_PORT": str(urlsplit(stage.salesforce.url).port),
            "PEER": json.dumps(task),
            "DO_NOT_TRACK": "1",
            "AIRBYTE_OFFLINE_MODE": "1",
            "RUNTIME__DLTHUB_TELEMETRY": "false",
            "AIRBYTE_LOGGING_ROOT": str(folder / "logs"),
        }
        python = self.environments / next(iter(self.packages)) / "bin" / "python"
        limits = ["env", f"--chdir={folder}", "timeout", "--kill-after=10", str(_LONGEST_SYNC)]
        return measure([*limits, str(python), "-P", str(self.program)], environment, stage.folder / "peer.log")

    def rows(self, connection: psycopg.Connection[Any]) -> Rows:
        """Its table without the contacts that it marks as deleted; a column is found by its name's letters."""
        schema, table = self.table.split(".")
        query = "SELECT column_name FROM information_schema.columns WHERE (table_schema, table_name) = (%s, %s)"
        columns = {_letters(name): name for (name,) in connection.execute(query, (schema, table))}
        found = [columns.get(_letters(name)) for name in ("Id", *self.fields)]  # some make no column without a value
        chosen = [sql.SQL("{}::text").format(sql.Identifier(name) if name else sql.NULL) for name in found]
        deleted = columns.get("isdeleted")
        return _stream(
            connection,
            sql.SQL("SELECT {} FROM {}{}").format(
                sql.SQL(", ").join(chosen),
                sql.Identifier(schema, table),
                sql.SQL(" WHERE {}::text IS DISTINCT FROM 'true'").format(sql.Identifier(deleted))
                if deleted
                else sql.SQL(""),
            ),
        )

    def reported(self, connection: psycopg.Connection[Any]) -> tuple[set[str], set[str]]:
        """Nothing: none of them has a report."""
        return set(), set()


def read_peers(environments: Path) -> list[Peer]:
    """The tools, as their programs describe them."""
    peers = []
    for name in _PROGRAMS:
        program = _FOLDER / name
        block = re.search(r"(?ms)^# /// script$\n(.*?)^# ///$", program.read_text())
        assert block, f"{name} does not say what it needs"
        described = tomllib.loads(re.sub(r"(?m)^# ?", "", block[1]))
        peer = described["tool"]["peer"]
        packages = {program.stem.removeprefix("with_"): described["dependencies"], **peer.get("environments", {})}
        peers.append(Peer(peer["name"], program, peer["table"], peer["notes"], packages, peer["shown"], environments))
    return peers


def _login(stage: Stage, connection: Mapping[str, Any]) -> dict[str, str]:
    """What a tool may log in with; the refresh token is got as a person would who connects the app."""
    extra = connection["extra"]
    form = {
        "grant_type": "password",
        "client_id": extra["consumer_key"],
        "client_secret": extra["consumer_secret"],
        "username": connection["login"],
        "password": connection["password"],
    }
    answer = requests.post(
        f"{stage.salesforce.url}/services/oauth2/token",
        data=form,
        verify=stage.salesforce.environment["REQUESTS_CA_BUNDLE"],
        timeout=60,
    )
    answer.raise_for_status()
    return {
        **{name: extra[name] for name in ("domain", "consumer_key", "consumer_secret")},
        "refresh_token": answer.json()["refresh_token"],
    }


def _stream(connection: psycopg.Connection[Any], query: sql.Composable) -> Rows:
    with connection.transaction(), connection.cursor(name="contacts") as cursor:
        cursor.itersize = 20_000
        cursor.execute(query)
        for identifier, *values in cursor:
            yield identifier, values


def _letters(name: str) -> str:
    return name.replace("_", "").lower()


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout
