"""The records on which a sync is tried: those it must refuse, those it must carry unharmed, deleted and merged ones.

How many there are grows with the organisation, but at least four of a kind. Each kind takes contacts that no other
kind has. Values are written straight into the table, without a new stamp: they have always been so.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import numpy as np

from include.salesforce_simulator import ids
from include.salesforce_simulator.organisation import Organisation
from include.salesforce_simulator.table import Table

_FEWEST = 4
_FEWEST_CONTACTS = 200
_FEWEST_ACCOUNTS = 20
_COLLEAGUES = 5
BAD_PHONES = ("call reception", "12", "0044 131 555 0123", "0800-FLOWERS-NOW-PLEASE", "+999 123 456 789", "555-CALL ME")
BAD_EMAILS = ("none@nowhere", "b.levy(at)example.net", "two@at@example.org", "spaced out@example.org")
BAD_LEVELS = ("n/a", "unknown", "senior", "-", "1 or 2")
HOSTILE: tuple[dict[str, str], ...] = (
    {"LastName": "NA"},
    {"LastName": "null"},
    {"LastName": "None", "FirstName": "nan"},
    {"LastName": "0012", "FirstName": "1E5"},
    {"LastName": "N/A", "Title": "#N/A"},
    {"LastName": "🦄 Ünïcörn 👩‍👩‍👧‍👦", "FirstName": "Zoë 🚀"},
    {"LastName": "بن علي", "FirstName": "أبو \u202bبكر\u202c", "Title": "مدير"},
    {"LastName": 'O\'Neil "The Rock" Jr.', "MailingStreet": '12 "Quoted" Lane\r\nc/o O\'Hara, 2nd; floor\r\n'},
    {"LastName": "<b>Bold</b>", "FirstName": "<script>alert(1)</script>"},
    {"LastName": "=cmd|'/c calc'!A1", "FirstName": "+1+1", "Title": "@SUM(A1:A9)"},
    {"LastName": "Comma, Semi; Tab\tPipe|", "Description": 'line one\r\nline "two", with quotes\n\nline four\\'},
    {"LastName": "Robert'); DROP TABLE contacts;--"},
    {"LastName": "  leading and trailing  ", "FirstName": "\u200bzero-width"},
    {"LastName": "Ａ fullwidth", "FirstName": "e\u0301 combining"},
    {"LastName": "true", "FirstName": "-0", "Department": "1.0"},
    {"LastName": "${jndi:ldap://x}", "FirstName": "{{ 7*7 }}", "Department": "%s %d \\N"},
)
_LOOK_ALIKES = ("003HsAAAAAAaBcD", "003HsAAAAAAAbCd", "003HsAAAAAAabcd")


def plant(organisation: Organisation, random: np.random.Generator, newest: datetime, share: float) -> None:
    """Change an organisation that was just made; a very small one stays as it is. `share`: of the records, of a kind."""
    contacts, accounts = organisation.table("Contact"), organisation.table("Account")
    if len(accounts) >= _FEWEST_ACCOUNTS:
        _plant_taken_domains(accounts, random, share)
    if len(contacts) >= _FEWEST_CONTACTS:
        _Planting(organisation, contacts, random, newest, share).all()


def _plant_taken_domains(accounts: Table, random: np.random.Generator, share: float) -> None:
    """Accounts that name the domain of another, written differently."""
    count = max(_FEWEST, int(len(accounts) * share))
    rows = random.choice(len(accounts), 2 * count, replace=False)
    forms = ("https://WWW.{}/", "http://{}/about", "{}", "https://{}/en/index.html?from=x")
    for number, (holder, claimant) in enumerate(rows.reshape(-1, 2)):
        website = accounts.value(int(holder), "Website")
        domain = website.removeprefix("https://").removeprefix("http://").removeprefix("www.")
        accounts.edit(int(claimant), {"Website": forms[number % len(forms)].format(domain)})


class _Planting:
    """Plants in contacts that were not used yet."""

    def __init__(
        self, organisation: Organisation, contacts: Table, random: np.random.Generator, newest: datetime, share: float
    ) -> None:
        self._organisation = organisation
        self._contacts = contacts
        self._count = max(_FEWEST, int(len(contacts) * share))
        self._newest = newest
        # Whoever is planted has an e-mail and an account, so that nothing but the planted fault befalls it.
        usable = np.asarray(contacts.column("Email").is_valid()) & np.asarray(contacts.column("AccountId").is_valid())
        self._rows: Iterator[int] = iter(random.permutation(np.flatnonzero(usable)).tolist())
        self._numbers = iter(range(1000, 10_000_000))

    def all(self) -> None:
        """Everything, one kind after the other."""
        for values in HOSTILE:
            self._contacts.edit(next(self._rows), values)
        for head in _LOOK_ALIKES:
            self._contacts.rename(next(self._rows), ids.lengthen(head))
        for row in self._take(self._count):
            self._contacts.edit(row, dict.fromkeys(("Email", "Phone", "MobilePhone", "Twitter__c")))
        self._shared_addresses()
        self._shared_numbers()
        self._shared_twitter_names()
        self._switchboards()
        self._unreadable()
        self._deleted()
        self._merged()

    def _take(self, count: int) -> list[int]:
        return [next(self._rows) for _ in range(count)]

    def _pairs(self) -> Iterator[tuple[int, int]]:
        rows = self._take(2 * self._count)
        return zip(rows[::2], rows[1::2], strict=True)

    def _shared_addresses(self) -> None:
        for write in (str, str.upper):
            for holder, claimant in self._pairs():
                self._contacts.edit(claimant, {"Email": write(self._contacts.value(holder, "Email"))})

    def _shared_numbers(self) -> None:
        """One number in two styles; the second is readable because the sync's default region is the US."""
        for holder, claimant in self._pairs():
            exchange, line = self._new_number()
            self._contacts.edit(holder, {"MobilePhone": f"+1 646-{exchange}-{line}"})
            self._contacts.edit(claimant, {"MobilePhone": f"(646) {exchange}-{line}"})

    def _new_number(self) -> tuple[str, str]:
        number = next(self._numbers)
        return str(200 + number // 10_000 % 700), f"{number % 10_000:04d}"

    def _shared_twitter_names(self) -> None:
        for holder, claimant in self._pairs():
            name = f"team_{next(self._numbers)}"
            self._contacts.edit(holder, {"Twitter__c": f"@{name}"})
            self._contacts.edit(claimant, {"Twitter__c": name.upper()})

    def _switchboards(self) -> None:
        """Colleagues of one account behind one number."""
        for board in range(max(1, self._count // 10)):
            colleagues = self._take(_COLLEAGUES)
            account = self._contacts.value(colleagues[0], "AccountId")
            for row in colleagues:
                self._contacts.edit(row, {"AccountId": account, "Phone": f"+1 212-842-{5500 + board:04d}"})

    def _unreadable(self) -> None:
        self._bad("Phone", BAD_PHONES)
        self._bad("Level_Text__c", BAD_LEVELS)
        # Whoever cannot be reached by e-mail keeps a telephone, else it would be without any handle.
        for row in self._bad("Email", BAD_EMAILS):
            exchange, line = self._new_number()
            self._contacts.edit(row, {"Phone": f"+1 718-{exchange}-{line}"})

    def _bad(self, name: str, values: tuple[str, ...]) -> list[int]:
        rows = self._take(self._count)
        for number, row in enumerate(rows):
            self._contacts.edit(row, {name: values[number % len(values)]})
        return rows

    def _deleted(self) -> None:
        moment = self._newest - timedelta(days=3)
        for row in self._take(2 * self._count):
            self._bin(row, moment)

    def _merged(self) -> None:
        moment = self._newest - timedelta(days=2)
        for winner, loser in self._pairs():
            self._contacts.edit(winner, {"SystemModstamp": moment, "LastModifiedDate": moment})
            self._contacts.edit(loser, {"MasterRecordId": self._contacts.value(winner, "Id")})
            self._bin(loser, moment)

    def _bin(self, row: int, moment: datetime) -> None:
        self._contacts.edit(row, {"IsDeleted": True, "SystemModstamp": moment, "LastModifiedDate": moment})
        self._organisation.deletions["Contact"][self._contacts.value(row, "Id")] = moment
