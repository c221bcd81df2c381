"""Whether the product and the executable specification agree on many worlds at once, and what those worlds held.

A batch of worlds goes before the product as one; each world's part of the answer must be what the specification says
of that world alone. Where it is not, the smallest world that still shows it is reported.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from random import Random

import pyarrow as pa

from include.contact_sync.match import Plan
from include.contact_sync.reread import Earlier
from tests.contact_sync.interesting_cases import cases_met
from tests.contact_sync.specification import Contact, World, has_handle, linked_contact, place, sync
from tests.contact_sync.worlds import plan_for, read_earlier, snapshot_of, store_after, together, world_of

Results = dict[str, tuple]
READ_EARLIER = (AS_IT_WAS, OTHERWISE, NEW) = (
    "a record is as an earlier run read it",
    "a record is otherwise than an earlier run read it",
    "a record was not there when an earlier run read all",
)


@dataclass
class Disagreement(AssertionError):
    """The product broke a rule on this world."""

    rule: str
    world: World
    expected: object
    found: object

    def __str__(self) -> str:
        return f"{self.rule}\nworld:    {self.world}\nexpected: {self.expected}\nfound:    {self.found}"


def agree(batch: list[World], draw: Random) -> Counter[str]:
    """Outcome, code, holders and final store are those of the specification; returns which cases were met.

    Raises:
        Disagreement: with the smallest world that shows it.
    """
    try:
        return judge_together(batch, draw)
    except Disagreement as found:
        raise smallest(found, lambda world: judge_together([world], Random(1))) from None


def judge_together(batch: list[World], draw: Random) -> Counter[str]:
    """`agree`, but the disagreement is the first one found."""
    everything = together(shuffled(batch, draw))
    earlier = read_earlier(everything, draw)
    plan = plan_for(everything, draw, earlier)
    _look_at_balance(plan, batch)
    after = store_after(everything, plan)
    answered, stores = _by_world(answers(plan), batch), _contacts_by_world(after, batch)
    for world, stored in zip(batch, stores, strict=True):
        _same("rule 4.9: no two contacts share a handle or a link", world, [], shared(stored))
    again = plan_for(replace(everything, store=renumbered(after)), draw, earlier)
    second, written = _by_world(answers(again), batch), _written_by_world(again, batch)
    met = _compared(earlier, snapshot_of(everything))
    for at, world in enumerate(batch):
        expected, store = sync(world)
        expected = {key: (outcome, code, sorted(held, key=repr)) for key, (outcome, code, held) in expected.items()}
        _same("section 4: outcome, code and holders", world, expected, answered[at])
        _same("section 4: the store afterwards", world, comparable(store), comparable(stores[at]))
        late = [key for key, (_, code, _) in expected.items() if code and could_be_synced(world, stores[at], key)]
        _same("rule 4.9: no skipped contact could be synced against the end state", world, [], late)
        _same("rule 4.12: a second run writes nothing", world, [], written[at])
        repeated = {key: answer if answer[1] else ("unchanged", None, []) for key, answer in expected.items()}
        _same("rule 4.12: a second run has the same errors, all else is unchanged", world, repeated, second[at])
        met += cases_met(world, expected, store)
    return met


def _compared(earlier: Earlier, now: pa.Table) -> Counter[str]:
    before = {row["Id"]: row for row in earlier.snapshot.to_pylist()}
    found = [(row, before.get(row["Id"])) for row in now.to_pylist()]
    return Counter(NEW if other is None else AS_IT_WAS if other == row else OTHERWISE for row, other in found)


def _look_at_balance(plan: Plan, batch: list[World]) -> None:
    by_number: dict[int | None, list[str]] = {}
    for key in plan.outcomes["external_id"].to_pylist():
        by_number.setdefault(int(key[3:10]), []).append(key)
    for world in batch:
        found = sorted(by_number.get(_number(world), []))
        _same("rule 6.4: the records with an outcome are those that were read", world, sorted(world.source), found)
    outcomes = Counter(plan.outcomes["outcome"].to_pylist())
    read = sum(len(world.source) for world in batch)
    names = ("created", "linked", "updated", "unchanged", "error")
    assert plan.counts() == {"read": read} | {name: outcomes[name] for name in names}, "rule 6.4: the counts add up"


def _same(rule: str, world: World, expected: object, found: object) -> None:
    if expected != found:
        raise Disagreement(rule, world, expected, found)


def could_be_synced(world: World, store: list[Contact], key: str) -> bool:
    return has_handle(world, key, linked_contact(world, store, key)) and place(world, store, key)[0]


def answers(plan: Plan) -> Results:
    """The plan's outcome, code and holders of every source contact."""
    errors = {row["external_id"]: row for row in plan.errors.to_pylist()}
    found = {}
    for row in plan.outcomes.to_pylist():
        error = errors.pop(row["external_id"], {"code": None, "holders": "[]"})
        holders = [((h["source"], h["handle"]), h["external_id"]) for h in json.loads(error["holders"])]
        found[row["external_id"]] = (row["outcome"], error["code"], sorted(holders, key=repr))
    assert not errors, "an error of a record that has no outcome"
    return found


def comparable(store: list[Contact]) -> list[tuple]:
    """Contacts without the numbers that new ones get."""
    return sorted(
        (
            (
                max(c.id, 0),
                c.external_id,
                sorted(c.handles.items()),
                sorted(c.values.items()),
                c.account,
                c.synced_account,
            )
            for c in store
        ),
        key=repr,
    )


def shared(store: list[Contact]) -> list[object]:
    """Handles and links that more than one contact has."""
    counts = Counter([handle for contact in store for handle in contact.handles])
    links = Counter(contact.external_id for contact in store if contact.external_id)
    return [key for key, count in [*counts.items(), *links.items()] if count > 1]


def shuffled(batch: list[World], draw: Random) -> list[World]:
    """The same worlds, their contacts in another order (rule 4.6)."""
    mixed = [replace(world, source=dict(draw.sample(list(world.source.items()), len(world.source)))) for world in batch]
    draw.shuffle(mixed)
    return mixed


def renumbered(store: list[Contact]) -> list[Contact]:
    """What the run created gets the next ids of its world, as if it had been stored."""
    highest: dict[int, int] = {}
    for contact in store:
        number = world_of(contact)
        highest[number] = max(highest.get(number, number * 100), contact.id)
    stored = []
    for contact in store:
        number = world_of(contact)
        highest[number] += contact.id < 0
        stored.append(contact if contact.id > 0 else replace(contact, id=highest[number]))
    return stored


def _number(world: World) -> int | None:
    if world.store:
        return world_of(world.store[0])
    return int(next(iter(world.source))[3:10]) if world.source else None


def _by_world(found: Results, batch: list[World]) -> list[Results]:
    return [{key: found[key] for key in world.source} for world in batch]


def _contacts_by_world(store: list[Contact], batch: list[World]) -> list[list[Contact]]:
    by_number: dict[int | None, list[Contact]] = {}
    for contact in store:
        by_number.setdefault(world_of(contact), []).append(contact)
    return [by_number.get(_number(world), []) for world in batch]


def _written_by_world(plan: Plan, batch: list[World]) -> list[list[str]]:
    ids = plan.outcomes["external_id"].to_pylist()
    tables = plan.writes, plan.handles, plan.released
    written = {ids[record] for table in tables for record in table["record"].to_pylist()}
    return [sorted(written & world.source.keys()) for world in batch]


# ------------------------------------------------------------------------------------------------- smaller worlds


def smallest(found: Disagreement, check: Callable[[World], object]) -> Disagreement:
    """Take away whatever the disagreement does not need."""
    while True:
        for world in smaller_worlds(found.world):
            try:
                check(world)
            except Disagreement as smaller:
                found = smaller
                break
        else:
            return found


def smaller_worlds(world: World) -> Iterator[World]:
    """The world less one thing, for each thing that it can do without."""
    for key in world.source:
        yield replace(world, source={k: v for k, v in world.source.items() if k != key})
    for contact in world.store:
        others = [c for c in world.store if c is not contact]
        yield replace(world, store=others)
        for handle in contact.handles:
            fewer = {h: giver for h, giver in contact.handles.items() if h != handle}
            yield replace(world, store=sorted([*others, replace(contact, handles=fewer)], key=lambda c: c.id))
        if contact.values or contact.account or contact.synced_account:
            plain = Contact(contact.id, contact.external_id, contact.handles)
            yield replace(world, store=sorted([*others, plain], key=lambda c: c.id))
    for key, values in world.source.items():
        for name in [name for name, value in values.items() if value is not None]:
            yield replace(world, source=world.source | {key: values | {name: None}})
    for loser in world.merges:
        yield replace(world, merges={k: v for k, v in world.merges.items() if k != loser})
    if world.missing:
        yield replace(world, missing=set())
    for mapped in world.values:
        yield replace(world, values=[each for each in world.values if each != mapped])
