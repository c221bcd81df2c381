"""Decides which stored contact each source contact belongs to, and what changes (rules 4 and 5). Pure.

Whoever has its handles already is set aside; the joins find every other record that nothing stands in the way of;
the few that collide with another record or another contact go to `claims`, which settles them exactly as rule 4.9
says. `plan` then writes down every outcome and every change. Accounts take the same path as contacts: their handles
are domains.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync.arrays import NONE, Bools, Ints, SmallInts, coded, pair_places
from include.contact_sync.claims import Claim, Holder, settle
from include.contact_sync.columns import Columns
from include.contact_sync.plan import Plan, write_plan
from include.contact_sync.transform import CleanRecords


@dataclass(frozen=True)
class StoredRecords:
    """What matching needs of the store.

    Attributes:
        records: `id`, `external_id`, `not_syncing_since` (only whether it is null counts), the value columns of
            `Columns.fields` (custom fields and links as JSON text), for contacts `account_id` and
            `synced_account_id`; ordered by `id`.
        handles: `record_id`, `source`, `handle`, and `salesforce_field` where Salesforce gave it.
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
    with ThreadPoolExecutor(1, thread_name_prefix="match") as beside:
        placed = beside.submit(matching.place_stored_handles)
        matching.find_linked()
        placed.result()
    matching.set_aside_those_who_have_their_handles()
    matching.find_owners()
    matching.leave_out_records_without_handle()
    matching.settle_contested()
    return write_plan(matching, whole_source=whole_source)


class Matching:
    """The source records and what matching has found out about them, as arrays over the records' rows.

    Attributes:
        stored_handles: a row for each row of `stored.handles`: `row` of the record, `giver`.
            A giver is the place of a field in the mapping.
        set_aside: linked records whose handles are those that Salesforce gave their contact already.
        handles: what was read in `clean.handles`, without the handles of those set aside.
        claimed: a row for each row of `handles`: `record`, `giver`, `number` (it stands for a pair of source and value),
            `owner` (the row of the stored record that owns it, or NONE), `stored_handle` (its row there, or NONE).
        target: the row of the stored record that each source record is linked to, or fills; NONE for a new one.
        filler: the source record that is linked to each stored record; NONE where there is none.
        moved: whether the link moves here from a record that Salesforce merged into this one (rule 4.11).
        collisions: why records are skipped: `record`, `claim` (row of `claimed`), `holder` (the row of the stored record
            that holds the handle in the end state; one that this run creates has the number -1 - record); in order.
    """

    def __init__(self, clean: CleanRecords, stored: StoredRecords, columns: Columns) -> None:
        self.clean = clean
        self.stored = stored
        self.columns = columns
        self.external_ids = clean.records["external_id"]
        self.count = clean.records.num_rows
        self.stored_ids: Ints = stored.records["id"].to_numpy().astype(np.int64)
        self.stored_is_linked: Bools = pc.is_valid(stored.records["external_id"]).to_numpy().astype(bool)
        self.target: Ints = np.full(self.count, NONE)
        self.filler: Ints = np.full(len(self.stored_ids) + 1, NONE)
        self.moved: Bools = np.zeros(self.count, dtype=bool)
        self.set_aside: Bools = np.zeros(self.count, dtype=bool)
        self.skipped: Bools = np.zeros(self.count, dtype=bool)
        self.linked_now: Bools = np.zeros(self.count, dtype=bool)
        self.without_handle: Bools = np.zeros(self.count, dtype=bool)
        self.givers = [(column.source, column.salesforce_field) for column in columns.handles]
        # One more than there are, so that NONE finds "not active".
        self.giver_is_active: Bools = np.array([*(not column.missing for column in columns.handles), False])
        self.unreadable = clean.unreadable.to_pandas()
        unread = clean.unreadable.rename_columns({"column": "source"})
        self._unreadable_handles: Ints = np.unique(
            self.unreadable["record"].to_numpy(dtype=np.int64) * len(self.giver_is_active) + self._givers_of(unread)
        )

    # ------------------------------------------------------------------------------------------ links and merges

    def find_linked(self) -> None:
        """Rule 4.1, and rule 4.11 for those whose contact is still linked to a record merged into them."""
        place = pc.index_in(self.stored.records["external_id"], value_set=self.external_ids)
        linked = np.flatnonzero(pc.is_valid(place).to_numpy())
        self.target[place.drop_null().to_numpy()] = linked
        self._follow_merges()
        linked_here = np.flatnonzero(self.target != NONE)
        self.filler[self.target[linked_here]] = linked_here

    def _follow_merges(self) -> None:
        winners = follow_chains(self.stored.merges)
        if winners.empty:
            return
        links = _rows_of(self.stored.records["external_id"], pa.array(winners["loser"], pa.string()), "row")
        if links.empty:
            return
        merged = pa.array([*winners["loser"], *winners["winner"]], pa.string())
        sources = _rows_of(self.external_ids, merged, "record")
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

    def place_stored_handles(self) -> None:
        """Whose handle each is, and which field of the mapping gave it."""
        stored = self.stored.handles
        row = np.searchsorted(self.stored_ids, stored["record_id"].to_numpy())
        self.stored_handles = pd.DataFrame({"row": row, "giver": self._givers_of(stored)})

    def set_aside_those_who_have_their_handles(self) -> None:
        """Who wants nothing and gives nothing up is accepted whatever the others do, and its contact keeps what it has.

        That is nearly everybody on an ordinary night; nobody's handles need to be looked for among all others' then.
        """
        stored, read = self.stored.handles, self.clean.handles
        row, giver = self.stored_handles["row"].to_numpy(), self.stored_handles["giver"].to_numpy()
        self.handles = read
        if not (self.target != NONE).any():
            return
        kinds = len(self.giver_is_active)
        has = np.flatnonzero(self.giver_is_active[giver] & (self.filler[row] != NONE))
        holder = self.filler[row[has]]
        place = np.full(self.count * kinds, NONE, dtype=np.int32)
        place[holder * kinds + giver[has]] = has
        record = read["record"].to_numpy().astype(np.int64)
        known = place[record * kinds + self._givers_of(read)]
        texts = stored["handle"].take(pa.array(known, mask=known == NONE))
        is_known = pc.fill_null(pc.equal(texts, read["handle"]), False).to_numpy()
        has_all = self.target != NONE
        has_all[record[~is_known]] = False
        # A field gives a record one handle at most: as many as it has are all that it has.
        has_all &= np.bincount(record, minlength=self.count) == np.bincount(holder, minlength=self.count)
        self.set_aside = has_all
        self.handles = read.filter(pa.array(~has_all[record]))

    def find_owners(self) -> None:
        """Who owns each handle that is wanted."""
        stored, claimed = self.stored.handles, self.handles
        rivals = np.arange(stored.num_rows)
        if claimed.num_rows < stored.num_rows:  # else it takes longer to leave some out
            rivals = np.flatnonzero(pc.is_in(stored["handle"], value_set=claimed["handle"]).to_numpy())
            stored = stored.take(pa.array(rivals))
        stored_numbers, claimed_numbers = _number_handles(stored, claimed)
        stored_handle = _look_up(claimed_numbers, pd.Index(stored_numbers), rivals)
        row = self.stored_handles["row"].to_numpy()
        self.claimed = pd.DataFrame(
            {
                "record": claimed["record"].to_numpy().astype(np.int64),
                "giver": self._givers_of(claimed),
                "number": claimed_numbers,
                "owner": np.append(row, NONE)[stored_handle],
                "stored_handle": stored_handle,
            }
        )
        record = self.filler[row]
        self.kept_for_record = record[self.stays_unread(record, self.stored_handles["giver"].to_numpy())]

    def _givers_of(self, handles: pa.Table) -> SmallInts:
        """The place in the mapping of the field that gave each handle; NONE where it is not mapped to such a handle."""
        return pair_places(handles["source"], handles["salesforce_field"], self.givers)

    def stays_unread(self, record: Ints, giver: SmallInts) -> Bools:
        """Whether what the field gave before stays, because it is missing or cannot be read now for the record."""
        missing = (giver != NONE) & ~self.giver_is_active[giver]
        unreadable = np.zeros(len(record), dtype=bool)
        if len(self._unreadable_handles):
            unreadable = np.isin(record * len(self.giver_is_active) + giver, self._unreadable_handles) & (giver != NONE)
        return (record != NONE) & (missing | unreadable)

    def leave_out_records_without_handle(self) -> None:
        """Rules 4.3 and 4.4."""
        if not self.columns.handle_is_needed:
            return
        has_handle = np.zeros(self.count, dtype=bool)
        has_handle[self.clean.handles["record"].to_numpy()] = True
        has_handle[self.kept_for_record] = True
        if not self.columns.handles:
            has_handle |= self.target != NONE
        self.without_handle = ~has_handle
        self.skipped |= self.without_handle

    # ---------------------------------------------------------------------------------------------- collisions

    def settle_contested(self) -> None:
        """Find the records that could collide; everything else is accepted as it stands (rule 4.2).

        Those that collide whatever the others do are skipped first; what is still contested then is settled exactly.
        """
        record = self.claimed["record"].to_numpy()
        owner = self.claimed["owner"].to_numpy()
        number = self.claimed["number"].to_numpy()
        is_foreign = (owner != NONE) & (owner != self.target[record])
        several_claim_it = self.claimed["number"].duplicated(keep=False).to_numpy()
        self._skip_the_hopeless(is_foreign, several_claim_it)
        is_left = ~self.skipped[record]
        is_foreign &= is_left
        shared = np.flatnonzero(several_claim_it & is_left)
        shared = shared[pd.Series(number[shared]).duplicated(keep=False).to_numpy()]
        contested = np.zeros(self.count, dtype=bool)
        contested[record[shared]] = True
        contested[record[is_foreign & (self.target[record] != NONE)]] = True
        found = self._found_by_handle(self.claimed.loc[is_foreign & (self.target[record] == NONE), ["record", "owner"]])
        contested[found.loc[~found["is_clear"], "record"].to_numpy()] = True
        self._widen(contested, record, owner, is_foreign)
        clear = found.loc[found["is_clear"].to_numpy() & ~contested[found["record"].to_numpy()]]
        self.target[clear["record"].to_numpy()] = clear["owner"].to_numpy()
        self.linked_now[clear["record"].to_numpy()] = True
        if contested.any():
            self._settle(contested)

    def _skip_the_hopeless(self, is_foreign: Bools, several_claim_it: Bools) -> None:
        """Skip the unlinked records that want a handle which another record has for certain, and nothing in doubt.

        Their claims are never accepted in any round of rule 4.9, so that nobody else's outcome depends on them. In an
        ordinary organisation this is almost everybody who collides at all.
        """
        record = self.claimed["record"].to_numpy()
        owner = self.claimed["owner"].to_numpy()
        foreign, shared = np.flatnonzero(is_foreign), np.flatnonzero(several_claim_it & (owner == NONE))
        first = self._first_claims(shared)
        is_certain = self._is_certain(record, foreign, shared[first != shared])
        stays = self._stays_for_certain(foreign)
        lost = (first != shared) & is_certain[record[first]]
        winner = record[first[lost]]
        winning = np.where(self.target[winner] == NONE, NONE - winner, self.target[winner])
        in_doubt = self.target != NONE
        in_doubt[record[foreign[~stays]]] = True
        in_doubt[record[shared[~lost]]] = True
        claim = np.concatenate([foreign[stays], shared[lost]])
        holder = np.concatenate([owner[foreign[stays]], winning])
        hopeless = ~in_doubt[record[claim]]
        self.collisions = _collisions(record[claim[hopeless]], claim[hopeless], holder[hopeless])
        self.skipped[record[claim[hopeless]]] = True

    def _first_claims(self, shared: Ints) -> Ints:
        """For each of these claims the one of the same handle that comes first in the order of rule 4.8."""
        record = self.claimed["record"].to_numpy()[shared]
        claims = pd.DataFrame(
            {
                "number": self.claimed["number"].to_numpy()[shared],
                "order": record + np.where(self.target[record] == NONE, self.count, 0),
                "claim": shared,
            }
        )
        first = claims.sort_values("order").drop_duplicates("number")
        return claims.merge(first, how="left", on="number", validate="m:1")["claim_y"].to_numpy(dtype=np.int64)

    def _is_certain(self, record: Ints, foreign: Ints, later: Ints) -> Bools:
        """Whether a record is accepted whatever the others do: it wants nobody's handle and always comes first."""
        certain = np.ones(self.count, dtype=bool)
        certain[record[foreign]] = False
        certain[record[later]] = False
        return certain

    def _stays_for_certain(self, foreign: Ints) -> Bools:
        """Whether the owner of the handle that each of these claims wants keeps it whatever happens."""
        wanted = self.claimed["stored_handle"].to_numpy()[foreign]
        row = self.stored_handles["row"].to_numpy()[wanted]
        giver = self.stored_handles["giver"].to_numpy()[wanted]
        record = self.filler[row]
        claimed_again = np.zeros(len(self.stored_handles) + 1, dtype=bool)
        is_own = self.claimed["owner"].to_numpy() == self.target[self.claimed["record"].to_numpy()]
        claimed_again[self.claimed["stored_handle"].to_numpy()[is_own]] = True
        may_go = (record != NONE) & ~self.without_handle[record] & self.giver_is_active[giver]
        may_go &= ~self.set_aside[record]
        may_go &= ~self.stays_unread(record, giver) & ~claimed_again[wanted]
        return self.stored_is_linked[row] & ~may_go

    def _found_by_handle(self, found: pd.DataFrame) -> pd.DataFrame:
        """Unlinked records and the contacts that own their handles; clear: one unlinked contact that nobody else wants."""
        pairs = found.drop_duplicates()
        alone = ~pairs.duplicated("record", keep=False) & ~pairs.duplicated("owner", keep=False)
        return pairs.assign(is_clear=alone & ~self.stored_is_linked[pairs["owner"].to_numpy()])

    def _widen(self, contested: Bools, record: Ints, owner: Ints, is_foreign: Bools) -> None:
        """Who fills a contact that a contested record wants something of is contested too."""
        wanted = np.zeros(len(self.stored_ids) + 1, dtype=bool)
        wanted[owner[is_foreign & contested[record]]] = True
        contested |= (self.target != NONE) & wanted[self.target] & ~self.skipped & ~self.set_aside
        wants_wanted = is_foreign & wanted[owner]
        contested[record[wants_wanted]] = True

    def _settle(self, is_contested: Bools) -> None:
        """Settle these records among themselves, exactly as rule 4.9 says."""
        contested = np.flatnonzero(is_contested)
        rows = np.flatnonzero(is_contested[self.claimed["record"].to_numpy()])
        claims, claim_of = self._claims(contested, rows)
        collided = []
        for record, decision in settle(claims, self._holders(contested, rows)).items():
            if decision.collisions:
                collided += [(record, claim_of[record, handle], holder) for handle, holder in decision.collisions]
            elif self.target[record] == NONE and decision.contact is not None:
                self.target[record] = decision.contact
                self.linked_now[record] = True
        if collided:
            # A contact that a round creates has the number -1 - order, and a record's order is its row.
            settled = _collisions(*zip(*collided, strict=True))
            self.skipped[settled["record"].to_numpy()] = True
            self.collisions = pd.concat([self.collisions, settled])

    def _claims(self, contested: Ints, rows: Ints) -> tuple[list[Claim], dict[tuple[int, tuple[str, str]], int]]:
        """The claims of these records, and the row of `claimed` of each of their handles."""
        read = self.handles.take(pa.array(rows))
        handles: dict[int, dict[tuple[str, str], str]] = {int(record): {} for record in contested}
        claim_of = {}
        columns = ("record", "source", "handle", "salesforce_field")
        for row, record, source, handle, field in zip(
            rows.tolist(), *(read[name].to_pylist() for name in columns), strict=True
        ):
            handles[record][source, handle] = field
            claim_of[record, (source, handle)] = row
        unreadable: dict[int, set[tuple[str, str]]] = {}
        for record, column, field in self.unreadable.itertuples(index=False):
            if record in handles:
                unreadable.setdefault(record, set()).add((column, field))
        claims = [
            Claim(
                record,
                None if self.target[record] == NONE else int(self.target[record]),
                handles[record],
                frozenset(unreadable.get(record, ())),
            )
            for record in handles
        ]
        return claims, claim_of

    def _holders(self, contested: Ints, rows: Ints) -> dict[int, Holder]:
        """The stored records that these are linked to, or that own one of their handles."""
        involved = np.unique(np.concatenate([self.target[contested], self.claimed["owner"].to_numpy()[rows]]))
        involved = involved[involved != NONE]
        is_involved = np.zeros(len(self.stored_ids) + 1, dtype=bool)
        is_involved[involved] = True
        owned = np.flatnonzero(is_involved[self.stored_handles["row"].to_numpy()])
        texts = self.stored.handles.take(pa.array(owned))
        handles: dict[int, dict[tuple[str, str], tuple[str, str] | None]] = {int(row): {} for row in involved}
        for row, active, source, handle, field in zip(
            self.stored_handles["row"].to_numpy()[owned].tolist(),
            self.giver_is_active[self.stored_handles["giver"].to_numpy()[owned]].tolist(),
            *(texts[name].to_pylist() for name in ("source", "handle", "salesforce_field")),
            strict=True,
        ):
            handles[row][source, handle] = (source, field) if active else None
        return {row: Holder(bool(self.stored_is_linked[row]), handles[row]) for row in handles}

    @property
    def created(self) -> Bools:
        return ~self.skipped & (self.target == NONE)


def _collisions(record: npt.ArrayLike, claim: npt.ArrayLike, holder: npt.ArrayLike) -> pd.DataFrame:
    return pd.DataFrame({"record": record, "claim": claim, "holder": holder})


# ------------------------------------------------------------------------------------------------ texts as numbers


def _numbered(*columns: pa.ChunkedArray) -> list[SmallInts]:
    """Each column with a number for every text, equal wherever the texts are, in whichever column; NONE for null."""
    chunks = [chunk.cast(pa.string()) for column in columns for chunk in column.chunks]
    codes, _ = coded(pa.chunked_array(chunks, pa.string()))
    return np.split(codes, np.cumsum([len(column) for column in columns])[:-1])


def _look_up(numbers: Ints, index: pd.Index, values: Ints) -> Ints:
    """Join `numbers` to the index, each of whose numbers stands there once, and return the value beside it, or NONE.

    pandas finds numbers several times as fast as texts, and an index as fast again as columns.
    """
    return np.append(values, NONE)[index.get_indexer(pd.Index(numbers))]


def _number_handles(*tables: pa.Table) -> list[Ints]:
    """For each table of handles a number for every pair of source and value, equal where both are."""
    sources = _numbered(*(table["source"] for table in tables))
    handles = _numbered(*(table["handle"] for table in tables))
    kinds = 1 + max((int(codes.max()) for codes in sources if len(codes)), default=0)
    return [handle.astype(np.int64) * kinds + source for handle, source in zip(handles, sources, strict=True)]


def _rows_of(ids: pa.ChunkedArray, wanted: pa.Array, name: str) -> pd.DataFrame:
    """Where the wanted ids stand: `external_id` and the row, called `name`."""
    rows = pc.indices_nonzero(pc.is_in(ids, value_set=wanted)).cast(pa.int64())
    return pd.DataFrame({"external_id": ids.take(rows).to_pandas(), name: rows.to_numpy()})


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
    return pd.DataFrame(ends.items(), columns=["loser", "winner"])
