"""Defects of matching and of what comes before it, looked for on small worlds, in memory."""

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from include.contact_sync import claims, match, plan, reread, transform
from include.contact_sync.arrays import join_present, json_strings, wrapped
from include.contact_sync.columns import Columns, Part, ValueColumn
from include.contact_sync.settings import Settings
from tests.contact_sync import agreement, worlds
from tests.contact_sync.specification import World
from tests.contact_sync.worlds import batch_of_worlds
from tests.proof import prove_matching
from tests.proof.conftest import Score
from tests.proof.seeded.defect import Broken, Defect, Invariant, always, instead, without

ENOUGH_BATCHES = 60
FEWER_WORLDS = 40
"""At once, and still more than a hundred contacts."""

ANSWERS = "section 4: outcome, code and holders"
AFTERWARDS = "section 4: the store afterwards"
SHARED = "rule 4.9: no two contacts share a handle or a link"
IN_VAIN = "rule 4.9: no skipped contact could be synced against the end state"
WRITES_NOTHING = "rule 4.12: a second run writes nothing"
SAME_ERRORS = "rule 4.12: a second run has the same errors, all else is unchanged"


# ---------------------------------------------------------------------------------------------------------- scenes


def small_worlds(monkeypatch: pytest.MonkeyPatch, wanted: str | None) -> None:
    """Batches of worlds until the wanted rule is broken; every rule that was broken by then is told."""
    broken: list[str] = []
    monkeypatch.setattr(agreement, "_same", noting(broken))
    monkeypatch.setattr(agreement, "plan_for", on_sound_stores(agreement.plan_for))
    for number in range(ENOUGH_BATCHES if wanted else 4):
        try:
            agreement.judge_together(batch_of_worlds(number, 40), Random(number))
        except Broken as found:
            broken += found.checks
        if wanted in broken:
            break
    if broken:
        raise Broken(broken)


def noting(broken: list[str]) -> Callable[..., None]:
    """Go on after a rule that is broken."""

    def note(rule: str, _: object, expected: object, found: object) -> None:
        if expected != found:
            broken.append(rule)

    return note


def on_sound_stores(plan_for: Callable[..., Any]) -> Callable[..., Any]:
    """There is no second run on a store in which two contacts share a handle."""

    def planned(world: World, *more: Any) -> Any:
        if agreement.shared(world.store):
            raise Broken([SHARED])
        return plan_for(world, *more)

    return planned


def any_order_and_any_pages(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_matching, "IN_A_BATCH", FEWER_WORLDS)
    monkeypatch.setattr(prove_matching, "BATCHES", ENOUGH_BATCHES)
    prove_matching.test_any_order_and_any_page_size_give_the_same_plan(score)


def a_stranger(score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prove_matching, "IN_A_BATCH", FEWER_WORLDS)
    monkeypatch.setattr(prove_matching, "BATCHES", ENOUGH_BATCHES)
    prove_matching.test_an_unrelated_contact_changes_nothing_else(score)


SAME_PLAN = "test_any_order_and_any_page_size_give_the_same_plan: assert rows_of(again) == plan"
SAME_ANSWERS = "test_an_unrelated_contact_changes_nothing_else: assert after == before"


# --------------------------------------------------------------------------------------------------------- defects


def only_one_step(original: Any) -> Any:
    return lambda merges: merges.to_pandas().drop_duplicates("loser")


def never_unreadable(original: Any) -> Any:
    return lambda self, record, giver: np.zeros(len(record), dtype=bool)


def takes_the_first_owner(original: Any) -> Any:
    def found_by_handle(self: Any, found: pd.DataFrame) -> pd.DataFrame:
        pairs = found.drop_duplicates("record")
        alone = ~pairs.duplicated("owner", keep=False)
        return pairs.assign(is_clear=alone & ~self.stored_is_linked[pairs["owner"].to_numpy()])

    return found_by_handle


def takes_from_linked_contacts(original: Any) -> Any:
    def found_by_handle(self: Any, found: pd.DataFrame) -> pd.DataFrame:
        pairs = original(self, found)
        return pairs.assign(is_clear=~pairs.duplicated("record", keep=False) & ~pairs.duplicated("owner", keep=False))

    return found_by_handle


def one_round(original: Any) -> Any:
    def settle_group(group: Any, holders: Any) -> Any:
        round_ = claims._Round(group, holders)
        round_.skip_collisions()
        end = round_.end_state()
        round_.admit_where_there_is_room(end)
        return {
            claim.order: claims.Decision(round_.target[claim.order])
            if claim.order in round_.accepted
            else claims.Decision(None, tuple(end.collisions(claim)))
            for claim in group
        }

    return settle_group


def unlinked_come_first(original: Any) -> Any:
    class Shuffled(claims._Round):
        def __init__(self, group: list[claims.Claim], holders: Any) -> None:
            super().__init__(sorted(group, key=lambda claim: (claim.contact is not None, claim.order)), holders)

    return Shuffled


def higher_ids_come_first(original: Any) -> Any:
    class Shuffled(claims._Round):
        def __init__(self, group: list[claims.Claim], holders: Any) -> None:
            super().__init__(sorted(group, key=lambda claim: (claim.contact is None, -claim.order)), holders)

    return Shuffled


def one_pass(original: Any) -> Any:
    def skip_collisions(self: Any) -> None:
        for place in range(len(self.claims)):
            self._look_at(place)

    return skip_collisions


def until_nobody_is_skipped(original: Any) -> Any:
    def skip_collisions(self: Any) -> None:
        before = None
        while before != len(self.accepted):
            before = len(self.accepted)
            one_pass(original)(self)

    return skip_collisions


def last_field_remembered(original: Any) -> Any:
    return lambda tables: original(tables[::-1])


def names_one_holder(original: Any) -> Any:
    return lambda self, claim: original(self, claim)[:1]


def everything_stays(original: Any) -> Any:
    return lambda self, foreign: np.ones(len(foreign), dtype=bool)


def everybody_is_certain(original: Any) -> Any:
    return lambda self, record, foreign, later: np.ones(self.count, dtype=bool)


def takes_persons_handles_away(original: Any) -> Any:
    def find_owners(self: Any) -> None:
        original(self)
        giver = self.stored_handles["giver"]
        self.stored_handles = self.stored_handles.assign(giver=giver.where(giver != match.NONE, 0))

    return find_owners


def sets_aside_who_is_linked(original: Any) -> Any:
    def set_aside(self: Any) -> None:
        original(self)
        self.set_aside = self.target != match.NONE
        self.handles = self.handles.filter(pa.array(~self.set_aside[self.handles["record"].to_numpy()]))

    return set_aside


def sets_aside_who_gives_something_up(original: Any) -> Any:
    def find_owners(self: Any) -> None:
        original(self)
        record, owner = self.claimed["record"].to_numpy(), self.claimed["owner"].to_numpy()
        self.set_aside = self.target != match.NONE
        self.set_aside[record[owner != self.target[record]]] = False
        is_left = ~self.set_aside[record]
        self.handles = self.handles.filter(pa.array(is_left))
        self.claimed = self.claimed.loc[is_left].reset_index(drop=True)

    return find_owners


def forgets_who_is_set_aside(original: Any) -> Any:
    def find_owners(self: Any) -> None:
        original(self)
        holder = self.filler[self.claimed["owner"].to_numpy()]
        is_forgotten = (holder != match.NONE) & self.set_aside[holder]
        for column in ("owner", "stored_handle"):
            self.claimed[column] = self.claimed[column].mask(is_forgotten, match.NONE)

    return find_owners


def settles_who_is_set_aside(original: Any) -> Any:
    def widen(self: Any, *contested: Any) -> None:
        set_aside, self.set_aside = self.set_aside, np.zeros_like(self.set_aside)
        original(self, *contested)
        self.set_aside = set_aside

    return widen


def rewrites_everything(original: Any) -> Any:
    return lambda source, accepted, rows: (np.ones(len(accepted), dtype=bool), original(source, accepted, rows)[1])


def as_typed(original: Any) -> Any:
    return lambda texts: texts


def reads_kind_as_typed(kind: str) -> Any:
    return instead(transform, "_HANDLE_READERS", lambda readers: readers | {kind: as_typed(readers)})


def forgets_extensions(original: Any) -> Any:
    return lambda found, region: [text and text.partition(";")[0] for text in original(found, region)]


def but_for_the_last_column(original: Any) -> Any:
    return lambda some, others, place: original(
        some.select(some.column_names[:-1]), others.select(some.column_names[:-1]), place
    )


def but_for_what_was_removed(original: Any) -> Any:
    def same(some: pa.Table, others: pa.Table, place: pa.Array | None) -> Any:
        beside = others if place is None else others.take(place)
        kept = [pc.coalesce(some[name], beside[name]) for name in some.column_names]
        return original(pa.table(kept, names=some.column_names), others, place)

    return same


def where_it_stood(original: Any) -> Any:
    return lambda records, before, now: [before, *original(records, before, now)[1:]]


def as_they_come(original: Any) -> Any:
    def transformed(snapshot: pa.Table, *more: Any) -> Any:
        numbers = pa.array([f"{at:09d}" for at in range(snapshot.num_rows)])
        clean = original(snapshot.set_column(0, "Id", numbers), *more)
        return replace(clean, records=clean.records.set_column(0, "external_id", snapshot["Id"]))

    return transformed


def first_page_only(original: Any) -> Any:
    return lambda snapshot, *more: original(pa.Table.from_batches(snapshot.to_batches()[:1], snapshot.schema), *more)


def handles_of_a_hundred(original: Any) -> Any:
    def transformed(snapshot: pa.Table, *more: Any) -> Any:
        clean = original(snapshot, *more)
        return replace(clean, handles=clean.handles.filter(pc.less(clean.handles["record"], 100)))

    return transformed


def links_of_the_fields_that_are_there(original: Any) -> Any:
    def resolved(part: Part, settings: Settings, types: dict[str, str], missing: set[str]) -> Columns:
        columns: Columns = original(part, settings, types, missing)
        feeding = [line.salesforce_field for line in settings.contacts.mapping if line.field == "url"]
        there = tuple(name for name in feeding if name not in missing)
        if not there or len(there) == len(feeding):
            return columns
        return replace(columns, fields=(*columns.fields, ValueColumn("links", there, ("string",) * len(there))))

    return resolved


def each_link_as_often_as_given(original: Any) -> Any:
    return lambda fields: wrapped("[", join_present([json_strings(field) for field in fields]), "]")


def empties_what_it_cannot_read(original: Any) -> Any:
    return lambda matching, name, accepted, new, old: new


def keeps_what_is_empty_now(original: Any) -> Any:
    return lambda matching, name, accepted, new, old: pc.coalesce(original(matching, name, accepted, new, old), old)


def with_account(chosen: Callable[[dict[str, pa.Array]], pa.Array]) -> Callable[[Any], Any]:
    """Contacts belong to another account than they should."""

    def defect(original: Any) -> Any:
        def accounts(*arguments: Any) -> Any:
            changed, facts = original(*arguments)
            return changed, facts | {"account_id": chosen(facts)}

        return accounts

    return defect


def the_synced_one(facts: dict[str, pa.Array]) -> pa.Array:
    return facts["synced_account_id"]


def the_synced_or_the_old_one(facts: dict[str, pa.Array]) -> pa.Array:
    return pc.coalesce(facts["synced_account_id"], facts["old_account_id"])


def the_old_one(facts: dict[str, pa.Array]) -> pa.Array:
    return facts["old_account_id"]


def the_old_one_if_any(facts: dict[str, pa.Array]) -> pa.Array:
    return pc.coalesce(facts["old_account_id"], facts["account_id"])


MERGES = instead(match.Matching, "_follow_merges", without)

DEFECTS = [
    Defect("a merged contact's link does not move (4.11)", Invariant.SPECIFIED, MERGES, small_worlds, AFTERWARDS),
    Defect(
        "a chain of merges is followed one step (4.11)",
        Invariant.SPECIFIED,
        instead(match, "follow_chains", only_one_step),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "e-mails keep their letter case (3.6)",
        Invariant.SPECIFIED,
        reads_kind_as_typed("email"),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "twitter names keep their @ (3.6)",
        Invariant.SPECIFIED,
        reads_kind_as_typed("twitter"),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "extensions are forgotten (3.6)",
        Invariant.SPECIFIED,
        instead(transform, "read_phones", forgets_extensions),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "a record that was read earlier is taken for the same though its last field differs (3)",
        Invariant.SPECIFIED,
        instead(reread, "_same", but_for_the_last_column),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "a record that was read earlier keeps a value that was removed in Salesforce (3.4)",
        Invariant.SPECIFIED,
        instead(reread, "_same", but_for_what_was_removed),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "handles that were read earlier stay where they stood though other records came and went (3.6)",
        Invariant.SPECIFIED,
        instead(reread, "_renumbered", where_it_stood),
        small_worlds,
        ANSWERS,
    ),
    Defect(
        "an unreadable field gives up what it gave (3.6)",
        Invariant.SPECIFIED,
        instead(match.Matching, "stays_unread", never_unreadable),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "the last field is remembered (4.10)",
        Invariant.SPECIFIED,
        instead(transform, "_first_of_each_handle", last_field_remembered),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "persons' handles are taken away (4.10)",
        Invariant.SPECIFIED,
        instead(match.Matching, "find_owners", takes_persons_handles_away),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "whoever is linked is set aside (4.1)",
        Invariant.SPECIFIED,
        instead(match.Matching, "set_aside_those_who_have_their_handles", sets_aside_who_is_linked),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "who only gives something up is set aside (4.10)",
        Invariant.SPECIFIED,
        instead(match.Matching, "find_owners", sets_aside_who_gives_something_up),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "whoever is set aside has no handles that another could want (4.7)",
        Invariant.ONE_HANDLE_ONE_CONTACT,
        instead(match.Matching, "find_owners", forgets_who_is_set_aside),
        small_worlds,
        SHARED,
    ),
    Defect(
        "whoever is set aside gives up what another wants (4.7)",
        Invariant.ONE_HANDLE_ONE_CONTACT,
        instead(match.Matching, "_widen", settles_who_is_set_aside),
        small_worlds,
        SHARED,
    ),
    Defect(
        "of two owners the first is taken (4.2)",
        Invariant.ONE_HANDLE_ONE_CONTACT,
        instead(match.Matching, "_found_by_handle", takes_the_first_owner),
        small_worlds,
        SHARED,
    ),
    Defect(
        "contacts are not looked up by their link (4.1)",
        Invariant.ONE_HANDLE_ONE_CONTACT,
        instead(match.Matching, "find_linked", without),
        small_worlds,
        SHARED,
    ),
    Defect(
        "a contact linked to another is taken over (4.2)",
        Invariant.SPECIFIED,
        instead(match.Matching, "_found_by_handle", takes_from_linked_contacts),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "contacts without a handle are created (4.4)",
        Invariant.SPECIFIED,
        instead(match.Matching, "leave_out_records_without_handle", without),
        small_worlds,
        ANSWERS,
    ),
    Defect(
        "nobody looks who fills a wanted contact (4.7)",
        Invariant.SPECIFIED,
        instead(match.Matching, "_widen", without),
        small_worlds,
        ANSWERS,
    ),
    Defect(
        "handles are never given up in time (4.7)",
        Invariant.SPECIFIED,
        instead(claims._Round, "_gives_up", always(value=False)),
        small_worlds,
        ANSWERS,
    ),
    Defect(
        "handles are always given up (4.7)",
        Invariant.ONE_HANDLE_ONE_CONTACT,
        instead(claims._Round, "_gives_up", always(value=True)),
        small_worlds,
        SHARED,
    ),
    Defect(
        "unlinked contacts come first (4.8)",
        Invariant.SPECIFIED,
        instead(claims, "_Round", unlinked_come_first),
        small_worlds,
        ANSWERS,
    ),
    Defect(
        "higher ids come first (4.8)",
        Invariant.SPECIFIED,
        instead(claims, "_Round", higher_ids_come_first),
        small_worlds,
        ANSWERS,
    ),
    Defect(
        "one pass only (4.9 a)",
        Invariant.ONE_HANDLE_ONE_CONTACT,
        instead(claims._Round, "skip_collisions", one_pass),
        small_worlds,
        SHARED,
    ),
    Defect(
        "passes end where nobody is skipped (4.9 a)",
        Invariant.ONE_HANDLE_ONE_CONTACT,
        instead(claims._Round, "skip_collisions", until_nobody_is_skipped),
        small_worlds,
        SHARED,
    ),
    Defect(
        "nobody is admitted any more (4.9 b)",
        Invariant.SPECIFIED,
        instead(claims._Round, "admit_where_there_is_room", without),
        small_worlds,
        ANSWERS,
    ),
    Defect(
        "every contact is rewritten every night (4.12)",
        Invariant.SECOND_RUN,
        instead(plan, "_accounts", rewrites_everything),
        small_worlds,
        WRITES_NOTHING,
    ),
    Defect(
        "what only a second round allows is left to the next night (4.9 c)",
        Invariant.SECOND_RUN,
        instead(claims, "_settle_group", one_round),
        small_worlds,
        SAME_ERRORS,
    ),
    Defect(
        "one holder is named (4.13)",
        Invariant.SPECIFIED,
        instead(claims._EndState, "collisions", names_one_holder),
        small_worlds,
        ANSWERS,
    ),
    Defect(
        "the code is of another collision (4.13)",
        Invariant.SPECIFIED,
        instead(transform, "SOURCE_ORDER", lambda was: was[::-1]),
        small_worlds,
        ANSWERS,
    ),
    Defect(
        "whoever owns a handle never gives it up (4.7)",
        Invariant.SPECIFIED,
        instead(match.Matching, "_stays_for_certain", everything_stays),
        small_worlds,
        ANSWERS,
    ),
    Defect(
        "whoever comes first is never skipped (4.9)",
        Invariant.NOBODY_SKIPPED_IN_VAIN,
        instead(match.Matching, "_is_certain", everybody_is_certain),
        small_worlds,
        IN_VAIN,
    ),
    Defect(
        "a value that does not fit empties what is stored (3.5)",
        Invariant.SPECIFIED,
        instead(plan, "_keep_unreadable", empties_what_it_cannot_read),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "an empty value leaves what is stored (3.4)",
        Invariant.SPECIFIED,
        instead(plan, "_keep_unreadable", keeps_what_is_empty_now),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "an account that a person set is taken away (5)",
        Invariant.SPECIFIED,
        instead(plan, "_accounts", with_account(the_synced_one)),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "an account that the sync set stays (5)",
        Invariant.SPECIFIED,
        instead(plan, "_accounts", with_account(the_synced_or_the_old_one)),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "web links are replaced while one of their fields is missing (4.10)",
        Invariant.SPECIFIED,
        instead(worlds, "resolve_columns", links_of_the_fields_that_are_there),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "a web link is kept as often as it is given (4.10)",
        Invariant.SPECIFIED,
        instead(transform, "_links", each_link_as_often_as_given),
        small_worlds,
        AFTERWARDS,
    ),
    Defect(
        "who comes first is who arrives first (4.6)",
        Invariant.ANY_ORDER,
        instead(worlds, "transform", as_they_come),
        any_order_and_any_pages,
        SAME_PLAN,
    ),
    Defect(
        "the last pages are dropped (4.6)",
        Invariant.ANY_PAGES,
        instead(worlds, "transform", first_page_only),
        any_order_and_any_pages,
        SAME_PLAN,
    ),
    Defect(
        "a silent limit: only a hundred contacts have handles",
        Invariant.UNRELATED,
        instead(worlds, "transform", handles_of_a_hundred),
        a_stranger,
        SAME_ANSWERS,
    ),
]
