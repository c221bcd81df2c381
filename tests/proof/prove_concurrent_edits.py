"""People edit while a run plans and applies: nothing of theirs is lost, and the run neither fails nor waits for ever.

Every edit is made at every moment at which a run can be met, and the whole outcome (contacts, handles, accounts, domains,
counts, entries, errors) must be that of a run that nobody disturbed, on the same store, with the edit made before it, between
its parts, or after it: at the one of these times for which the moment counts, never a mixture. The worlds of the executable
specification, full of collisions, go through the same with chance edits.
"""

import os
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from include.contact_sync import flow, load
from include.contact_sync.errors import AnotherRunIsActive, RunError, RunRefused, StoreRefused
from include.contact_sync.settings import Settings
from include.contact_sync.staging import Staging
from include.contact_sync.store.connection import SQL_FOLDER
from include.contact_sync.store.records import Fingerprint
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.contact_sync.agreement import comparable
from tests.contact_sync.applying import fill_store, open_run, read_store, run_world
from tests.contact_sync.specification import Contact, World, given, sync
from tests.contact_sync.worlds import batch_of_worlds, settings_of, together
from tests.proof.conftest import Score
from tests.proof.dying import TASKS, Attempt, Kind, Shape, attempt_in_a_process
from tests.proof.invariants import broken
from tests.proof.meanwhile import (
    AFTER_THE_RUN,
    BEFORE_THE_CONTACTS,
    LOCKED,
    LONG,
    TABLE_WAS_READ,
    Edit,
    Moment,
    Person,
    Somebody,
    Starter,
    Watch,
    beginning,
    run_watched,
    run_with_a_quiet_act,
    watching,
)
from tests.proof.nights import MAPPING, Evening, dump, fresh, keep_as_template, prepare, sent
from tests.whole_runs import settings_with

Dump = dict[str, list[tuple]]
BY_HAND = 1_000_000
"""Rows of people's have numbers of their own here, so that those of a run are the same whoever was first."""


# ------------------------------------------------------------------------------------------------ the second night


@dataclass
class EveningWithNames(Evening):
    """And what the names in the edits stand for."""

    values: dict[str, Any]


@pytest.fixture
def evening(
    organisation: Simulator, store: Store, staging: Staging, postgres: DatabaseServer
) -> Iterator[EveningWithNames]:
    prepare(organisation, store, settings_with(contacts={"mapping": MAPPING}))
    control = organisation.control
    control.create(sobject="Account", records=[{"Name": "Fresh", "Website": "fresh.example"}])
    names = {"p1": "Persönlich 1", "p3": "Persönlich 3", "p7": "Persönlich 7", "hand": "by hand"}
    contacts = dict(store.execute("SELECT name, id FROM contact_store.contacts"))
    accounts = dict(store.execute("SELECT name, id FROM contact_store.accounts"))
    values = {key: contacts[name] for key, name in names.items()} | {"acme": accounts["Acme 1"], "own": BY_HAND}
    (newcomer,) = [one["Id"] for one in control.records(sobject="Contact") if one["LastName"] == "New"]
    for template in keep_as_template(postgres, store):
        yield EveningWithNames(template, sent(organisation), values | {"newcomer": newcomer})


def edit(what: str, tables: str, *statements: str) -> Edit:
    return Edit(what, frozenset(tables.split()), statements)


def adds_handle(contact: str, source: str, handle: str) -> str:
    return f"INSERT INTO contact_store.contact_handles (source, handle, contact_id) VALUES ('{source}', '{handle}', {contact})"


ADD_CONTACT = "INSERT INTO contact_store.contacts (id, name) OVERRIDING SYSTEM VALUE VALUES (%(own)s, 'own')"
ADD_ACCOUNT = "INSERT INTO contact_store.accounts (id, name) OVERRIDING SYSTEM VALUE VALUES (%(own)s, 'own')"
TAKE_HANDLE = "UPDATE contact_store.contact_handles SET contact_id = {}, origin = 'person', salesforce_field = NULL WHERE handle = '{}'"

EDITS_OF_CONTACTS = [
    edit(
        "adds a contact with a handle that the run gives to another",
        "contacts contact_handles",
        ADD_CONTACT,
        adds_handle("%(own)s", "email", "new@example.org"),
    ),
    edit(
        "adds a contact with a handle that nobody asks for",
        "contacts contact_handles",
        ADD_CONTACT,
        adds_handle("%(own)s", "email", "own@example.org"),
    ),
    edit(
        "adds the handle of a newcomer to a contact",
        "contact_handles",
        adds_handle("%(p7)s", "phone", "+12128425500"),
        "UPDATE contact_store.contacts SET custom_fields = custom_fields || '{\"note\": 1}' WHERE id = %(p7)s",
    ),
    edit("adds a handle to a contact that the run updates", "contact_handles", adds_handle("%(p1)s", "twitter", "p1")),
    edit("moves a handle to another contact", "contact_handles", TAKE_HANDLE.format("%(hand)s", "p7@example.org")),
    edit(
        "removes a handle that Salesforce gave",
        "contact_handles",
        "DELETE FROM contact_store.contact_handles WHERE handle = 'p7@example.org'",
    ),
    edit(
        "removes the handle by which a newcomer would be found",
        "contact_handles",
        "DELETE FROM contact_store.contact_handles WHERE handle = 'hand@example.org'",
    ),
    edit(
        "writes values that are mapped and that are not",
        "contacts",
        "UPDATE contact_store.contacts SET description = 'by hand', custom_fields = '{\"note\": 1}' WHERE id = %(p7)s",
    ),
    edit(
        "writes values of a contact that the run updates",
        "contacts",
        "UPDATE contact_store.contacts SET custom_fields = custom_fields || '{\"note\": 1}' WHERE id = %(p1)s",
        "UPDATE contact_store.contacts SET links = '[\"https://example.org\"]' WHERE id = %(p1)s",
    ),
    edit(
        "deletes a contact that the run updates",
        "contacts contact_handles",
        "DELETE FROM contact_store.contacts WHERE id = %(p1)s",
    ),
    edit(
        "deletes the contact by which a newcomer would be found",
        "contacts contact_handles",
        "DELETE FROM contact_store.contacts WHERE id = %(hand)s",
    ),
    edit(
        "merges two contacts",
        "contact_handles contacts",
        "UPDATE contact_store.contact_handles SET contact_id = %(p7)s WHERE contact_id = %(hand)s",
        "DELETE FROM contact_store.contacts WHERE id = %(hand)s",
    ),
    edit(
        "unlinks a contact",
        "contacts",
        "UPDATE contact_store.contacts SET external_id = NULL, not_syncing_since = NULL WHERE id = %(p3)s",
    ),
    edit(
        "links a contact to a newcomer",
        "contacts",
        "UPDATE contact_store.contacts SET external_id = %(newcomer)s WHERE id = %(hand)s",
    ),
    edit(
        "sets the account of a contact",
        "contacts",
        "UPDATE contact_store.contacts SET account_id = %(acme)s WHERE id IN (%(hand)s, %(p3)s)",
    ),
]
EDITS_OF_ACCOUNTS = [
    edit(
        "adds an account with the domain of a new one",
        "accounts account_domains",
        ADD_ACCOUNT,
        "INSERT INTO contact_store.account_domains (domain, account_id) VALUES ('fresh.example', %(own)s)",
    ),
    edit(
        "adds the domain of a new account to another",
        "account_domains",
        "INSERT INTO contact_store.account_domains (domain, account_id) VALUES ('fresh.example', %(acme)s)",
    ),
    edit(
        "removes a domain that Salesforce gave",
        "account_domains",
        "DELETE FROM contact_store.account_domains WHERE account_id = %(acme)s",
    ),
    edit(
        "writes an account's values that are mapped and that are not",
        "accounts",
        "UPDATE contact_store.accounts SET name = 'by hand', custom_fields = '{\"note\": 1}' WHERE id = %(acme)s",
    ),
    edit(
        "unlinks an account",
        "accounts",
        "UPDATE contact_store.accounts SET external_id = NULL, not_syncing_since = NULL WHERE id = %(acme)s",
    ),
    edit(
        "deletes an account to which contacts belong",
        "accounts account_domains contacts",
        "DELETE FROM contact_store.accounts WHERE id = %(acme)s",
    ),
]
EDITS = [*EDITS_OF_CONTACTS, *EDITS_OF_ACCOUNTS]
TAKES_CONTACTS_OUT_OF_THE_SOURCE = {"unlinks an account", "deletes an account to which contacts belong"}


# ------------------------------------------------------------------------------------------------------- moments


@dataclass(frozen=True)
class Meeting:
    """A moment that has a name: the nth time that `task` carries out the statement of that file, or does that."""

    task: str
    statement: str
    nth: int = 1
    holds: bool = False

    def among(self, moments: list[Moment]) -> Moment:
        what = self.statement
        if (SQL_FOLDER / f"{what}.sql").exists():
            what = beginning(what)
        found = [moment for moment in moments if moment.task == self.task and moment.what.startswith(what)]
        return found[self.nth - 1]


def meetings(planning: str, applying: str, part: str) -> dict[str, Meeting]:
    again = 2 if planning == applying else 1
    return {
        f"{part}: before the moment that is judged": Meeting(planning, "read_one_moment"),
        f"{part}: when the fingerprint is taken": Meeting(planning, f"fingerprint_{part}"),
        f"{part}: while the store is read": Meeting(planning, f"-- The {part} as matching needs them"),
        f"{part}: between two tables that are read": Meeting(planning, "was read"),
        f"{part}: when the plan is made": Meeting(applying, "lock_apply"),
        f"{part}: before the tables are locked": Meeting(applying, "lock_table"),
        f"{part}: while the run waits for somebody's transaction": Meeting(applying, "lock_apply", holds=True),
        f"{part}: when the tables are locked": Meeting(applying, f"fingerprint_{part}", again),
        f"{part}: before handles are released": Meeting(applying, "create_part_handles"),
        f"{part}: before the errors are written": Meeting(applying, "create_part_errors"),
        f"{part}: before the commit": Meeting(applying, f"mark_{part}_applied"),
        f"{part}: after the commit": Meeting(applying, "record_step"),
    }


MEETINGS = meetings("sync_accounts", "sync_accounts", "accounts") | meetings(
    "match_contacts", "load_contacts", "contacts"
)


class Nights:
    """Second nights on clones of one evening's store: undisturbed ones, kept to compare with, and disturbed ones."""

    def __init__(self, evening: EveningWithNames, postgres: DatabaseServer, patch: pytest.MonkeyPatch) -> None:
        self.evening, self.postgres, self.patch = evening, postgres, patch
        self._quiet: dict[tuple[str, int], tuple[Dump, str | None]] = {}

    def stores(self) -> Iterator[Store]:
        yield from fresh(self.postgres, self.evening.template, self.patch)

    def moments(self) -> list[Moment]:
        """Those of a night on which nobody does anything."""
        for store in self.stores():
            watch = Watch(store)
            run_watched(watch)
        return watch.moments

    def quiet(self, chosen: Edit, when: int) -> tuple[Dump, str | None]:
        """The store after a night with the edit at that time, and how the edit was refused."""
        if (chosen.what, when) not in self._quiet:
            for store in self.stores():
                person = Person(store, chosen, self.evening.values)
                run_with_a_quiet_act(person, when)
                self._quiet[chosen.what, when] = (dump(store), person.refused)
        return self._quiet[chosen.what, when]

    def disturbed(
        self, somebody_in: Callable[[Store], Somebody], at: Moment, sent_: Sequence[World]
    ) -> tuple[Watch, Somebody, Dump]:
        for store in self.stores():
            somebody = somebody_in(store)
            watch = Watch(store, somebody, at)
            run_watched(watch)
            assert somebody.ident, f"the run never came to {at}"
            assert {name for name in broken(store, *sent_) if not name.startswith("after a run")} == set(), at
            found = dump(store)
        return watch, somebody, found

    def judge(self, chosen: Edit, at: Moment, score: Score, *, holds: bool = False) -> None:
        """The night with the edit at that moment is one of those with the edit at a time for which the moment counts."""
        # Where an account goes, it depends on the moment whether its contacts were still asked for.
        sent_ = () if chosen.what in TAKES_CONTACTS_OUT_OF_THE_SOURCE else self.evening.sent
        watch, person, found = self.disturbed(
            lambda store: Person(store, chosen, self.evening.values, holds=holds), at, sent_
        )
        expected = {when: self.quiet(chosen, when) for when in sorted(watch.possible)}
        same = [when for when, result in expected.items() if result == (found, person.refused)]
        assert same, (chosen.what, at, differences(next(iter(expected.values()))[0], found))
        score.tried["edits"] += 1
        score.met[chosen.what] += 1
        score.met[f"the outcome is that of the edit made {TIMES[same[0]]}"] += 1
        score.met["the edit waited for the run's commit"] += person.had_to_wait
        score.met["the edit was refused, since the run had written what it needs"] += person.refused is not None


TIMES = ["before the run", "between accounts and contacts", "before the contacts are judged", "after the run"]


def differences(expected: Dump, found: Dump) -> dict[str, tuple[list[tuple], list[tuple]]]:
    return {
        name: ([row for row in rows if row not in found[name]], [row for row in found[name] if row not in rows])
        for name, rows in expected.items()
        if rows != found[name]
    }


@pytest.fixture
def nights(evening: EveningWithNames, postgres: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> Nights:
    return Nights(evening, postgres, monkeypatch)


@pytest.mark.parametrize("part", ["accounts", "contacts"])
def test_every_edit_at_every_moment_at_which_a_run_can_be_met(nights: Nights, score: Score, part: str) -> None:
    """Rule 6.2."""
    moments = nights.moments()
    edits = EDITS if part == "contacts" else [*EDITS_OF_ACCOUNTS, *EDITS_OF_CONTACTS[-2:]]
    chosen = {name: meeting for name, meeting in MEETINGS.items() if name.startswith(part)}
    for name, each in list(product(chosen, edits))[::EACH]:
        meeting = chosen[name]
        if not meeting.holds or each.tables & LOCKED[meeting.task]:
            nights.judge(each, meeting.among(moments), score, holds=meeting.holds)
            score.met[name] += 1
    if EACH > 1:  # a sample need not hold everything
        return
    score.expect([each.what for each in edits])
    score.expect(chosen)
    score.expect(["the edit waited for the run's commit"])
    if part == "contacts":
        score.expect(["the edit was refused, since the run had written what it needs"])


def test_an_edit_before_every_statement_page_and_call_of_a_run(nights: Nights, score: Score) -> None:
    """Rule 6.2, at the last of whatever a task begins more than once: the edits take turns."""
    moments = {(moment.task, moment.kind, moment.what): moment for moment in nights.moments()}
    for number, moment in enumerate(list(moments.values())[::EACH]):
        nights.judge(EDITS[number % len(EDITS)], moment, score)
        score.met[f"in {moment.task}"] += 1
        score.met[moment.kind] += 1
    if EACH > 1:
        return
    score.expect([f"in {task}" for task in (*TASKS[:-1], "conclude")])
    score.expect([Kind.READS, Kind.WRITES, Kind.FRAME, Kind.COPIES, Kind.FIRST_BLOCK, Kind.COMMITS, Kind.COMMITTED])
    score.expect([TABLE_WAS_READ, Kind.LOGIN, Kind.COUNT, Kind.FIRST_REST_PAGE, Kind.FILE, Kind.FILE_WHOLE])


EACH = int(os.environ.get("POINTS", "1"))
"""Every so many pairs of moment and edit; all of them where nothing is said."""


def test_a_run_that_does_not_look_again_is_found_out(
    nights: Nights, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof sees what it is for: here a plan is applied although the store was edited since."""
    at = MEETINGS["contacts: when the plan is made"].among(nights.moments())
    for each in [EDITS_OF_CONTACTS[number] for number in (0, 2, 5, 6)]:
        nights.quiet(each, BEFORE_THE_CONTACTS)
        with monkeypatch.context() as patch:
            patch.setattr(flow, "read_fingerprint", lambda *_: Fingerprint("the same", 0, 0))
            with pytest.raises((AssertionError, RunError, StoreRefused)):
                nights.judge(each, at, Score("nobody's"))
        score.tried["lost edits that were found out"] += 1


@pytest.mark.parametrize("keys", ["row by row", "with the keys taken off"])
def test_edits_of_worlds_full_of_collisions(
    store: Store, score: Score, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    """Rules 4 and 6.2: what the specification says of the store as it was when the run applied."""
    if keys == "with the keys taken off":
        monkeypatch.setattr(load, "MANY_HANDLES", 0)
    draw, numbers = Random(keys), iter(range(700, 10_000))
    for _ in range(WORLDS):
        world = suitable(numbers)
        moments = apply_watched(store, world, Watch(store)).moments
        for each in edits_of(world, draw):
            at = draw.choice(moments)
            person = Person(store, each, {})
            watch = apply_watched(store, world, Watch(store, person, at))
            found = (comparable(read_store(store, with_newcomers(world))), person.refused, last_run(store))
            assert {name for name in broken(store, world) if not name.startswith("after a run")} == set()
            expected = {when: quietly(store, world, each, when) for when in sorted(watch.possible)}
            same = [when for when, result in expected.items() if result == found]
            assert same, (each, at, world, found, expected)
            score.tried["edits"] += 1
            score.met[each.what] += 1
            score.met[f"the outcome is that of the edit made {TIMES[same[0]]}"] += 1
            score.met["the edit was refused"] += person.refused is not None
    score.expect(
        [f"the outcome is that of the edit made {TIMES[when]}" for when in (BEFORE_THE_CONTACTS, AFTER_THE_RUN)]
    )


WORLDS = 15
LAST_RUN = """
    SELECT contacts::text, (SELECT array_agg((external_id, code, holders::text) ORDER BY 1, external_id, code)
                            FROM contact_store.sync_errors WHERE last_run = sync_runs.id)::text,
        (SELECT array_agg((external_id, outcome, rule, matched_handle) ORDER BY external_id)
         FROM contact_store.sync_changes WHERE run_id = sync_runs.id)::text
    FROM contact_store.sync_runs ORDER BY id DESC LIMIT 1"""


def last_run(store: Store) -> list[tuple]:
    """Its counts, errors and entries."""
    return store.execute(LAST_RUN)


def apply_watched(store: Store, world: World, watch: Watch) -> Watch:
    fill_store(store, world)
    with watching(watch):
        watch.begin("transform_contacts")
        watch.begin("load_contacts")
        run_world(world)
    if watch.somebody:
        watch.somebody.wait_for_the_end()
    return watch


def quietly(store: Store, world: World, each: Edit, when: int) -> tuple[list[tuple], str | None, list[tuple]]:
    """The same with the edit before or after the run; what is before it also goes to the specification."""
    fill_store(store, world)
    person = Person(store, each, {})
    if when == AFTER_THE_RUN:
        run_world(world)
    person.start()
    person.wait_for_the_end()
    if when == BEFORE_THE_CONTACTS:
        edited = replace(world, store=read_store(store, with_newcomers(world)))
        counts = run_world(world)
        results, end = sync(edited)
        outcomes = Counter(outcome for outcome, _, _ in results.values())
        assert {name: count for name, count in counts.items() if count and name != "read"} == dict(outcomes)
        assert comparable(read_store(store, with_newcomers(world))) == comparable(end)
    return comparable(read_store(store, with_newcomers(world))), person.refused, last_run(store)


def newcomer_of(world: World) -> int:
    return max(contact.id for contact in world.store) + 1


def with_newcomers(world: World) -> World:
    """So that the contact that a person may add counts as known."""
    return replace(world, store=[*world.store, Contact(newcomer_of(world))])


def edits_of(world: World, draw: Random) -> list[Edit]:
    """One of each kind, on contacts and handles that the run is about to write where there are such."""
    one, two = draw.sample([contact.id for contact in world.store], 2)
    wanted = draw.choice(sorted({handle for key in world.source for handle in given(world, key)}))
    owned = draw.choice([handle for contact in world.store for handle in contact.handles])
    new = newcomer_of(world)
    add_contact = f"INSERT INTO contact_store.contacts (id) OVERRIDING SYSTEM VALUE VALUES ({new})"
    move = f"UPDATE contact_store.contact_handles SET contact_id = {two} WHERE contact_id = {one}"
    delete = f"DELETE FROM contact_store.contacts WHERE id = {one}"
    unlink = f"UPDATE contact_store.contacts SET external_id = NULL, not_syncing_since = NULL WHERE id = {one}"
    return [
        edit("adds a contact with a handle", "", add_contact, adds_handle(str(new), *wanted)),
        edit("adds a handle to a contact", "", adds_handle(str(one), *wanted)),
        edit("moves a handle to another contact", "", REMOVE_HANDLE.format(*wanted), adds_handle(str(one), *wanted)),
        edit("removes a handle", "", REMOVE_HANDLE.format(*owned)),
        edit("deletes a contact", "", delete),
        edit("merges two contacts", "", move, delete),
        edit("unlinks a contact", "", unlink),
    ]


REMOVE_HANDLE = "DELETE FROM contact_store.contact_handles WHERE (source, handle) = ('{}', '{}')"


def suitable(numbers: Iterator[int]) -> World:
    """The next world of contacts in which there is something to edit, and which a run writes in every way."""
    for number in numbers:
        world = together(batch_of_worlds(number, 3))
        is_edited = len(world.store) > 1 and any(contact.handles for contact in world.store)
        if world.needs_handle and is_edited and is_written_in_every_way(world):
            return world
    raise AssertionError("no world is suitable")


def is_written_in_every_way(world: World) -> bool:
    return {outcome for outcome, _, _ in sync(world)[0].values()} >= {"created", "updated", "error"}


# ------------------------------------------------------------------------------------------------ several runs


def test_of_runs_started_at_once_one_works_and_the_others_say_which(store: Store, score: Score) -> None:
    """Rule 6.3."""
    settings = settings_of(batch_of_worlds(0, 1)[0])
    for _ in range(5):
        opened: list[int] = []
        refused: list[AnotherRunIsActive] = []
        threads = [threading.Thread(target=start_run, args=(settings, opened, refused)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        assert len(refused) == 5
        (run_id,) = opened
        assert all(str(run_id) in str(active) for active in refused)
        score.tried["runs started at once"] += 6
        store.execute("UPDATE contact_store.sync_runs SET state = 'failed', ended_at = now() WHERE state = 'running'")


def start_run(settings: Settings, opened: list[int], refused: list[AnotherRunIsActive]) -> None:
    try:
        opened.append(open_run(settings))
    except AnotherRunIsActive as active:
        refused.append(active)


def test_a_run_that_starts_while_another_works_is_refused_and_disturbs_nothing(nights: Nights, score: Score) -> None:
    """Rule 6.3, at every moment at which a run can be met; the one refused can be started when the other has ended."""
    for store in nights.stores():
        run_watched(Watch(store))
        undisturbed = dump(store)
    moments = nights.moments()
    for name, meeting in list(MEETINGS.items())[::EACH]:
        if meeting.holds:
            continue
        _, starter, found = nights.disturbed(Starter, meeting.among(moments), nights.evening.sent)
        assert starter.refused == "AnotherRunIsActive", name
        assert found == undisturbed, (name, differences(undisturbed, found))
        score.tried["runs started while another works"] += 1
        score.met[name] += 1


class Successor(Somebody):
    """The next night, to which this one seems dead."""

    session = "contact_sync"

    def __init__(self, store: Store, told: Path) -> None:
        super().__init__(store)
        self.told = told
        self.code: int | None = None

    def act(self) -> None:
        gone = "UPDATE contact_store.sync_runs SET alive_until = now() - interval '1 s' WHERE state = 'running'"
        self.store.execute(gone)
        self.code, _ = attempt_in_a_process(Attempt("scheduled__2026-06-03", Shape("REST")), self.told)


@pytest.mark.usefixtures("mailbox")
def test_a_run_that_was_taken_over_while_it_works_writes_nothing_more(
    nights: Nights, score: Score, tmp_path: Path
) -> None:
    """Rule 6.3: both work at once for a while, and the store is that of one night."""
    for store in nights.stores():
        run_watched(Watch(store))
        undisturbed = dump(store)
    moments = nights.moments()
    for name, meeting in list(MEETINGS.items())[::EACH]:
        if meeting.holds or name.endswith("after the commit"):
            continue
        for store in nights.stores():
            successor = Successor(store, tmp_path / "points")
            with pytest.raises(RunRefused):
                run_watched(Watch(store, successor, meeting.among(moments)))
            successor.wait_for_the_end()
            assert successor.code == 0, (name, (tmp_path / "points.log").read_text()[-6000:])
            found = dump(store)
            tables = ("contacts", "handles", "accounts", "domains")
            assert {table: found[table] for table in tables} == {table: undisturbed[table] for table in tables}, name
            assert [row[1] for row in found["runs"]] == ["succeeded", "failed", "succeeded"], name
            assert broken(store, *nights.evening.sent) == {}
        score.tried["runs taken over while they work"] += 1
        score.met[name] += 1
