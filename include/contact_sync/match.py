"""Decides which stored contact each source contact belongs to, and what changes (rules 4 and 5). Pure.

The joins find every record that nothing stands in the way of; the few that collide with another record or
another contact go to `claims`, which settles them exactly as rule 4.9 says. The plan lists every outcome and
every change; `load` writes it without deciding anything. Accounts take the same path as contacts: their
handles are domains.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync.claims import Claim, Decision, Holder, settle
from include.contact_sync.columns import TAKEN_CODES, Columns, Part
from include.contact_sync.transform import ERRORS_SCHEMA, CleanRecords

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
NONE = -1
"""No such row."""


@dataclass(frozen=True)
class StoredRecords:
    """What matching needs of the store.

    Attributes:
        records: `id`, `external_id`, `not_syncing_since` (only whether it is null counts), the value columns of
            `Columns.fields` (custom fields and links as JSON text), for contacts `account_id` and
            `synced_account_id`; ordered by `id`.
        handles: `record_id`, `source`, `handle`, `origin`, `salesforce_field`.
        accounts: `id`, `external_id` of the linked accounts (for contacts).
        merges: `loser`, `winner`: Salesforce ids of merged records (rule 4.11).
    """

    records: pa.Table
    handles: pa.Table
    accounts: pa.Table
    merges: pa.Table


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


def match(clean: CleanRecords, stored: StoredRecords, columns: Columns, *, whole_source: bool) -> Plan:
    """Judge every source record against the store as it is.

    Args:
        whole_source: whether the run read the whole source; only then a record can be said to have left it.
    """
    source = _Source(clean, stored, columns)
    source.find_linked()
    source.find_owners()
    source.leave_out_records_without_handle()
    decisions = source.settle_contested()
    source.accept(decisions)
    return _write_plan(source, decisions, whole_source=whole_source)


class _Source:
    """The source records and what matching has found out about them, as arrays over the records' rows."""

    def __init__(self, clean: CleanRecords, stored: StoredRecords, columns: Columns) -> None:
        self.clean = clean
        self.stored = stored
        self.columns = columns
        self.external_ids = clean.records["external_id"]
        self.count = clean.records.num_rows
        self.stored_ids: Ints = stored.records["id"].to_numpy().astype(np.int64)
        self.stored_is_linked: Bools = pc.is_valid(stored.records["external_id"]).to_numpy().astype(bool)
        self.target: Ints = np.full(self.count, NONE)
        """The row of the stored record that each source record is linked to, or fills."""
        self.moved: Bools = np.zeros(self.count, dtype=bool)
        """Whether the link moves here from a record that Salesforce merged into this one (rule 4.11)."""
        self.skipped: Bools = np.zeros(self.count, dtype=bool)
        self.without_handle: Bools = np.zeros(self.count, dtype=bool)
        self.found_by: Ints = np.full(self.count, NONE)
        """For a record found by a handle: the row of `claimed`."""

    # ------------------------------------------------------------------------------------------ links and merges

    def find_linked(self) -> None:
        """Rule 4.1, and rule 4.11 for those whose contact is still linked to a record merged into them."""
        links = pd.DataFrame(
            {
                "external_id": self.stored.records["external_id"].to_pandas(),
                "row": np.arange(len(self.stored_ids)),
            }
        ).dropna(subset="external_id")
        ours = pd.DataFrame({"external_id": self.external_ids.to_pandas()})
        linked = ours.merge(links, how="left", on="external_id", validate="1:1")
        self.target = linked["row"].fillna(NONE).to_numpy(dtype=np.int64, copy=True)
        self._follow_merges(ours, links)

    def _follow_merges(self, ours: pd.DataFrame, links: pd.DataFrame) -> None:
        winners = follow_chains(self.stored.merges)
        if winners.empty:
            return
        sources = ours.assign(record=np.arange(self.count))
        still_here = winners.merge(sources, how="left", left_on="loser", right_on="external_id", validate="1:1")[
            "record"
        ].notna()
        moves = (
            winners.loc[~still_here.to_numpy()]
            .merge(links, how="inner", left_on="loser", right_on="external_id", validate="1:1")
            .merge(sources, how="inner", left_on="winner", right_on="external_id", validate="m:1")
            .sort_values("loser")
            .drop_duplicates("winner")
        )
        moves = moves.loc[self.target[moves["record"].to_numpy()] == NONE]
        self.target[moves["record"].to_numpy()] = moves["row"].to_numpy()
        self.moved[moves["record"].to_numpy()] = True

    # ------------------------------------------------------------------------------------------------ handles

    def find_owners(self) -> None:
        """Who owns each handle that was read, and which stored handles a filled record would give up or keep."""
        stored = self.stored.handles.to_pandas()
        record_ids = stored["record_id"].to_numpy(dtype=np.int64)
        stored["row"] = np.searchsorted(self.stored_ids, record_ids)
        givers = {(column.source, column.salesforce_field): column.missing for column in self.columns.handles}
        positions = {giver: position for position, giver in enumerate(givers)}
        fields = stored[["source", "salesforce_field"]].drop_duplicates()
        keys = list(zip(fields["source"], fields["salesforce_field"], strict=True))
        fields = fields.assign(
            mapped=[key in givers for key in keys],
            active=[givers.get(key) is False for key in keys],
            position=[positions.get(key, NONE) for key in keys],
        )
        stored = stored.merge(fields, how="left", on=["source", "salesforce_field"], validate="m:1")
        stored["stored_handle"] = np.arange(len(stored))
        self.stored_handles = stored
        claimed = self.clean.handles.to_pandas()
        owners = stored[["source", "handle", "row", "stored_handle"]].rename(columns={"row": "owner"})
        claimed = claimed.merge(owners, how="left", on=["source", "handle"], validate="m:1")
        claimed[["owner", "stored_handle"]] = claimed[["owner", "stored_handle"]].fillna(NONE).astype(np.int64)
        self.claimed = claimed
        self._mark_kept()

    def _mark_kept(self) -> None:
        """Of the handles of linked records: what a missing or an unreadable field gave before (rules 3.3 and 3.6)."""
        unreadable = self.clean.unreadable.to_pandas()
        self.unreadable = unreadable
        by_row = np.full(len(self.stored_ids) + 1, NONE)
        filled = np.flatnonzero(self.target != NONE)
        by_row[self.target[filled]] = filled
        stored = self.stored_handles
        record = by_row[stored["row"].to_numpy()]
        could_not_be_read = (
            pd.DataFrame({"record": record, "column": stored["source"], "salesforce_field": stored["salesforce_field"]})
            .merge(
                unreadable.drop_duplicates().assign(unread=True),
                how="left",
                validate="m:1",
                on=["record", "column", "salesforce_field"],
            )["unread"]
            .notna()
            .to_numpy()
        )
        missing = (stored["mapped"] & ~stored["active"]).to_numpy()
        self.kept_for_record = record[(missing | could_not_be_read) & (record != NONE)]

    def leave_out_records_without_handle(self) -> None:
        """Rules 4.3 and 4.4."""
        if not self.columns.handle_is_needed:
            return
        has_handle = np.zeros(self.count, dtype=bool)
        has_handle[self.claimed["record"].to_numpy()] = True
        has_handle[self.kept_for_record] = True
        if not self.columns.handles:
            has_handle |= self.target != NONE
        self.without_handle = ~has_handle
        self.skipped |= self.without_handle

    # ---------------------------------------------------------------------------------------------- collisions

    def settle_contested(self) -> dict[int, Decision]:
        """Find the records that could collide; everything else is accepted as it stands (rule 4.2)."""
        claimed = self.claimed
        record = claimed["record"].to_numpy()
        owner = claimed["owner"].to_numpy()
        is_foreign = (owner != NONE) & (owner != self.target[record])
        contested = np.zeros(self.count, dtype=bool)
        contested[record[claimed.duplicated(["source", "handle"], keep=False).to_numpy()]] = True
        contested[record[is_foreign & (self.target[record] != NONE)]] = True
        found = self._found_by_handle(claimed.loc[is_foreign & (self.target[record] == NONE), ["record", "owner"]])
        contested[found.loc[~found["is_clear"], "record"].to_numpy()] = True
        self._widen(contested, record, owner, is_foreign)
        clear = found.loc[found["is_clear"].to_numpy() & ~contested[found["record"].to_numpy()]]
        self.target[clear["record"].to_numpy()] = clear["owner"].to_numpy()
        self.linked_now = np.zeros(self.count, dtype=bool)
        self.linked_now[clear["record"].to_numpy()] = True
        if not contested.any():
            return {}
        claims = self._claims(np.flatnonzero(contested))
        self.holders = self._holders(claims)
        return settle(claims, self.holders)

    def _found_by_handle(self, found: pd.DataFrame) -> pd.DataFrame:
        """Unlinked records and the contacts that own their handles; clear: one unlinked contact that nobody else wants."""
        pairs = found.drop_duplicates()
        alone = ~pairs.duplicated("record", keep=False) & ~pairs.duplicated("owner", keep=False)
        return pairs.assign(is_clear=alone & ~self.stored_is_linked[pairs["owner"].to_numpy()])

    def _widen(self, contested: Bools, record: Ints, owner: Ints, is_foreign: Bools) -> None:
        """Who fills a contact that a contested record wants something of is contested too."""
        wanted = np.zeros(len(self.stored_ids) + 1, dtype=bool)
        wanted[owner[is_foreign & contested[record]]] = True
        wanted[NONE] = False
        contested |= (self.target != NONE) & wanted[self.target] & ~self.skipped
        wants_wanted = is_foreign & wanted[owner]
        contested[record[wants_wanted]] = True

    def _claims(self, contested: Ints) -> list[Claim]:
        rows = self.claimed.loc[np.isin(self.claimed["record"].to_numpy(), contested)].sort_index()
        handles: dict[int, dict[tuple[str, str], str]] = {int(record): {} for record in contested}
        for record, source, handle, field in zip(
            rows["record"], rows["source"], rows["handle"], rows["salesforce_field"], strict=True
        ):
            handles[record][source, handle] = field
        unreadable: dict[int, set[tuple[str, str]]] = {}
        for record, column, field in self.unreadable.itertuples(index=False):
            if record in handles:
                unreadable.setdefault(record, set()).add((column, field))
        return [
            Claim(
                record,
                None if self.target[record] == NONE else int(self.target[record]),
                handles[record],
                frozenset(unreadable.get(record, ())),
            )
            for record in handles
        ]

    def _holders(self, claims: Iterable[Claim]) -> dict[int, Holder]:
        claims = list(claims)
        records = np.array([claim.order for claim in claims])
        rows = self.target[records]
        involved = self.claimed.loc[np.isin(self.claimed["record"].to_numpy(), records), "owner"].to_numpy()
        involved = np.unique(np.concatenate([rows, involved]))
        involved = involved[involved != NONE]
        stored = self.stored_handles
        stored = stored.loc[np.isin(stored["row"].to_numpy(), involved)]
        handles: dict[int, dict[tuple[str, str], tuple[str, str] | None]] = {int(row): {} for row in involved}
        for row, source, handle, field, active in zip(
            stored["row"], stored["source"], stored["handle"], stored["salesforce_field"], stored["active"], strict=True
        ):
            handles[row][source, handle] = (source, field) if active else None
        return {row: Holder(bool(self.stored_is_linked[row]), handles[row]) for row in handles}

    def accept(self, decisions: dict[int, Decision]) -> None:
        for record, decision in decisions.items():
            if decision.collisions:
                self.skipped[record] = True
            elif self.target[record] == NONE and decision.contact is not None:
                self.target[record] = decision.contact
                self.linked_now[record] = True

    @property
    def created(self) -> Bools:
        return ~self.skipped & (self.target == NONE)


def follow_chains(merges: pa.Table) -> pd.DataFrame:
    """Each merged record (`loser`) with the record at the end of its chain (`winner`); a circle leads nowhere."""
    into = dict(zip(merges["loser"].to_pylist(), merges["winner"].to_pylist(), strict=True))
    ends = {}
    for loser in into:
        seen, end = {loser}, into[loser]
        while end in into and end not in seen:
            seen.add(end)
            end = into[end]
        if end not in into:
            ends[loser] = end
    return pd.DataFrame(
        {"loser": pd.Series(list(ends), dtype="str"), "winner": pd.Series(list(ends.values()), dtype="str")}
    )


# ------------------------------------------------------------------------------------------------------- the plan


def _write_plan(source: _Source, decisions: dict[int, Decision], *, whole_source: bool) -> Plan:
    handles, released = _handle_changes(source)
    writes, outcome = _writes(source, handles, released)
    return Plan(
        _outcomes(source, outcome),
        writes,
        handles,
        released,
        _stopped(source) if whole_source else _ids(np.array([], dtype=np.int64)),
        _errors(source, decisions),
    )


def _handle_changes(source: _Source) -> tuple[pa.Table, pa.Table]:
    """The handles to write and the handles given up, of the records that are not skipped (rule 4.10)."""
    claimed, stored = source.claimed, source.stored_handles
    record = claimed["record"].to_numpy()
    target = source.target[record]
    accepted = ~source.skipped[record]
    is_own = accepted & (target != NONE) & (claimed["owner"].to_numpy() == target)
    own = claimed.loc[is_own]
    remembered = stored.loc[own["stored_handle"].to_numpy()]
    unread = _is_unreadable(source, own["record"].to_numpy(), remembered)
    positions = {(column.source, column.salesforce_field): at for at, column in enumerate(source.columns.handles)}
    position_now = _positions(own, positions)
    stays = (
        (remembered["origin"].to_numpy() == "salesforce")
        & (
            (remembered["salesforce_field"].to_numpy() == own["salesforce_field"].to_numpy())
            # An earlier field of the mapping gave it and cannot be read now: it is still the one remembered.
            | (
                ((remembered["mapped"] & ~remembered["active"]).to_numpy() | unread)
                & (remembered["position"].to_numpy() < position_now)
            )
        )
    ).astype(bool)
    regiven = own.loc[~stays].assign(is_new=False)
    new = claimed.loc[accepted & ~is_own].assign(is_new=True)
    written = pd.concat([regiven, new])
    written_ids = source.target[written["record"].to_numpy()]
    return (
        pa.table(
            {
                "record": pa.array(written["record"].to_numpy(), pa.int32()),
                "id": _stored_ids(source, written_ids),
                "source": pa.array(written["source"], pa.string()),
                "handle": pa.array(written["handle"], pa.string()),
                "salesforce_field": pa.array(written["salesforce_field"], pa.string()),
                "is_new": pa.array(written["is_new"].to_numpy(dtype=bool)),
            }
        ),
        _released(source, own["stored_handle"].to_numpy()),
    )


def _released(source: _Source, claimed_again: Ints) -> pa.Table:
    stored = source.stored_handles
    by_row = np.full(len(source.stored_ids) + 1, NONE)
    filled = np.flatnonzero((source.target != NONE) & ~source.skipped)
    by_row[source.target[filled]] = filled
    record = by_row[stored["row"].to_numpy()]
    gives_up: Bools = stored["active"].to_numpy(dtype=bool) & (record != NONE)
    gives_up[claimed_again] = False
    candidates = stored.loc[gives_up]
    record = record[gives_up]
    read = ~_is_unreadable(source, record, candidates)
    candidates, record = candidates.loc[read], record[read]
    return pa.table(
        {
            "record": pa.array(record, pa.int32()),
            "id": pa.array(source.stored_ids[candidates["row"].to_numpy()], pa.int64()),
            "source": pa.array(candidates["source"], pa.string()),
            "handle": pa.array(candidates["handle"], pa.string()),
        }
    )


def _is_unreadable(source: _Source, record: Ints, stored: pd.DataFrame) -> Bools:
    """Whether the field that gave each stored handle could not be read now for the record that fills its contact."""
    asked = pd.DataFrame(
        {
            "record": record,
            "column": stored["source"].to_numpy(),
            "salesforce_field": stored["salesforce_field"].to_numpy(),
        }
    )
    unreadable = source.unreadable.drop_duplicates().assign(unread=True)
    found = asked.merge(unreadable, how="left", on=["record", "column", "salesforce_field"], validate="m:1")
    return found["unread"].notna().to_numpy()


def _positions(rows: pd.DataFrame, positions: dict[tuple[str, str], int]) -> Ints:
    pairs = rows[["source", "salesforce_field"]].drop_duplicates()
    pairs = pairs.assign(at=[positions[pair] for pair in zip(pairs["source"], pairs["salesforce_field"], strict=True)])
    return rows.merge(pairs, how="left", on=["source", "salesforce_field"], validate="m:1")["at"].to_numpy(
        dtype=np.int64
    )


def _writes(source: _Source, handles: pa.Table, released: pa.Table) -> tuple[pa.Table, npt.NDArray[np.object_]]:
    """What is written to each record that is created, linked or updated; and the outcome of every record."""
    accepted = np.flatnonzero(~source.skipped)
    target = source.target[accepted]
    is_created = target == NONE
    rows = pa.array(target, mask=is_created)
    stored = source.stored.records
    facts: dict[str, pa.Array] = {"record": pa.array(accepted, pa.int32()), "id": _stored_ids(source, target)}
    facts["old_external_id"] = stored["external_id"].combine_chunks().take(rows)
    row_changed = source.moved[accepted] | source.linked_now[accepted]
    row_changed |= pc.is_valid(stored["not_syncing_since"].combine_chunks().take(rows)).to_numpy(zero_copy_only=False)
    if source.columns.part is Part.CONTACTS:
        account_changed, accounts = _accounts(source, accepted, rows)
        facts |= accounts
        row_changed |= account_changed
    for column in source.columns.fields:
        old = _column(stored, column.name).take(rows)
        new = _keep_unreadable(
            source, column.name, accepted, _column(source.clean.records, column.name).take(facts["record"]), old
        )
        changed = _differ(new, old)
        facts |= {column.name: new, f"old {column.name}": old, f"changed {column.name}": changed}
        row_changed |= changed.to_numpy(zero_copy_only=False)
    facts["row_changed"] = pa.array(row_changed)
    touched = np.zeros(source.count, dtype=bool)
    touched[handles["record"].to_numpy()] = True
    touched[released["record"].to_numpy()] = True
    outcome = np.full(source.count, "error", dtype=object)
    outcome[accepted] = np.where(row_changed | touched[accepted], "updated", "unchanged")
    outcome[source.linked_now & ~source.skipped] = "linked"
    outcome[accepted[is_created]] = "created"
    facts["outcome"] = pa.array(outcome[accepted], pa.string())
    return pa.table(facts).filter(pa.array(outcome[accepted] != "unchanged")), outcome


def _accounts(source: _Source, accepted: Ints, rows: pa.Array) -> tuple[Bools, dict[str, pa.Array]]:
    """The account each contact belongs to (rule 5): the linked one, else the one that a person set."""
    known = source.stored.accounts.to_pandas().dropna(subset="external_id").rename(columns={"id": "account_id"})
    wanted = pd.DataFrame({"external_id": source.clean.records["account"].take(pa.array(accepted)).to_pandas()})
    synced = wanted.merge(known, how="left", on="external_id", validate="m:1")["account_id"]
    linked = pa.array(synced.astype("Int64"), pa.int64())
    stored = source.stored.records
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


def _keep_unreadable(source: _Source, name: str, accepted: Ints, new: pa.Array, old: pa.Array) -> pa.Array:
    """A value that could not be read leaves what is stored (rule 3.5)."""
    unread = source.unreadable.loc[source.unreadable["column"] == name, "record"].to_numpy()
    if not len(unread):
        return new
    mask = np.zeros(source.count, dtype=bool)
    mask[unread] = True
    return pc.if_else(pa.array(mask[accepted]), old, new)


def _outcomes(source: _Source, outcome: npt.NDArray[np.object_]) -> pa.Table:
    fields = source.columns
    filled = ~source.skipped & (source.target != NONE)
    by_handle = ~source.skipped & (source.linked_now | source.created)
    rule = np.where(source.moved & filled, "4.11", np.where(by_handle, "4.2", "4.1")).astype(object)
    if fields.part is Part.ACCOUNTS:
        rule = np.full(source.count, "5", dtype=object)
    found = source.claimed.loc[source.linked_now[source.claimed["record"].to_numpy()]]
    found = found.loc[found["owner"].to_numpy() == source.target[found["record"].to_numpy()]].drop_duplicates("record")
    sources = np.full(source.count, None, dtype=object)
    values = np.full(source.count, None, dtype=object)
    sources[found["record"].to_numpy()] = found["source"].to_numpy(dtype=object)
    values[found["record"].to_numpy()] = found["handle"].to_numpy(dtype=object)
    return pa.table(
        {
            "external_id": source.external_ids,
            "outcome": pa.array(outcome, pa.string()),
            "id": _stored_ids(source, source.target),
            "rule": pa.array(rule, pa.string()),
            "matched_source": pa.array(sources, pa.string()),
            "matched_handle": pa.array(values, pa.string()),
        }
    )


def _stopped(source: _Source) -> pa.Table:
    """Linked records that the whole source no longer holds and that do not say so yet (rule 2.6)."""
    here = np.zeros(len(source.stored_ids), dtype=bool)
    here[source.target[source.target != NONE]] = True
    says_so = pc.is_valid(source.stored.records["not_syncing_since"]).to_numpy()
    return _ids(source.stored_ids[source.stored_is_linked & ~here & ~says_so])


# ------------------------------------------------------------------------------------------------------ the errors


def _errors(source: _Source, decisions: dict[int, Decision]) -> pa.Table:
    rows = [_no_handle(source, int(record)) for record in np.flatnonzero(source.without_handle)]
    collided = {record: decision for record, decision in decisions.items() if decision.collisions}
    rows += _collision_errors(source, collided)
    schema = ERRORS_SCHEMA.append(pa.field("account", pa.string())).append(pa.field("holder_accounts", pa.string()))
    return pa.Table.from_pylist(rows, schema=schema)


def _no_handle(source: _Source, record: int) -> dict[str, str | None]:
    return {
        "code": "no_handle",
        "level": "contact",
        "external_id": source.external_ids[record].as_py(),
        "holders": "[]",
        "holder_accounts": "[]",
    }


def _collision_errors(source: _Source, collided: dict[int, Decision]) -> list[dict[str, str | None]]:
    """One error per skipped record: the code of its first colliding handle, every holder named (rule 4.13)."""
    filler = np.full(len(source.stored_ids) + 1, NONE)
    filled = np.flatnonzero((source.target != NONE) & ~source.skipped)
    filler[source.target[filled]] = filled
    fields = {
        (record, kind, handle): field
        for record, kind, handle, field in source.claimed.loc[
            np.isin(source.claimed["record"].to_numpy(), list(collided)),
            ["record", "source", "handle", "salesforce_field"],
        ].itertuples(index=False)
    }
    errors = []
    for record, decision in sorted(collided.items()):
        first = decision.collisions[0][0]
        holders = [_holder(source, handle, contact, filler) for handle, contact in decision.collisions]
        accounts = [holder.pop("account") for holder in holders]
        is_contact = source.columns.part is Part.CONTACTS
        errors.append(
            {
                "code": TAKEN_CODES.get(first[0], "handle_taken"),
                "level": "contact" if is_contact else "account",
                "external_id": source.external_ids[record].as_py(),
                "salesforce_field": fields[record, *first],
                "value": first[1],
                "detail": None,
                "holders": json.dumps(holders, ensure_ascii=False),
                "account": source.clean.records["account"][record].as_py() if is_contact else None,
                "holder_accounts": json.dumps(accounts),
            }
        )
    return errors


def _holder(source: _Source, handle: tuple[str, str], contact: int, filler: Ints) -> dict[str, str | int | None]:
    """Who holds `handle` in the end state: the stored record, where there is one, and the record it is linked to."""
    is_contact = source.columns.part is Part.CONTACTS
    record = -1 - contact if contact < 0 else int(filler[contact])
    stored_id = None if contact < 0 else int(source.stored_ids[contact])
    linked_to = source.external_ids[record] if record != NONE else source.stored.records["external_id"][contact]
    return {
        "contact_id" if is_contact else "account_id": stored_id,
        "external_id": linked_to.as_py(),
        "source": handle[0],
        "handle": handle[1],
        "account": _account_of(source, record, contact) if is_contact else None,
    }


def _account_of(source: _Source, record: int, contact: int) -> str | None:
    """The Salesforce id of the account that a holder belongs to."""
    if record != NONE:
        account: str | None = source.clean.records["account"][record].as_py()
        return account
    at = pc.index(source.stored.accounts["id"], source.stored.records["account_id"][contact]).as_py()
    return source.stored.accounts["external_id"][at].as_py() if at >= 0 else None


# ---------------------------------------------------------------------------------------------------------- arrays


def _column(table: pa.Table, name: str) -> pa.Array:
    column = table[name]
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _differ(one: pa.Array, other: pa.Array) -> pa.Array:
    """Where two arrays differ; null equals null."""
    return pc.or_(pc.xor(pc.is_null(one), pc.is_null(other)), pc.fill_null(pc.not_equal(one, other), False))


def _stored_ids(source: _Source, rows: Ints) -> pa.Array:
    safe = np.where(rows == NONE, 0, rows)
    ids = source.stored_ids[safe] if len(source.stored_ids) else np.zeros(len(rows), dtype=np.int64)
    return pa.array(ids, pa.int64(), mask=rows == NONE)


def _ids(ids: Ints) -> pa.Table:
    return pa.table({"id": pa.array(ids, pa.int64())})
