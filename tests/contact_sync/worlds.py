"""Small worlds, full of collisions on purpose, and the product's answer to them without a database.

Worlds of one batch share a mapping and nothing else: ids and handles carry the world's number, so that `together` can
put many of them before the product at once and each must come out as if alone. Batch n of `batch_of_worlds` is always
the same.
"""

import json
from dataclasses import replace
from itertools import pairwise
from random import Random
from typing import Any

import pyarrow as pa

from include.contact_sync.columns import Columns, Part, resolve_columns
from include.contact_sync.match import Plan, StoredRecords, match
from include.contact_sync.reread import Earlier, transform_what_differs
from include.contact_sync.settings import HANDLE_SOURCES, Settings, parse_settings
from include.contact_sync.transform import CleanRecords, transform
from tests.contact_sync.reading import read, read_value
from tests.contact_sync.specification import Contact, Handle, World

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
VALUES = [
    [],
    [("Name", "name"), ("Notes__c", "description")],
    [("Site__c", "url"), ("Name", "name"), ("Blog__c", "url"), ("Score__c", "custom_fields.score")],
    [("Vip__c", "custom_fields.vip"), ("Tier__c", "custom_fields.tier"), ("Site__c", "url")],
    [("Since__c", "custom_fields.since"), ("Notes__c", "custom_fields.words")],
]
ACCOUNT_VALUES = [[], [("Name", "name"), ("Logo__c", "logo_url")], [("Score__c", "custom_fields.score")]]
TYPED = {
    "name": ["Ann", "NA", "0012 "],
    "description": ["none", " two\r\nlines"],
    "logo_url": ["https://x.co/logo.png", "null"],
    "url": ["https://x.co", 'x.co/"y"', "https://z.co"],
    "custom_fields.score": ["5", "5.0", "2.50", "1e1", "0", "many"],
    "custom_fields.vip": ["true", "FALSE", "yes"],
    "custom_fields.tier": ["gold", "silver", "Gold", "gold "],
    "custom_fields.since": [
        "2024-05-01T10:00:00Z",
        "2024-05-01T12:00:00.000+0200",
        "2023-12-31T23:30:00-01:00",
        "soon",
    ],
    "custom_fields.words": ["1E5", 'a "b"\\c', "N/A"],
    "custom_fields.colour": ["red"],
}
"""What Salesforce may hold for each field of ours, the usual first; a colour is never mapped."""
CUSTOM_TYPES = {
    "score": {"type": "number"},
    "vip": {"type": "boolean"},
    "tier": {"type": "enum", "values": ["gold", "silver"]},
    "since": {"type": "datetime"},
    "words": {"type": "string"},
}
ACCOUNTS = {"001000000000001AAA": 70, "001000000000002AAA": 80}
ACCOUNT_THAT_IS_NOT_LINKED, UNLINKED_ACCOUNT = "001000000000009AAA", 90
BELONGINGS = [(None, None), (70, 70), (80, 80), (70, 80), (UNLINKED_ACCOUNT, None), (UNLINKED_ACCOUNT, 70), (None, 70)]
"""The account of a stored contact, and the one that the sync set."""
SHAPES = ["anything", "few handles", "merged", "scripted", "scripted", "crowd", "ordinary night"]
Script = tuple[dict[int, dict[str, str]], list[tuple[int | None, list[tuple[str, str]]]]]
"""Per person the letter that each field holds (! cannot be read); per stored contact the person it is linked to, and its
(field, letter)s."""


def salesforce_id(number: int, world: int = 0) -> str:
    return f"003{world:07d}{number:05d}AAA"


def world_of(contact: Contact) -> int:
    """The number of the world that a contact belongs to; a new contact is known by its link."""
    return contact.id // 100 if contact.id > 0 else int((contact.external_id or "")[3:10])


def batch_of_worlds(number: int, count: int, shapes: list[str] = SHAPES) -> list[World]:
    """Worlds that share a mapping and the fields that are missing."""
    return drawn_worlds(Random(number), number * count, count, shapes)


def drawn_worlds(draw: Random, first: int, count: int, shapes: list[str] = SHAPES) -> list[World]:
    """The same, drawn by somebody else; `first` is the number of the first of them."""
    mapping = draw.choice(MAPPINGS)
    values = draw.choice(ACCOUNT_VALUES if ("Website", "domain") in mapping else VALUES)
    missing = {draw.choice(part)[0] for part in (mapping, values) if part and draw.random() < 0.25}
    return [_World(draw, first + at, mapping, values, missing, draw.choice(shapes)).build() for at in range(count)]


class _World:
    """Draws one world."""

    def __init__(
        self,
        draw: Random,
        number: int,
        mapping: list[tuple[str, str]],
        values: list[tuple[str, str]],
        missing: set[str],
        shape: str,
    ) -> None:
        self.draw, self.number, self.mapping, self.mapped_values, self.missing = draw, number, mapping, values, missing
        self.is_accounts = ("Website", "domain") in mapping
        self.chance = Random(draw.getrandbits(32))  # for values, which matching does not go by
        self.shape = shape
        self.letters = "abcdefg"[: draw.randint(1, 3) if self.shape == "few handles" else draw.randint(2, 7)]

    def build(self) -> World:
        merges: dict[str, str] = {}
        if self.shape in {"scripted", "crowd"} and self.mapping:
            source, stored = self.scripted()
        elif self.shape == "ordinary night" and self.mapping:
            source, stored, merges = self.ordinary_night()
        else:
            count = self.draw.randint(1, 6) if self.draw.random() < 0.97 else 0
            source = {self.id(person): self.values() for person in self.draw.sample(range(9), count)}
            stored = self.stored()
        for values in source.values():
            values |= self.typed_values()
        if self.shape == "merged":
            merges = self.merges(source)
        accounts = {} if self.is_accounts else ACCOUNTS
        return World(
            stored, source, self.mapping, self.missing, merges, not self.is_accounts, self.mapped_values, accounts
        )

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
        style = UNREADABLE.get(kind, "") if letter == "!" else style or self.draw.choice(SPELLINGS[kind])
        return spelled(style, letter, self.number)

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
        contact = Contact(self.number * 100 + 1 + at, None if person is None else self.id(person))
        contact.values = self.stored_values()
        if not self.is_accounts:
            contact.account, contact.synced_account = self.chance.choice(BELONGINGS)
        return contact

    def giver(self, kind: str) -> str | None:
        """A person, a mapped field, one that is mapped no more, or one that is mapped to something else."""
        mapped = [name for name, its_kind in self.mapping if its_kind == kind]
        others = [name for name, its_kind in self.mapping if its_kind != kind]
        return self.draw.choice([None, None, "Old__c", *mapped * 3, *others[:1]])

    # -------------------------------------------------------------------------------------------------- values

    def typed_values(self) -> dict[str, str | None]:
        """What a source contact holds in the fields that feed values, and its account."""
        typed = {name: self.typed(field) for name, field in self.mapped_values}
        accounts = [None, *ACCOUNTS, ACCOUNT_THAT_IS_NOT_LINKED]
        return typed if self.is_accounts else typed | {"AccountId": self.chance.choice(accounts)}

    def typed(self, field: str) -> str | None:
        chance = self.chance.random()
        return TYPED[field][0] if chance < 0.6 else None if chance < 0.7 else self.chance.choice(TYPED[field])

    def stored_values(self) -> dict[str, object]:
        """What is stored: in most mapped fields, and in one that may not be mapped."""
        fields = [field for _, field in self.mapped_values] + [self.chance.choice(list(TYPED))]
        other_part = "url" if self.is_accounts else "logo_url"
        typed = {field: self.typed(field) for field in fields if field != other_part}
        stored = {field: read_value(field, raw) for field, raw in typed.items() if raw}
        return {field: [value] if field == "url" else value for field, value in stored.items() if value is not None}

    # -------------------------------------------------------------------------------------------------- a night

    def ordinary_night(self) -> tuple[dict[str, dict[str, str | None]], list[Contact], dict[str, str]]:
        """Contacts have what Salesforce says, but for what was edited since the night before, mostly to what others have."""
        people = self.draw.sample(range(9), self.draw.randint(2, 6))
        source, contacts = {}, []
        dealt = "".join(self.draw.sample("abcdefghi", 9))
        for at, person in enumerate(people):
            self.letters = dealt[at::6]
            source[self.id(person)] = self.values()
            contacts.append(self.contact(at, person))
            for name, kind in self.mapping:
                if value := read(kind, source[self.id(person)][name]):
                    own(contacts, contacts[at], (kind, value), name)
        self.letters = dealt[: len(people)] + "j"
        merges = self.merged_since(contacts, source) if self.draw.random() < 0.25 else {}
        for _ in range(self.draw.randint(0, 2)):
            name, kind = self.draw.choice(self.mapping)
            own(contacts, self.draw.choice(contacts), self.handle(kind, "j"), self.draw.choice([None, "Old__c", name]))
        for _ in range(self.draw.randint(0, 3)):
            name, kind = self.draw.choice(self.mapping)
            source[self.draw.choice(list(source))][name] = self.value(kind)
        newcomers = [self.id(person) for person in range(9) if person not in people]
        source |= {key: self.values() for key in self.draw.sample(newcomers, self.draw.randint(0, 2))}
        return source, contacts, merges

    def merged_since(self, contacts: list[Contact], source: dict[str, Any]) -> dict[str, str]:
        """A contact is still linked to a record that was merged into the one that has its handles now, maybe by way of another."""
        gone = [self.id(person) for person in range(9) if self.id(person) not in source]
        contact = self.draw.choice(contacts)
        chain = self.draw.sample(gone, self.draw.randint(1, min(3, len(gone))))
        merges = dict(zip(chain, [*chain[1:], str(contact.external_id)], strict=True))
        contact.external_id = chain[0]
        return merges

    # ------------------------------------------------------------------------------------------------- scripts

    def scripted(self) -> tuple[dict[str, dict[str, str | None]], list[Contact]]:
        """A situation that chance would rarely bring about; in half of the worlds a little of it is different."""
        names = [name for name, _ in self.mapping]
        scripts = [self.ring, self.chain] + ([self.domino, self.late, self.wave] if len(set(names)) > 1 else [])
        script = self.crowd if self.shape == "crowd" else self.draw.choice(scripts)
        wanted, owned = script(*self.draw.sample(self.mapping, len(self.mapping)))
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
        people = self.draw.sample(range(9), self.draw.randint(2, 6))
        letters = "abcdefg"[: len(people)]
        wanted = {person: {one[0]: letter} for person, letter in zip(people, letters[1:] + letters[0], strict=True)}
        return wanted, [(person, [(one[0], letter)]) for person, letter in zip(people, letters, strict=True)]

    def chain(self, one: tuple[str, str], *_: tuple[str, str]) -> Script:
        """The same, and the last one takes something free; one of them may not be linked."""
        wanted, owned = self.ring(one)
        wanted[[*wanted][-1]] = {one[0]: "g"}
        if self.draw.random() < 0.3:
            at = self.draw.randrange(len(owned))
            owned[at] = (None, owned[at][1])
        return wanted, owned

    def domino(self, one: tuple[str, str], two: tuple[str, str], *_: tuple[str, str]) -> Script:
        """0 wants what 1 gives up, but 1 is skipped; so 2 gets what 0 wanted before it (rule 4.9 b)."""
        wanted = {0: {one[0]: "a", two[0]: "b"}, 1: {one[0]: "c"}, 2: {one[0]: "a"}}
        return wanted, [(0, []), (1, [(two[0], "b")]), (None, [("", "c")])]

    def late(self, one: tuple[str, str], two: tuple[str, str], *_: tuple[str, str]) -> Script:
        """0 and 1 swap, but 0 also wants something that 3 gives up only once it found its contact (rule 4.9 c)."""
        wanted = {0: {one[0]: "b", two[0]: "f"}, 1: {one[0]: "a"}, 2: {one[0]: "d"}, 3: {one[0]: "c", two[0]: "e"}}
        owned = [
            (0, [(one[0], "a")]),
            (1, [(one[0], "b")]),
            (2, [(one[0], "c")]),
            (None, [(two[0], "e"), (two[0], "f")]),
        ]
        return wanted, [*owned]

    def wave(self, one: tuple[str, str], two: tuple[str, str], *more: tuple[str, str]) -> Script:
        """1 takes 2's place, since 2 cannot read what gave 1's handle; then 3 cannot have what only 2 would give up (4.9 a)."""
        three = more[0][0] if more else ""
        wanted = {
            0: {two[0]: "g"},
            1: {one[0]: "a", two[0]: "d", three: "!"},
            2: {one[0]: "!", two[0]: "b"},
            3: {three: "c"},
        }
        return wanted, [(0, [(two[0], "d")]), (None, [(one[0], "a"), (two[0], "b"), (three, "c")]), (3, [])]

    def crowd(self, *fields: tuple[str, str]) -> Script:
        """Many want something of the same unlinked contact, and cannot read what gave it something else (4.9 a).

        So they make way for one another, as far as 0 gives up what they also want.
        """
        names = [name for name, _ in fields]
        wanted: dict[int, dict[str, str]] = {0: {}}
        owned: list[tuple[int | None, list[tuple[str, str]]]] = [(0, []), (None, [])]
        for person, (of_contact, of_giver) in enumerate(zip("abcde", "fghij", strict=True), 1):
            first, *others = self.draw.sample(names, len(names))
            wanted[person] = {first: of_contact} | {name: self.draw.choice(["!", of_giver]) for name in others}
            owned[1][1].append((first, of_contact))
            owned[0][1].extend((name, of_giver) for name in others)
            if self.draw.random() < 0.3:
                wanted[person] = {first: of_contact}
                owned.append((person, []))
        return wanted, owned

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
        first.values,
        first.accounts,
    )


def settings_of(world: World) -> Settings:
    mapping = [{"salesforce_field": name, "field": FIELDS[source]} for name, source in world.mapping]
    mapping += [{"salesforce_field": name, "field": field} for name, field in world.values]
    chosen = {"custom_fields": CUSTOM_TYPES, "mapping": mapping}
    accounts, contacts = ({"mapping": []}, chosen) if world.needs_handle else (chosen, {"mapping": []})
    return parse_settings({"owners": ["owner@example.com"], "accounts": accounts, "contacts": contacts})


def columns_of(world: World) -> Columns:
    part = Part.CONTACTS if world.needs_handle else Part.ACCOUNTS
    return resolve_columns(part, settings_of(world), {}, world.missing)


def snapshot_of(world: World) -> pa.Table:
    """What Salesforce sends: all text, and nothing of the fields that are missing."""
    names = dict.fromkeys(name for name, _ in [*world.mapping, *world.values] if name not in world.missing)
    columns = {name: [values.get(name) for values in world.source.values()] for name in ["AccountId", *names]}
    columns = {"Id": list(world.source)} | columns
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


def clean_records(world: World, page_rows: int = 1_000_000) -> CleanRecords:
    snapshot = snapshot_of(world)
    pages = [snapshot.slice(start, page_rows) for start in range(0, max(len(snapshot), 1), page_rows)]
    return transform(pa.concat_tables(pages), columns_of(world))


def stored_records(world: World) -> StoredRecords:
    contacts = sorted(world.store, key=lambda contact: contact.id)
    handles = [(c.id, *h, name) for c in contacts for h, name in c.handles.items()]
    columns = [list(column) for column in zip(*handles, strict=True)] or [[]] * 4
    records = {
        "id": pa.array([c.id for c in contacts], pa.int64()),
        "external_id": pa.array([c.external_id for c in contacts], pa.string()),
        "account_id": pa.array([c.account for c in contacts], pa.int64()),
        "synced_account_id": pa.array([c.synced_account for c in contacts], pa.int64()),
        "not_syncing_since": pa.nulls(len(contacts), pa.timestamp("us", "UTC")),
    }
    for column in columns_of(world).fields:
        texts = [stored_text(column.name, contact) for contact in contacts]
        records[column.name] = pa.array(texts, pa.string())
    return StoredRecords(
        pa.table(records),
        pa.table(
            {
                "record_id": pa.array(columns[0], pa.int64()),
                "source": pa.array(columns[1], pa.string()),
                "handle": pa.array(columns[2], pa.string()),
                "salesforce_field": pa.array(columns[3], pa.string()),
            }
        ),
        pa.table(
            {
                "id": pa.array(list(world.accounts.values()), pa.int64()),
                "external_id": pa.array(list(world.accounts), pa.string()),
            }
        ),
        pa.table(
            {
                "loser": pa.array(list(world.merges), pa.string()),
                "winner": pa.array(list(world.merges.values()), pa.string()),
            }
        ),
    )


def stored_text(column: str, contact: Contact) -> str | None:
    """A stored value as matching reads it: custom fields and links as JSON."""
    if column == "links":
        return json.dumps(contact.values.get("url", []), ensure_ascii=False)
    value = contact.values.get(column)
    is_json = column.startswith("custom_fields.") and value is not None
    return json.dumps(value, ensure_ascii=False) if is_json else value


def in_pieces(table: pa.Table, draw: Random) -> pa.Table:
    """The same rows in chunks that begin at odd places, one of them empty."""
    places = sorted(draw.randint(0, len(table)) for _ in range(draw.randint(0, 4)))
    cuts = [0, *places, *places[:1], len(table)]
    return pa.concat_tables([table.slice(0, 0), *(table.slice(a, b - a) for a, b in pairwise(sorted(cuts)))])


def read_earlier(world: World, draw: Random) -> Earlier:
    """What an earlier run was sent and read: some contacts as they are now, some otherwise, some that are gone; in another order."""
    now = snapshot_of(world)
    rows, before = now.to_pylist(), []
    for row in draw.sample(rows, len(rows)):
        name, other = draw.choice(now.column_names[1:]), draw.choice(rows)
        fate = draw.random()
        if fate < 0.94:
            before.append(row)
        elif fate < 0.97:
            before.append(row | {name: draw.choice([other[name], None])})
        elif fate < 0.98:
            before.append(row | {"Id": f"{row['Id'][:10]}9999{row['Id'][14:]}"[:18]})
    earlier = pa.Table.from_pylist(list({row["Id"]: row for row in before}.values()), schema=now.schema)
    return Earlier(in_pieces(earlier, draw), transform(earlier, columns_of(world)))


def plan_for(world: World, draw: Random | None = None, earlier: Earlier | None = None) -> Plan:
    """The product's plan. `draw`: everything arrives in pieces, and the store's handles and accounts in another order."""
    columns = columns_of(world)
    if draw is None:
        return match(clean_records(world), stored_records(world), columns, whole_source=True)
    stored = stored_records(world)
    pieces = StoredRecords(
        in_pieces(stored.records, draw),
        *(in_pieces(shuffled_rows(table, draw), draw) for table in (stored.handles, stored.accounts, stored.merges)),
    )
    clean, _ = transform_what_differs(in_pieces(snapshot_of(world), draw), columns, lambda: earlier)
    return match(clean, pieces, columns, whole_source=True)


def shuffled_rows(table: pa.Table, draw: Random) -> pa.Table:
    return table.take(pa.array(draw.sample(range(len(table)), len(table)), pa.int64()))


def store_after(world: World, plan: Plan) -> list[Contact]:
    """The store as the plan leaves it, by doing what `load` does in SQL; new contacts get the ids of the specification."""
    contacts = {c.id: replace(c, handles=dict(c.handles), values=dict(c.values)) for c in world.store}
    external_ids = plan.outcomes["external_id"].to_pylist()

    def contact_of(row: dict[str, Any]) -> Contact:
        key = row["id"] if row["id"] is not None else -1 - row["record"]
        return contacts.setdefault(key, Contact(key))

    for row in plan.released.to_pylist():
        del contact_of(row).handles[row["source"], row["handle"]]
    names = [column.name for column in columns_of(world).fields]
    for row in plan.writes.to_pylist():
        contact = contact_of(row)
        contact.external_id = external_ids[row["record"]]
        contact.account, contact.synced_account = row.get("account_id"), row.get("synced_account_id")
        for name in names:
            is_json = name == "links" or name.startswith("custom_fields.")
            write(contact, name, json.loads(row[name]) if is_json and row[name] is not None else row[name])
    for row in plan.handles.to_pylist():
        handles = contact_of(row).handles
        assert row["is_new"] == ((row["source"], row["handle"]) not in handles)
        handles[row["source"], row["handle"]] = row["salesforce_field"]
    return list(contacts.values())


def write(contact: Contact, column: str, value: object) -> None:
    """Set a value, as the specification names it; an empty one is none."""
    field = "url" if column == "links" else column
    contact.values.pop(field, None)
    if value not in (None, []):
        contact.values[field] = value
