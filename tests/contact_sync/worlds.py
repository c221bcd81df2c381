"""Small worlds, full of collisions on purpose, and the product's answer to them without a database."""

from typing import Any

import hypothesis.strategies as st
import pyarrow as pa

from include.contact_sync.columns import Columns, Part, resolve_columns
from include.contact_sync.match import Plan, StoredRecords, match
from include.contact_sync.settings import HANDLE_SOURCES, parse_settings
from include.contact_sync.transform import CleanRecords, transform
from tests.contact_sync.specification import Contact, World

FIELDS = {source: field for field, source in HANDLE_SOURCES.items()}
EMAILS = ["a@x.co", " A@X.co ", "b@x.co", "c@x.co", "d@x.co", "not an email", "   "]
PHONES = ["(212) 842-5500", "+1 212 842 5500", "212-842-5501", "call me"]
CUSTOMS = ["one", " one", "two"]
VALUES = {"email": EMAILS, "phone": PHONES, "custom": CUSTOMS}
MAPPINGS = [
    [("Email", "email"), ("Phone", "phone")],
    [("Email", "email"), ("Second_Email__c", "email"), ("Phone", "phone")],
    [("Phone", "phone"), ("Key__c", "custom"), ("Email", "email")],
    [("Email", "email")],
    [],
]


def salesforce_id(number: int) -> str:
    return f"003{number:012d}AAA"


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """At most six source contacts and five stored ones, over a handful of handles."""
    mapping = draw(st.sampled_from(MAPPINGS))
    missing = set(draw(st.lists(st.sampled_from([name for name, _ in mapping]), max_size=1))) if mapping else set()
    numbers = draw(st.lists(st.integers(0, 8), unique=True, max_size=6))
    source = {
        salesforce_id(number): {name: draw(st.none() | st.sampled_from(VALUES[kind])) for name, kind in mapping}
        for number in numbers
    }
    merges = draw(
        st.dictionaries(st.integers(0, 8).map(salesforce_id), st.integers(0, 8).map(salesforce_id), max_size=3)
    )
    return World(draw(stores()), source, mapping, missing, {k: v for k, v in merges.items() if k not in source})


@st.composite
def stores(draw: st.DrawFn) -> list[Contact]:
    handles = [("email", f"{letter}@x.co") for letter in "abcd"]
    handles += [("phone", "+12128425500"), ("phone", "+12128425501"), ("custom", "one"), ("custom", "two")]
    givers = {
        "email": ["Email", "Second_Email__c", "Old__c", None],
        "phone": ["Phone", None],
        "custom": ["Key__c", "Phone", None],
    }
    links = draw(st.lists(st.none() | st.integers(0, 8), max_size=5))
    seen: set[int] = set()
    contacts = []
    for number, link in enumerate(links, start=1):
        unique = None if link is None or link in seen else salesforce_id(link)
        seen |= set() if link is None else {link}
        contacts.append(Contact(number * 10, unique))
    for handle in handles:
        owner = draw(st.none() | st.sampled_from(contacts)) if contacts else None
        if owner:
            owner.handles[handle] = draw(st.sampled_from(givers[handle[0]]))
    return contacts


def columns_of(world: World) -> Columns:
    mapping = [{"salesforce_field": name, "field": FIELDS[kind]} for name, kind in world.mapping]
    settings = parse_settings(
        {
            "owners": ["owner@example.com"],
            "accounts": {"mapping": []},
            "contacts": {"mapping": mapping},
        }
    )
    return resolve_columns(Part.CONTACTS, settings, {}, world.missing)


def clean_records(world: World) -> CleanRecords:
    names = [name for name, _ in world.mapping if name not in world.missing]
    snapshot: dict[str, Any] = {"Id": list(world.source), "AccountId": [None] * len(world.source)}
    snapshot |= {name: [values.get(name) for values in world.source.values()] for name in names}
    return transform(
        pa.table({name: pa.array(column, pa.string()) for name, column in snapshot.items()}), columns_of(world)
    )


def stored_records(world: World) -> StoredRecords:
    contacts = sorted(world.store, key=lambda contact: contact.id)
    handles = [(c.id, *h, "salesforce" if name else "person", name) for c in contacts for h, name in c.handles.items()]
    columns = [list(column) for column in zip(*handles, strict=True)] or [[]] * 5
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
                "origin": pa.array(columns[3], pa.string()),
                "salesforce_field": pa.array(columns[4], pa.string()),
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
