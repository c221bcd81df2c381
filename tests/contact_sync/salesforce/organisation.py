"""A small organisation for the tests of client and extract: few records, awkward values, one simulator for all tests."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from include.contact_sync.salesforce import Pace
from include.salesforce_simulator import schema
from include.salesforce_simulator.organisation import ConnectedApp, Organisation, User
from include.salesforce_simulator.table import Table

CONTACTS = 23
IN_HASTE = Pace(
    attempts=3,
    first_wait=0,
    longest_wait=0,
    first_poll=0,
    longest_poll=0,
    job_seconds=30,
    report_seconds=0.2,
    rest_rows=5,
    first_page_rows=6,
    page_rows=8,
    connect_seconds=10,
    read_seconds=10,
)
"""Waits nowhere; more than five records come by Bulk, in pages of six and then eight."""
BY_REST = {"rest_rows": 1000}

AWKWARD = [
    "NA", "N/A", "null", "None", "nan", "0012", "1E5", "TRUE", "😀👩‍👩‍👧", "e\u0301", "שלום", 'say "hi", ok', "a\r\nb", "a\rb", " blanks ",
    "=1+1", "x" * 30_000,
]  # fmt: skip


def small_organisation() -> Organisation:
    """Five accounts and CONTACTS contacts: every fifth has no account, one account and one contact lost a merge."""
    user = User("005000000000001AAC", "integration@example.org", "Integration", "integ", "integration@example.org")
    organisation = Organisation(
        Table(schema.CONTACT, {"Id": pa.array([], pa.string())}),
        Table(schema.ACCOUNT, {"Id": pa.array([], pa.string())}),
        [user],
        ConnectedApp(run_as=user.username),
    )
    accounts = [
        organisation.create(
            "Account",
            {"Name": f"Account {number}", "Website": f"https://a{number}.example.org", "NumberOfEmployees": number},
        )
        for number in range(5)
    ]
    contacts = [organisation.create("Contact", _contact(number, accounts)) for number in range(CONTACTS + 1)]
    organisation.merge("Contact", contacts[0], [contacts[-1]])
    loser = organisation.create("Account", {"Name": "Double of account 0"})
    organisation.merge("Account", accounts[0], [loser])
    return organisation


def _contact(number: int, accounts: list[str]) -> Mapping[str, Any]:
    return {
        "LastName": f"Last {number}",
        "FirstName": f"First {number}" if number % 4 else None,
        "Email": f"contact{number}@example.org",
        "Phone": None if number % 3 else f"+1 212 842 55{number:02}",
        "Title": "Manager" if number % 2 else None,
        "AccountId": accounts[number % 5] if number % 5 else None,
        "Description": AWKWARD[number % len(AWKWARD)],
        "Score__c": number / 4,
        "Newsletter__c": number % 2 == 0,
        "Birthdate": "1980-01-02",
        "Renewal__c": "2026-05-06T07:08:09+00:00",
    }


def settings_with(
    contacts: Mapping[str, Any] | None = None, accounts: Mapping[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    """Settings that map most of what the small organisation has."""
    return {
        "owners": ["owner@example.org"],
        "accounts": {
            "mapping": [
                {"salesforce_field": "Name", "field": "name"},
                {"salesforce_field": "Website", "field": "domain"},
            ],
            **(accounts or {}),
        },
        "contacts": {
            "custom_fields": {name: {"type": "string"} for name in ("account", "score", "news", "born", "renewal")},
            "mapping": [
                {"salesforce_field": "Name", "field": "name"},
                {"salesforce_field": "Email", "field": "email"},
                {"salesforce_field": "Phone", "field": "phone"},
                {"salesforce_field": "Description", "field": "description"},
                {"salesforce_field": "Account.Name", "field": "custom_fields.account"},
                {"salesforce_field": "Score__c", "field": "custom_fields.score"},
                {"salesforce_field": "Newsletter__c", "field": "custom_fields.news"},
                {"salesforce_field": "Birthdate", "field": "custom_fields.born"},
                {"salesforce_field": "Renewal__c", "field": "custom_fields.renewal"},
            ],
            **(contacts or {}),
        },
        **more,
    }
