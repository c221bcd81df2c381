"""A long life: Salesforce, people and settings change in any order; runs happen, fail and are repeated.

Every step is dealt (`dealing`), as often as is written beside it. A chronicle is kept beside the store: what people
wrote, and what each run must have made of it, which the executable specification says. After each step, whoever took
it, the store must be as the chronicle has it, row by row, with every invariant. A run that fails changes nothing of the
part it failed at, and once it is repeated the store is that of a twin whose run was not disturbed.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from include.contact_sync import flow
from include.contact_sync.conclude import conclude_run
from include.contact_sync.errors import StoreUnavailable
from include.contact_sync.salesforce import client
from include.contact_sync.staging import Staging
from include.contact_sync.store.runs import Run
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.contact_sync.reading import read
from tests.contact_sync.specification import Handle, World, linked_contact, sync
from tests.contact_sync.worlds import FIELDS, SPELLINGS, UNREADABLE, spelled
from tests.proof.chronicle import Chronicle, Read, Results, Row, unreadable_handles
from tests.proof.conftest import Score
from tests.proof.dealing import Draw, Step, hands_of, play, step
from tests.proof.dying import address_of_store, watched
from tests.proof.invariants import INVARIANTS, broken
from tests.proof.meanwhile import beginning
from tests.proof.nights import dump, fresh
from tests.proof.one_run import NUMBERS
from tests.proof.one_run import sync as run
from tests.whole_runs import IN_HASTE, lines, row_versions, save, settings_with

LIVES, SEED = 8, 3
AT_LEAST = 4
"""Times for each kind of thing that a life is made of."""
MAPPINGS: list[list[tuple[str, str]]] = [
    [("Email", "email"), ("Phone", "phone")],
    [("Phone", "phone"), ("Twitter__c", "twitter"), ("Email", "email")],
    [("Email", "email"), ("Phone", "custom"), ("MobilePhone", "phone")],
    [("Email", "email")],
    [("Twitter__c", "twitter"), ("Email", "email")],
]
KINDS = {"Email": "email", "Phone": "phone", "MobilePhone": "phone", "Twitter__c": "twitter"}
NO_NUMBER = "n/a"
LEVELS = ("1", "2.50", NO_NUMBER)
TIERS = ("Gold", "Silver", "Bronze")
VIEWS: dict[str, tuple[str, ...]] = {
    "Tier__c = 'Gold'": ("Gold",),
    "Tier__c IN ('Gold', 'Silver')": ("Gold", "Silver"),
    "Tier__c != 'Gold'": ("Silver", "Bronze"),
    "": TIERS,
}
"""A list view's filter, and who it shows."""
SOURCES = ["synced accounts"] * 3 + ["list view"] * 3 + ["list view, no accounts", "accounts only"]
MAY_BE_BROKEN_BY_PEOPLE = {name for name in INVARIANTS if name.startswith("after a run, ")} | {
    "a contact that a run wrote last has the link the run gave it"
}
PACES = {"REST": IN_HASTE, "Bulk": replace(IN_HASTE, rest_rows=0, first_page_rows=2, page_rows=2)}


# --------------------------------------------------------------------------------------------------- what is drawn


def text_of(kind: str) -> Draw:
    """How somebody types a handle of few, or something else, or nothing."""
    styles = [*SPELLINGS[kind], None, *SPELLINGS[kind], UNREADABLE.get(kind, "")]

    def draw(random: Random) -> str | None:
        style = random.choice(styles)
        return (style and spelled(style, a_letter(random), 0).strip()) or None

    return draw


def one_of(*values: Any) -> Draw:
    return lambda random: random.choice(values)


def handle_of(*kinds: str) -> Draw:
    def draw(random: Random) -> Handle:
        kind = random.choice(kinds)
        return kind, read(kind, spelled(SPELLINGS[kind][0], a_letter(random), 0)) or ""

    return draw


def any_of_them(random: Random) -> int:
    """For `pick`."""
    return random.randrange(10_000)


def values_of_a_person(random: Random) -> dict[str, str | None]:
    values: dict[str, str | None] = {name: text_of(kind)(random) for name, kind in KINDS.items()}
    return values | {"Level_Text__c": random.choice([*LEVELS, None])}


a_letter, a_website, a_tier, a_mapping = one_of(*"abcd"), text_of("domain"), one_of(*TIERS), one_of(*MAPPINGS)
a_handle, a_domain = handle_of("email", "phone", "twitter"), handle_of("domain")


@dataclass
class Place:
    """Where a life is lived."""

    organisation: Simulator
    store: Store
    postgres: DatabaseServer
    score: Score
    folder: Path


@dataclass
class Chosen:
    """The settings."""

    mapping: list[tuple[str, str]] = field(default_factory=lambda: MAPPINGS[0])
    source: str = SOURCES[0]
    maps_values: bool = False

    @property
    def is_view(self) -> bool:
        return self.source.startswith("list view")

    @property
    def accounts(self) -> bool:
        return self.source != "list view, no accounts"

    @property
    def contacts(self) -> bool:
        return self.source != "accounts only"


# ------------------------------------------------------------------------------------------------- runs that fail

FAULTS = {
    "Salesforce answers no query": ("server_error", "/query", "salesforce_unavailable", ""),
    "the API limit is used up": ("request_limit", "/query", "api_limit", ""),
    "every session expires": ("session_expired", "/query", "login_failed", ""),
    "Contact cannot be described": ("server_error", "/sobjects/Contact/describe", "salesforce_unavailable", "contacts"),
}
"""What lasts until the run has failed: the fault, at which calls, the code, and the part (empty: the first)."""

CUTS = {
    "the store's session is cut when accounts are judged": ("fingerprint_accounts", "accounts"),
    "the store's session is cut while accounts are written": ("mark_accounts_applied", "accounts"),
    "the store's session is cut when contacts are judged": ("lock_apply", "contacts"),
    "the store's session is cut while contacts are written": ("create_part_errors", "contacts"),
    "the store's session is cut before the contacts' commit": ("mark_contacts_applied", "contacts"),
}


DEACTIVATED, UNSHARED = "the user is deactivated", "the list view is unshared"
FILTER_HIDDEN, NO_SOQL = "the list view filters on a hidden field", "the list view's filter is not expressible in SOQL"
Trouble = Callable[["Life", bool], object]
"""It begins, or ends."""


def the_user_is_inactive(life: "Life", begins: bool) -> None:
    life.control.change_user(active=not begins)


def the_view_is_unshared(life: "Life", begins: bool) -> None:
    (life.control.unshare_list_view if begins else life.control.share_list_view)(id=life.view)


def the_tier_is_hidden(life: "Life", begins: bool) -> None:
    (life.control.hide_field if begins else life.control.show_field)(sobject="Contact", name="Tier__c")


def the_view_is_no_soql(life: "Life", begins: bool) -> None:
    life.control.update_list_view(id=life.view, soql_compatible=not begins)


TROUBLES: dict[str, tuple[Trouble, str, str]] = {
    DEACTIVATED: (the_user_is_inactive, "login_failed", "run"),
    UNSHARED: (the_view_is_unshared, "list_view_not_found", "contacts"),
    FILTER_HIDDEN: (the_tier_is_hidden, "list_view_not_usable", "contacts"),
    NO_SOQL: (the_view_is_no_soql, "list_view_not_usable", "contacts"),
}
"""What lasts until it is ended: how, the code, and the part."""
STOPS: dict[str, tuple[str, str]] = {
    **{what: (part, code) for what, (_, _, code, part) in FAULTS.items()},
    **{what: (part, code) for what, (_, code, part) in TROUBLES.items()},
    **{what: (part, "") for what, (_, part) in CUTS.items()},
}
"""What stops a run: the part (empty: the first), and the code of the error that it leaves, if it leaves one."""
CLEARED, REPEATED = "the red task of a failed run is cleared", "a failed run is repeated as the next run"
CONTACT_TASKS = [flow.extract_contacts_of_source, flow.transform_contacts, flow.match_contacts, flow.load_contacts]


class Cut:
    """Ends the session that begins a statement, once, in the part that is meant."""

    def __init__(self, statement: str, part: str) -> None:
        self.what, self.part = beginning(statement), part
        self.now = "accounts"
        self.is_done = False

    def reach(self, kind: str, what: str = "", session: int | None = None) -> None:
        if what == beginning("fingerprint_contacts"):
            self.now = "contacts"
        if not self.is_done and session and (what, self.now) == (self.what, self.part):
            self.is_done = True
            with psycopg.connect(address_of_store(), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [session])


class Life:
    """The steps."""

    def __init__(self, place: Place) -> None:
        self.place, self.store, self.score = place, place.store, place.score
        self.control = place.organisation.control
        self.chronicle = Chronicle()
        self.chosen = Chosen()
        self.hidden: set[str] = set()
        self.deleted_fields: set[str] = set()
        self.view = ""
        self.filter = next(iter(VIEWS))
        self.numeric: set[str] = set()
        """Fields that were texts and are numbers now."""
        self.pace = "REST"
        self.moments: list[datetime] = []
        self.ran: set[str] = set()
        self.deleted_links: set[str] = set()
        self.sent: dict[str, World] = {}
        """By part what Salesforce held when it was last read."""
        self.records: dict[str, list[dict[str, Any]]] = {}
        """What there is in Salesforce, as it was asked for since anything changed there."""

    # ---------------------------------------------------------------------------------------------- Salesforce

    def begin(self, people: list[dict[str, str | None]]) -> None:
        self.control.start_again()
        self.store.execute("TRUNCATE contact_store.contacts, contact_store.accounts, contact_store.sync_runs CASCADE")
        self.store.execute("TRUNCATE contact_store.sync_settings, contact_store.sync_changes CASCADE")
        self.view = self.control.create_list_view(label="Ours", where=self.filter)
        for website in ("a0.com", "https://www.B0.com/"):
            self.an_account_comes(website)
        for number, person in enumerate(people):
            self.somebody_comes(person, number)
        self.settings_are_chosen(MAPPINGS[0], "synced accounts", maps_values=False)
        self.score.tried["lives"] += 1

    def salesforce(self, verb: str, what: str, sobject: str = "Contact", **arguments: Any) -> None:
        """Do something there, a minute after what was done before."""
        self.moments.append(datetime.fromisoformat(self.control.advance_clock(seconds=60)))
        getattr(self.control, verb)(sobject=sobject, **arguments)
        self.records.clear()
        self.did(f"Salesforce: {what}")

    @step(32, person=values_of_a_person, number=any_of_them)
    def somebody_comes(self, person: dict[str, str | None], number: int) -> None:
        account = pick([*self.here("Account"), {"Id": None}], number)["Id"]
        record = {"LastName": f"N{len(self.moments)}", "AccountId": account, "Tier__c": "Gold"} | self.existing(person)
        self.salesforce("create", "a contact is created", records=[record])

    @step(40, when=lambda life, **_: life.here(), number=any_of_them, person=values_of_a_person)
    def somebody_changes(self, number: int, person: dict[str, str | None]) -> None:
        ids = [pick(self.here(), number)["Id"]]
        self.salesforce("update", "a contact is edited", ids=ids, values=self.existing(person))

    @step(12, when=lambda life, **_: len(life.here()) > 1, one=any_of_them, other=any_of_them)
    def two_swap(self, one: int, other: int) -> None:
        first, second = two(self.here(), one, other)
        for person, values in ((first, second), (second, first)):
            new = {name: values[name] for name in self.existing(dict.fromkeys(KINDS))}
            self.salesforce("update", "two contacts swap", ids=[person["Id"]], values=new)

    @step(24, when=lambda life, **_: life.here(), number=any_of_them, tier=a_tier)
    def somebody_enters_or_leaves_the_view(self, number: int, tier: str) -> None:
        ids = [pick(self.here(), number)["Id"]]
        self.salesforce("update", "a contact enters or leaves the list view", ids=ids, values={"Tier__c": tier})

    @step(12, when=lambda life, **_: life.here() and life.here("Account"), number=any_of_them, account=any_of_them)
    def somebody_changes_the_account(self, number: int, account: int) -> None:
        new = {"AccountId": pick([*self.here("Account"), {"Id": None}], account)["Id"]}
        self.salesforce(
            "update", "a contact goes to another account", ids=[pick(self.here(), number)["Id"]], values=new
        )

    @step(20, when=lambda life, **_: life.here(), number=any_of_them)
    def somebody_is_deleted(self, number: int) -> None:
        self.salesforce("delete", "a contact is deleted", ids=[pick(self.here(), number)["Id"]])

    @step(16, when=lambda life, **_: life.gone(), number=any_of_them)
    def somebody_is_restored(self, number: int) -> None:
        self.salesforce("undelete", "a contact is restored", ids=[pick(self.gone(), number)["Id"]])

    @step(16, when=lambda life, **_: len(life.here()) > 1, one=any_of_them, other=any_of_them)
    def two_are_merged(self, one: int, other: int) -> None:
        winner, loser = (record["Id"] for record in two(self.here(), one, other))
        self.salesforce("merge", "two contacts are merged", winner=winner, losers=[loser])

    @step(10, website=a_website)
    def an_account_comes(self, website: str | None) -> None:
        record = {"Name": f"A{len(self.moments)}", "Website": website}
        self.salesforce("create", "an account is created", "Account", records=[record])

    @step(16, when=lambda life, **_: life.here("Account"), number=any_of_them, website=a_website)
    def an_account_changes(self, number: int, website: str | None) -> None:
        ids = [pick(self.here("Account"), number)["Id"]]
        self.salesforce("update", "an account is edited", "Account", ids=ids, values={"Website": website})

    @step(8, when=lambda life, **_: len(life.here("Account")) > 1, number=any_of_them)
    def an_account_is_deleted(self, number: int) -> None:
        ids = [pick(self.here("Account"), number)["Id"]]
        self.salesforce("delete", "an account is deleted with its contacts", "Account", ids=ids)

    @step(8, when=lambda life, **_: life.gone("Account"), number=any_of_them)
    def an_account_is_restored(self, number: int) -> None:
        ids = [pick(self.gone("Account"), number)["Id"]]
        self.salesforce("undelete", "an account is restored", "Account", ids=ids)

    @step(8, when=lambda life, **_: len(life.here("Account")) > 1, one=any_of_them, other=any_of_them)
    def two_accounts_are_merged(self, one: int, other: int) -> None:
        winner, loser = (record["Id"] for record in two(self.here("Account"), one, other))
        self.salesforce("merge", "two accounts are merged", "Account", winner=winner, losers=[loser])

    @step(6, name=("Email", "Phone", "Website", "Level_Text__c"))
    def a_field_is_hidden_or_shown(self, name: str) -> None:
        sobject, is_hidden = "Account" if name == "Website" else "Contact", name in self.hidden
        what = "a hidden field is shown" if is_hidden else "a field is hidden"
        self.salesforce("show_field" if is_hidden else "hide_field", what, sobject, name=name)
        self.hidden ^= {name}

    @step(16)
    def a_field_is_deleted_or_comes_back(self) -> None:
        is_deleted = "Twitter__c" in self.deleted_fields
        what = "a deleted field comes back" if is_deleted else "a field is deleted with its values"
        self.salesforce("add_field" if is_deleted else "delete_field", what, name="Twitter__c")
        self.deleted_fields ^= {"Twitter__c"}
        self.numeric -= {"Twitter__c"}

    @step(8, when=lambda life, name: name not in life.deleted_fields, name=("Twitter__c", "Level_Text__c"))
    def a_field_gets_another_type(self, name: str) -> None:
        """A text becomes a number or the other way round; what anybody here had there is written anew."""
        kept = {record["Id"]: record[name] for record in self.here() if record[name] is not None}
        self.numeric ^= {name}
        self.moments.append(datetime.fromisoformat(self.control.advance_clock(seconds=60)))
        self.control.delete_field(sobject="Contact", name=name)
        self.control.add_field(sobject="Contact", name=name, type="double" if name in self.numeric else "string")
        for id_, value in kept.items():
            new = value if name in self.numeric else f"{value:g}"
            self.control.update(sobject="Contact", ids=[id_], values=self.existing({name: new}))
        self.records.clear()
        self.did("Salesforce: a field gets another type")

    @step(6, when=lambda life, where: life.chosen.is_view and where != life.filter, where=VIEWS)
    def the_list_view_filters_otherwise(self, where: str) -> None:
        self.control.update_list_view(id=self.view, where=where)
        self.filter = where
        self.did("Salesforce: the list view's filter changes")

    # -------------------------------------------------------------------------------------------------- people

    def person(self, what: str, statement: str, values: dict[str, Any]) -> int | None:
        """Carry it out, in one transaction; None where PostgreSQL refused, since somebody has the handle."""
        try:
            with psycopg.connect(self.store.uri) as connection:
                row = connection.execute(statement, values).fetchone()
        except psycopg.errors.UniqueViolation:
            self.did("people: refused, somebody has that handle")
            return None
        self.score.met[f"people: {what}"] += 1
        self.ran.clear()
        assert row
        return int(row[0])

    @step(20, handle=a_handle)
    def a_person_adds_a_contact(self, handle: Handle) -> None:
        statement = """
            WITH new AS (INSERT INTO contact_store.contacts (name) VALUES ('by hand') RETURNING id)
            INSERT INTO contact_store.contact_handles (source, handle, contact_id)
            SELECT %(source)s, %(handle)s, id FROM new RETURNING contact_id"""
        id_ = self.person("a contact is added", statement, {"source": handle[0], "handle": handle[1]})
        if id_ is not None:
            self.chronicle.rows["contacts"][id_] = Row(handles={handle: None}, name="by hand")
        self.look()

    @step(28, when=lambda life, **_: life.contacts(), number=any_of_them, handle=a_handle)
    def a_person_adds_a_handle(self, number: int, handle: Handle) -> None:
        statement = """
            INSERT INTO contact_store.contact_handles (source, handle, contact_id)
            VALUES (%(source)s, %(handle)s, %(id)s) RETURNING contact_id"""
        values = {"source": handle[0], "handle": handle[1], "id": pick(self.contacts(), number)}
        if self.person("a handle is added", statement, values) is not None:
            self.row(values["id"]).handles[handle] = None
        self.look()

    @step(
        12,
        when=lambda life, **_: any(row.handles for row in life.chronicle.rows["contacts"].values()),
        number=any_of_them,
    )
    def a_person_removes_a_handle(self, number: int) -> None:
        owned = [(id_, handle) for id_ in self.contacts() for handle in sorted(self.row(id_).handles)]
        id_, handle = pick(owned, number)
        statement = """
            DELETE FROM contact_store.contact_handles WHERE (source, handle) = (%(source)s, %(handle)s)
            RETURNING contact_id"""
        self.person("a handle is removed", statement, {"source": handle[0], "handle": handle[1]})
        del self.row(id_).handles[handle]
        self.look()

    @step(24, when=lambda life, **_: life.contacts(), number=any_of_them)
    def a_person_writes_values(self, number: int) -> None:
        id_, text = pick(self.contacts(), number), f"written {sum(self.score.met.values())}"
        statement = """
            UPDATE contact_store.contacts
            SET description = %(text)s, custom_fields = custom_fields || jsonb_build_object('note', %(text)s::text)
            WHERE id = %(id)s RETURNING id"""
        self.person("values are written", statement, {"text": text, "id": id_})
        self.row(id_).description = self.row(id_).custom["note"] = text
        self.look()

    @step(
        16,
        when=lambda life, **_: life.contacts() and life.chronicle.rows["accounts"],
        number=any_of_them,
        account=any_of_them,
    )
    def a_person_sets_the_account(self, number: int, account: int) -> None:
        id_, new = pick(self.contacts(), number), pick(sorted(self.chronicle.rows["accounts"]), account)
        statement = "UPDATE contact_store.contacts SET account_id = %(account)s WHERE id = %(id)s RETURNING id"
        self.person("a contact's account is set", statement, {"account": new, "id": id_})
        self.row(id_).account = new
        self.look()

    @step(8, when=lambda life, **_: life.contacts(), number=any_of_them)
    def a_person_deletes_a_contact(self, number: int) -> None:
        self.forget(pick(self.contacts(), number), "a contact is deleted")

    @step(12, when=lambda life, **_: life.chronicle.linked("contacts"), number=any_of_them)
    def a_person_deletes_a_linked_contact(self, number: int) -> None:
        self.forget(pick(sorted(self.chronicle.linked("contacts").values()), number), "a linked contact is deleted")

    def forget(self, id_: int, what: str) -> None:
        self.person(what, "DELETE FROM contact_store.contacts WHERE id = %(id)s RETURNING id", {"id": id_})
        row = self.chronicle.rows["contacts"].pop(id_)
        self.deleted_links |= {row.external_id} if row.external_id else set()
        self.look()

    @step(20, when=lambda life, **_: len(life.contacts()) > 1, one=any_of_them, other=any_of_them)
    def a_person_merges_two_contacts(self, one: int, other: int) -> None:
        winner, loser = two(self.contacts(), one, other)
        move = """
            WITH moved AS (
                UPDATE contact_store.contact_handles SET contact_id = %(winner)s WHERE contact_id = %(loser)s
            ) SELECT %(winner)s"""
        self.person("two contacts are merged", move, {"winner": winner, "loser": loser})
        self.row(winner).handles |= self.row(loser).handles
        self.row(loser).handles.clear()
        self.forget(loser, "the other of two merged contacts is deleted")

    @step(12, when=lambda life, **_: life.chronicle.linked("contacts"), number=any_of_them)
    def a_person_unlinks_a_contact(self, number: int) -> None:
        id_ = pick(sorted(self.chronicle.linked("contacts").values()), number)
        statement = """
            UPDATE contact_store.contacts SET external_id = NULL, not_syncing_since = NULL
            WHERE id = %(id)s RETURNING id"""
        self.person("a contact is unlinked", statement, {"id": id_})
        self.row(id_).external_id, self.row(id_).has_left = None, False
        self.look()

    @step(8, domain=a_domain)
    def a_person_adds_an_account(self, domain: Handle) -> None:
        statement = """
            WITH new AS (INSERT INTO contact_store.accounts (name) VALUES ('by hand') RETURNING id)
            INSERT INTO contact_store.account_domains (domain, account_id)
            SELECT %(domain)s, id FROM new RETURNING account_id"""
        id_ = self.person("an account is added", statement, {"domain": domain[1]})
        if id_ is not None:
            self.chronicle.rows["accounts"][id_] = Row(handles={domain: None}, name="by hand")
        self.look()

    @step(8, when=lambda life, **_: life.chronicle.rows["accounts"], number=any_of_them)
    def a_person_deletes_an_account(self, number: int) -> None:
        id_ = pick(sorted(self.chronicle.rows["accounts"]), number)
        statement = "DELETE FROM contact_store.accounts WHERE id = %(id)s RETURNING id"
        self.person("an account is deleted", statement, {"id": id_})
        del self.chronicle.rows["accounts"][id_]
        for row in self.chronicle.rows["contacts"].values():
            row.account = None if row.account == id_ else row.account
        self.look()

    # ------------------------------------------------------------------------------------------------ settings

    @step(5, mapping=a_mapping, source=SOURCES, maps_values=one_of(True, True, False))
    def settings_are_chosen(self, mapping: list[tuple[str, str]], source: str, *, maps_values: bool) -> None:
        self.chosen = Chosen(mapping, source, maps_values)
        values = lines(Level_Text__c="custom_fields.level", Tier__c="description") if maps_values else []
        contacts: dict[str, Any] = {
            "enabled": self.chosen.contacts,
            "custom_fields": {"level": {"type": "number"}} if maps_values else {},
            "mapping": [
                *lines(Name="name"),
                *({"salesforce_field": name, "field": FIELDS[kind]} for name, kind in mapping),
                *values,
            ],
            "source": {"list_view": self.view} if self.chosen.is_view else "synced_accounts",
        }
        save(settings_with(accounts={"enabled": self.chosen.accounts}, contacts=contacts))
        self.did(f"settings: {source}")

    @step(6, pace=PACES)
    def the_api_is_chosen(self, pace: str) -> None:
        self.pace = pace

    # ------------------------------------------------------------------------------- what chance would rarely do

    def newcomer(self, **values: Any) -> str:
        """The Salesforce id of a contact that is new, in the source, and to be found by a handle of its own."""
        if not self.chosen.contacts:
            self.settings_are_chosen(MAPPINGS[0], "list view", maps_values=True)
        for name in sorted(self.hidden):
            self.a_field_is_hidden_or_shown(name)
        account = None if self.chosen.is_view else self.account_that_is_synced()
        name = f"N{len(self.moments)}"
        place = {"Tier__c": VIEWS[self.filter][0], "AccountId": account}
        record = {"LastName": name, "Email": f"{name}@x0.co"} | place | values
        self.salesforce("create", "a contact is created", records=[record])
        return next(record["Id"] for record in self.here() if record["LastName"] == name)

    def account_that_is_synced(self) -> str:
        """One that is, or will be by the next run: without a domain it collides with none."""
        linked = self.chronicle.linked("accounts")
        if not any(one["Id"] in linked for one in self.here("Account")):
            self.an_account_comes(None)
            return max(self.here("Account"), key=lambda one: one["CreatedDate"])["Id"]
        return next(one["Id"] for one in self.here("Account") if one["Id"] in linked)

    def edit(self, key: str, **values: Any) -> None:
        self.salesforce("update", "a contact is edited", ids=[key], values=values)

    def contact_of(self, key: str) -> int:
        return self.chronicle.linked("contacts")[key]

    @step(2)
    def somebody_goes_and_comes_back(self) -> None:
        """Rule 2.6: well, and then in error."""
        key = self.newcomer()
        self.run_once()
        for email in (f"{key}@x0.co", None):
            self.salesforce("delete", "a contact is deleted", ids=[key])
            self.run_once()
            self.salesforce("undelete", "a contact is restored", ids=[key])
            self.edit(key, Email=email)
            self.run_once()

    @step(2)
    def a_merge_is_held_up_by_a_contact_of_a_persons(self) -> None:
        """Rule 4.11: until the person gives way."""
        loser, winner = self.newcomer(), self.newcomer()
        self.run_once()
        self.forget(self.contact_of(winner), "a linked contact is deleted")
        rival = ("email", f"rival{len(self.moments)}@x0.co")
        self.edit(winner, Email=rival[1])
        self.a_person_adds_a_contact(rival)
        self.salesforce("merge", "two contacts are merged", winner=winner, losers=[loser])
        self.run_once()
        holder = self.chronicle.owner("contacts", rival)
        assert holder is not None
        self.forget(holder, "a contact is deleted")
        self.run_once()

    @step(1, name=("Email", "Phone"))
    def a_field_is_hidden_for_a_night(self, name: str) -> None:
        """Rule 3.3."""
        key = self.newcomer(Phone=f"(212) 842-{1000 + len(self.moments) % 9000}")
        self.run_once()
        self.a_field_is_hidden_or_shown(name)
        self.edit(key, Email=f"while-hidden-{key}@x0.co", Phone=None)
        self.run_once()
        self.a_field_is_hidden_or_shown(name)
        self.run_once()

    @step(2)
    def a_field_is_deleted_for_a_night(self) -> None:
        """Rule 3.3: what comes back comes back empty."""
        self.newcomer(**self.existing({"Twitter__c": f"t{len(self.moments)}"}))
        self.settings_are_chosen(MAPPINGS[1], self.chosen.source, maps_values=False)
        for _ in range(2):
            self.run_once()
            self.a_field_is_deleted_or_comes_back()
        self.run_once()

    @step(2)
    def a_person_works_on_a_synced_contact(self) -> None:
        """Rules 3.4, 4.10 and 5: what is the person's stays; a handle that both gave is Salesforce's from then on."""
        key = self.newcomer()
        self.an_account_comes(None)
        self.run_once()
        at = self.contacts().index(self.contact_of(key))
        self.a_person_adds_a_handle(at, ("email", f"own-{key.lower()}@x0.co"))
        self.a_person_writes_values(at)
        self.a_person_sets_the_account(at, 0)
        self.edit(key, **self.existing({"LastName": f"N{len(self.moments)}", "Level_Text__c": "1"}))
        self.run_once()
        self.edit(key, Email=f"Own-{key}@X0.co")
        self.run_once()
        self.edit(key, Email=f"other-{key}@x0.co")
        self.run_once()

    @step(2)
    def a_person_deletes_a_synced_contact(self) -> None:
        key = self.newcomer()
        self.run_once()
        self.forget(self.contact_of(key), "a linked contact is deleted")
        self.run_once()

    # ---------------------------------------------------------------------------------------------------- runs

    def sync(self, **request: Any) -> Run:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "Pace", lambda: PACES[self.pace])
            return run(**request).run

    @step(60, when=lambda life, **_: "once" not in life.ran)
    def run_once(self) -> None:
        concluded = self.sync()
        assert concluded.state == "succeeded"
        self.score.tried[f"runs by {self.pace} that did what the rules say"] += 1
        self.judge(concluded)
        self.ran.add("once")

    @step(24, when=lambda life, **_: "twice" not in life.ran)
    def run_twice(self) -> None:
        """Rule 4.12."""
        self.run_once()
        before = row_versions(self.store)
        concluded = self.sync()
        counts = [part for part in (concluded.accounts, concluded.contacts) if part]
        assert all(part["unchanged"] + part["error"] == part["read"] for part in counts)
        assert row_versions(self.store) == before
        self.judge(concluded)
        self.score.met["a second run changes nothing"] += 1
        self.ran.add("twice")

    @step(12, when=lambda life, **_: "dry" not in life.ran)
    def run_dry(self) -> None:
        before = row_versions(self.store)
        planned = self.sync(dry_run=True)
        assert planned.state == "succeeded"
        assert row_versions(self.store) == before
        self.look()
        done = self.sync()
        self.judge(done)
        assert (planned.accounts, planned.contacts) == (done.accounts, done.contacts)
        self.score.met["a dry run says what the next run does"] += 1
        self.ran |= {"dry", "once"}

    @step(
        24,
        when=lambda life, **_: "window" not in life.ran and life.chosen.contacts and life.moments,
        back=one_of(1, 2, 4, 8, 16),
    )
    def run_over_a_window(self, back: int) -> None:
        """Rule 1.3."""
        window = (self.moments[-min(back, len(self.moments))], self.moments[-1] + timedelta(seconds=30))
        concluded = self.sync(trigger="backfill", window=window)
        assert concluded.state == "succeeded"
        self.judge(concluded, window)
        self.score.met["a run over a window"] += 1
        self.ran.add("window")

    @step(2, when=lambda life, what, **_: life.can_be_stopped_by(what), what=STOPS, goes_on=(True, False))
    def run_fails_and_is_repeated(self, what: str, *, goes_on: bool) -> None:
        """Rule 6.1; `goes_on`: the red task is cleared instead of a new run."""
        undisturbed = self.undisturbed()
        before = self.parts()
        failed = self.stopped_by(what)
        assert failed.state == "failed", what
        part = self.fails(failed, what, before)
        if goes_on:
            done = self.clear_the_red_task(failed, what, part)
            self.judge(done, skip_accounts=part == "contacts")
        else:
            done = self.sync()
            self.judge(done)
        assert done.state == "succeeded"
        assert self.parts() == undisturbed, what
        self.score.tried["failed runs that were repeated and equal an undisturbed one"] += 1
        self.score.met[f"failed: {what}"] += 1
        self.score.met[CLEARED if goes_on else REPEATED] += 1
        self.score.met["a run fails that has something to write"] += undisturbed != before
        self.ran.add("once")

    def can_be_stopped_by(self, what: str) -> bool:
        part = self.part_that_stops(what)
        if what == FILTER_HIDDEN and not self.filter:
            return False
        if what in TROUBLES and part == "contacts":
            return self.chosen.is_view
        return part == "run" or (self.chosen.contacts if part == "contacts" else self.chosen.accounts)

    def part_that_stops(self, what: str) -> str:
        return STOPS[what][0] or ("accounts" if self.chosen.accounts else "contacts")

    def stopped_by(self, what: str) -> Run:
        if what in CUTS:
            return self.cut(Cut(*CUTS[what]))
        if what in FAULTS:
            self.control.add_fault(do=FAULTS[what][0], path=FAULTS[what][1], times=0)
            failed = self.sync()
            self.control.clear_faults()
            return failed
        trouble = TROUBLES[what][0]
        trouble(self, True)
        failed = self.sync()
        trouble(self, False)
        return failed

    def cut(self, cut: Cut) -> Run:
        dag_run = f"cut {next(NUMBERS)}"
        with suppress(StoreUnavailable, psycopg.OperationalError), watched(cut):  # type: ignore[arg-type]
            self.sync(dag_run_id=dag_run)
        assert cut.is_done
        return conclude_run(flow.find_run(dag_run)).run

    def fails(self, failed: Run, what: str, before: dict[str, list[tuple]]) -> str:
        """What a failed run leaves: nothing of the part it failed at, which is returned, and its errors."""
        if what != DEACTIVATED:
            self.chronicle.gets_past_the_login(failed.id)
        part, code = self.part_that_stops(what), STOPS[what][1]
        if part == "contacts" and self.chosen.accounts:
            self.apply(failed, self.read_accounts())
        if code:
            self.chronicle.stops(failed.id, part, code)
        if part == "accounts" and self.chosen.contacts:
            self.chronicle.stops(failed.id, "contacts", "accounts_sync_failed")
        after = self.parts()
        kept = ("contacts", "handles") if part == "contacts" else ("contacts", "handles", "accounts", "domains")
        assert {name: after[name] for name in kept} == {name: before[name] for name in kept}
        self.look(after_a_run=True)
        return part

    def clear_the_red_task(self, failed: Run, what: str, part: str) -> Run:
        """As Airflow does: the task that failed is tried anew, and those that come after it."""
        if part == "run":
            return self.sync(dag_run_id=failed.dag_run_id)
        tasks = [flow.sync_accounts] if part == "accounts" else []
        if self.chosen.contacts:
            tasks += [flow.load_contacts] if what in CUTS and part == "contacts" else CONTACT_TASKS
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "Pace", lambda: PACES[self.pace])
            for task in tasks:
                task(failed.id)
        return conclude_run(failed.id).run

    @contextmanager
    def twin(self) -> Generator[Store, None, None]:
        """The store as it is now, once more, to which the product is led."""
        ((database,),) = self.store.execute("SELECT current_database()")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CONTACT_SYNC_STAGING", f"file://{self.place.folder}/twin")
            yield from fresh(self.place.postgres, database, patch)

    def undisturbed(self) -> dict[str, list[tuple]]:
        with self.twin() as twin:
            assert self.sync().state == "succeeded"
            return parts_of(twin)

    def parts(self) -> dict[str, list[tuple]]:
        return parts_of(self.store)

    # ------------------------------------------------------------------------------------ what must become of it

    def judge(self, done: Run, window: tuple[datetime, datetime] | None = None, *, skip_accounts: bool = False) -> None:
        """Write down what the run must have done, and look whether it did."""
        self.chronicle.gets_past_the_login(done.id)
        before = self.chronicle.copy_of("contacts")
        if self.chosen.accounts and not skip_accounts:
            self.apply(done, self.read_accounts())
        if self.chosen.contacts:
            read_now = self.read_contacts(window)
            results = self.apply(done, read_now)
            self.tell(read_now, results, before)
        self.look(after_a_run=True)

    def apply(self, done: Run, read_now: Read) -> Results:
        results, end = sync(read_now.world)
        self.sent[read_now.part] = read_now.world
        links = f"SELECT external_id, id FROM contact_store.{read_now.part} WHERE external_id IS NOT NULL"
        known = dict(self.chronicle.open)
        self.chronicle.is_applied(done.id, read_now, results, end, dict(self.store.execute(links)))
        entries = "SELECT external_id, outcome FROM contact_store.sync_changes WHERE run_id = %s AND part = %s"
        assert dict(self.store.execute(entries, [done.id, read_now.part])) == self.chronicle.outcomes
        counts = done.accounts if read_now.part == "accounts" else done.contacts
        errors = sum(code is not None for _, code, _ in results.values())
        assert counts is not None
        assert (counts["read"], counts["error"]) == (len(results), errors)
        for key in known.keys() | self.chronicle.open.keys():
            happened = "stays open" if key in known and key in self.chronicle.open else "opens"
            self.score.met[f"{key[1]} {happened if key in self.chronicle.open else 'closes'}"] += 1
        return results

    def read_accounts(self) -> Read:
        source = {record["Id"]: {"Website": record["Website"]} for record in self.here("Account")}
        missing = self.hidden & {"Website"}
        world = World(
            store=self.chronicle.contacts_of_the_specification("accounts"),
            source=source,
            mapping=[("Website", "domain")],
            missing=missing,
            merges=self.merges("Account"),
            needs_handle=False,
        )
        values = {record["Id"]: {"name": record["Name"]} for record in self.here("Account")}
        return Read("accounts", world, values, unreadable_handles(world))

    def read_contacts(self, window: tuple[datetime, datetime] | None) -> Read:
        records = {record["Id"]: record for record in self.here() if self.is_in_source(record, window)}
        world = World(
            store=self.chronicle.contacts_of_the_specification("contacts"),
            source={key: {name: text_in(record.get(name)) for name in KINDS} for key, record in records.items()},
            mapping=self.chosen.mapping,
            missing=(self.hidden | self.deleted_fields) & self.mapped_fields(),
            merges=self.merges("Contact"),
        )
        values = {key: self.values_of(record) for key, record in records.items()}
        warnings = unreadable_handles(world)
        if self.maps_levels():
            unread = [key for key, record in records.items() if record["Level_Text__c"] == NO_NUMBER]
            warnings |= {("invalid_value", key, "Level_Text__c") for key in unread}
        accounts = {key: record["AccountId"] for key, record in records.items()}
        return Read("contacts", world, values, warnings, accounts, is_whole=window is None)

    def is_in_source(self, record: dict[str, Any], window: tuple[datetime, datetime] | None) -> bool:
        if window and not window[0] <= datetime.fromisoformat(record["SystemModstamp"]) < window[1]:
            return False
        if self.chosen.is_view:
            return record["Tier__c"] in VIEWS[self.filter]
        return record["AccountId"] in self.chronicle.linked("accounts")

    def values_of(self, record: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {"name": record["LastName"]}
        if self.chosen.maps_values:
            values["description"] = record["Tier__c"]
        if self.maps_levels() and record["Level_Text__c"] != NO_NUMBER:
            values["level"] = level_in(record["Level_Text__c"])
        return values

    def mapped_fields(self) -> set[str]:
        return {name for name, _ in self.chosen.mapping} | ({"Level_Text__c"} if self.chosen.maps_values else set())

    def maps_levels(self) -> bool:
        """Whether they are read: rule 3.3."""
        return self.chosen.maps_values and "Level_Text__c" not in self.hidden

    def merges(self, sobject: str) -> dict[str, str]:
        return {record["Id"]: record["MasterRecordId"] for record in self.gone(sobject) if record["MasterRecordId"]}

    def tell(self, read_now: Read, results: Results, before: dict[int, Row]) -> None:
        """Which interesting things this run met."""
        met, world = self.score.met, read_now.world
        met.update(f"outcome {code or outcome}" for outcome, code, _ in results.values())
        met["outcome updated, for its values only"] += sum(
            results[key][0] == "unchanged" for key in self.chronicle.outcomes
        )
        links = {row.external_id: id_ for id_, row in before.items() if row.external_id}
        for key, (outcome, code, _) in results.items():
            mine = linked_contact(world, world.store, key)
            if outcome == "created" and key in self.deleted_links:
                met["a contact that a person deleted is created again"] += 1
            if mine is None:
                continue
            row, is_moved = before[mine.id], links.get(key) != mine.id
            met["a contact that was gone comes back, and its link holds"] += row.has_left and code is None
            met["a contact that was gone comes back in error"] += row.has_left and code is not None
            met["a link moves to the winner of a merge"] += is_moved and code is None
            met["a merge is held up by a contact of a person's that has the handle"] += is_moved and bool(code)
            kept, is_updated = self.chronicle.rows["contacts"][mine.id], self.chronicle.outcomes.get(key) == "updated"
            met["a person's handle survives an update"] += is_updated and None in kept.handles.values()
            met["a person's handle becomes Salesforce's"] += any(
                name is None and kept.handles.get(handle) for handle, name in row.handles.items()
            )
            met["a hidden or deleted field's handles stay"] += code is None and any(
                name in world.missing for name in kept.handles.values()
            )
            met["a person's value survives an update"] += is_updated and "note" in kept.custom
            met["a linked contact is skipped and stays as it is"] += code is not None and row == kept
            met["an account that a person set stays"] += (
                kept.account is not None and kept.account != kept.synced_account
            )
        for id_, row in self.chronicle.rows["contacts"].items():
            if id_ in before and row.has_left and not before[id_].has_left:
                met["a contact leaves the source and stays"] += 1

    # ------------------------------------------------------------------------------------------------ what there is

    def did(self, what: str) -> None:
        self.score.met[what] += 1
        self.ran.clear()
        self.look()

    def look(self, *, after_a_run: bool = False) -> None:
        assert self.chronicle.differences(self.store) == {}
        # Between runs nobody writes entries, errors or counts, nor do people's edits say anything of those who were skipped.
        found = broken(self.store, *(self.sent.values() if after_a_run else ()))
        assert {name: rows for name, rows in found.items() if after_a_run or name not in MAY_BE_BROKEN_BY_PEOPLE} == {}
        self.score.tried["looks at the whole store, after each step"] += 1

    def everybody(self, sobject: str) -> list[dict[str, Any]]:
        if sobject not in self.records:
            found = self.control.records(sobject=sobject, deleted=True)
            self.records[sobject] = sorted(found, key=lambda record: record["Id"])
        return self.records[sobject]

    def here(self, sobject: str = "Contact") -> list[dict[str, Any]]:
        return [record for record in self.everybody(sobject) if not record["IsDeleted"]]

    def gone(self, sobject: str = "Contact") -> list[dict[str, Any]]:
        return [record for record in self.everybody(sobject) if record["IsDeleted"]]

    def existing(self, values: dict[str, Any]) -> dict[str, Any]:
        """As Salesforce can hold them now: without the fields that were deleted, with numbers where a field takes no text."""
        return {
            name: number_of(name, value) if name in self.numeric and isinstance(value, str) else value
            for name, value in values.items()
            if name not in self.deleted_fields
        }

    def contacts(self) -> list[int]:
        return sorted(self.chronicle.rows["contacts"])

    def row(self, id_: int) -> Row:
        return self.chronicle.rows["contacts"][id_]


def pick(found: list[Any], number: int) -> Any:
    return found[number % len(found)]


def number_of(name: str, text: str) -> float | None:
    """What a person writes into the field instead: the same number, or one for each letter."""
    if name == "Level_Text__c":
        return level_in(text)
    letter = text.strip("@ ").lower()[:1]
    return (ord(letter) - ord("a")) / 2 if letter else None


def level_in(value: Any) -> float | None:
    return None if value in {None, NO_NUMBER} else float(value)


def text_in(value: Any) -> str | None:
    """Rule 3.6: a number in its shortest form."""
    return f"{value:g}" if isinstance(value, int | float) else value


def two(found: list[Any], one: int, other: int) -> tuple[Any, Any]:
    """Two different ones."""
    first = pick(found, one)
    return first, pick([each for each in found if each is not first], other)


def parts_of(store: Store) -> dict[str, list[tuple]]:
    """What must not depend on how often a run was tried: rows, entries without their run, open errors."""
    found = {name: rows for name, rows in dump(store).items() if name not in {"entries", "errors", "runs"}}
    entries = (
        "SELECT part, record_id, external_id, outcome, rule, old_values, new_values FROM contact_store.sync_changes"
    )
    errors = "SELECT part, code, external_id, salesforce_field, value, holders FROM contact_store.sync_errors"
    found["entries"] = sorted(store.execute(entries), key=repr)
    found["open errors"] = sorted(store.execute(f"{errors} WHERE closed_run IS NULL"), key=repr)
    return found


def a_person_merges_two_synced_contacts(life: Life) -> None:
    """The one that is left is updated with the handles of both; the other one's source contact is in error."""
    winner, loser = life.newcomer(), life.newcomer()
    life.run_once()
    ids = life.contacts()
    life.a_person_merges_two_contacts(ids.index(life.contact_of(winner)), ids.index(life.contact_of(loser)))
    life.run_once()


STORIES: dict[str, Callable[[Life], object]] = {
    "somebody goes and comes back": Life.somebody_goes_and_comes_back,
    "a merge is held up by a contact of a person's": Life.a_merge_is_held_up_by_a_contact_of_a_persons,
    "a field is hidden for a night": lambda life: life.a_field_is_hidden_for_a_night("Email"),
    "a field is deleted for a night": Life.a_field_is_deleted_for_a_night,
    "a person works on a synced contact": Life.a_person_works_on_a_synced_contact,
    "a person deletes a synced contact": Life.a_person_deletes_a_synced_contact,
    "a person merges two synced contacts": a_person_merges_two_synced_contacts,
}
PEOPLE = [
    {"Email": "a@x0.co", "Phone": "(212) 200-0000", "MobilePhone": None, "Twitter__c": "a_0", "Level_Text__c": "1"},
    {"Email": " B@X0.co", "Phone": None, "MobilePhone": "call me 0", "Twitter__c": None, "Level_Text__c": "n/a"},
    {"Email": "a@x0.co", "Phone": None, "MobilePhone": None, "Twitter__c": "@a_0", "Level_Text__c": None},
]


@pytest.fixture
def place(
    organisation: Simulator, store: Store, staging: Staging, postgres: DatabaseServer, score: Score, tmp_path: Path
) -> Place:
    return Place(organisation, store, postgres, score, tmp_path)


@pytest.mark.parametrize("pace", PACES)
def test_the_stories_of_a_life(place: Place, score: Score, pace: str) -> None:
    """One after the other in one store, and what stops a run after each; chance brings them in any order below."""
    life = Life(place)
    life.begin(PEOPLE)
    life.the_api_is_chosen(pace)
    for name, story in STORIES.items():
        life.settings_are_chosen(MAPPINGS[0], "list view", maps_values=True)
        story(life)
        score.met[name] += 1
    life.settings_are_chosen(MAPPINGS[0], "list view", maps_values=True)
    for number, what in enumerate(STOPS):
        life.newcomer()
        life.somebody_changes(number, PEOPLE[number % len(PEOPLE)])
        life.run_fails_and_is_repeated(what, goes_on=bool(number % 2))
    score.expect(STORIES)
    score.expect(f"failed: {what}" for what in STOPS)
    score.expect(COMBINATIONS)


COMBINATIONS = """
people: two contacts are merged
a contact that was gone comes back, and its link holds
a contact that was gone comes back in error
a contact leaves the source and stays
a link moves to the winner of a merge
a merge is held up by a contact of a person's that has the handle
a hidden or deleted field's handles stay
a person's handle survives an update
a person's handle becomes Salesforce's
a person's value survives an update
an account that a person set stays
a contact that a person deleted is created again
a run fails that has something to write
the red task of a failed run is cleared
a failed run is repeated as the next run
email_taken opens
email_taken stays open
email_taken closes
no_handle opens
no_handle closes
invalid_value opens
invalid_value stays open
field_not_found opens
field_not_found closes
salesforce_unavailable closes
accounts_sync_failed closes
api_limit closes
login_failed closes
list_view_not_found closes
""".strip().splitlines()


LOSSES = {
    "what a person wrote": ("UPDATE ON contact_store.contacts", "NEW.custom_fields = NEW.custom_fields - 'note';"),
    "the account that a person set": ("UPDATE ON contact_store.contacts", "NEW.account_id = NEW.synced_account_id;"),
    "a person's handle": (
        "UPDATE ON contact_store.contacts",
        "DELETE FROM contact_store.contact_handles WHERE contact_id = NEW.id AND origin = 'person';",
    ),
    "that a contact left the source": ("UPDATE ON contact_store.contacts", "NEW.not_syncing_since = NULL;"),
    "an error": ("INSERT ON contact_store.sync_errors", "RETURN NULL;"),
    "that an error is resolved": (
        "UPDATE ON contact_store.sync_errors",
        "NEW.closed_run = NULL; NEW.closed_at = NULL;",
    ),
    "an entry": ("INSERT ON contact_store.sync_changes", "RETURN NULL;"),
}
"""What PostgreSQL is made to forget whenever a run does this."""


@pytest.mark.parametrize("what", LOSSES)
def test_a_store_that_loses_something_during_a_run_is_found_out(place: Place, score: Score, what: str) -> None:
    """The proof sees what it is for."""
    event, does = LOSSES[what]
    life = Life(place)
    life.begin(PEOPLE)
    life.settings_are_chosen(MAPPINGS[0], "list view", maps_values=True)
    place.store.execute(
        "CREATE FUNCTION contact_store.lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        f" IF current_setting('application_name') = 'contact_sync' THEN {does} END IF; RETURN NEW; END $$"
    )
    place.store.execute(f"CREATE TRIGGER lose BEFORE {event} FOR EACH ROW EXECUTE FUNCTION contact_store.lose()")
    with pytest.raises(AssertionError):
        life.a_person_works_on_a_synced_contact()
        life.somebody_goes_and_comes_back()
        life.a_field_is_hidden_for_a_night("Email")
    score.tried["losses that were found out"] += 1


def test_in_a_long_life_the_store_is_what_the_rules_say_after_each_step(place: Place, score: Score) -> None:
    random, waiting = Random(SEED), list[Step]()
    for number, hand in enumerate(hands_of(Life, LIVES, random)):
        life = Life(place)
        life.begin([values_of_a_person(random) for _ in range(random.randint(3, 6))])
        life.the_api_is_chosen(sorted(PACES)[number % len(PACES)])
        waiting = play(life, [*waiting, *hand], random)
        if "once" not in life.ran:
            life.run_once()
    score.expect([*OFTEN, *EXPECTED])
    rare = {case: score.met[case] for case in OFTEN if score.met[case] < AT_LEAST}
    assert rare == {}, f"these should happen at least {AT_LEAST} times"


OFTEN = """
Salesforce: a contact is created
Salesforce: a contact is edited
Salesforce: a contact is deleted
Salesforce: a contact is restored
Salesforce: two contacts are merged
Salesforce: a contact enters or leaves the list view
Salesforce: the list view's filter changes
Salesforce: a field is hidden
Salesforce: a hidden field is shown
Salesforce: a field is deleted with its values
Salesforce: a deleted field comes back
Salesforce: a field gets another type
people: values are written
people: a handle is added
people: a contact is deleted
people: a linked contact is deleted
people: two contacts are merged
settings: synced accounts
settings: list view
settings: list view, no accounts
settings: accounts only
a second run changes nothing
a dry run says what the next run does
a run over a window
a run fails that has something to write
""".strip().splitlines()
OFTEN += [CLEARED, REPEATED, *(f"failed: {what}" for what in STOPS)]
"""All that a life is made of, so often that it meets everything else."""

EXPECTED = """
Salesforce: two contacts swap
Salesforce: a contact goes to another account
Salesforce: an account is created
Salesforce: an account is edited
Salesforce: an account is deleted with its contacts
Salesforce: an account is restored
Salesforce: two accounts are merged
people: a contact is added
people: a handle is removed
people: refused, somebody has that handle
people: a contact's account is set
people: a contact is unlinked
people: an account is added
people: an account is deleted
a contact leaves the source and stays
a contact that was gone comes back, and its link holds
a contact that a person deleted is created again
a link moves to the winner of a merge
a hidden or deleted field's handles stay
a person's handle survives an update
a person's value survives an update
an account that a person set stays
outcome created
outcome linked
outcome updated
outcome updated, for its values only
outcome unchanged
outcome email_taken
outcome phone_taken
outcome no_handle
outcome handle_taken
domain_taken opens
domain_taken closes
phone_taken opens
phone_taken closes
invalid_handle opens
invalid_handle closes
invalid_value opens
invalid_value closes
field_not_found opens
field_not_found closes
""".strip().splitlines()
