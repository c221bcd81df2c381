"""The entries that a run leaves (rule 6.5): what they must say, told from the store before and after, and what they do say."""

from dataclasses import dataclass
from typing import Any

from tests.conftest import Store
from tests.contact_sync.specification import Contact, Handle, World, given

Values = dict[str, Any]
WRITTEN = ("created", "linked", "updated")


@dataclass(frozen=True)
class Entry:
    """`old`, `new`: what differs, by name, but what is empty is left out; `handles` are those given up and those given."""

    outcome: str
    rule: str
    matched: Handle | None
    old: Values
    new: Values


def specified_entries(world: World, results: dict[str, tuple], end: list[Contact]) -> dict[str, Entry]:
    """By Salesforce id, of the answer of the specification."""
    before = {contact.id: contact for contact in world.store}
    linked = {contact.external_id: contact for contact in end}
    return {
        key: _specified(world, key, outcome, before.get(linked[key].id, Contact(linked[key].id)), linked[key])
        for key, (outcome, _, _) in results.items()
        if outcome in WRITTEN
    }


def _specified(world: World, key: str, outcome: str, before: Contact, after: Contact) -> Entry:
    was, now = _facts(before), _facts(after)
    given_up = before.handles.keys() - after.handles.keys()
    new = {handle for handle, _ in after.handles.items() - before.handles.items()}
    return Entry(
        outcome,
        rule_that_decided(world, key, outcome, before),
        next((handle for handle in given(world, key) if handle in before.handles), None)
        if outcome == "linked"
        else None,
        _differing(was, now) | _handles(given_up),
        _differing(now, was) | _handles(new),
    )


def rule_that_decided(world: World, key: str, outcome: str, before: Contact) -> str:
    if not world.needs_handle:
        return "5"
    if outcome != "updated":
        return "4.2"
    return "4.1" if before.external_id == key else "4.11"


def _facts(contact: Contact) -> Values:
    facts = contact.values | {"external_id": contact.external_id, "account_id": contact.account}
    return {"links" if name == "url" else name: value for name, value in facts.items()}


def _differing(values: Values, others: Values) -> Values:
    return _filled({name: value for name, value in values.items() if value != others.get(name)})


def _handles(handles: set[Handle]) -> Values:
    return _filled({"handles": sorted(handles)})


def _filled(values: Values) -> Values:
    return {name: value for name, value in values.items() if value not in (None, [])}


def read_entries(store: Store) -> dict[str, Entry]:
    """Those of the newest run, by Salesforce id."""
    rows = store.execute(
        "SELECT external_id, outcome, rule, matched_source, matched_handle, old_values, new_values"
        " FROM contact_store.sync_changes WHERE run_id = (SELECT max(id) FROM contact_store.sync_runs)"
    )
    return {
        key: Entry(outcome, rule, (source, handle) if handle else None, _read(old), _read(new))
        for key, outcome, rule, source, handle, old, new in rows
    }


def _read(values: Values) -> Values:
    handles = sorted((one["source"], one["handle"]) for one in values.get("handles", []))
    return _filled(values | {"handles": handles})
