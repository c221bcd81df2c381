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
        self.givers = {(column.source, column.salesforce_field): at for at, column in enumerate(columns.handles)}
        # One more than there are, so that NONE finds "not active".
        self.giver_is_active: Bools = np.array([*(not column.missing for column in columns.handles), False])
        self.unreadable = clean.unreadable.to_pandas()
        unread = self.unreadable.rename(columns={"column": "source"})
        self._unreadable_handles: Ints = unread["record"].to_numpy(dtype=np.int64) * len(
            self.giver_is_active
        ) + self._givers_of(unread)

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
        merged = pa.array([*winners["loser"], *winners["winner"]], pa.string())
        is_merged = pc.is_in(self.external_ids, value_set=merged).to_numpy()
        sources = ours.assign(record=np.arange(self.count)).loc[is_merged]
        links = links.loc[
            pc.is_in(pa.array(links["external_id"], pa.string()), value_set=merged).to_numpy(zero_copy_only=False)
        ]
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
        """Who owns each handle that was read, and which field gave each stored handle."""
        stored, claimed = self.stored.handles.to_pandas(), self.clean.handles.to_pandas()
        stored["row"] = np.searchsorted(self.stored_ids, stored["record_id"].to_numpy(dtype=np.int64))
        stored["giver"] = self._givers_of(stored)
        claimed["giver"] = self._givers_of(claimed)
        # Joined on numbers: pandas finds them several times as fast as two columns of text.
        numbers = _number_handles(pd.concat([stored[["source", "handle"]], claimed[["source", "handle"]]]))
        stored["number"], claimed["number"] = numbers[: len(stored)], numbers[len(stored) :]
        stored["stored_handle"] = np.arange(len(stored))
        owners = stored[["number", "row", "stored_handle"]].rename(columns={"row": "owner"})
        claimed = claimed.merge(owners, how="left", on="number", validate="m:1")
        claimed[["owner", "stored_handle"]] = claimed[["owner", "stored_handle"]].fillna(NONE).astype(np.int64)
        self.stored_handles, self.claimed = stored, claimed
        self._mark_kept()

    def _givers_of(self, handles: pd.DataFrame) -> Ints:
        """The place in the mapping of the field that gave each handle; NONE where it is not mapped to such a handle."""
        sources, source_names = pd.factorize(handles["source"])
        fields, field_names = pd.factorize(handles["salesforce_field"])
        places = np.full((len(source_names) + 1, len(field_names) + 1), NONE)
        for (source, field), place in self.givers.items():
            if source in source_names and field in field_names:
                places[source_names.get_loc(source), field_names.get_loc(field)] = place
        return places[sources, fields]

    def _mark_kept(self) -> None:
        """Of the handles of linked records: what a missing or an unreadable field gave before (rules 3.3 and 3.6)."""
        by_row = np.full(len(self.stored_ids) + 1, NONE)
        filled = np.flatnonzero(self.target != NONE)
        by_row[self.target[filled]] = filled
        record = by_row[self.stored_handles["row"].to_numpy()]
        self.kept_for_record = record[self.stays_unread(record, self.stored_handles["giver"].to_numpy())]

    def stays_unread(self, record: Ints, giver: Ints) -> Bools:
        """Whether what the field gave before stays, because it is missing or cannot be read now for the record."""
        missing = (giver != NONE) & ~self.giver_is_active[giver]
        unreadable = np.isin(record * len(self.giver_is_active) + giver, self._unreadable_handles) & (giver != NONE)
        return (record != NONE) & (missing | unreadable)

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
        contested[record[claimed["number"].duplicated(keep=False).to_numpy()]] = True
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
            stored["row"],
            stored["source"],
            stored["handle"],
            stored["salesforce_field"],
            self.giver_is_active[stored["giver"].to_numpy()],
            strict=True,
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


def _number_handles(handles: pd.DataFrame) -> Ints:
    """A number for each pair of source and handle, equal where both are equal."""
    sources, source_names = pd.factorize(handles["source"])
    values, _ = pd.factorize(handles["handle"])
    return values.astype(np.int64) * (len(source_names) + 1) + sources


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
