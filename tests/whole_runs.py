"""What tests of whole runs share: two simulated organisations, a mailbox, settings, and a look at the store.

`demo` is the organisation of the demo, with a few records for every contact-level error; `organisation` begins empty,
for tests that say themselves who is in it. Both are as new for each test, and the Airflow connections lead there.
"""

import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from include.contact_sync.salesforce import Pace, client
from include.contact_sync.settings import Settings, parse_settings
from include.contact_sync.store import settings_versions
from include.contact_sync.store.connection import connect
from include.salesforce_simulator.generate import generate_organisation
from include.salesforce_simulator.server import Simulator
from tests.conftest import Store

IN_HASTE = Pace(
    attempts=2, first_wait=0, longest_wait=0, first_poll=0, longest_poll=0, connect_seconds=10, read_seconds=10
)
"""Waits nowhere, and gives up soon."""

OWNER, PERSON = "owner@example.com", "person@example.com"
OUTCOMES = ("created", "linked", "updated", "unchanged", "error")


@dataclass
class Mailbox:
    """A mail server on loopback that keeps what it took.

    `refusals` are its answers to the next messages; so many it takes and `hangs_up` before it says so.
    """

    port: int
    messages: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    hangs_up: int = 0

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        self.recipients.append(envelope.rcpt_tos)
        if self.hangs_up:
            self.hangs_up -= 1
            server.transport.abort()
        return "250 kept"

    def only_text(self) -> str:
        """The plain text of the only message."""
        (message,) = self.messages
        body = message.get_body(("plain",))
        assert body is not None
        return body.get_content()


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    """Where the Airflow connection `smtp_default` leads."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    box = Mailbox(port)
    logging.getLogger("mail.log").setLevel(logging.WARNING)  # else it says who writes to whom
    controller = Controller(box, hostname="127.0.0.1", port=port, data_size_limit=0)
    controller.start()
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "sync@example.com", "timeout": 5}
    connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
    yield box
    controller.stop()


@pytest.fixture(scope="session")
def running_demo() -> Iterator[Simulator]:
    with Simulator.start(generate_organisation()) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def running_organisation() -> Iterator[Simulator]:
    with Simulator.start(generate_organisation(seed=1, contacts=0, accounts=0)) as simulator:
        yield simulator


@pytest.fixture
def demo(running_demo: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """The demo organisation as it began."""
    return as_new(running_demo, monkeypatch)


@pytest.fixture
def organisation(running_organisation: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """An organisation in which there is nobody yet."""
    return as_new(running_organisation, monkeypatch)


def as_new(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """Begin again, lead the Airflow connection there, and let the product hurry."""
    simulator.control.start_again()
    monkeypatch.setenv("AIRFLOW_CONN_SALESFORCE_DEFAULT", json.dumps(simulator.connection()))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", simulator.ca_file)
    monkeypatch.setattr(client, "Pace", lambda: IN_HASTE)
    return simulator


# ---------------------------------------------------------------------------------------------------------- settings


def settings_with(
    accounts: dict[str, Any] | None = None, contacts: dict[str, Any] | None = None, **more: Any
) -> Settings:
    """Names, one domain and one e-mail address are mapped, unless something else is said."""
    return parse_settings(
        {
            "owners": [OWNER],
            "accounts": {"mapping": lines(Name="name", Website="domain")} | (accounts or {}),
            "contacts": {"mapping": lines(Name="name", Email="email")} | (contacts or {}),
        }
        | more
    )


def mapped(**more: Any) -> Settings:
    """What the demo organisation was planted for: two telephones, Twitter, and a text that feeds a number."""
    custom_fields = {"level": {"type": "number"}, "tier": {"type": "enum", "values": ["Gold", "Silver", "Bronze"]}}
    mapping = lines(Name="name", Email="email", Phone="phone", MobilePhone="phone", Twitter__c="twitter")
    mapping += lines(Level_Text__c="custom_fields.level", Tier__c="custom_fields.tier", LinkedIn__c="url")
    return settings_with(contacts={"custom_fields": custom_fields, "mapping": mapping}, **more)


def lines(**mapping: str) -> list[dict[str, str]]:
    """Mapping lines, Salesforce field = contact field."""
    return [{"salesforce_field": name, "field": target} for name, target in mapping.items()]


def save(settings: Settings) -> int:
    """Make them the newest version."""
    with connect() as connection:
        return settings_versions.save_settings(connection, settings, "somebody")


# ------------------------------------------------------------------------------------------------------- who is there


def three_people(organisation: Simulator, bob: str = "ANN@example.org") -> tuple[str, list[str]]:
    """Ann, Bob and Eve of Acme; Bob has Ann's e-mail address, unless he gets another. Returns the ids."""
    control = organisation.control
    (acme,) = control.create(sobject="Account", records=[{"Name": "Acme", "Website": "https://www.acme.example"}])
    people = [("Ann", "ann@example.org"), ("Bob", bob), ("Eve", "eve@example.org")]
    records = [{"LastName": name, "Email": email, "AccountId": acme} for name, email in people]
    return acme, control.create(sobject="Contact", records=records)


# ---------------------------------------------------------------------------------------------------------- the store


def counts(**outcomes: int) -> dict[str, int]:
    """Outcome counts; those not named are zero."""
    return dict.fromkeys(("read", *OUTCOMES), 0) | outcomes


TABLES = ("accounts", "account_domains", "contacts", "contact_handles")


def row_versions(store: Store) -> list[tuple]:
    """Which version of which row is where: a row that is written again, even with the same values, has another."""
    return [
        row
        for table in TABLES
        for row in store.execute(f"SELECT '{table}', ctid::text, xmin::text FROM contact_store.{table} ORDER BY 2")
    ]


def every_value(store: Store, but: str) -> dict[str, list[tuple]]:
    """The rows of every table, with their versions, except those of one."""
    tables = store.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'contact_store' ORDER BY 1")
    return {
        table: store.execute(f"SELECT ctid::text, xmin::text, to_jsonb({table}) FROM contact_store.{table} ORDER BY 1")
        for (table,) in tables
        if table != but
    }
