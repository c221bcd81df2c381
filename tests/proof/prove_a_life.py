"""A long life: Salesforce, people and settings change in any order; runs happen, fail and are repeated.

Hypothesis chooses every step. A chronicle is kept beside the store: what people wrote, and what each run must have made
of it, which the executable specification says. After each step, whoever made it, the store must be as the chronicle has
it, row by row, with every invariant. A run that fails changes nothing of the part it failed at, and once it is repeated the store
is that of a twin whose run was not disturbed.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

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
from tests.proof.dying import address_of_store, watched
from tests.proof.invariants import INVARIANTS, broken
from tests.proof.meanwhile import beginning
from tests.proof.nights import dump, fresh
from tests.proof.one_run import NUMBERS
from tests.proof.one_run import sync as run
from tests.whole_runs import IN_HASTE, lines, row_versions, save, settings_with

LIVES = 8
STEPS = 30
MAPPINGS: list[list[tuple[str, str]]] = [
    [("Email", "email"), ("Phone", "phone")],
    [("Phone", "phone"), ("Twitter__c", "twitter"), ("Email", "email")],
    [("Email", "email"), ("Phone", "custom"), ("MobilePhone", "phone")],
    [("Email", "email")],
]
KINDS = {"Email": "email", "Phone": "phone", "MobilePhone": "phone", "Twitter__c": "twitter"}
LEVELS = {"1": 1, "2.50": 2.5, "n/a": None}
LETTERS = st.sampled_from("abcd")
NUMBERS_OF_ROWS = st.integers(0, 30)
MAY_BE_BROKEN_BY_PEOPLE = {name for name in INVARIANTS if name.startswith("after a run, ")} | {
    "a contact that a run wrote last has the link the run gave it"
}
PACES = {"REST": IN_HASTE, "Bulk": replace(IN_HASTE, rest_rows=0, first_page_rows=2, page_rows=2)}


def text_of(kind: str) -> st.SearchStrategy[str | None]:
    styles = [*SPELLINGS[kind], None, *SPELLINGS[kind], UNREADABLE.get(kind, "")]
    return st.builds(
        lambda style, letter: (style and spelled(style, letter, 0).strip()) or None, st.sampled_from(styles), LETTERS
    )


VALUES = st.fixed_dictionaries(
    {name: text_of(kind) for name, kind in KINDS.items()} | {"Level_Text__c": st.sampled_from([*LEVELS, None])}
)
WEBSITES = text_of("domain")


def handles(*kinds: str) -> st.SearchStrategy[Handle]:
    return st.builds(
        lambda kind, letter: (kind, read(kind, spelled(SPELLINGS[kind][0], letter, 0)) or ""),
        st.sampled_from(kinds),
        LETTERS,
    )


HANDLES = handles("email", "phone", "twitter")
DOMAINS = handles("domain")


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
    is_view: bool = False
    accounts: bool = True
    contacts: bool = True
    maps_values: bool = False


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
STOPS = [*FAULTS, DEACTIVATED, UNSHARED, *CUTS]
"""What stops a run."""


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


class Life(RuleBasedStateMachine):
    """The steps."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place, self.store, self.score = place, place.store, place.score
        self.control = place.organisation.control
        self.chronicle = Chronicle()
        self.chosen = Chosen()
        self.hidden: set[str] = set()
        self.deleted_fields: set[str] = set()
        self.view = ""
        self.pace = "REST"
        self.moments: list[datetime] = []
        self.ran: set[str] = set()
        self.deleted_links: set[str] = set()
        self.sent: dict[str, World] = {}
        """By part what Salesforce held when it was last read."""
        self.records: dict[str, list[dict[str, Any]]] = {}
        """What there is in Salesforce, as it was asked for since anything changed there."""

    # ---------------------------------------------------------------------------------------------- Salesforce

    @initialize(people=st.lists(VALUES, min_size=3, max_size=6))
    def begin(self, people: list[dict[str, str | None]]) -> None:
        self.pace = sorted(PACES)[len(people) % 2]
        self.control.start_again()
        self.store.execute("TRUNCATE contact_store.contacts, contact_store.accounts, contact_store.sync_runs CASCADE")
        self.store.execute("TRUNCATE contact_store.sync_settings, contact_store.sync_changes CASCADE")
        self.view = self.control.create_list_view(label="Gold", where="Tier__c = 'Gold'")
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

    @rule(person=VALUES, number=NUMBERS_OF_ROWS)
    def somebody_comes(self, person: dict[str, str | None], number: int) -> None:
        account = pick([*self.here("Account"), {"Id": None}], number)["Id"]
        record = {"LastName": f"N{len(self.moments)}", "AccountId": account, "Tier__c": "Gold"} | self.existing(person)
        self.salesforce("create", "a contact is created", records=[record])

    @precondition(lambda self: self.here())
    @rule(number=NUMBERS_OF_ROWS, person=VALUES)
    def somebody_changes(self, number: int, person: dict[str, str | None]) -> None:
        ids = [pick(self.here(), number)["Id"]]
        self.salesforce("update", "a contact is edited", ids=ids, values=self.existing(person))

    @precondition(lambda self: len(self.here()) > 1)
    @rule(one=NUMBERS_OF_ROWS, other=NUMBERS_OF_ROWS)
    def two_swap(self, one: int, other: int) -> None:
        first, second = pick(self.here(), one), pick(self.here(), other)
        for person, values in ((first, second), (second, first)):
            new = {name: values[name] for name in self.existing(dict.fromkeys(KINDS))}
            self.salesforce("update", "two contacts swap", ids=[person["Id"]], values=new)

    @precondition(lambda self: self.here())
    @rule(number=NUMBERS_OF_ROWS, tier=st.sampled_from(["Gold", "Silver"]))
    def somebody_enters_or_leaves_the_view(self, number: int, tier: str) -> None:
        ids = [pick(self.here(), number)["Id"]]
        self.salesforce("update", "a contact enters or leaves the list view", ids=ids, values={"Tier__c": tier})

    @precondition(lambda self: self.here() and self.here("Account"))
    @rule(number=NUMBERS_OF_ROWS, account=NUMBERS_OF_ROWS)
    def somebody_changes_the_account(self, number: int, account: int) -> None:
        new = {"AccountId": pick([*self.here("Account"), {"Id": None}], account)["Id"]}
        self.salesforce(
            "update", "a contact goes to another account", ids=[pick(self.here(), number)["Id"]], values=new
        )

    @precondition(lambda self: self.here())
    @rule(number=NUMBERS_OF_ROWS)
    def somebody_is_deleted(self, number: int) -> None:
        self.salesforce("delete", "a contact is deleted", ids=[pick(self.here(), number)["Id"]])

    @precondition(lambda self: self.gone())
    @rule(number=NUMBERS_OF_ROWS)
    def somebody_is_restored(self, number: int) -> None:
        self.salesforce("undelete", "a contact is restored", ids=[pick(self.gone(), number)["Id"]])

    @precondition(lambda self: len(self.here()) > 1)
    @rule(one=NUMBERS_OF_ROWS, other=NUMBERS_OF_ROWS)
    def two_are_merged(self, one: int, other: int) -> None:
        winner, loser = pick(self.here(), one)["Id"], pick(self.here(), other)["Id"]
        if winner != loser:
            self.salesforce("merge", "two contacts are merged", winner=winner, losers=[loser])

    @rule(website=WEBSITES)
    def an_account_comes(self, website: str | None) -> None:
        record = {"Name": f"A{len(self.moments)}", "Website": website}
        self.salesforce("create", "an account is created", "Account", records=[record])

    @precondition(lambda self: self.here("Account"))
    @rule(number=NUMBERS_OF_ROWS, website=WEBSITES)
    def an_account_changes(self, number: int, website: str | None) -> None:
        ids = [pick(self.here("Account"), number)["Id"]]
        self.salesforce("update", "an account is edited", "Account", ids=ids, values={"Website": website})

    @precondition(lambda self: len(self.here("Account")) > 1)
    @rule(number=NUMBERS_OF_ROWS)
    def an_account_is_deleted(self, number: int) -> None:
        ids = [pick(self.here("Account"), number)["Id"]]
        self.salesforce("delete", "an account is deleted with its contacts", "Account", ids=ids)

    @precondition(lambda self: self.gone("Account"))
    @rule(number=NUMBERS_OF_ROWS)
    def an_account_is_restored(self, number: int) -> None:
        ids = [pick(self.gone("Account"), number)["Id"]]
        self.salesforce("undelete", "an account is restored", "Account", ids=ids)

    @precondition(lambda self: len(self.here("Account")) > 1)
    @rule(one=NUMBERS_OF_ROWS, other=NUMBERS_OF_ROWS)
    def two_accounts_are_merged(self, one: int, other: int) -> None:
        winner, loser = pick(self.here("Account"), one)["Id"], pick(self.here("Account"), other)["Id"]
        if winner != loser:
            self.salesforce("merge", "two accounts are merged", "Account", winner=winner, losers=[loser])

    @rule(name=st.sampled_from(["Email", "Phone", "Website"]))
    def a_field_is_hidden_or_shown(self, name: str) -> None:
        sobject, is_hidden = "Account" if name == "Website" else "Contact", name in self.hidden
        what = "a hidden field is shown" if is_hidden else "a field is hidden"
        self.salesforce("show_field" if is_hidden else "hide_field", what, sobject, name=name)
        self.hidden ^= {name}

    @rule()
    def a_field_is_deleted_or_comes_back(self) -> None:
        is_deleted = "Twitter__c" in self.deleted_fields
        what = "a deleted field comes back" if is_deleted else "a field is deleted with its values"
        self.salesforce("add_field" if is_deleted else "delete_field", what, name="Twitter__c")
        self.deleted_fields ^= {"Twitter__c"}

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

    @rule(handle=HANDLES)
    def a_person_adds_a_contact(self, handle: Handle) -> None:
        statement = """
            WITH new AS (INSERT INTO contact_store.contacts (name) VALUES ('by hand') RETURNING id)
            INSERT INTO contact_store.contact_handles (source, handle, contact_id)
            SELECT %(source)s, %(handle)s, id FROM new RETURNING contact_id"""
        id_ = self.person("a contact is added", statement, {"source": handle[0], "handle": handle[1]})
        if id_ is not None:
            self.chronicle.rows["contacts"][id_] = Row(handles={handle: None}, name="by hand")
        self.look()

    @precondition(lambda self: self.contacts())
    @rule(number=NUMBERS_OF_ROWS, handle=HANDLES)
    def a_person_adds_a_handle(self, number: int, handle: Handle) -> None:
        statement = """
            INSERT INTO contact_store.contact_handles (source, handle, contact_id)
            VALUES (%(source)s, %(handle)s, %(id)s) RETURNING contact_id"""
        values = {"source": handle[0], "handle": handle[1], "id": pick(self.contacts(), number)}
        if self.person("a handle is added", statement, values) is not None:
            self.row(values["id"]).handles[handle] = None
        self.look()

    @precondition(lambda self: any(row.handles for row in self.chronicle.rows["contacts"].values()))
    @rule(number=NUMBERS_OF_ROWS)
    def a_person_removes_a_handle(self, number: int) -> None:
        owned = [(id_, handle) for id_ in self.contacts() for handle in sorted(self.row(id_).handles)]
        id_, handle = pick(owned, number)
        statement = """
            DELETE FROM contact_store.contact_handles WHERE (source, handle) = (%(source)s, %(handle)s)
            RETURNING contact_id"""
        self.person("a handle is removed", statement, {"source": handle[0], "handle": handle[1]})
        del self.row(id_).handles[handle]
        self.look()

    @precondition(lambda self: self.contacts())
    @rule(number=NUMBERS_OF_ROWS)
    def a_person_writes_values(self, number: int) -> None:
        id_, text = pick(self.contacts(), number), f"written {sum(self.score.met.values())}"
        statement = """
            UPDATE contact_store.contacts
            SET description = %(text)s, custom_fields = custom_fields || jsonb_build_object('note', %(text)s::text)
            WHERE id = %(id)s RETURNING id"""
        self.person("values are written", statement, {"text": text, "id": id_})
        self.row(id_).description = self.row(id_).custom["note"] = text
        self.look()

    @precondition(lambda self: self.contacts() and self.chronicle.rows["accounts"])
    @rule(number=NUMBERS_OF_ROWS, account=NUMBERS_OF_ROWS)
    def a_person_sets_the_account(self, number: int, account: int) -> None:
        id_, new = pick(self.contacts(), number), pick(sorted(self.chronicle.rows["accounts"]), account)
        statement = "UPDATE contact_store.contacts SET account_id = %(account)s WHERE id = %(id)s RETURNING id"
        self.person("a contact's account is set", statement, {"account": new, "id": id_})
        self.row(id_).account = new
        self.look()

    @precondition(lambda self: self.contacts())
    @rule(number=NUMBERS_OF_ROWS)
    def a_person_deletes_a_contact(self, number: int) -> None:
        self.forget(pick(self.contacts(), number), "a contact is deleted")

    @precondition(lambda self: self.chronicle.linked("contacts"))
    @rule(number=NUMBERS_OF_ROWS)
    def a_person_deletes_a_linked_contact(self, number: int) -> None:
        self.forget(pick(sorted(self.chronicle.linked("contacts").values()), number), "a linked contact is deleted")

    def forget(self, id_: int, what: str) -> None:
        self.person(what, "DELETE FROM contact_store.contacts WHERE id = %(id)s RETURNING id", {"id": id_})
        row = self.chronicle.rows["contacts"].pop(id_)
        self.deleted_links |= {row.external_id} if row.external_id else set()
        self.look()

    @precondition(lambda self: len(self.contacts()) > 1)
    @rule(one=NUMBERS_OF_ROWS, other=NUMBERS_OF_ROWS)
    def a_person_merges_two_contacts(self, one: int, other: int) -> None:
        winner, loser = pick(self.contacts(), one), pick(self.contacts(), other)
        if winner == loser:
            return
        move = """
            WITH moved AS (
                UPDATE contact_store.contact_handles SET contact_id = %(winner)s WHERE contact_id = %(loser)s
            ) SELECT %(winner)s"""
        self.person("two contacts are merged", move, {"winner": winner, "loser": loser})
        self.row(winner).handles |= self.row(loser).handles
        self.row(loser).handles.clear()
        self.forget(loser, "a contact is deleted")

    @precondition(lambda self: self.chronicle.linked("contacts"))
    @rule(number=NUMBERS_OF_ROWS)
    def a_person_unlinks_a_contact(self, number: int) -> None:
        id_ = pick(sorted(self.chronicle.linked("contacts").values()), number)
        statement = """
            UPDATE contact_store.contacts SET external_id = NULL, not_syncing_since = NULL
            WHERE id = %(id)s RETURNING id"""
        self.person("a contact is unlinked", statement, {"id": id_})
        self.row(id_).external_id, self.row(id_).has_left = None, False
        self.look()

    @rule(domain=DOMAINS)
    def a_person_adds_an_account(self, domain: Handle) -> None:
        statement = """
            WITH new AS (INSERT INTO contact_store.accounts (name) VALUES ('by hand') RETURNING id)
            INSERT INTO contact_store.account_domains (domain, account_id)
            SELECT %(domain)s, id FROM new RETURNING account_id"""
        id_ = self.person("an account is added", statement, {"domain": domain[1]})
        if id_ is not None:
            self.chronicle.rows["accounts"][id_] = Row(handles={domain: None}, name="by hand")
        self.look()

    @precondition(lambda self: self.chronicle.rows["accounts"])
    @rule(number=NUMBERS_OF_ROWS)
    def a_person_deletes_an_account(self, number: int) -> None:
        id_ = pick(sorted(self.chronicle.rows["accounts"]), number)
        statement = "DELETE FROM contact_store.accounts WHERE id = %(id)s RETURNING id"
        self.person("an account is deleted", statement, {"id": id_})
        del self.chronicle.rows["accounts"][id_]
        for row in self.chronicle.rows["contacts"].values():
            row.account = None if row.account == id_ else row.account
        self.look()

    # ------------------------------------------------------------------------------------------------ settings

    @rule(
        mapping=st.sampled_from(MAPPINGS),
        source=st.sampled_from(["synced accounts", "list view", "list view, no accounts", "accounts only"]),
        maps_values=st.booleans(),
    )
    def settings_are_chosen(self, mapping: list[tuple[str, str]], source: str, *, maps_values: bool) -> None:
        is_view, without_accounts = source.startswith("list view"), source == "list view, no accounts"
        self.chosen = Chosen(mapping, is_view, not without_accounts, source != "accounts only", maps_values)
        values = lines(Level_Text__c="custom_fields.level", Tier__c="description") if maps_values else []
        contacts: dict[str, Any] = {
            "enabled": self.chosen.contacts,
            "custom_fields": {"level": {"type": "number"}} if maps_values else {},
            "mapping": [
                *lines(Name="name"),
                *({"salesforce_field": name, "field": FIELDS[kind]} for name, kind in mapping),
                *values,
            ],
            "source": {"list_view": self.view} if is_view else "synced_accounts",
        }
        save(settings_with(accounts={"enabled": self.chosen.accounts}, contacts=contacts))
        self.did(f"settings: {source}")

    @rule(pace=st.sampled_from(sorted(PACES)))
    def the_api_is_chosen(self, pace: str) -> None:
        self.pace = pace

    # ------------------------------------------------------------------------------- what chance would rarely do

    def newcomer(self, **values: Any) -> str:
        """The Salesforce id of a contact that is new, in the source, and to be found by a handle of its own."""
        self.settings_are_chosen(MAPPINGS[0], "list view", maps_values=True)
        for name in sorted(self.hidden):
            self.a_field_is_hidden_or_shown(name)
        name = f"N{len(self.moments)}"
        record = {"LastName": name, "Tier__c": "Gold", "Email": f"{name}@x0.co"} | values
        self.salesforce("create", "a contact is created", records=[record])
        return next(record["Id"] for record in self.here() if record["LastName"] == name)

    def edit(self, key: str, **values: Any) -> None:
        self.salesforce("update", "a contact is edited", ids=[key], values=values)

    def contact_of(self, key: str) -> int:
        return self.chronicle.linked("contacts")[key]

    @rule()
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

    @rule()
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

    @rule(name=st.sampled_from(["Email", "Phone"]))
    def a_field_is_hidden_for_a_night(self, name: str) -> None:
        """Rule 3.3."""
        key = self.newcomer(Phone=f"(212) 842-{1000 + len(self.moments) % 9000}")
        self.run_once()
        self.a_field_is_hidden_or_shown(name)
        self.edit(key, Email=f"while-hidden-{key}@x0.co", Phone=None)
        self.run_once()
        self.a_field_is_hidden_or_shown(name)
        self.run_once()

    @rule()
    def a_field_is_deleted_for_a_night(self) -> None:
        """Rule 3.3: what comes back comes back empty."""
        self.newcomer(**self.existing({"Twitter__c": f"t{len(self.moments)}"}))
        self.settings_are_chosen(MAPPINGS[1], "list view", maps_values=False)
        for _ in range(2):
            self.run_once()
            self.a_field_is_deleted_or_comes_back()
        self.run_once()

    @rule()
    def a_person_works_on_a_synced_contact(self) -> None:
        """Rules 3.4, 4.10 and 5: what is the person's stays; a handle that both gave is Salesforce's from then on."""
        key = self.newcomer()
        self.an_account_comes(None)
        self.run_once()
        at = self.contacts().index(self.contact_of(key))
        self.a_person_adds_a_handle(at, ("email", f"own-{key.lower()}@x0.co"))
        self.a_person_writes_values(at)
        self.a_person_sets_the_account(at, 0)
        self.edit(key, LastName=f"N{len(self.moments)}", Level_Text__c="1")
        self.run_once()
        self.edit(key, Email=f"Own-{key}@X0.co")
        self.run_once()
        self.edit(key, Email=f"other-{key}@x0.co")
        self.run_once()

    @rule()
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

    @precondition(lambda self: "once" not in self.ran)
    @rule()
    def run_once(self) -> None:
        concluded = self.sync()
        assert concluded.state == "succeeded"
        self.score.tried[f"runs by {self.pace} that did what the rules say"] += 1
        self.judge(concluded)
        self.ran.add("once")

    @precondition(lambda self: "twice" not in self.ran)
    @rule()
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

    @precondition(lambda self: "dry" not in self.ran)
    @rule()
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

    @precondition(lambda self: "window" not in self.ran and self.chosen.contacts and self.moments)
    @rule(back=st.integers(1, 6))
    def run_over_a_window(self, back: int) -> None:
        """Rule 1.3."""
        window = (self.moments[-min(back, len(self.moments))], self.moments[-1] + timedelta(seconds=30))
        concluded = self.sync(trigger="backfill", window=window)
        assert concluded.state == "succeeded"
        self.judge(concluded, window)
        self.score.met["a run over a window"] += 1
        self.ran.add("window")

    @rule(
        what=st.sampled_from(STOPS),
        goes_on=st.booleans(),
    )
    def run_fails_and_is_repeated(self, what: str, *, goes_on: bool) -> None:
        """Rule 6.1; `goes_on`: the red task is cleared, where that helps, instead of a new run."""
        failing = self.failing(what)
        if failing is None:
            return
        undisturbed = self.undisturbed()
        before = self.parts()
        failed = failing()
        assert failed.state == "failed", what
        self.fails(failed, what, before)
        self.score.met[f"failed: {what}"] += 1
        if goes_on and what in CUTS and CUTS[what][1] == "contacts":
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(client, "Pace", lambda: PACES[self.pace])
                flow.load_contacts(failed.id)
                done = conclude_run(failed.id).run
            self.judge(done, skip_accounts=True)
            self.score.met["the red task of a failed run is cleared"] += 1
        else:
            done = self.sync()
            self.judge(done)
        assert done.state == "succeeded"
        assert self.parts() == undisturbed, what
        self.score.tried["failed runs that were repeated and equal an undisturbed one"] += 1
        self.ran.add("once")

    def failing(self, what: str) -> Callable[[], Run] | None:
        """A run to which this happens; None where it would not stop it."""
        if what in FAULTS:
            fault, path, _, part = FAULTS[what]
            if part == "contacts" and not self.chosen.contacts:
                return None
            return lambda: self.with_trouble(
                lambda: self.control.add_fault(do=fault, path=path, times=0), self.control.clear_faults
            )
        if what in CUTS:
            statement, part = CUTS[what]
            is_there = self.chosen.contacts if part == "contacts" else self.chosen.accounts
            return (lambda: self.cut(Cut(statement, part))) if is_there else None
        if what == DEACTIVATED:
            return lambda: self.with_trouble(
                lambda: self.control.change_user(active=False), lambda: self.control.change_user(active=True)
            )
        if not (self.chosen.is_view and self.chosen.contacts):
            return None
        return lambda: self.with_trouble(
            lambda: self.control.unshare_list_view(id=self.view), lambda: self.control.share_list_view(id=self.view)
        )

    def with_trouble(self, begins: Callable[[], object], ends: Callable[[], object]) -> Run:
        begins()
        failed = self.sync()
        ends()
        return failed

    def cut(self, cut: Cut) -> Run:
        dag_run = f"cut {next(NUMBERS)}"
        with suppress(StoreUnavailable, psycopg.OperationalError), watched(cut):  # type: ignore[arg-type]
            self.sync(dag_run_id=dag_run)
        assert cut.is_done
        return conclude_run(flow.find_run(dag_run)).run

    def fails(self, failed: Run, what: str, before: dict[str, list[tuple]]) -> None:
        """What a failed run leaves: nothing of the part it failed at, and its errors."""
        first = "accounts" if self.chosen.accounts else "contacts"
        if what != DEACTIVATED:
            self.chronicle.gets_past_the_login(failed.id)
        part, code = {
            **{name: (part or first, code) for name, (_, _, code, part) in FAULTS.items()},
            **{name: (part, "") for name, (_, part) in CUTS.items()},
            DEACTIVATED: ("run", "login_failed"),
            UNSHARED: ("contacts", "list_view_not_found"),
        }[what]
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
            source={key: {name: record.get(name) for name in KINDS} for key, record in records.items()},
            mapping=self.chosen.mapping,
            missing=(self.hidden | self.deleted_fields) & {name for name, _ in self.chosen.mapping},
            merges=self.merges("Contact"),
        )
        values = {key: self.values_of(record) for key, record in records.items()}
        warnings = unreadable_handles(world)
        if self.chosen.maps_values:
            unread = [key for key, record in records.items() if record["Level_Text__c"] == "n/a"]
            warnings |= {("invalid_value", key, "Level_Text__c") for key in unread}
        accounts = {key: record["AccountId"] for key, record in records.items()}
        return Read("contacts", world, values, warnings, accounts, is_whole=window is None)

    def is_in_source(self, record: dict[str, Any], window: tuple[datetime, datetime] | None) -> bool:
        if window and not window[0] <= datetime.fromisoformat(record["SystemModstamp"]) < window[1]:
            return False
        if self.chosen.is_view:
            return record["Tier__c"] == "Gold"
        return record["AccountId"] in self.chronicle.linked("accounts")

    def values_of(self, record: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {"name": record["LastName"]}
        if self.chosen.maps_values:
            values["description"] = record["Tier__c"]
            if record["Level_Text__c"] != "n/a":
                values["level"] = record["Level_Text__c"] and LEVELS[record["Level_Text__c"]]
        return values

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
        """Without the fields that were deleted."""
        return {name: value for name, value in values.items() if name not in self.deleted_fields}

    def contacts(self) -> list[int]:
        return sorted(self.chronicle.rows["contacts"])

    def row(self, id_: int) -> Row:
        return self.chronicle.rows["contacts"][id_]


def pick(found: list[Any], number: int) -> Any:
    return found[number % len(found)]


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
        story(life)
        score.met[name] += 1
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
the red task of a failed run is cleared
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
    run_state_machine_as_test(
        partial(Life, place),  # type: ignore[arg-type]
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],  # a life takes too long to be lived again for a shorter one
            suppress_health_check=list(HealthCheck),
        ),
    )
    score.expect(EXPECTED)


EXPECTED = """
a second run changes nothing
a dry run says what the next run does
a run over a window
Salesforce: a contact is created
Salesforce: a contact is edited
Salesforce: a contact is deleted
Salesforce: a contact is restored
Salesforce: two contacts are merged
Salesforce: two contacts swap
Salesforce: a contact enters or leaves the list view
Salesforce: a contact goes to another account
Salesforce: an account is created
Salesforce: an account is edited
Salesforce: an account is deleted with its contacts
Salesforce: an account is restored
Salesforce: two accounts are merged
Salesforce: a field is hidden
Salesforce: a hidden field is shown
Salesforce: a field is deleted with its values
Salesforce: a deleted field comes back
people: a contact is added
people: a handle is added
people: a handle is removed
people: refused, somebody has that handle
people: values are written
people: a contact's account is set
people: a contact is deleted
people: a linked contact is deleted
people: a contact is unlinked
people: an account is added
people: an account is deleted
settings: synced accounts
settings: list view
settings: list view, no accounts
settings: accounts only
outcome created
outcome linked
outcome updated
outcome updated, for its values only
outcome unchanged
outcome email_taken
outcome phone_taken
outcome no_handle
domain_taken opens
domain_taken closes
phone_taken opens
phone_taken closes
invalid_handle opens
invalid_handle closes
""".strip().splitlines()
