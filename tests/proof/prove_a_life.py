"""A long life: Salesforce, people and settings change in any order, runs happen, fail and are repeated.

Before every run the executable specification is asked what must become of it, given the organisation and the store as
they are then; afterwards the store must be that, with every invariant, and what people wrote must still be there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis.strategies as st
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from include.salesforce_simulator.server import Simulator
from tests.conftest import Store
from tests.contact_sync.agreement import comparable
from tests.contact_sync.specification import Contact, Handle, World, read, sync
from tests.contact_sync.worlds import FIELDS, SPELLINGS, UNREADABLE, spelled
from tests.proof.conftest import Score
from tests.proof.invariants import broken
from tests.proof.nights import dump
from tests.proof.one_run import sync as run
from tests.whole_runs import lines, save, settings_with

LIVES = 8
STEPS = 40
MAPPINGS: list[list[tuple[str, str]]] = [
    [("Email", "email"), ("Phone", "phone")],
    [("Phone", "phone"), ("Twitter__c", "twitter"), ("Email", "email")],
    [("Email", "email"), ("Phone", "custom"), ("MobilePhone", "phone")],
    [("Email", "email")],
]
KINDS = {"Email": "email", "Phone": "phone", "MobilePhone": "phone", "Twitter__c": "twitter"}
LETTERS = st.sampled_from("abcd")
NUMBERS = st.integers(0, 30)
TABLES = ("contacts", "handles", "accounts", "domains", "entries")


@st.composite
def values(draw: st.DrawFn) -> dict[str, str | None]:
    """What a contact of Salesforce holds in the fields that can be mapped."""
    chosen: dict[str, str | None] = {}
    for name, kind in KINDS.items():
        style = draw(st.sampled_from([*SPELLINGS[kind], None, *SPELLINGS[kind], UNREADABLE.get(kind, "")]))
        chosen[name] = (style and spelled(style, draw(LETTERS), 0).strip()) or None
    return chosen


HANDLES = st.builds(
    lambda kind, letter: next(iter(handles_of({kind: spelled(SPELLINGS[kind][0], letter, 0)}))),
    st.sampled_from(["email", "phone", "twitter"]),
    LETTERS,
)


def handles_of(raw: dict[str, str]) -> list[Handle]:
    return [(kind, read(kind, text) or "") for kind, text in raw.items()]


@dataclass
class Place:
    """Where a life is lived."""

    organisation: Simulator
    store: Store
    score: Score
    account: str = ""
    view: str = ""
    mapping: list[tuple[str, str]] = field(default_factory=lambda: MAPPINGS[0])
    hidden: set[str] = field(default_factory=set)
    written: dict[int, str] = field(default_factory=dict)
    is_view: bool = False
    ran: set[str] = field(default_factory=set)
    """Which kinds of run there were since anything changed."""


def life(place: Place) -> type[RuleBasedStateMachine]:
    control, store = place.organisation.control, place.store

    def pick(found: list[Any], number: int) -> Any:
        return found[number % len(found)]

    def did(what: str) -> None:
        place.score.met[what] += 1
        place.ran.clear()

    def not_yet(kind: str) -> Callable[[Any], bool]:
        return lambda self: kind not in place.ran

    class Life(RuleBasedStateMachine):
        # ------------------------------------------------------------------------------------- in Salesforce

        @initialize(people=st.lists(values(), min_size=2, max_size=6))
        def begin(self, people: list[dict[str, str | None]]) -> None:
            control.start_again()
            store.execute("TRUNCATE contact_store.contacts, contact_store.accounts, contact_store.sync_runs CASCADE")
            store.execute("TRUNCATE contact_store.sync_settings CASCADE")
            (place.account,) = control.create(sobject="Account", records=[{"Name": "Acme", "Website": "acme.example"}])
            place.view = control.create_list_view(label="Gold", where="Tier__c = 'Gold'")
            place.mapping, place.hidden, place.written, place.is_view = MAPPINGS[0], set(), {}, False
            for person in people:
                self.somebody_comes(person)
            self.choose_settings(MAPPINGS[0], is_view=False)
            place.score.tried["lives"] += 1

        @rule(person=values())
        def somebody_comes(self, person: dict[str, str | None]) -> None:
            record = {"LastName": f"N{len(self.everybody())}", "AccountId": place.account, "Tier__c": "Gold", **person}
            control.create(sobject="Contact", records=[record])
            did("Salesforce: created")

        @precondition(lambda self: self.here())
        @rule(number=NUMBERS, person=values())
        def somebody_changes(self, number: int, person: dict[str, str | None]) -> None:
            control.update(sobject="Contact", ids=[pick(self.here(), number)["Id"]], values=person)
            did("Salesforce: edited")

        @precondition(lambda self: len(self.here()) > 1)
        @rule(one=NUMBERS, other=NUMBERS)
        def two_swap(self, one: int, other: int) -> None:
            first, second = pick(self.here(), one), pick(self.here(), other)
            for person, values_ in ((first, second), (second, first)):
                control.update(sobject="Contact", ids=[person["Id"]], values={name: values_[name] for name in KINDS})
            did("Salesforce: swapped")

        @precondition(lambda self: self.here())
        @rule(number=NUMBERS, tier=st.sampled_from(["Gold", "Silver"]))
        def somebody_enters_or_leaves_the_view(self, number: int, tier: str) -> None:
            control.update(sobject="Contact", ids=[pick(self.here(), number)["Id"]], values={"Tier__c": tier})
            did("Salesforce: entered or left the list view")

        @precondition(lambda self: self.here())
        @rule(number=NUMBERS)
        def somebody_is_deleted(self, number: int) -> None:
            control.delete(sobject="Contact", ids=[pick(self.here(), number)["Id"]])
            did("Salesforce: deleted")

        @precondition(lambda self: self.gone())
        @rule(number=NUMBERS)
        def somebody_is_restored(self, number: int) -> None:
            control.undelete(sobject="Contact", ids=[pick(self.gone(), number)["Id"]])
            did("Salesforce: restored")

        @precondition(lambda self: len(self.here()) > 1)
        @rule(one=NUMBERS, other=NUMBERS)
        def two_are_merged(self, one: int, other: int) -> None:
            winner, loser = pick(self.here(), one)["Id"], pick(self.here(), other)["Id"]
            if winner != loser:
                control.merge(sobject="Contact", winner=winner, losers=[loser])
                did("Salesforce: merged")

        @rule(name=st.sampled_from(["Email", "Phone"]))
        def a_field_is_hidden_or_shown(self, name: str) -> None:
            (control.show_field if name in place.hidden else control.hide_field)(sobject="Contact", name=name)
            place.hidden ^= {name}
            did("Salesforce: a field hidden or shown")

        # ----------------------------------------------------------------------------------------- people

        @rule(handle=HANDLES)
        def a_person_adds_a_contact(self, handle: Handle) -> None:
            self.person(
                "WITH new AS (INSERT INTO contact_store.contacts (name) VALUES ('by hand') RETURNING id)"
                " INSERT INTO contact_store.contact_handles (source, handle, contact_id) SELECT %s, %s, id FROM new",
                [*handle],
                "added a contact",
            )

        @precondition(lambda self: self.contacts())
        @rule(number=NUMBERS, handle=HANDLES)
        def a_person_adds_a_handle(self, number: int, handle: Handle) -> None:
            statement = "INSERT INTO contact_store.contact_handles (source, handle, contact_id) VALUES (%s, %s, %s)"
            self.person(statement, [*handle, pick(self.contacts(), number)], "added a handle")

        @precondition(lambda self: self.contacts())
        @rule(number=NUMBERS)
        def a_person_writes_a_description(self, number: int) -> None:
            contact = pick(self.contacts(), number)
            text = f"written {sum(place.score.met.values())}"
            statement = "UPDATE contact_store.contacts SET description = %s, custom_fields = custom_fields || jsonb_build_object('note', %s::text) WHERE id = %s"
            self.person(statement, [text, text, contact], "wrote a description")
            place.written[contact] = text

        @precondition(lambda self: self.contacts())
        @rule(number=NUMBERS)
        def a_person_deletes_a_contact(self, number: int) -> None:
            contact = pick(self.contacts(), number)
            self.person("DELETE FROM contact_store.contacts WHERE id = %s", [contact], "deleted a contact")
            place.written.pop(contact, None)

        @precondition(lambda self: len(self.contacts()) > 1)
        @rule(one=NUMBERS, other=NUMBERS)
        def a_person_merges_two_contacts(self, one: int, other: int) -> None:
            winner, loser = pick(self.contacts(), one), pick(self.contacts(), other)
            if winner != loser:
                statement = "UPDATE contact_store.contact_handles SET contact_id = %s WHERE contact_id = %s"
                self.person(statement, [winner, loser], "merged two contacts")
                store.execute("DELETE FROM contact_store.contacts WHERE id = %s", [loser])
                place.written.pop(loser, None)

        def person(self, statement: str, bound: list[Any], what: str) -> None:
            try:
                store.execute(statement, bound)
                did(f"people: {what}")
            except psycopg.errors.UniqueViolation:
                did("people: refused, the handle is taken")

        # --------------------------------------------------------------------------------------- the sync

        @rule(mapping=st.sampled_from(MAPPINGS), is_view=st.booleans())
        def choose_settings(self, mapping: list[tuple[str, str]], is_view: bool) -> None:
            place.mapping, place.is_view = mapping, is_view
            chosen = [{"salesforce_field": name, "field": FIELDS[kind]} for name, kind in mapping]
            source: Any = {"list_view": place.view} if is_view else "synced_accounts"
            save(settings_with(contacts={"mapping": [*lines(Name="name"), *chosen], "source": source}))
            did("settings: edited")

        @precondition(not_yet("once"))
        @rule()
        def run_once(self) -> None:
            world = self.world()
            expected, after = sync(world)
            concluded = run()
            assert concluded.run.state == "succeeded"
            found = self.stored({contact.id for contact in world.store})
            assert comparable(found) == comparable(after)
            codes = {key: code for key, (_, code, _) in expected.items() if code}
            open_errors = store.execute(
                "SELECT external_id, code FROM contact_store.sync_errors"
                " WHERE part = 'contacts' AND level = 'contact' AND closed_run IS NULL"
            )
            assert dict(open_errors) == codes
            names = dict(
                store.execute("SELECT external_id, name FROM contact_store.contacts WHERE external_id IS NOT NULL")
            )
            wanted = {person["Id"]: person["LastName"] for person in self.here() if person["Id"] in expected}
            assert {key: names[key] for key in wanted if key not in codes} == {
                key: name for key, name in wanted.items() if key not in codes
            }
            self.look()
            place.score.tried["runs that agree with the specification"] += 1
            place.score.met.update(f"outcome {code or outcome}" for outcome, code, _ in expected.values())
            place.ran.add("once")

        @precondition(not_yet("failing"))
        @rule(fault=st.sampled_from(["server_error", "request_limit", "session_expired"]))
        def run_fails(self, fault: str) -> None:
            before = dump(store)
            control.add_fault(do=fault, path="/query", times=0)
            assert run().run.state == "failed"
            control.clear_faults()
            after = dump(store)
            assert {name: after[name] for name in TABLES} == {name: before[name] for name in TABLES}
            self.look()
            place.score.tried["runs that failed and changed nothing"] += 1
            place.ran.add("failing")

        @precondition(not_yet("dry"))
        @rule()
        def run_dry(self) -> None:
            before = dump(store)
            assert run(dry_run=True).run.state == "succeeded"
            after = dump(store)
            assert {name: after[name] for name in TABLES} == {name: before[name] for name in TABLES}
            place.score.tried["dry runs that changed nothing"] += 1
            place.ran.add("dry")

        @precondition(not_yet("twice"))
        @rule()
        def run_twice(self) -> None:
            self.run_once()
            before = dump(store)
            assert run().run.contacts["unchanged"] + len(
                [1 for _, code, _ in sync(self.world())[0].values() if code]
            ) == len(self.world().source)
            after = dump(store)
            assert {name: after[name] for name in TABLES} == {name: before[name] for name in TABLES}
            place.score.tried["second runs that changed nothing"] += 1
            place.ran.add("twice")

        # ------------------------------------------------------------------------------------ what there is

        def look(self) -> None:
            assert broken(store) == {}
            rows = store.execute("SELECT id, description, custom_fields ->> 'note' FROM contact_store.contacts")
            kept = {row[0]: row[1:] for row in rows if row[0] in place.written}
            assert kept == {contact: (text, text) for contact, text in place.written.items()}

        def everybody(self) -> list[dict[str, Any]]:
            return sorted(control.records(sobject="Contact", deleted=True), key=lambda record: record["Id"])

        def here(self) -> list[dict[str, Any]]:
            return [record for record in self.everybody() if not record["IsDeleted"]]

        def gone(self) -> list[dict[str, Any]]:
            return [record for record in self.everybody() if record["IsDeleted"]]

        def contacts(self) -> list[int]:
            return [row[0] for row in store.execute("SELECT id FROM contact_store.contacts ORDER BY id")]

        def world(self) -> World:
            source = {
                record["Id"]: {name: record[name] for name in KINDS}
                for record in self.here()
                if not place.is_view or record["Tier__c"] == "Gold"
            }
            merges = {record["Id"]: record["MasterRecordId"] for record in self.gone() if record["MasterRecordId"]}
            missing = place.hidden & {name for name, _ in place.mapping}
            return World(self.stored(set(self.contacts())), source, place.mapping, missing, merges)

        def stored(self, known: set[int]) -> list[Contact]:
            found = {
                row[0]: Contact(*row) for row in store.execute("SELECT id, external_id FROM contact_store.contacts")
            }
            handles = "SELECT contact_id, source, handle, salesforce_field FROM contact_store.contact_handles"
            for contact, source, handle, name in store.execute(handles):
                found[contact].handles[source, handle] = name
            return [replace(c, id=c.id if c.id in known else -1) for _, c in sorted(found.items())]

    return Life


@pytest.mark.usefixtures("staging")
def test_in_a_long_life_every_run_does_what_the_rules_say(organisation: Simulator, store: Store, score: Score) -> None:
    machine: Callable[[], RuleBasedStateMachine] = life(Place(organisation, store, score))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        ),
    )
    score.expect(
        [
            "outcome created",
            "outcome linked",
            "outcome updated",
            "outcome unchanged",
            "outcome email_taken",
            "outcome no_handle",
        ]
    )
