"""Section 4 of the rules: the product against the executable specification, on many thousand worlds."""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from include.contact_sync.claims import Claim, Giver, Handle, Holder, settle
from include.contact_sync.match import Plan, match
from tests.contact_sync.agreement import agree, answers, shuffled
from tests.contact_sync.interesting_cases import CASES
from tests.contact_sync.specification import Contact, World
from tests.contact_sync.worlds import (
    batch_of_worlds,
    batches_of_worlds,
    clean_records,
    columns_of,
    plan_for,
    salesforce_id,
    stored_records,
    together,
)
from tests.proof.conftest import Score

WORLDS = int(os.environ.get("WORLDS", "24000"))
IN_A_BATCH = 80
DRAWN_AT_ONCE = 20
"""Hypothesis draws no more than some thousand choices for one example."""


def test_the_product_does_what_section_4_says(score: Score) -> None:
    """Outcome, code, holders and final store of every contact; rules 4.9 and 4.12 on each world.

    Hypothesis draws; what disagrees is made smaller by `agree`, which knows which world of a batch it is.
    """
    score.expect(CASES)

    @settings(
        max_examples=WORLDS // DRAWN_AT_ONCE,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(batches_of_worlds(DRAWN_AT_ONCE), st.randoms(use_true_random=False))
    def judge(batch: list[World], draw: Random) -> None:
        score.met.update(agree(batch, draw))
        score.tried["worlds, each judged twice"] += len(batch)

    judge()
    assert score.tried["worlds, each judged twice"] >= WORLDS * 0.95


def test_any_order_and_any_page_size_give_the_same_plan(score: Score) -> None:
    """Rule 4.6."""
    for number in range(40):
        draw = Random(number)
        batch = batch_of_worlds(5_000 + number, IN_A_BATCH)
        plan = rows_of(plan_for(together(batch)))
        for _ in range(3):
            pages = draw.choice([1, 7, 100])
            again = plan_of_pages(together(shuffled(batch, draw)), pages, draw)
            assert rows_of(again) == plan
            score.tried["plans compared"] += 1
            score.met[f"pages of {pages} records"] += 1


def plan_of_pages(world: World, rows: int, draw: Random) -> Plan:
    """The plan when the snapshot and the store arrive in other pages and another order."""
    clean, stored = clean_records(world, page_rows=rows), stored_records(world)
    order = list(range(stored.handles.num_rows))
    draw.shuffle(order)
    stored = replace(stored, handles=stored.handles.take(pa.array(order, pa.int64())))
    return match(clean, stored, columns_of(world), whole_source=True)


def rows_of(plan: Plan) -> list[list[str]]:
    tables = plan.outcomes, plan.writes, plan.handles, plan.released, plan.stopped, plan.errors
    return [sorted(map(repr, table.to_pylist())) for table in tables]


def test_an_unrelated_contact_changes_nothing_else(score: Score) -> None:
    for number in range(40):
        world = together(batch_of_worlds(6_000 + number, IN_A_BATCH))
        draw = Random(number)
        before = answers(plan_for(world))
        stranger = salesforce_id(draw.choice([0, 99_999]), draw.choice([0, 9_999_999]))
        values = {name: None for name, _ in world.mapping}
        own = Contact(1 if draw.random() < 0.5 else 999_999_999, stranger if draw.random() < 0.5 else None)
        after = answers(plan_for(replace(world, store=[*world.store, own], source=world.source | {stranger: values})))
        del after[stranger]
        assert after == before
        score.tried["worlds with a stranger"] += IN_A_BATCH


# ------------------------------------------------------------------------------------------------- long chains

LENGTH = 5_000
BY_SALESFORCE: Giver = ("email", "Email")


def mail(number: int) -> Handle:
    return "email", f"{number}@x.co"


def phone(number: int) -> Handle:
    return "phone", f"+1{number}"


def wants(order: int, *handles: Handle, linked: bool) -> Claim:
    return Claim(order, order if linked else None, dict.fromkeys(handles, "Email"))


def owns(*handles: Handle, linked: bool = True, giver: Giver | None = BY_SALESFORCE) -> Holder:
    return Holder(linked, dict.fromkeys(handles, giver))


def ring() -> tuple[list[Claim], dict[int, Holder], int]:
    claims = [wants(at, mail((at + 1) % LENGTH), linked=True) for at in range(LENGTH)]
    return claims, {at: owns(mail(at)) for at in range(LENGTH)}, 0


def each_skip_makes_the_one_before_fail() -> tuple[list[Claim], dict[int, Holder], int]:
    claims = [wants(at, mail(at + 1), linked=True) for at in range(LENGTH)]
    return claims, {at: owns(mail(at)) for at in range(LENGTH)} | {LENGTH: owns(mail(LENGTH), giver=None)}, LENGTH


def each_skip_makes_the_next_fail() -> tuple[list[Claim], dict[int, Holder], int]:
    claims = [wants(at, mail(at - 1), linked=True) for at in range(LENGTH)]
    return claims, {at: owns(mail(at)) for at in range(LENGTH)} | {LENGTH: owns(mail(-1), giver=None)}, LENGTH


def everybody_wants_one_handle() -> tuple[list[Claim], dict[int, Holder], int]:
    return [wants(at, mail(0), linked=False) for at in range(LENGTH)], {}, LENGTH - 1


def everybody_wants_one_contact() -> tuple[list[Claim], dict[int, Holder], int]:
    claims = [wants(at, mail(at), linked=False) for at in range(LENGTH)]
    return claims, {0: owns(*map(mail, range(LENGTH)), linked=False, giver=None)}, LENGTH - 1


def neighbours_share_a_handle() -> tuple[list[Claim], dict[int, Holder], int]:
    return [wants(at, mail(at), mail(at + 1), linked=False) for at in range(LENGTH)], {}, LENGTH // 2


def unlinked_contacts_hand_on_what_salesforce_gave() -> tuple[list[Claim], dict[int, Holder], int]:
    claims = [wants(at, mail(at), phone(at), linked=False) for at in range(LENGTH)]
    holders = {at: owns(mail(at), phone(at + 1), linked=False) for at in range(LENGTH)}
    return claims, holders, 0


@pytest.mark.parametrize(
    "chain",
    [
        ring,
        each_skip_makes_the_one_before_fail,
        each_skip_makes_the_next_fail,
        everybody_wants_one_handle,
        everybody_wants_one_contact,
        neighbours_share_a_handle,
        unlinked_contacts_hand_on_what_salesforce_gave,
    ],
)
def test_five_thousand_entangled_claims_are_settled_in_seconds(
    score: Score, chain: Callable[[], tuple[list[Claim], dict[int, Holder], int]]
) -> None:
    claims, holders, skipped = chain()
    started = time.process_time()
    decisions = settle(claims, holders)
    assert time.process_time() - started < 10
    assert Counter(bool(decision.collisions) for decision in decisions.values())[True] == skipped
    score.tried["claims in one group"] += len(claims)
