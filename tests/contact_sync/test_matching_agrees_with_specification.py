"""The product and the executable specification of section 4 agree on every small world, and the invariants hold."""

import json
from dataclasses import replace

from hypothesis import given, settings

from include.contact_sync.match import Plan
from tests.contact_sync.specification import Contact, World, place, sync
from tests.contact_sync.worlds import plan_for, store_after, worlds


@settings(max_examples=600, deadline=None)
@given(worlds())
def test_section_4_outcome_code_holders_and_final_store_agree(world: World) -> None:
    agree(world)


def agree(world: World) -> None:
    """Outcome, code, holders and final store are those of the specification, and what rule 4.9 promises holds."""
    expected, store = sync(world)
    plan = plan_for(world)
    assert answers(plan) == {
        key: (outcome, code, sorted(holders, key=repr)) for key, (outcome, code, holders) in expected.items()
    }
    after = store_after(world, plan)
    assert sorted(after, key=id_of) == sorted(store, key=id_of)
    nobody_shares(after)
    skipped = [key for key, (outcome, code, _) in expected.items() if code and code != "no_handle"]
    assert not any(place(world, after, key)[0] for key in skipped), "rule 4.9: a skipped contact could be synced"
    again = plan_for(replace(world, store=renumbered(after)))
    assert set(again.outcomes["outcome"].to_pylist()) <= {"unchanged", "error"}, (
        "rule 4.12: a second run changes nothing"
    )
    assert again.writes.num_rows == again.handles.num_rows == again.released.num_rows == 0


def answers(plan: Plan) -> dict[str, tuple]:
    errors = {row["external_id"]: row for row in plan.errors.to_pylist()}
    found = {}
    for row in plan.outcomes.to_pylist():
        error = errors.get(row["external_id"])
        holders = (
            [((h["source"], h["handle"]), h["external_id"]) for h in json.loads(error["holders"])] if error else []
        )
        outcome = "kept" if row["outcome"] in {"updated", "unchanged"} else row["outcome"]
        found[row["external_id"]] = (outcome, error["code"] if error else None, sorted(holders, key=repr))
    return found


def nobody_shares(store: list[Contact]) -> None:
    """Rule 4.9: no two contacts share a handle or a link."""
    handles = [handle for contact in store for handle in contact.handles]
    links = [contact.external_id for contact in store if contact.external_id]
    assert len(handles) == len(set(handles))
    assert len(links) == len(set(links))


def renumbered(store: list[Contact]) -> list[Contact]:
    return [replace(contact, id=contact.id if contact.id > 0 else 1000 - contact.id) for contact in store]


def id_of(contact: Contact) -> int:
    return contact.id
