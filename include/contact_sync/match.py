"""Decides which stored contact each source contact belongs to, and what changes (rules 4 and 5). Pure.

The joins find every record that nothing stands in the way of; the few that collide with another record or
another contact go to `claims`, which settles them exactly as rule 4.9 says. `plan` then writes down every outcome
and every change. Accounts take the same path as contacts: their handles are domains.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync.claims import Claim, Decision, Holder, settle
from include.contact_sync.columns import Columns
from include.contact_sync.plan import NONE, Bools, Ints, Plan, write_plan
from include.contact_sync.transform import CleanRecords


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


def match(clean: CleanRecords, stored: StoredRecords, columns: Columns, *, whole_source: bool) -> Plan:
    """Judge every source record against the store as it is.

    Args:
        whole_source: whether the run read the whole source; only then a record can be said to have left it.
    """
    matching = Matching(clean, stored, columns)
    matching.find_linked()
    matching.find_owners()
    matching.leave_out_records_without_handle()
    decisions = matching.settle_contested()
    matching.accept(decisions)
    return write_plan(matching, decisions, whole_source=whole_source)


class Matching:
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
