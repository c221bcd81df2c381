"""Small worlds, full of collisions on purpose, and the product's answer to them without a database.

Worlds of one batch share a mapping and nothing else: ids and handles carry the world's number, so that `together` can
put many of them before the product at once and each must come out as if alone. `batches_of_worlds` lets Hypothesis
draw them; batch n of `batch_of_worlds` is always the same.
"""

from random import Random
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from include.contact_sync.columns import Columns, Part, resolve_columns
from include.contact_sync.match import Plan, StoredRecords, match
from include.contact_sync.settings import HANDLE_SOURCES, Settings, parse_settings
from include.contact_sync.transform import CleanRecords, transform
from tests.contact_sync.specification import Contact, Handle, World, read

FIELDS = {source: field for field, source in HANDLE_SOURCES.items()} | {"domain": "domain"}
MAPPINGS = [
    [("Email", "email"), ("Phone", "phone")],
    [("Email", "email"), ("Second_Email__c", "email"), ("Phone", "phone")],
    [("Phone", "phone"), ("Key__c", "custom"), ("Email", "email")],
    [("Twitter__c", "twitter"), ("Phone", "phone"), ("MobilePhone", "phone"), ("Page__c", "facebook")],
    [("Phone", "custom"), ("MobilePhone", "phone"), ("Phone", "phone")],
    [("Email", "email")],
    [("Website", "domain")],
    [("Website", "domain"), ("Second_Site__c", "domain")],
    [],
]
SPELLINGS = {
    "email": ["{letter}@x{world}.co", " {upper}@X{world}.Co ", "{letter}@x{world}.co\t"],
    "phone": ["(212) {first}-{last}", "+1 212 {first} {last}", "212-{first}-{last} ", "212-{first}-{last} x12"],
    "twitter": ["@{letter}_{world}", "{upper}_{world}", " {letter}_{world}"],
    "facebook": ["{letter}.{world}", " {letter}.{world} "],
    "custom": ["{letter} {world}", " {letter} {world}", "{upper} {world}"],
    "domain": ["{letter}{world}.com", "https://www.{upper}{world}.com/about us", " {letter}{world}.com"],
}
"""How a person may type the handle that a letter stands for; the last ones of phone and custom are other handles."""
UNREADABLE = {"email": "not an email", "phone": "call me {world}", "twitter": "@", "domain": "none yet"}
NOTHING = [None, "", "   "]
SHAPES = ["anything", "few handles", "merged", "scripted"]
Script = tuple[dict[int, dict[str, str]], list[tuple[int | None, list[tuple[str, str]]]]]
"""Per person the letter that each field holds; per stored contact the person it is linked to, and its (field, letter)s."""


def salesforce_id(number: int, world: int = 0) -> str:
    return f"003{world:07d}{number:05d}AAA"


def world_of(contact: Contact) -> int:
    """The number of the world that a contact belongs to; a new contact is known by its link."""
    return contact.id // 100 if contact.id > 0 else int((contact.external_id or "")[3:10])


def batch_of_worlds(number: int, count: int) -> list[World]:
    """Worlds that share a mapping and the fields that are missing."""
    return _batch(Random(number), number * count, count)


def batches_of_worlds(count: int) -> st.SearchStrategy[list[World]]:
    """The same, drawn by Hypothesis."""
    return st.randoms(use_true_random=False).map(lambda draw: _batch(draw, 1, count))


def _batch(draw: Random, first: int, count: int) -> list[World]:
    mapping = draw.choice(MAPPINGS)
    missing = {draw.choice(mapping)[0]} if mapping and draw.random() < 0.25 else set()
    return [_World(draw, first + at, mapping, missing).build() for at in range(count)]


class _World:
    """Draws one world."""

    def __init__(self, draw: Random, number: int, mapping: list[tuple[str, str]], missing: set[str]) -> None:
        self.draw, self.number, self.mapping, self.missing = draw, number, mapping, missing
        self.shape = draw.choice(SHAPES)
        self.letters = "abcdefg"[: draw.randint(1, 3) if self.shape == "few handles" else draw.randint(2, 7)]

    def build(self) -> World:
        if self.shape == "scripted" and self.mapping:
            source, stored = self.scripted()
        else:
            source = {self.id(person): self.values() for person in self.draw.sample(range(9), self.draw.randint(0, 6))}
            stored = self.stored()
        is_accounts = self.mapping[:1] and self.mapping[0][1] == "domain"
        merges = self.merges(source) if self.shape == "merged" else {}
        return World(stored, source, self.mapping, self.missing, merges, needs_handle=not is_accounts)

    def id(self, person: int) -> str:
        return salesforce_id(person, self.number)

    def values(self) -> dict[str, str | None]:
        return {name: self.value(kind) for name, kind in self.mapping}

    def value(self, kind: str) -> str | None:
        chance = self.draw.random()
        if chance > 0.95:
            return UNREADABLE.get(kind, "").format(world=self.number)
        if chance > 0.9:
            return self.draw.choice(NOTHING)
        return self.spelling(kind, self.draw.choice(self.letters)) if chance < 0.75 else None

    def spelling(self, kind: str, letter: str, style: str | None = None) -> str:
        return spelled(style or self.draw.choice(SPELLINGS[kind]), letter, self.number)

    def handle(self, kind: str, letter: str) -> Handle:
        value = read(kind, self.spelling(kind, letter, SPELLINGS[kind][0]))
        assert value
        return kind, value

    def stored(self) -> list[Contact]:
        people = self.draw.sample(range(9), 9)
        linked = self.draw.choice([0.0, 0.5, 1.0])
        count = self.draw.randint(0, 6)
        contacts = [self.contact(at, people.pop() if self.draw.random() < linked else None) for at in range(count)]
        kinds = list(dict.fromkeys(kind for _, kind in self.mapping)) or ["email"]
        if "domain" not in kinds and self.draw.random() < 0.2:
            kinds += [kind for kind in ("phone", "custom") if kind not in kinds]
        for kind in kinds:
            for letter in self.letters:
                if contacts and self.draw.random() < 0.6:
                    own(contacts, self.draw.choice(contacts), self.handle(kind, letter), self.giver(kind))
        return contacts

    def contact(self, at: int, person: int | None) -> Contact:
        return Contact(self.number * 100 + 1 + at, None if person is None else self.id(person))

    def giver(self, kind: str) -> str | None:
        """A person, a mapped field, one that is mapped no more, or one that is mapped to something else."""
        mapped = [name for name, its_kind in self.mapping if its_kind == kind]
        others = [name for name, its_kind in self.mapping if its_kind != kind]
        return self.draw.choice([None, None, "Old__c", *mapped * 3, *others[:1]])

    # ------------------------------------------------------------------------------------------------- scripts

    def scripted(self) -> tuple[dict[str, dict[str, str | None]], list[Contact]]:
        """A situation that chance would rarely bring about; in half of the worlds a little of it is different."""
        names = [name for name, _ in self.mapping]
        scripts = [self.ring, self.chain] + ([self.domino, self.late] if len(set(names)) > 1 else [])
        wanted, owned = self.draw.choice(scripts)(*self.draw.sample(self.mapping, min(2, len(self.mapping))))
        kinds = dict(self.mapping)
        source = {
            self.id(person): {
                name: self.spelling(kinds[name], values[name]) if name in values else None for name in names
            }
            for person, values in self.draw.sample(list(wanted.items()), len(wanted))
        }
        contacts = [self.contact(at, person) for at, (person, _) in enumerate(owned)]
        for contact, (_, handles) in zip(contacts, owned, strict=True):
            for name, letter in handles:
                kind = kinds.get(name, self.mapping[0][1])
                own(contacts, contact, self.handle(kind, letter), name if name in kinds else None)
        if self.draw.random() < 0.5:
            values = source[self.draw.choice(list(source))]
            name, kind = self.draw.choice(self.mapping)
            values[name] = self.value(kind)
        if self.draw.random() < 0.25:
            contact = self.draw.choice(contacts)
            for handle in contact.handles:
                contact.handles[handle] = self.giver(handle[0])
        return source, contacts

    def ring(self, one: tuple[str, str], *_: tuple[str, str]) -> Script:
        """Everybody takes over what the next one has."""
        count = self.draw.randint(2, 6)
        wanted = {at: {one[0]: "abcdefg"[(at + 1) % count]} for at in range(count)}
        return wanted, [(at, [(one[0], "abcdefg"[at])]) for at in range(count)]

    def chain(self, one: tuple[str, str], *_: tuple[str, str]) -> Script:
        """The same, and the last one takes something free; one of them may not be linked."""
        wanted, owned = self.ring(one)
        wanted[len(wanted) - 1] = {one[0]: "g"}
        if self.draw.random() < 0.3:
            at = self.draw.randrange(len(owned))
            owned[at] = (None, owned[at][1])
        return wanted, owned

    def domino(self, one: tuple[str, str], two: tuple[str, str]) -> Script:
        """0 wants what 1 gives up, but 1 is skipped; so 2 gets what 0 wanted before it (rule 4.9 b)."""
        wanted = {0: {one[0]: "a", two[0]: "b"}, 1: {one[0]: "c"}, 2: {one[0]: "a"}}
        return wanted, [(0, []), (1, [(two[0], "b")]), (None, [("", "c")])]

    def late(self, one: tuple[str, str], two: tuple[str, str]) -> Script:
        """0 and 1 swap, but 0 also wants something that 3 gives up only once it found its contact (rule 4.9 c)."""
        wanted = {0: {one[0]: "b", two[0]: "f"}, 1: {one[0]: "a"}, 2: {one[0]: "d"}, 3: {one[0]: "c", two[0]: "e"}}
        owned = [
            (0, [(one[0], "a")]),
            (1, [(one[0], "b")]),
            (2, [(one[0], "c")]),
            (None, [(two[0], "e"), (two[0], "f")]),
        ]
        return wanted, [*owned]

    def merges(self, source: dict[str, Any]) -> dict[str, str]:
        """Into somebody who is there, or into somebody who was merged too."""
        gone = [self.id(person) for person in range(9) if self.id(person) not in source]
        losers = self.draw.sample(gone, self.draw.randint(1, min(5, len(gone))))
        return {
            loser: self.draw.choice([other for other in [*source, *source, *gone] if other != loser])
            for loser in losers
        }


def spelled(style: str, letter: str, world: int) -> str:
    """The handle that a letter stands for in a world, typed in that style."""
    digits = f"{2_000_000 + world * 10 + ord(letter) - ord('a'):07d}"
    return style.format(letter=letter, upper=letter.upper(), first=digits[:3], last=digits[3:], world=world)


def own(contacts: list[Contact], owner: Contact, handle: Handle, giver: str | None) -> None:
    """Give `handle` to `owner`, unless somebody has it."""
    if not any(handle in contact.handles for contact in contacts):
        owner.handles[handle] = giver


def together(batch: list[World]) -> World:
    """All worlds of a batch as one."""
    first = batch[0]
    return World(
        [contact for world in batch for contact in world.store],
        {key: values for world in batch for key, values in world.source.items()},
        first.mapping,
        first.missing,
        {loser: winner for world in batch for loser, winner in world.merges.items()},
        first.needs_handle,
    )


def settings_of(world: World) -> Settings:
    mapping = [{"salesforce_field": name, "field": FIELDS[kind]} for name, kind in world.mapping]
    return parse_settings(
        {
            "owners": ["owner@example.com"],
            "accounts": {"mapping": [] if world.needs_handle else mapping},
            "contacts": {"mapping": mapping if world.needs_handle else []},
        }
    )


def columns_of(world: World) -> Columns:
    part = Part.CONTACTS if world.needs_handle else Part.ACCOUNTS
    return resolve_columns(part, settings_of(world), {}, world.missing)


def clean_records(world: World, page_rows: int = 1_000_000) -> CleanRecords:
    names = list(dict.fromkeys(name for name, _ in world.mapping if name not in world.missing))
    columns: dict[str, Any] = {"Id": list(world.source), "AccountId": [None] * len(world.source)}
    columns |= {name: [values.get(name) for values in world.source.values()] for name in names}
    snapshot = pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})
    pages = [snapshot.slice(start, page_rows) for start in range(0, max(len(snapshot), 1), page_rows)]
    return transform(pa.concat_tables(pages), columns_of(world))


def stored_records(world: World) -> StoredRecords:
    contacts = sorted(world.store, key=lambda contact: contact.id)
    handles = [(c.id, *h, name) for c in contacts for h, name in c.handles.items()]
    columns = [list(column) for column in zip(*handles, strict=True)] or [[]] * 4
    count = len(contacts)
    return StoredRecords(
        pa.table(
            {
                "id": pa.array([c.id for c in contacts], pa.int64()),
                "external_id": pa.array([c.external_id for c in contacts], pa.string()),
                "account_id": pa.nulls(count, pa.int64()),
                "synced_account_id": pa.nulls(count, pa.int64()),
                "not_syncing_since": pa.nulls(count, pa.timestamp("us", "UTC")),
            }
        ),
        pa.table(
            {
                "record_id": pa.array(columns[0], pa.int64()),
                "source": pa.array(columns[1], pa.string()),
                "handle": pa.array(columns[2], pa.string()),
                "salesforce_field": pa.array(columns[3], pa.string()),
            }
        ),
        pa.table({"id": pa.array([], pa.int64()), "external_id": pa.array([], pa.string())}),
        pa.table(
            {
                "loser": pa.array(list(world.merges), pa.string()),
                "winner": pa.array(list(world.merges.values()), pa.string()),
            }
        ),
    )


def plan_for(world: World) -> Plan:
    return match(clean_records(world), stored_records(world), columns_of(world), whole_source=True)


def store_after(world: World, plan: Plan) -> list[Contact]:
    """The store as the plan leaves it, by doing what `load` does in SQL; new contacts get the ids of the specification."""
    contacts = {c.id: Contact(c.id, c.external_id, dict(c.handles)) for c in world.store}
    external_ids = plan.outcomes["external_id"].to_pylist()

    def contact_of(row: dict[str, Any]) -> Contact:
        key = row["id"] if row["id"] is not None else -1 - row["record"]
        return contacts.setdefault(key, Contact(key))

    for row in plan.released.to_pylist():
        del contact_of(row).handles[row["source"], row["handle"]]
    for row in plan.writes.to_pylist():
        contact_of(row).external_id = external_ids[row["record"]]
    for row in plan.handles.to_pylist():
        handles = contact_of(row).handles
        assert row["is_new"] == ((row["source"], row["handle"]) not in handles)
        handles[row["source"], row["handle"]] = row["salesforce_field"]
    return list(contacts.values())
