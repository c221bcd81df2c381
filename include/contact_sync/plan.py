"""What a run is about to do: every outcome and every change, written down from what matching found. Pure.

Nothing is decided about who is who any more; that was `match`. Here values are compared with what is stored, handles
are given and released, and collisions become errors that name their holders. `load` writes what the plan lists.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync.arrays import NONE, Bools, Ints, differ, json_strings, one_piece, wrapped
from include.contact_sync.columns import TAKEN_CODES, Part
from include.contact_sync.transform import ERRORS_SCHEMA

if TYPE_CHECKING:
    from include.contact_sync.match import Matching

OUTCOMES = ("created", "linked", "updated", "unchanged", "error")
CREATED, LINKED, UPDATED, UNCHANGED, ERROR = range(5)
RULES = ("4.1", "4.2", "4.11", "5")
FOUND_BY_LINK, FOUND_BY_HANDLE, MERGED, OF_ACCOUNTS = range(4)

RECORDS_AT_ONCE = 100_000
WRITERS = 2
"""Portions that are compared at the same time."""


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
        return {"read": self.outcomes.num_rows} | {outcome: counts.get(outcome, 0) for outcome in OUTCOMES}


def write_plan(matching: "Matching", *, whole_source: bool) -> Plan:
    handles, released = _handle_changes(matching)
    writes, outcome = _writes(matching, handles, released)
    return Plan(
        _outcomes(matching, outcome),
        writes,
        handles,
        released,
        _stopped(matching) if whole_source else _ids(np.array([], dtype=np.int64)),
        _errors(matching),
    )


def _handle_changes(matching: "Matching") -> tuple[pa.Table, pa.Table]:
    """The handles to write and the handles given up, of the records that are not skipped (rule 4.10)."""
    record, giver = matching.claimed["record"].to_numpy(), matching.claimed["giver"].to_numpy()
    target = matching.target[record]
    accepted = ~matching.skipped[record]
    own = np.flatnonzero(accepted & (target != NONE) & (matching.claimed["owner"].to_numpy() == target))
    stored_handle = matching.claimed["stored_handle"].to_numpy()[own]
    gave_before = matching.stored_handles["giver"].to_numpy()[stored_handle]
    differs = gave_before != giver[own]
    own_differing = own[differs]
    # An earlier field of the mapping gave it and cannot be read now: it is still the one remembered.
    stays = matching.stays_unread(record[own_differing], gave_before[differs])
    stays &= gave_before[differs] < giver[own_differing]
    regiven = own_differing[~stays]
    accepted[own] = False
    new = np.flatnonzero(accepted)
    written = np.concatenate([regiven, new])
    texts = matching.handles.take(pa.array(written))
    return (
        pa.table(
            {
                "record": pa.array(record[written], pa.int32()),
                "id": _stored_ids(matching, target[written]),
                "source": texts["source"].cast(pa.string()),
                "handle": texts["handle"],
                "salesforce_field": texts["salesforce_field"].cast(pa.string()),
                "is_new": pa.array(np.arange(len(written)) >= len(regiven)),
            }
        ),
        _released(matching, stored_handle),
    )


def _released(matching: "Matching", claimed_again: Ints) -> pa.Table:
    """The handles that the contacts of accepted records no longer have; `claimed_again` are rows of stored handles."""
    by_row = np.full(len(matching.stored_ids) + 1, NONE)
    filled = np.flatnonzero((matching.target != NONE) & ~matching.skipped & ~matching.set_aside)
    by_row[matching.target[filled]] = filled
    row, giver = matching.stored_handles["row"].to_numpy(), matching.stored_handles["giver"].to_numpy()
    gives_up: Bools = matching.giver_is_active[giver] & (by_row[row] != NONE)
    gives_up[claimed_again] = False
    candidates = np.flatnonzero(gives_up)
    record = by_row[row[candidates]]
    goes = ~matching.stays_unread(record, giver[candidates])
    candidates, record = candidates[goes], record[goes]
    texts = matching.stored.handles.take(pa.array(candidates))
    return pa.table(
        {
            "record": pa.array(record, pa.int32()),
            "id": pa.array(matching.stored_ids[row[candidates]], pa.int64()),
            "source": texts["source"].cast(pa.string()),
            "handle": texts["handle"],
        }
    )


def _writes(matching: "Matching", handles: pa.Table, released: pa.Table) -> tuple[pa.Table, pa.Array]:
    """What is written to each record that is created, linked or updated; and the outcome of every record."""
    touched = np.zeros(matching.count, dtype=bool)
    touched[handles["record"].to_numpy()] = True
    touched[released["record"].to_numpy()] = True
    outcome = np.full(matching.count, ERROR, dtype=np.int8)
    accepted = np.flatnonzero(~matching.skipped)

    def write(start: int) -> pa.Table:
        records = accepted[start : start + RECORDS_AT_ONCE]
        values, row_changed = _values(matching, records)
        outcome[records] = np.where(row_changed | touched[records], UPDATED, UNCHANGED)
        outcome[records[matching.linked_now[records]]] = LINKED
        outcome[records[matching.target[records] == NONE]] = CREATED
        portion = values.append_column("outcome", _texts(OUTCOMES, outcome[records]))
        return portion.filter(pa.array(outcome[records] != UNCHANGED))

    # In portions, so that the old and new values of all records are never there at once.
    with ThreadPoolExecutor(WRITERS, thread_name_prefix="plan") as writers:
        portions = [*writers.map(write, range(0, max(len(accepted), 1), RECORDS_AT_ONCE))]
    return pa.concat_tables(portions), _texts(OUTCOMES, outcome)


def _values(matching: "Matching", records: Ints) -> tuple[pa.Table, Bools]:
    """Old and new values of accepted records, and whether their row changes at all."""
    target = matching.target[records]
    rows = pa.array(target, mask=target == NONE)
    stored = matching.stored.records
    facts: dict[str, pa.Array] = {"record": pa.array(records, pa.int32()), "id": _stored_ids(matching, target)}
    facts["old_external_id"] = one_piece(stored["external_id"]).take(rows)
    row_changed = matching.moved[records] | matching.linked_now[records]
    row_changed |= pc.is_valid(one_piece(stored["not_syncing_since"]).take(rows)).to_numpy(zero_copy_only=False)
    if matching.columns.part is Part.CONTACTS:
        account_changed, accounts = _accounts(matching, facts["record"], rows)
        facts |= accounts
        row_changed |= account_changed
    for column in matching.columns.fields:
        old = one_piece(stored[column.name]).take(rows)
        read = one_piece(matching.clean.records[column.name]).take(facts["record"])
        new = _keep_unreadable(matching, column.name, records, read, old)
        changed = differ(new, old)
        facts |= {column.name: new, f"old {column.name}": old, f"changed {column.name}": changed}
        row_changed |= changed.to_numpy(zero_copy_only=False)
    facts["row_changed"] = pa.array(row_changed)
    return pa.table(facts), row_changed


def _accounts(matching: "Matching", records: pa.Array, rows: pa.Array) -> tuple[Bools, dict[str, pa.Array]]:
    """The account each contact belongs to (rule 5): the linked one, else the one that a person set."""
    accounts = matching.stored.accounts
    wanted = one_piece(matching.clean.records["account"]).take(records)
    place = pc.index_in(wanted, value_set=one_piece(accounts["external_id"]).drop_null())
    linked = one_piece(accounts["id"].filter(pc.is_valid(accounts["external_id"]))).take(place)
    stored = matching.stored.records
    old = one_piece(stored["account_id"]).take(rows)
    old_synced = one_piece(stored["synced_account_id"]).take(rows)
    by_person = pc.if_else(pc.fill_null(pc.equal(old, old_synced), False), pa.scalar(None, pa.int64()), old)
    new = pc.coalesce(linked, by_person)
    changed = pc.or_(differ(new, old), differ(linked, old_synced))
    facts = {
        "account_id": new,
        "synced_account_id": linked,
        "old_account_id": old,
        "changed account_id": differ(new, old),
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


def _outcomes(matching: "Matching", outcome: pa.Array) -> pa.Table:
    fields = matching.columns
    filled = ~matching.skipped & (matching.target != NONE)
    by_handle = ~matching.skipped & (matching.linked_now | matching.created)
    rule = np.where(matching.moved & filled, MERGED, np.where(by_handle, FOUND_BY_HANDLE, FOUND_BY_LINK))
    if fields.part is Part.ACCOUNTS:
        rule = np.full(matching.count, OF_ACCOUNTS)
    claim = np.flatnonzero(matching.linked_now[matching.claimed["record"].to_numpy()])
    found = matching.claimed.iloc[claim].assign(claim=claim)
    found = found.loc[found["owner"].to_numpy() == matching.target[found["record"].to_numpy()]]
    found = found.drop_duplicates("record")
    by_record = np.full(matching.count, NONE)
    by_record[found["record"].to_numpy()] = found["claim"].to_numpy()
    matched = pa.array(by_record, mask=by_record == NONE)
    return pa.table(
        {
            "external_id": matching.external_ids,
            "outcome": outcome,
            "id": _stored_ids(matching, matching.target),
            "rule": _texts(RULES, rule),
            "matched_source": matching.handles["source"].take(matched).cast(pa.string()),
            "matched_handle": matching.handles["handle"].take(matched),
        }
    )


def _texts(texts: tuple[str, ...], places: npt.NDArray[np.integer[Any]]) -> pa.Array:
    return pa.array(texts, pa.string()).take(pa.array(places))


def _stopped(matching: "Matching") -> pa.Table:
    """Linked records that the whole source no longer holds and that do not say so yet (rule 2.6)."""
    here = np.zeros(len(matching.stored_ids), dtype=bool)
    # Where a merge's winner is skipped, the link stays at the loser, which is gone.
    syncing = (matching.target != NONE) & ~(matching.moved & matching.skipped)
    here[matching.target[syncing]] = True
    says_so = pc.is_valid(matching.stored.records["not_syncing_since"]).to_numpy()
    return _ids(matching.stored_ids[matching.stored_is_linked & ~here & ~says_so])


# ------------------------------------------------------------------------------------------------------ the errors


def _errors(matching: "Matching") -> pa.Table:
    return pa.concat_tables([_no_handle_errors(matching), _collision_errors(matching)]).combine_chunks()


def _no_handle_errors(matching: "Matching") -> pa.Table:
    records = np.flatnonzero(matching.without_handle)
    return _error_rows(
        len(records),
        code=pa.repeat("no_handle", len(records)),
        level=pa.repeat("contact", len(records)),
        external_id=matching.external_ids.take(pa.array(records)),
        holders=pa.repeat("[]", len(records)),
        holder_accounts=pa.repeat("[]", len(records)),
    )


def _collision_errors(matching: "Matching") -> pa.Table:
    """One error per skipped record: the code of its first colliding handle, every holder named (rule 4.13)."""
    is_contacts = matching.columns.part is Part.CONTACTS
    collisions = matching.collisions.sort_values(["record", "claim"])
    is_first = ~collisions["record"].duplicated().to_numpy()
    starts = np.append(np.flatnonzero(is_first), len(collisions))
    handles = matching.handles.take(pa.array(collisions["claim"].to_numpy()))
    holders, accounts = _holders(matching, collisions["holder"].to_numpy(), handles)
    first = handles.filter(pa.array(is_first))
    records = pa.array(collisions["record"].to_numpy()[is_first])
    codes = [TAKEN_CODES.get(source, "handle_taken") for source in first["source"].to_pylist()]
    return _error_rows(
        len(records),
        code=pa.array(codes, pa.string()),
        level=pa.repeat("contact" if is_contacts else "account", len(records)),
        external_id=matching.external_ids.take(records),
        salesforce_field=first["salesforce_field"],
        value=first["handle"],
        holders=_json_lists(holders, starts),
        account=matching.clean.records["account"].take(records) if is_contacts else None,
        holder_accounts=_json_lists(accounts, starts),
    )


def _holders(matching: "Matching", holder: Ints, handles: pa.Table) -> tuple[pa.Array, pa.Array]:
    """For each collision, as JSON: who holds the handle in the end state, and the Salesforce id of the holder's account.

    The holder is named by its stored id, where it has one yet, and the Salesforce record that it is linked to. It is
    written as PostgreSQL writes jsonb, so that both can be compared.
    """
    filler = np.full(len(matching.stored_ids) + 1, NONE)
    filled = np.flatnonzero((matching.target != NONE) & ~matching.skipped)
    filler[matching.target[filled]] = filled
    record = np.where(holder < 0, -1 - holder, filler[np.maximum(holder, NONE)])
    stored_row = pa.array(holder, mask=holder < 0)
    source_row = pa.array(record, mask=record == NONE)
    stored = matching.stored.records
    is_contacts = matching.columns.part is Part.CONTACTS
    entries = wrapped(
        '{"handle": ',
        json_strings(_text(handles["handle"])),
        ', "source": ',
        json_strings(_text(handles["source"])),
        f', "{"contact_id" if is_contacts else "account_id"}": ',
        pc.fill_null(one_piece(stored["id"]).take(stored_row).cast(pa.string()), "null"),
        ', "external_id": ',
        _json_or_null(_filled(matching.external_ids.take(source_row), stored["external_id"].take(stored_row))),
        "}",
    )
    if not is_contacts:
        return entries, pa.repeat("null", len(holder))
    account_row = pc.index_in(
        stored["account_id"].take(stored_row), value_set=one_piece(matching.stored.accounts["id"])
    )
    of_stored = matching.stored.accounts["external_id"].take(account_row)
    of_source = matching.clean.records["account"].take(source_row)
    accounts = pc.if_else(pa.array(record != NONE), _text(of_source), _text(of_stored))
    return entries, _json_or_null(accounts)


def _json_or_null(texts: pa.Array) -> pa.Array:
    return pc.fill_null(json_strings(texts), "null")


def _json_lists(entries: pa.Array, starts: Ints) -> pa.Array:
    """The JSON list of the entries from each start to the next."""
    lists = pa.ListArray.from_arrays(pa.array(starts, pa.int32()), entries)
    return wrapped("[", pc.binary_join(lists, ", "), "]")


def _error_rows(count: int, **columns: Any) -> pa.Table:
    """Errors in the shape of `Plan.errors`; what is not given is null."""
    return pa.table(
        [columns[name] if columns.get(name) is not None else pa.nulls(count, pa.string()) for name in _ERRORS.names],
        schema=_ERRORS,
    )


_ERRORS = ERRORS_SCHEMA.append(pa.field("account", pa.string())).append(pa.field("holder_accounts", pa.string()))


# ---------------------------------------------------------------------------------------------------------- arrays


def _text(column: pa.ChunkedArray) -> pa.Array:
    return one_piece(column.cast(pa.string()))


def _filled(first: pa.ChunkedArray, second: pa.ChunkedArray) -> pa.Array:
    return pc.coalesce(_text(first), _text(second))


def _stored_ids(matching: "Matching", rows: Ints) -> pa.Array:
    safe = np.where(rows == NONE, 0, rows)
    ids = matching.stored_ids[safe] if len(matching.stored_ids) else np.zeros(len(rows), dtype=np.int64)
    return pa.array(ids, pa.int64(), mask=rows == NONE)


def _ids(ids: Ints) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64())})
