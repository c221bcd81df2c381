"""What a run is about to do: every outcome and every change, written down from what matching found. Pure.

Nothing is decided about who is who any more; that was `match`. Here values are compared with what is stored, handles
are given and released, and collisions become errors that name their holders. `load` writes what the plan lists.
"""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync.claims import Decision
from include.contact_sync.columns import TAKEN_CODES, Part
from include.contact_sync.transform import ERRORS_SCHEMA

if TYPE_CHECKING:
    from include.contact_sync.match import Matching

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
NONE = -1
"""No such row."""


@dataclass(frozen=True)
class Plan:
    """Every outcome and every change of one part.

    Attributes:
        outcomes: one row per source record, in its order: `external_id`, `outcome`, `id` (stored; NONE where it is
            created or not linked), `rule`, `matched_source`, `matched_handle`.
        writes: one row per created, linked or updated record: `record` (row of the clean records), `id`, `outcome`,
            `account_id`, `old_account_id`, `old_external_id`, `row_changed`, and for each value column its name with the
            final value, `old NAME`, and `changed NAME`.
        handles: the handles that are written: `record`, `id`, `source`, `handle`, `salesforce_field`, `is_new`.
        released: the handles that a contact gives up: `record`, `id`, `source`, `handle`.
        stopped: ids of linked records that left the source (rule 2.6).
        errors: collisions and missing handles, in the shape of `ERRORS_SCHEMA`, with the source contact's `account`
            and its holders' `holder_accounts` for the advice of rule 8.3.
    """

    outcomes: pa.Table
    writes: pa.Table
    handles: pa.Table
    released: pa.Table
    stopped: pa.Table
    errors: pa.Table

    def counts(self) -> dict[str, int]:
        """Read, and how many of each outcome (rule 6.4)."""
        found = self.outcomes["outcome"].value_counts().to_pylist()
        counts = {entry["values"]: entry["counts"] for entry in found}
        return {"read": self.outcomes.num_rows} | {
            outcome: counts.get(outcome, 0) for outcome in ("created", "linked", "updated", "unchanged", "error")
        }


def write_plan(matching: "Matching", decisions: dict[int, Decision], *, whole_source: bool) -> Plan:
    handles, released = _handle_changes(matching)
    writes, outcome = _writes(matching, handles, released)
    return Plan(
        _outcomes(matching, outcome),
        writes,
        handles,
        released,
        _stopped(matching) if whole_source else _ids(np.array([], dtype=np.int64)),
        _errors(matching, decisions),
    )


def _handle_changes(matching: "Matching") -> tuple[pa.Table, pa.Table]:
    """The handles to write and the handles given up, of the records that are not skipped (rule 4.10)."""
    claimed, stored = matching.claimed, matching.stored_handles
    record = claimed["record"].to_numpy()
    target = matching.target[record]
    accepted = ~matching.skipped[record]
    is_own = accepted & (target != NONE) & (claimed["owner"].to_numpy() == target)
    own = claimed.loc[is_own]
    remembered = stored.loc[own["stored_handle"].to_numpy()]
    gave_before = remembered["giver"].to_numpy()
    stays = (remembered["origin"].to_numpy() == "salesforce") & (
        (remembered["salesforce_field"].to_numpy() == own["salesforce_field"].to_numpy())
        # An earlier field of the mapping gave it and cannot be read now: it is still the one remembered.
        | (matching.stays_unread(own["record"].to_numpy(), gave_before) & (gave_before < own["giver"].to_numpy()))
    ).astype(bool)
    regiven = own.loc[~stays].assign(is_new=False)
    new = claimed.loc[accepted & ~is_own].assign(is_new=True)
    written = pd.concat([regiven, new])
    written_ids = matching.target[written["record"].to_numpy()]
    return (
        pa.table(
            {
                "record": pa.array(written["record"].to_numpy(), pa.int32()),
                "id": _stored_ids(matching, written_ids),
                "source": pa.array(written["source"], pa.string()),
                "handle": pa.array(written["handle"], pa.string()),
                "salesforce_field": pa.array(written["salesforce_field"], pa.string()),
                "is_new": pa.array(written["is_new"].to_numpy(dtype=bool)),
            }
        ),
        _released(matching, own["stored_handle"].to_numpy()),
    )


def _released(matching: "Matching", claimed_again: Ints) -> pa.Table:
    stored = matching.stored_handles
    by_row = np.full(len(matching.stored_ids) + 1, NONE)
    filled = np.flatnonzero((matching.target != NONE) & ~matching.skipped)
    by_row[matching.target[filled]] = filled
    record = by_row[stored["row"].to_numpy()]
    giver = stored["giver"].to_numpy()
    gives_up: Bools = matching.giver_is_active[giver] & (record != NONE) & ~matching.stays_unread(record, giver)
    gives_up[claimed_again] = False
    candidates, record = stored.loc[gives_up], record[gives_up]
    return pa.table(
        {
            "record": pa.array(record, pa.int32()),
            "id": pa.array(matching.stored_ids[candidates["row"].to_numpy()], pa.int64()),
            "source": pa.array(candidates["source"], pa.string()),
            "handle": pa.array(candidates["handle"], pa.string()),
        }
    )


def _writes(matching: "Matching", handles: pa.Table, released: pa.Table) -> tuple[pa.Table, npt.NDArray[np.object_]]:
    """What is written to each record that is created, linked or updated; and the outcome of every record."""
    accepted = np.flatnonzero(~matching.skipped)
    target = matching.target[accepted]
    is_created = target == NONE
    rows = pa.array(target, mask=is_created)
    stored = matching.stored.records
    facts: dict[str, pa.Array] = {"record": pa.array(accepted, pa.int32()), "id": _stored_ids(matching, target)}
    facts["old_external_id"] = stored["external_id"].combine_chunks().take(rows)
    row_changed = matching.moved[accepted] | matching.linked_now[accepted]
    row_changed |= pc.is_valid(stored["not_syncing_since"].combine_chunks().take(rows)).to_numpy(zero_copy_only=False)
    if matching.columns.part is Part.CONTACTS:
        account_changed, accounts = _accounts(matching, accepted, rows)
        facts |= accounts
        row_changed |= account_changed
    for column in matching.columns.fields:
        old = _column(stored, column.name).take(rows)
        new = _keep_unreadable(
            matching, column.name, accepted, _column(matching.clean.records, column.name).take(facts["record"]), old
        )
        changed = _differ(new, old)
        facts |= {column.name: new, f"old {column.name}": old, f"changed {column.name}": changed}
        row_changed |= changed.to_numpy(zero_copy_only=False)
    facts["row_changed"] = pa.array(row_changed)
    touched = np.zeros(matching.count, dtype=bool)
    touched[handles["record"].to_numpy()] = True
    touched[released["record"].to_numpy()] = True
    outcome = np.full(matching.count, "error", dtype=object)
    outcome[accepted] = np.where(row_changed | touched[accepted], "updated", "unchanged")
    outcome[matching.linked_now & ~matching.skipped] = "linked"
    outcome[accepted[is_created]] = "created"
    facts["outcome"] = pa.array(outcome[accepted], pa.string())
    return pa.table(facts).filter(pa.array(outcome[accepted] != "unchanged")), outcome


def _accounts(matching: "Matching", accepted: Ints, rows: pa.Array) -> tuple[Bools, dict[str, pa.Array]]:
    """The account each contact belongs to (rule 5): the linked one, else the one that a person set."""
    known = matching.stored.accounts.to_pandas().dropna(subset="external_id").rename(columns={"id": "account_id"})
    wanted = pd.DataFrame({"external_id": matching.clean.records["account"].take(pa.array(accepted)).to_pandas()})
    synced = wanted.merge(known, how="left", on="external_id", validate="m:1")["account_id"]
    linked = pa.array(synced.astype("Int64"), pa.int64())
    stored = matching.stored.records
    old = stored["account_id"].combine_chunks().take(rows)
    old_synced = stored["synced_account_id"].combine_chunks().take(rows)
    by_person = pc.if_else(pc.fill_null(pc.equal(old, old_synced), False), pa.scalar(None, pa.int64()), old)
    new = pc.coalesce(linked, by_person)
    changed = pc.or_(_differ(new, old), _differ(linked, old_synced))
    facts = {
        "account_id": new,
        "synced_account_id": linked,
        "old_account_id": old,
        "changed account_id": _differ(new, old),
    }
    return changed.to_numpy(zero_copy_only=False), facts


def _keep_unreadable(matching: "Matching", name: str, accepted: Ints, new: pa.Array, old: pa.Array) -> pa.Array:
    """A value that could not be read leaves what is stored (rule 3.5)."""
    unread = matching.unreadable.loc[matching.unreadable["column"] == name, "record"].to_numpy()
    if not len(unread):
        return new
    mask = np.zeros(matching.count, dtype=bool)
    mask[unread] = True
    return pc.if_else(pa.array(mask[accepted]), old, new)


def _outcomes(matching: "Matching", outcome: npt.NDArray[np.object_]) -> pa.Table:
    fields = matching.columns
    filled = ~matching.skipped & (matching.target != NONE)
    by_handle = ~matching.skipped & (matching.linked_now | matching.created)
    rule = np.where(matching.moved & filled, "4.11", np.where(by_handle, "4.2", "4.1")).astype(object)
    if fields.part is Part.ACCOUNTS:
        rule = np.full(matching.count, "5", dtype=object)
    found = matching.claimed.loc[matching.linked_now[matching.claimed["record"].to_numpy()]]
    found = found.loc[found["owner"].to_numpy() == matching.target[found["record"].to_numpy()]].drop_duplicates(
        "record"
    )
    sources = np.full(matching.count, None, dtype=object)
    values = np.full(matching.count, None, dtype=object)
    sources[found["record"].to_numpy()] = found["source"].to_numpy(dtype=object)
    values[found["record"].to_numpy()] = found["handle"].to_numpy(dtype=object)
    return pa.table(
        {
            "external_id": matching.external_ids,
            "outcome": pa.array(outcome, pa.string()),
            "id": _stored_ids(matching, matching.target),
            "rule": pa.array(rule, pa.string()),
            "matched_source": pa.array(sources, pa.string()),
            "matched_handle": pa.array(values, pa.string()),
        }
    )


def _stopped(matching: "Matching") -> pa.Table:
    """Linked records that the whole source no longer holds and that do not say so yet (rule 2.6)."""
    here = np.zeros(len(matching.stored_ids), dtype=bool)
    # Where a merge's winner is skipped, the link stays at the loser, which is gone.
    syncing = (matching.target != NONE) & ~(matching.moved & matching.skipped)
    here[matching.target[syncing]] = True
    says_so = pc.is_valid(matching.stored.records["not_syncing_since"]).to_numpy()
    return _ids(matching.stored_ids[matching.stored_is_linked & ~here & ~says_so])


# ------------------------------------------------------------------------------------------------------ the errors


def _errors(matching: "Matching", decisions: dict[int, Decision]) -> pa.Table:
    rows = [_no_handle(matching, int(record)) for record in np.flatnonzero(matching.without_handle)]
    collided = {record: decision for record, decision in decisions.items() if decision.collisions}
    rows += _collision_errors(matching, collided)
    schema = ERRORS_SCHEMA.append(pa.field("account", pa.string())).append(pa.field("holder_accounts", pa.string()))
    return pa.Table.from_pylist(rows, schema=schema)


def _no_handle(matching: "Matching", record: int) -> dict[str, str | None]:
    return {
        "code": "no_handle",
        "level": "contact",
        "external_id": matching.external_ids[record].as_py(),
        "holders": "[]",
        "holder_accounts": "[]",
    }


def _collision_errors(matching: "Matching", collided: dict[int, Decision]) -> list[dict[str, str | None]]:
    """One error per skipped record: the code of its first colliding handle, every holder named (rule 4.13)."""
    filler = np.full(len(matching.stored_ids) + 1, NONE)
    filled = np.flatnonzero((matching.target != NONE) & ~matching.skipped)
    filler[matching.target[filled]] = filled
    fields = {
        (record, kind, handle): field
        for record, kind, handle, field in matching.claimed.loc[
            np.isin(matching.claimed["record"].to_numpy(), list(collided)),
            ["record", "source", "handle", "salesforce_field"],
        ].itertuples(index=False)
    }
    errors = []
    for record, decision in sorted(collided.items()):
        first = decision.collisions[0][0]
        holders = [_holder(matching, handle, contact, filler) for handle, contact in decision.collisions]
        accounts = [holder.pop("account") for holder in holders]
        is_contact = matching.columns.part is Part.CONTACTS
        errors.append(
            {
                "code": TAKEN_CODES.get(first[0], "handle_taken"),
                "level": "contact" if is_contact else "account",
                "external_id": matching.external_ids[record].as_py(),
                "salesforce_field": fields[record, *first],
                "value": first[1],
                "detail": None,
                "holders": json.dumps(holders, ensure_ascii=False),
                "account": matching.clean.records["account"][record].as_py() if is_contact else None,
                "holder_accounts": json.dumps(accounts),
            }
        )
    return errors


def _holder(matching: "Matching", handle: tuple[str, str], contact: int, filler: Ints) -> dict[str, str | int | None]:
    """Who holds `handle` in the end state: the stored record, where there is one, and the record it is linked to."""
    is_contact = matching.columns.part is Part.CONTACTS
    record = -1 - contact if contact < 0 else int(filler[contact])
    stored_id = None if contact < 0 else int(matching.stored_ids[contact])
    linked_to = matching.external_ids[record] if record != NONE else matching.stored.records["external_id"][contact]
    return {
        "contact_id" if is_contact else "account_id": stored_id,
        "external_id": linked_to.as_py(),
        "source": handle[0],
        "handle": handle[1],
        "account": _account_of(matching, record, contact) if is_contact else None,
    }


def _account_of(matching: "Matching", record: int, contact: int) -> str | None:
    """The Salesforce id of the account that a holder belongs to."""
    if record != NONE:
        account: str | None = matching.clean.records["account"][record].as_py()
        return account
    at = pc.index(matching.stored.accounts["id"], matching.stored.records["account_id"][contact]).as_py()
    return matching.stored.accounts["external_id"][at].as_py() if at >= 0 else None


# ---------------------------------------------------------------------------------------------------------- arrays


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _differ(one: pa.Array, other: pa.Array) -> pa.Array:
    """Where two arrays differ; null equals null."""
    return pc.or_(pc.xor(pc.is_null(one), pc.is_null(other)), pc.fill_null(pc.not_equal(one, other), False))


def _stored_ids(matching: "Matching", rows: Ints) -> pa.Array:
    safe = np.where(rows == NONE, 0, rows)
    ids = matching.stored_ids[safe] if len(matching.stored_ids) else np.zeros(len(rows), dtype=np.int64)
    return pa.array(ids, pa.int64(), mask=rows == NONE)


def _ids(ids: Ints) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64())})
