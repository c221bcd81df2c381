"""The proofs catch what they are for: each defect that is put into the product here makes one of them fail."""

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from include.contact_sync import claims, load, match, plan, transform
from include.contact_sync.columns import Columns, HandleColumn, Part, ValueColumn
from include.contact_sync.store import runs
from tests.conftest import Store
from tests.contact_sync import worlds
from tests.contact_sync.agreement import judge_together
from tests.contact_sync.applying import fill_store, run_world
from tests.contact_sync.specification import Contact, World
from tests.contact_sync.worlds import batch_of_worlds, salesforce_id
from tests.proof.conftest import Score

Plant = Callable[[pytest.MonkeyPatch], None]


def instead(owner: Any, name: str, defect: Callable[[Any], Any]) -> Plant:
    """Put `defect(original)` where `owner.name` was."""
    return lambda patch: patch.setattr(owner, name, defect(getattr(owner, name)))


# ---------------------------------------------------------------------------------------- defects of the matching


def only_one_step(original: Any) -> Any:
    return lambda merges: merges.to_pandas().drop_duplicates("loser")


def without(original: Any) -> Any:
    return lambda *_, **__: None


def always(value: Any) -> Callable[[Any], Any]:
    return lambda _: lambda *_, **__: value


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


def last_field_remembered(original: Any) -> Any:
    return lambda tables: original(tables[::-1])


def names_one_holder(original: Any) -> Any:
    def collisions(self: Any, claim: Any) -> Any:
        return original(self, claim)[:1]

    return collisions


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


def rewrites_everything(original: Any) -> Any:
    return lambda source, accepted, rows: (np.ones(len(accepted), dtype=bool), original(source, accepted, rows)[1])


def keeps_case(original: Any) -> Any:
    return lambda texts, _region: texts


def forgets_extensions(original: Any) -> Any:
    return lambda found, region: [text and text.partition(";")[0] for text in original(found, region)]


def first_page_only(original: Any) -> Any:
    return lambda snapshot, columns: original(snapshot.slice(0, max(1, snapshot.num_rows - 1)), columns)


MATCHING: dict[str, Plant] = {
    "a merged contact's link does not move (4.11)": instead(match.Matching, "_follow_merges", without),
    "a chain of merges is followed one step (4.11)": instead(match, "follow_chains", only_one_step),
    "e-mails keep their letter case (3.6)": instead(
        transform, "_HANDLE_READERS", lambda was: was | {"email": keeps_case(was)}
    ),
    "twitter names keep their @ (3.6)": instead(
        transform, "_HANDLE_READERS", lambda was: was | {"twitter": keeps_case(was)}
    ),
    "extensions are forgotten (3.6)": instead(transform, "read_phones", forgets_extensions),
    "an unreadable field gives up what it gave (3.6)": instead(match.Matching, "stays_unread", never_unreadable),
    "the last field is remembered (4.10)": instead(transform, "_first_of_each_handle", last_field_remembered),
    "persons' handles are taken away (4.10)": instead(match.Matching, "find_owners", takes_persons_handles_away),
    "of two owners the first is taken (4.2)": instead(match.Matching, "_found_by_handle", takes_the_first_owner),
    "a contact linked to another is taken over (4.2)": instead(
        match.Matching, "_found_by_handle", takes_from_linked_contacts
    ),
    "contacts without a handle are created (4.4)": instead(match.Matching, "leave_out_records_without_handle", without),
    "nobody looks who fills a wanted contact (4.7)": instead(match.Matching, "_widen", without),
    "handles are never given up in time (4.7)": instead(claims._Round, "_gives_up", always(value=False)),
    "handles are always given up (4.7)": instead(claims._Round, "_gives_up", always(value=True)),
    "unlinked contacts come first (4.8)": instead(claims, "_Round", unlinked_come_first),
    "higher ids come first (4.8)": instead(claims, "_Round", higher_ids_come_first),
    "one pass only (4.9 a)": instead(claims._Round, "skip_collisions", one_pass),
    "no admission (4.9 b)": instead(claims._Round, "admit_where_there_is_room", without),
    "no second round (4.9 c)": instead(claims, "_settle_group", one_round),
    "every contact is rewritten every night (4.12)": instead(plan, "_accounts", rewrites_everything),
    "one holder is named (4.13)": instead(claims._EndState, "collisions", names_one_holder),
    "the code is of another collision (4.13)": instead(transform, "SOURCE_ORDER", lambda was: was[::-1]),
    "whoever owns a handle never gives it up (4.7)": instead(match.Matching, "_stays_for_certain", everything_stays),
    "whoever comes first is never skipped (4.9)": instead(match.Matching, "_is_certain", everybody_is_certain),
    "the last record is dropped (6.4)": instead(worlds, "transform", first_page_only),
}
ENOUGH_BATCHES = 60


@pytest.mark.parametrize("defect", MATCHING)
def test_a_defect_of_the_matching_is_caught(score: Score, monkeypatch: pytest.MonkeyPatch, defect: str) -> None:
    MATCHING[defect](monkeypatch)
    for number in range(ENOUGH_BATCHES):
        score.tried["worlds until it was caught"] += 40
        try:
            judge_together(batch_of_worlds(number, 40), Random(number))
        except Exception as caught:  # ruff: ignore[blind-except] -- a defect may show as any failure
            score.met[f"caught: {str(caught).partition(chr(10))[0][:90]}"] += 1
            return
    raise AssertionError(f"nobody noticed: {defect}")


# ------------------------------------------------------------------------------------------ defects of the values


def reads_na_as_nothing(original: Any) -> Any:
    words = pa.array(["NA", "N/A", "null", "None", "nan", ""])
    return lambda snapshot, name: pc.if_else(
        pc.is_in(original(snapshot, name), words), pa.scalar(None, pa.string()), original(snapshot, name)
    )


def trims(original: Any) -> Any:
    return lambda snapshot, name: pc.utf8_trim_whitespace(original(snapshot, name))


def reads_numbers(original: Any) -> Any:
    return lambda raw, describe_type: original(raw, "double")


VALUES: dict[str, Plant] = {
    "NA means nothing (3.7)": instead(transform, "_text", reads_na_as_nothing),
    "text is trimmed (3.7)": instead(transform, "_text", trims),
    "0012 becomes 12 (3.7)": instead(transform, "_plain_text", reads_numbers),
}


@pytest.mark.parametrize("defect", [None, *VALUES])
def test_a_defect_of_the_values_is_caught(score: Score, monkeypatch: pytest.MonkeyPatch, defect: str | None) -> None:
    texts = ["NA", "null", "0012", " both ends ", "1E5", "x"]
    columns = Columns(
        Part.CONTACTS, (HandleColumn("Key__c", "custom"),), (ValueColumn("name", ("Name",), ("string",)),)
    )
    ids = [salesforce_id(at) for at in range(len(texts))]
    snapshot = pa.table({"Id": ids, "AccountId": pa.nulls(len(ids), pa.string()), "Name": texts, "Key__c": ids})
    if defect:
        VALUES[defect](monkeypatch)
    survived = transform.transform(snapshot, columns).records["name"].to_pylist() == texts
    assert survived == (defect is None)
    score.tried["values"] += len(texts)


# -------------------------------------------------------------------------------------------- defects of applying


def small_world() -> World:
    """One to create, one to link, one to update, with something to give up."""
    ids = [salesforce_id(at) for at in range(3)]
    store = [
        Contact(1, None, {("email", "b@x.co"): None}),
        Contact(2, ids[2], {("email", "c@x.co"): "Email", ("email", "d@x.co"): "Email"}),
    ]
    return World(store, {ids[at]: {"Email": f"{letter}@x.co"} for at, letter in enumerate("abc")}, [("Email", "email")])


def commits_half(original: Any) -> Any:
    def write_errors(cursor: psycopg.Cursor, *arguments: Any, **options: Any) -> None:
        cursor.connection.commit()
        original(cursor, *arguments, **options)

    return write_errors


@pytest.mark.parametrize("defect", [None, "the records are committed before the errors (6.1)"])
def test_a_load_without_rollback_is_caught(
    store: Store, score: Score, monkeypatch: pytest.MonkeyPatch, defect: str | None
) -> None:
    fill_store(store, small_world())
    before = everything(store)

    def fails(*_: Any) -> None:
        raise RuntimeError("the last statement fails")

    monkeypatch.setattr(runs, "mark_applied", fails)
    if defect:
        monkeypatch.setattr(load, "_write_errors", commits_half(load._write_errors))
    with pytest.raises(RuntimeError):
        run_world(small_world())
    assert (everything(store) == before) == (defect is None)
    score.tried["failing loads"] += 1


def everything(store: Store) -> list[tuple]:
    return store.execute(
        "SELECT contacts, contact_handles FROM contact_store.contacts FULL JOIN contact_store.contact_handles ON contact_id = id ORDER BY 1, 2"
    )


@pytest.mark.parametrize("defect", [None, "who edited meanwhile is not looked at (6.2)"])
def test_an_edit_that_is_not_looked_at_is_caught(
    store: Store, score: Score, monkeypatch: pytest.MonkeyPatch, defect: str | None
) -> None:
    world = small_world()
    fill_store(store, world)

    def edit() -> None:
        store.execute(
            "UPDATE contact_store.contact_handles SET contact_id = 1, origin = 'person', salesforce_field = NULL"
            " WHERE handle = 'c@x.co'"
        )

    if defect:
        monkeypatch.setattr("tests.contact_sync.applying.read_fingerprint", lambda part: "always the same")
    try:
        counts = run_world(world, between=edit)
    except Exception:  # ruff: ignore[blind-except] -- a defect may show as any failure
        counts = None
    assert (counts is not None and counts["error"] == 1) == (defect is None)
    score.tried["edits between plan and apply"] += 1


def test_the_planted_defects_are_taken_out_again(score: Score) -> None:
    """Without any, the same worlds agree."""
    for number in range(4):
        judge_together(batch_of_worlds(number, 40), Random(number))
        score.tried["worlds without a defect"] += 40
