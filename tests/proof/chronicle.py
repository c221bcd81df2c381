"""What a store must hold after all that has happened to it: kept in plain Python, beside the store.

People's edits are written down as they are made; what a run makes of them is what the rules say (the executable
specification for links and handles; values, accounts, leaving, errors and dates here). `differences` then compares the
store with it, row by row, so that nothing of a person's can be lost and nothing can change that nobody changed.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import psycopg

from tests.conftest import Store
from tests.contact_sync.specification import Contact, Handle, World, given, is_unread

ErrorKey = tuple[str, str, str | None, str | None]
"""Part, code, Salesforce id, Salesforce field."""
Results = dict[str, tuple]
OF_THE_WHOLE_SOURCE = {"field_not_found", "too_many_contacts"}
"""Errors without a record of which a run over a window says nothing (rule 1.3)."""


@dataclass
class Row:
    """A contact or an account, with its handles or domains."""

    external_id: str | None = None
    handles: dict[Handle, str | None] = field(default_factory=dict)
    name: str | None = None
    description: str | None = None
    custom: dict[str, Any] = field(default_factory=dict)
    account: int | None = None
    synced_account: int | None = None
    has_left: bool = False


@dataclass(frozen=True)
class Read:
    """What a run found in Salesforce of one part, for the rules: the world, and each record's values.

    `values`: what is written to each record's row, except what could not be read. `account`: the AccountId of each.
    """

    part: str
    world: World
    values: dict[str, dict[str, Any]]
    warnings: set[tuple[str, str, str]]
    accounts: dict[str, str | None] = field(default_factory=dict)
    is_whole: bool = True


class Chronicle:
    """The rows that must be there, the errors that must be open or closed, and when contacts were last synced."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[int, Row]] = {"contacts": {}, "accounts": {}}
        self.open: dict[ErrorKey, int] = {}
        self.closed: list[tuple[ErrorKey, int, int]] = []
        self.last_whole_run: int | None = None
        self.there_at_its_end: set[int] = set()
        self.written: dict[tuple[int, str | None], int] = {}

    def copy_of(self, part: str) -> dict[int, Row]:
        return deepcopy(self.rows[part])

    def contacts_of_the_specification(self, part: str) -> list[Contact]:
        rows = sorted(self.rows[part].items())
        return [Contact(id=id_, external_id=row.external_id, handles=dict(row.handles)) for id_, row in rows]

    def linked(self, part: str) -> dict[str, int]:
        return {row.external_id: id_ for id_, row in self.rows[part].items() if row.external_id}

    def owner(self, part: str, handle: Handle) -> int | None:
        return next((id_ for id_, row in self.rows[part].items() if handle in row.handles), None)

    # ---------------------------------------------------------------------------------------------------- runs

    def is_applied(self, run_id: int, read: Read, results: Results, end: list[Contact], new: dict[str, int]) -> None:
        """What becomes of a part. `new`: the ids that the store gave to the records that were created."""
        before = self.copy_of(read.part)
        rows = self.rows[read.part]
        for contact in end:
            assert contact.external_id or contact.id > 0
            id_ = contact.id if contact.id > 0 else new[contact.external_id or ""]
            row = rows.setdefault(id_, Row())
            row.external_id, row.handles = contact.external_id, dict(contact.handles)
        linked = self.linked(read.part)
        accepted = {key for key, (_, code, _) in results.items() if code is None}
        for key in accepted:
            self._fill(rows[linked[key]], read, key)
        if read.is_whole:
            for key, id_ in linked.items():
                rows[id_].has_left |= key not in results
        self.outcomes = self._outcomes(before, accepted, linked, read, results)
        self._take_errors(run_id, read, results)
        if read.part == "contacts":
            self.written |= {(linked[key], key): run_id for key, outcome in self.outcomes.items() if outcome != "error"}
            self.written = {at: run for at, run in self.written.items() if at[0] in rows}
            if read.is_whole:
                self.last_whole_run, self.there_at_its_end = run_id, set(rows)

    def _fill(self, row: Row, read: Read, key: str) -> None:
        """Rules 3.4, 3.5 and 5."""
        row.has_left = False
        for name, value in read.values[key].items():
            if name in {"name", "description"}:
                setattr(row, name, value)
            elif value is None:
                row.custom.pop(name, None)
            else:
                row.custom[name] = value
        if read.part == "contacts":
            linked = self.linked("accounts").get(read.accounts[key] or "")
            set_by_a_person = row.account if row.account != row.synced_account else None
            row.account, row.synced_account = linked or set_by_a_person, linked

    def _outcomes(
        self, before: dict[int, Row], accepted: set[str], linked: dict[str, int], read: Read, results: Results
    ) -> Results:
        """What is written, with its outcome: a record whose links and handles stay may still get other values."""
        found: Results = {}
        for key in accepted:
            outcome = results[key][0]
            id_ = linked[key]
            if outcome == "unchanged" and before[id_] != self.rows[read.part][id_]:
                outcome = "updated"
            if outcome != "unchanged":
                found[key] = outcome
        return found

    # -------------------------------------------------------------------------------------------------- errors

    def _take_errors(self, run_id: int, read: Read, results: Results) -> None:
        """Rule 7, last paragraph."""
        met: set[ErrorKey] = {(read.part, code, *rest) for code, *rest in read.warnings}  # type: ignore[misc]
        met |= {(read.part, "field_not_found", None, name) for name in read.world.missing}
        for key, (_, code, holders) in results.items():
            if code:
                at_fault = given(read.world, key)[holders[0][0]] if holders else None
                met.add((read.part, code, key, at_fault))
        for known in [key for key in self.open if key[0] == read.part and key not in met]:
            is_read = read.is_whole or known[2] in results or (known[2] is None and known[1] not in OF_THE_WHOLE_SOURCE)
            if is_read:
                self.closes(known, run_id)
        for error in met:
            self.open.setdefault(error, run_id)

    def stops(self, run_id: int, part: str, code: str) -> None:
        self.open.setdefault((part, code, None, None), run_id)

    def gets_past_the_login(self, run_id: int) -> None:
        for known in [key for key in self.open if key[0] == "run"]:
            self.closes(known, run_id)

    def closes(self, key: ErrorKey, run_id: int) -> None:
        self.closed.append((key, self.open.pop(key), run_id))

    def in_error(self, external_id: str | None) -> bool:
        taken = ("no_handle", "email_taken", "phone_taken", "handle_taken")
        return any(part == "contacts" and code in taken and key == external_id for part, code, key, _ in self.open)

    def last_synced(self, id_: int) -> int | None:
        """Rule 6.5: the run."""
        row = self.rows["contacts"][id_]
        if row.external_id is None or row.has_left or self.in_error(row.external_id):
            return None
        whole = self.last_whole_run if id_ in self.there_at_its_end else None
        return max([run for run in (whole, self.written.get((id_, row.external_id))) if run is not None], default=None)

    # ---------------------------------------------------------------------------------------------- comparison

    def differences(self, store: Store) -> dict[str, Any]:
        """What of the store is not as it must be: expected and found, by what it is."""
        with psycopg.connect(store.uri) as connection:
            found: dict[str, Any] = {part: _rows(connection, part) for part in self.rows}
            errors = connection.execute(ERRORS).fetchall()
            synced = dict(connection.execute(LAST_SYNCED).fetchall())
        expected: dict[str, Any] = dict(self.rows)
        found |= {"errors": sorted(errors, key=repr), "last synced": synced}
        expected["errors"] = sorted(
            [(*key, opened, None) for key, opened in self.open.items()]
            + [(*key, opened, closed) for key, opened, closed in self.closed],
            key=repr,
        )
        expected["last synced"] = {id_: self.last_synced(id_) for id_ in self.rows["contacts"]}
        return {name: _differing(expected[name], found[name]) for name in expected if expected[name] != found[name]}


ERRORS = "SELECT part, code, external_id, salesforce_field, opened_run, closed_run FROM contact_store.sync_errors"
LAST_SYNCED = """
    SELECT contact_id, (SELECT max(id) FROM contact_store.sync_runs WHERE ended_at = last_synced_at)
    FROM contact_store.contacts_last_synced"""
ROWS = {
    "contacts": "SELECT id, external_id, name, description, custom_fields, account_id, synced_account_id,"
    " not_syncing_since IS NOT NULL FROM contact_store.contacts",
    "accounts": "SELECT id, external_id, name, description, custom_fields, NULL, NULL,"
    " not_syncing_since IS NOT NULL FROM contact_store.accounts",
}
HANDLES = {
    "contacts": "SELECT contact_id, source, handle, salesforce_field FROM contact_store.contact_handles",
    "accounts": "SELECT account_id, 'domain', domain, salesforce_field FROM contact_store.account_domains",
}


def _rows(connection: psycopg.Connection, part: str) -> dict[int, Row]:
    rows = {row[0]: Row(row[1], {}, *row[2:]) for row in connection.execute(ROWS[part])}
    for id_, source, handle, name in connection.execute(HANDLES[part]):
        rows[id_].handles[source, handle] = name
    return rows


def _differing(expected: Any, found: Any) -> Any:
    if isinstance(expected, dict):
        keys = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
        return {key: (expected.get(key), found.get(key)) for key in keys}
    return [one for one in expected if one not in found], [one for one in found if one not in expected]


def unreadable_handles(world: World) -> set[tuple[str, str, str]]:
    """The warnings of rule 3.6: code, Salesforce id, field."""
    lines: Iterable[tuple[str, str]] = [(name, kind) for name, kind in world.mapping if name not in world.missing]
    return {
        ("invalid_handle", key, name)
        for key in world.source
        for name, kind in lines
        if is_unread(world, key, (name, kind))
    }
