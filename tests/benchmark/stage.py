"""What a benchmark plays on: a PostgreSQL server and a simulated Salesforce, each a process of its own on loopback.

Every measure is a command in a fresh process, whose seconds, processor time and peak memory the operating system tells.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from include.demo.postgres import Server, remove_postgres, start_postgres
from include.demo.processes import Parts
from include.demo.salesforce import Salesforce, start_simulator
from include.salesforce_simulator.control import ControlClient

PROJECT = Path(__file__).resolve().parents[2]
SETTINGS = Path(__file__).with_name("settings.yaml")
CONTACTS_OF_AN_ACCOUNT = 20
DELETED = 0.03
"""The share of the organisation's contacts that are in its recycle bin; they come on top."""

POSTGRES_SETTINGS = {
    "shared_buffers": "1GB",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
}
"""What anybody sets who loads a million rows; all else is as PostgreSQL delivers it."""

MEMORY_AT_HAND = 1536 << 20
"""Bytes that the machine has ready for each measured process."""


class CommandFailed(Exception):
    """A measured command did not end well."""


@dataclass(frozen=True)
class Measured:
    """One command: wall and processor seconds, peak memory of its largest process in MB, what it printed."""

    seconds: float
    processor_seconds: float
    peak_mb: int
    output: str


@dataclass(frozen=True)
class Stage:
    """The running servers, and the environment of a command that finds them."""

    contacts: int
    folder: Path
    parts: Parts
    postgres: Server
    salesforce: Salesforce
    control: ControlClient
    base: Mapping[str, str]

    def environment(self, database: str) -> dict[str, str]:
        """The environment of a command of ours that syncs into `database`."""
        return {
            **self.base,
            **self.salesforce.environment,
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "CONTACT_SYNC_STAGING": f"file://{self.folder / 'staging' / database}",
            "AIRFLOW_CONN_SALESFORCE_DEFAULT": json.dumps(self.salesforce.connection),
            "AIRFLOW_CONN_CONTACTS_DB": json.dumps(self.postgres.airflow_connection(database)),
        }

    def ours(self, database: str, arguments: Sequence[str]) -> Measured:
        """Run a Python module of the project, such as `["include.contact_sync", "run"]`, in a fresh process."""
        return measure([sys.executable, "-m", *arguments], self.environment(database), self.folder / "command.log")

    def make_database(self, name: str, template: str = "template1") -> None:
        """A new database, a copy of `template`; one of that name is replaced."""
        self.drop_databases(name)
        database, model = sql.Identifier(name), sql.Identifier(template)
        with self.connect("postgres") as connection:
            connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(database, model))
            connection.execute("CHECKPOINT")  # what was copied is not to be written out during a measure

    def drop_databases(self, *names: str) -> None:
        """Remove databases, so that PostgreSQL does not tidy them up beside what is measured next."""
        with self.connect("postgres") as connection:
            for name in names:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def tidy_up(self, database: str) -> None:
        """What PostgreSQL would do by itself, a minute after much was written, beside what is measured next."""
        with self.connect(database) as connection:
            connection.execute("VACUUM (ANALYZE)")
            connection.execute("CHECKPOINT")

    def connect(self, database: str) -> psycopg.Connection[Any]:
        """A connection to look into a database."""
        return psycopg.connect(self.postgres.uri(database), autocommit=True)


@contextmanager
def prepare_stage(contacts: int, arguments: Sequence[str] = ()) -> Generator[Stage]:
    """Start both servers, with an organisation of so many contacts; nothing of it stays afterwards.

    `arguments` are more of the simulator's command line.
    """
    folder = Path(tempfile.mkdtemp(prefix="contact-sync-benchmark-"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)  # PostgreSQL runs as another user then and has to get through
    base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    base |= {"PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}
    size = [
        f"--contacts={round(contacts / (1 - DELETED))}",
        f"--accounts={max(20, contacts // CONTACTS_OF_AN_ACCOUNT)}",
    ]
    try:
        with Parts(folder / "logs", folder / "processes.json") as parts:
            postgres = start_postgres(folder / "postgres", [], parts, settings=POSTGRES_SETTINGS)
            salesforce = start_simulator(folder / "salesforce", parts, base, ["--benchmark", *size, *arguments])
            control = ControlClient(
                salesforce.url, salesforce.control_token, salesforce.environment["REQUESTS_CA_BUNDLE"]
            )
            yield Stage(contacts, folder, parts, postgres, salesforce, control, base)
            control.close()
    finally:
        remove_postgres(folder / "postgres")
        shutil.rmtree(folder)


def measure(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Measured:
    """Run a command to its end.

    Raises:
        CommandFailed: with the end of what it wrote to standard error.
    """
    output = log.with_suffix(".out")
    _have_memory_at_hand()
    started = time.monotonic()
    with log.open("wb") as errors, output.open("wb") as results:
        process = subprocess.Popen(list(command), env=dict(environment), stdout=results, stderr=errors)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        told = "\n".join(log.read_text(errors="replace").splitlines()[-12:])
        raise CommandFailed(f"{' '.join(command[1:])} ended with {process.returncode}\n{told}")
    return Measured(
        seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024, output.read_text(errors="replace")
    )


def _have_memory_at_hand() -> None:
    """Use some memory right before a measured process does.

    What nobody used lately a virtual machine may have to get from its host again, which takes milliseconds a megabyte and
    depends on what ran before, not on who is measured. Where there is not so much, the measure begins without.
    """
    subprocess.run([sys.executable, "-c", f"b'1' * {MEMORY_AT_HAND}"], stderr=subprocess.DEVNULL, check=False)
