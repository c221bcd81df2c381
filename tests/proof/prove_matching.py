"""Section 4 of the rules: the product against the executable specification, on many thousand worlds."""

import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from include.contact_sync.claims import Claim, Giver, Handle, Holder, settle
from include.contact_sync.match import Plan, match
from tests.contact_sync.agreement import READ_EARLIER, agree, answers, comparable, shuffled, smaller_worlds
from tests.contact_sync.interesting_cases import CASES, essence
from tests.contact_sync.specification import Contact, World
from tests.contact_sync.worlds import (
    batch_of_worlds,
    clean_records,
    columns_of,
    drawn_worlds,
    plan_for,
    salesforce_id,
    shuffled_rows,
    store_after,
    stored_records,
    together,
)
from tests.proof.conftest import Score

WORLDS = int(os.environ.get("WORLDS", "24000"))
IN_A_BATCH = 80
BATCHES = WORLDS // IN_A_BATCH
WORLDS_THAT_DIFFER = min(20_000, WORLDS * 20 // 24)


def test_the_product_does_what_section_4_says(score: Score) -> None:
    """Outcome, code, holders and final store of every contact; rules 4.9 and 4.12 on each world.

    Hypothesis draws a seed for each batch, never one twice, and not every choice: it likes to repeat choices, and most
    worlds would be the same few. What disagrees is made smaller by `agree`, which knows which world of a batch it is.
    """
    score.expect([*CASES, *READ_EARLIER])
    essences: set[str] = set()

    @settings(
        max_examples=BATCHES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=True))
    def judge(draw: Random) -> None:
        batch = drawn_worlds(draw, 1, IN_A_BATCH)
        score.met.update(agree(batch, draw))
        judged = [essence(world) for world in batch if world.source]
        essences.update(judged)
        score.tried["worlds, each judged twice"] += len(batch)
        score.tried["of these have no source contact"] += len(batch) - len(judged)

    judge()
    score.tried["of these have a source contact, and differ in what matching goes by"] = len(essences)
    assert len(essences) >= WORLDS_THAT_DIFFER


def test_any_order_and_any_page_size_give_the_same_plan(score: Score) -> None:
    """Rule 4.6, for every column of the plan, and for pages and tables that are cut at odd places."""
    arrivals = {f"in pages of {rows} records": rows for rows in (1, 7, 100)} | {"in chunks cut at odd places": None}
    score.expect(arrivals)
    for number in range(BATCHES):
        draw = Random(number)
        batch = batch_of_worlds(5_000 + number, IN_A_BATCH)
        plan = rows_of(plan_for(together(batch)))
        arrival, rows = [*arrivals.items()][number % len(arrivals)]
        world = together(shuffled(batch, draw))
        again = plan_for(world, draw) if rows is None else plan_of_pages(world, rows, draw)
        assert rows_of(again) == plan
        score.tried["worlds in another order"] += IN_A_BATCH
        score.met[arrival] += 1


def plan_of_pages(world: World, rows: int, draw: Random) -> Plan:
    """The plan when the snapshot arrives in such pages, and the store in another order."""
    clean, stored = clean_records(world, page_rows=rows), stored_records(world)
    stored = replace(stored, handles=shuffled_rows(stored.handles, draw))
    return match(clean, stored, columns_of(world), whole_source=True)


def rows_of(plan: Plan) -> list[list[str]]:
    tables = plan.outcomes, plan.writes, plan.handles, plan.released, plan.stopped, plan.errors
    return [sorted(map(repr, table.to_pylist())) for table in tables]


def test_an_unrelated_contact_changes_nothing_else(score: Score) -> None:
    """Whether it comes first or last of all, and whatever becomes of it."""
    score.expect(["created", "linked", "updated", "error"])
    for number in range(BATCHES):
        world, draw = together(batch_of_worlds(6_000 + number, IN_A_BATCH)), Random(number)
        own, typed = stranger(world, draw)
        key = FIRST_OF_ALL if own.id == 1 else LAST_OF_ALL
        both = replace(world, store=[*world.store, own], source=world.source | {key: typed})
        alone, plan = plan_for(world), plan_for(both)
        answered = answers(plan)
        score.met[answered.pop(key)[0]] += 1
        others = [c for c in store_after(both, plan) if c.id != own.id and c.external_id != key]
        before = answers(alone), comparable(store_after(world, alone))
        after = answered, comparable(others)
        assert after == before
        score.tried["worlds with a stranger"] += IN_A_BATCH


FIRST_OF_ALL, LAST_OF_ALL = "000000000000000AAA", "zzz999999999999AAA"


def stranger(world: World, draw: Random) -> tuple[Contact, dict[str, str | None]]:
    """A stored contact, linked or not, and a source contact of which nobody in the world has anything."""
    number, key = draw.choice([(1, FIRST_OF_ALL), (999_999_999, LAST_OF_ALL)])
    own = Contact(number, draw.choice([None, key]))
    own.handles = {(kind, "stranger@x.co"): None for _, kind in world.mapping if draw.random() < 0.5}
    return own, {name: draw.choice([None, "stranger@x.co", "212-842-5500"]) for name, _ in world.mapping}


# ------------------------------------------------------------------------------------------------- moving targets


MOVES, CAUSED = (
    "a claim comes to another contact in a pass that skips nobody (4.9 a)",
    "a claim is skipped only because another came to another contact (4.9 a)",
)


def test_claims_that_make_way_for_one_another_come_to_rest(score: Score) -> None:
    """Rule 4.9 a, where pass after pass moves claims to other contacts and skips nobody.

    Tried are rows of claims that do so as many times as they are long, and every world that is such a row less one or
    two things.
    """
    for length in (1, 2, 3, 5):
        row = wave(1, length)
        met = agree([row], Random(length))
        assert (met[MOVES], met[CAUSED]) == (length, 1)
        steps = [(one,) for one, _ in enumerate(smaller_worlds(row))]
        steps += [(one, two) for (one,) in steps for two, _ in enumerate(smaller_worlds(less(row, one)))]
        for start in range(0, len(steps), IN_A_BATCH):
            batch = [less(wave(at, length), *taken) for at, taken in enumerate(steps[start : start + IN_A_BATCH], 1)]
            score.met.update({case: count for case, count in agree(batch, Random(start)).items() if "4.9" in case})
            score.tried[f"worlds that are a row of {length + 1} claims less one or two things"] += len(batch)
    score.expect([MOVES, CAUSED])


def wave(number: int, length: int) -> World:
    """One unlinked contact keeps, of what its filler cannot read, just what the claim before that filler wants of it.

    So that claim comes to the contact, in each pass one more; what else they want 0 gives up. Only the first of them keeps
    what 1 wants, who is skipped in the end.
    """

    def address(letter: str) -> str:
        return f"{letter}@x{number}.co"

    def handle(letter: str) -> Handle:
        return "email", address(letter)

    fields = [f"F{at}__c" for at in range(length + 2)]
    store = [
        Contact(number * 100 + 1, salesforce_id(0, number), {handle(f"given-up-{at}"): "B__c" for at in range(length)}),
        Contact(number * 100 + 2, salesforce_id(1, number)),
        Contact(number * 100 + 3, None, {handle(f"kept-{at}"): name for at, name in enumerate(fields)}),
    ]
    typed: list[dict[str, str | None]] = [{"A__c": address("own")}, {"A__c": address("kept-0")}]
    for at in range(length + 1):
        other = address(f"given-up-{at}") if at < length else None
        typed.append({"A__c": address(f"kept-{at + 1}"), "B__c": other, fields[at]: "cannot be read"})
    names = ["A__c", "B__c", *fields]
    source = {salesforce_id(at, number): {name: values.get(name) for name in names} for at, values in enumerate(typed)}
    return World(store, source, [(name, "email") for name in names])


def less(world: World, *taken: int) -> World:
    """The world without some of the things that it can do without."""
    for at in taken:
        world = next(islice(smaller_worlds(world), at, None))
    return world


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
