"""Two nights in an organisation: the first is synced, then much changes, and the second night is what is proven on."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from include.contact_sync.settings import Settings
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.contact_sync.specification import World
from tests.proof.one_run import sync
from tests.whole_runs import lines, save

MAPPING = lines(Name="name", Email="email", Phone="phone", Level_Text__c="description")


def _place_of(run: str) -> str:
    """Which run it is, counted: PostgreSQL gives a number that a dead transaction took to nobody else."""
    return f"(SELECT count(*) FROM contact_store.sync_runs AS earlier WHERE earlier.id <= {run})"


DUMP = {
    "contacts": "SELECT id, external_id, account_id, synced_account_id, name, description, links, custom_fields,"
    " not_syncing_since IS NULL FROM contact_store.contacts ORDER BY id",
    "handles": "SELECT * FROM contact_store.contact_handles ORDER BY source, handle",
    "accounts": "SELECT id, external_id, name, custom_fields, not_syncing_since IS NULL FROM contact_store.accounts ORDER BY id",
    "domains": "SELECT * FROM contact_store.account_domains ORDER BY domain",
    "entries": f"SELECT {_place_of('run_id')}, part, record_id, external_id, outcome, rule, matched_source, matched_handle,"
    " old_values, new_values FROM contact_store.sync_changes ORDER BY run_id, part, external_id",
    "errors": "SELECT part, code, level, external_id, salesforce_field, value, detail, holders,"
    f" {_place_of('opened_run')}, {_place_of('last_run')}, {_place_of('closed_run')}"
    " FROM contact_store.sync_errors ORDER BY 1, 2, 4, 5, opened_run",
    "runs": f"SELECT {_place_of('run.id')}, state, accounts, contacts, accounts_applied_at IS NULL, contacts_applied_at IS NULL,"
    " report_sent_at IS NULL, report_handed_over_in FROM contact_store.sync_runs AS run ORDER BY id",
}


def dump(store: Store) -> dict[str, list[tuple]]:
    return {name: store.execute(query) for name, query in DUMP.items()}


def prepare(organisation: Simulator, store: Store, settings: Settings) -> None:
    """The first night, and what happens in Salesforce and in the store during the day after it."""
    control = organisation.control
    accounts = control.create(
        sobject="Account", records=[{"Name": f"Acme {at}", "Website": f"acme{at}.example"} for at in range(3)]
    )
    records = [
        {"LastName": f"Persönlich {at}", "Email": f"p{at}@example.org", "AccountId": accounts[at % 3]}
        for at in range(8)
    ]
    ids = control.create(sobject="Contact", records=[*records, {**records[0], "LastName": "Twin"}])
    save(settings)
    first = sync().run.contacts
    assert first == {"read": 9, "created": 8, "linked": 0, "updated": 0, "unchanged": 0, "error": 1}
    store.execute("INSERT INTO contact_store.contacts (name) VALUES ('by hand')")
    store.execute(
        "INSERT INTO contact_store.contact_handles (source, handle, contact_id)"
        " SELECT 'email', 'hand@example.org', id FROM contact_store.contacts WHERE name = 'by hand'"
    )
    control.update(sobject="Contact", ids=[ids[0]], values={"Email": "p1@example.org"})
    control.update(sobject="Contact", ids=[ids[1]], values={"Email": "p0@example.org", "Level_Text__c": "swapped"})
    control.update(sobject="Contact", ids=[ids[2]], values={"Email": None})
    control.update(sobject="Contact", ids=[ids[3]], values={"Email": "new@example.org", "Phone": "call me"})
    control.delete(sobject="Contact", ids=[ids[4]])
    control.merge(sobject="Contact", winner=ids[5], losers=[ids[6]])
    control.create(
        sobject="Account", records=[{"Name": "Late", "Website": "https://www.acme0.example"}, {"Name": "New"}]
    )
    newcomers = [{"LastName": "Hand", "Email": "HAND@example.org"}, {"LastName": "New", "Phone": "(212) 842-5500"}]
    control.create(sobject="Contact", records=[{**one, "AccountId": accounts[0]} for one in newcomers])


def sent(organisation: Simulator) -> list[World]:
    """What Salesforce holds for a run: everybody, since all accounts are synced that contacts of these nights belong to."""

    def world(sobject: str, *mapping: tuple[str, str]) -> World:
        records = organisation.control.records(sobject=sobject, deleted=True)
        return World(
            store=[],
            source={record["Id"]: record for record in records if not record["IsDeleted"]},
            mapping=[*mapping],
            merges={record["Id"]: record["MasterRecordId"] for record in records if record["MasterRecordId"]},
            needs_handle=sobject == "Contact",
        )

    return [world("Account", ("Website", "domain")), world("Contact", ("Email", "email"), ("Phone", "phone"))]


@dataclass
class Evening:
    """The store between two nights, to be cloned, and what Salesforce holds for the second."""

    template: str
    sent: list[World]


def keep_as_template(postgres: DatabaseServer, store: Store) -> Iterator[str]:
    """The store as it is, to be cloned."""
    template = "two_nights"
    ((database,),) = store.execute("SELECT current_database()")
    postgres.create_database(template, database)
    try:
        yield template
    finally:
        postgres.drop_database(template)


def fresh(postgres: DatabaseServer, template: str, patch: pytest.MonkeyPatch) -> Iterator[Store]:
    with postgres.fresh_database(template) as database:
        address = {"conn_type": "postgres", "host": str(postgres.folder), "login": "postgres", "schema": database}
        patch.setenv("AIRFLOW_CONN_CONTACTS_DB", json.dumps(address))
        store = Store(postgres.uri(database))
        yield store
        store.close()
