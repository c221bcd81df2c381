"""People edit while a run plans and applies: nothing of theirs is lost, and the run neither fails nor waits for ever.

Whenever an edit lands, the result is that of the edit before the run or of the edit after it, never a mixture. Both
are known from the executable specification; an edit that PostgreSQL refuses after the run (a handle is taken now) is
an edit that did not happen.
"""

import threading
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import psycopg
import pytest

from include.contact_sync import load
from include.contact_sync.errors import AnotherRunIsActive
from include.contact_sync.settings import Settings
from include.contact_sync.store import runs
from tests.conftest import Store
from tests.contact_sync.agreement import comparable
from tests.contact_sync.applying import fill_store, open_run, read_store, run_world
from tests.contact_sync.specification import Contact, Handle, World, given, sync
from tests.contact_sync.worlds import batch_of_worlds, settings_of, together
from tests.proof.conftest import Score
from tests.proof.invariants import broken

HANDLE = "INSERT INTO contact_store.contact_handles (source, handle, contact_id) VALUES (%s, %s, %s)"
CONTACT = "INSERT INTO contact_store.contacts (id) OVERRIDING SYSTEM VALUE VALUES (%s)"
LONG = 20.0
"""Seconds after which somebody who still waits is taken to wait for ever."""


@dataclass(frozen=True)
class Edit:
    """What a person does: as statements of one transaction, and to a store of the specification (False: refused)."""

    what: str
    statements: list[tuple[str, list[Any]]]
    on: Callable[[dict[int, Contact]], bool]

    def after(self, store: list[Contact]) -> list[Contact] | None:
        """The store after the edit; None where it is refused."""
        contacts = {contact.id: deepcopy(contact) for contact in store}
        return list(contacts.values()) if self.on(contacts) else None


def owner_of(contacts: dict[int, Contact], handle: Handle) -> Contact | None:
    return next((contact for contact in contacts.values() if handle in contact.handles), None)


def add_contact(number: int, handle: Handle) -> Edit:
    def on(contacts: dict[int, Contact]) -> bool:
        if owner_of(contacts, handle):
            return False
        contacts[number] = Contact(number, None, {handle: None})
        return True

    return Edit("adds a contact with a handle", [(CONTACT, [number]), (HANDLE, [*handle, number])], on)


def add_handle(number: int, handle: Handle) -> Edit:
    def on(contacts: dict[int, Contact]) -> bool:
        if owner_of(contacts, handle):
            return False
        contacts[number].handles[handle] = None
        return True

    return Edit("adds a handle to a contact", [(HANDLE, [*handle, number])], on)


def take_handle(number: int, handle: Handle) -> Edit:
    def on(contacts: dict[int, Contact]) -> bool:
        owner = owner_of(contacts, handle)
        if owner:
            del owner.handles[handle]
        contacts[number].handles[handle] = None
        return True

    delete = ("DELETE FROM contact_store.contact_handles WHERE (source, handle) = (%s, %s)", [*handle])
    return Edit("moves a handle to another contact", [delete, (HANDLE, [*handle, number])], on)


def remove_handle(handle: Handle) -> Edit:
    def on(contacts: dict[int, Contact]) -> bool:
        owner = owner_of(contacts, handle)
        if owner:
            del owner.handles[handle]
        return True

    statement = "DELETE FROM contact_store.contact_handles WHERE (source, handle) = (%s, %s)"
    return Edit("removes a handle", [(statement, [*handle])], on)


def delete_contact(number: int) -> Edit:
    def on(contacts: dict[int, Contact]) -> bool:
        del contacts[number]
        return True

    return Edit("deletes a contact", [("DELETE FROM contact_store.contacts WHERE id = %s", [number])], on)


def merge_contacts(number: int, into: int) -> Edit:
    def on(contacts: dict[int, Contact]) -> bool:
        contacts[into].handles |= contacts.pop(number).handles
        return True

    move = ("UPDATE contact_store.contact_handles SET contact_id = %s WHERE contact_id = %s", [into, number])
    return Edit("merges two contacts", [move, ("DELETE FROM contact_store.contacts WHERE id = %s", [number])], on)


def unlink(number: int) -> Edit:
    def on(contacts: dict[int, Contact]) -> bool:
        contacts[number].external_id = None
        return True

    statement = "UPDATE contact_store.contacts SET external_id = NULL, not_syncing_since = NULL WHERE id = %s"
    return Edit("unlinks a contact", [(statement, [number])], on)


def describe(number: int) -> Edit:
    statements = [
        ("UPDATE contact_store.contacts SET description = 'by hand' WHERE id = %s", [number]),
        ("UPDATE contact_store.contacts SET custom_fields = custom_fields || '{\"note\": 1}' WHERE id = %s", [number]),
    ]
    return Edit("edits values that are not mapped", statements, lambda contacts: True)


def edits(world: World, draw: Random) -> list[Edit]:
    """One of each kind, on contacts and handles that the run is about to write where there are such."""
    one, two = draw.sample([contact.id for contact in world.store], 2)
    wanted = sorted({handle for key in world.source for handle in given(world, key)})
    owned = [handle for contact in world.store for handle in contact.handles]
    handle = draw.choice(wanted)
    return [
        add_contact(max(contact.id for contact in world.store) + 1, handle),
        add_handle(one, handle),
        take_handle(one, handle),
        remove_handle(draw.choice(owned)),
        delete_contact(one),
        merge_contacts(one, two),
        unlink(one),
        describe(one),
    ]


# ------------------------------------------------------------------------------------------------------- moments

MOMENTS: dict[str, tuple[Any, str]] = {
    "between plan and apply": (runs, "begin_apply"),
    "before the tables are locked": (load, "_lock_tables"),
    "when the tables are locked": (load, "_refuse_unbalanced"),
    "before handles are released": (load, "_release_handles"),
    "before contacts are updated": (load, "_update_records"),
    "before contacts are inserted": (load, "_insert_records"),
    "before handles are given": (load, "_give_handles"),
    "before the entries are written": (load, "_write_changes"),
    "before the errors are written": (load, "_write_errors"),
    "before the commit": (runs, "mark_applied"),
}
HOLDING = "while the run waits for the person's open transaction"


class Person(threading.Thread):
    """Carries out an edit in a session of its own; `holding`: with a pause within the transaction."""

    def __init__(self, store: Store, edit: Edit, *, holding: bool) -> None:
        super().__init__(daemon=True)
        self.store, self.edit, self.holding = store, edit, holding
        self.began = threading.Event()
        self.refused: str | None = None

    def run(self) -> None:
        try:
            with psycopg.connect(self.store.uri) as connection:
                for number, (statement, values) in enumerate(self.edit.statements):
                    if number and self.holding:
                        threading.Event().wait(0.1)
                    connection.execute(statement, values)
                    self.began.set()
                if self.holding:
                    threading.Event().wait(0.1)
        except psycopg.errors.IntegrityError as refused:
            self.refused = type(refused).__name__
        finally:
            self.began.set()


def act_at(patch: pytest.MonkeyPatch, moment: str, person: Person) -> None:
    """The person begins at that moment of the run; who is not held up has then finished."""
    owner, name = MOMENTS["before the tables are locked" if moment == HOLDING else moment]
    original = getattr(owner, name)

    def with_person(*arguments: Any, **options: Any) -> Any:
        if not person.ident:
            person.start()
            person.began.wait(0.1) if person.holding else person.join(0.1)
        return original(*arguments, **options)

    patch.setattr(owner, name, with_person)


def suitable(numbers: Iterator[int]) -> World:
    """The next world of contacts in which there is something to edit."""
    for number in numbers:
        world = together(batch_of_worlds(number, 3))
        is_edited = len(world.store) > 1 and any(contact.handles for contact in world.store)
        if world.needs_handle and is_edited and is_written_in_every_way(world):
            return world
    raise AssertionError("no world is suitable")


def is_written_in_every_way(world: World) -> bool:
    return {outcome for outcome, _, _ in sync(world)[0].values()} >= {"created", "updated", "error"}


@pytest.mark.parametrize("keys", ["row by row", "with the keys taken off"])
@pytest.mark.parametrize("moment", [*MOMENTS, HOLDING])
def test_an_edit_is_neither_lost_nor_able_to_break_the_run(
    store: Store, score: Score, monkeypatch: pytest.MonkeyPatch, moment: str, keys: str
) -> None:
    """Rule 6.2, for small loads and, as a large one does it, with keys that are checked at the end."""
    if keys == "with the keys taken off":
        monkeypatch.setattr(load, "MANY_HANDLES", 0)
    draw, numbers = Random(moment), iter(range(700, 10_000))
    for _ in range(1):
        world = suitable(numbers)
        for edit in edits(world, draw):
            fill_store(store, world)
            person = Person(store, edit, holding=moment == HOLDING)
            with pytest.MonkeyPatch.context() as patch:
                act_at(patch, moment, person)
                counts = run_world(world)
            person.join(LONG)
            assert not person.is_alive(), "the person waits for ever"
            assert {name for name in broken(store) if not name.startswith("after a run")} == set()
            order = judge(store, world, edit, person, counts)
            score.tried["edits"] += 1
            score.met[edit.what] += 1
            score.met[f"the result is that of the edit {order}"] += 1
            score.met["the edit was refused"] += person.refused is not None
            if edit.what.startswith("edits values"):
                look_at_values(store, edit)


def judge(store: Store, world: World, edit: Edit, person: Person, counts: dict[str, int]) -> str:
    """Which of the two serial results it is."""
    newcomers = edit.after(world.store) or []
    found = comparable(read_store(store, replace(world, store=[*world.store, *newcomers])))
    first = edit.after(world.store)
    results, end = sync(replace(world, store=first or world.store))
    if (
        found == comparable(end)
        and counts["error"] == errors(results)
        and (person.refused is None) == (first is not None)
    ):
        return "before the run"
    results, end = sync(world)
    last = edit.after(end)
    assert found == comparable(last if last is not None else end)
    assert counts["error"] == errors(results)
    assert (person.refused is None) == (last is not None)
    return "after the run"


def errors(results: dict[str, tuple]) -> int:
    return sum(outcome == "error" for outcome, _, _ in results.values())


def look_at_values(store: Store, edit: Edit) -> None:
    number = edit.statements[0][1]
    rows = store.execute("SELECT description, custom_fields FROM contact_store.contacts WHERE id = %s", number)
    assert rows == [("by hand", {"note": 1})]


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
