"""Claims that touch one another: small groups by hand, large ones in time (rule 4.9)."""

import time

import pytest

from include.contact_sync.claims import Claim, Decision, Holder, settle

SWITCHBOARD = ("phone", "+12128425500")


def email(number: int) -> tuple[str, str]:
    return ("email", f"{number}@x.co")


def claim(order: int, contact: int | None, *handles: tuple[str, str]) -> Claim:
    return Claim(order, contact, dict.fromkeys(handles, "Field"))


def holder(linked: bool, *handles: tuple[str, str], by: str | None = "Field") -> Holder:
    return Holder(linked, {handle: (handle[0], by) if by else None for handle in handles})


def seconds_to_settle(claims: list[Claim], holders: dict[int, Holder]) -> tuple[float, dict[int, Decision]]:
    started = time.process_time()
    decisions = settle(claims, holders)
    return time.process_time() - started, decisions


def test_no_claims_no_decisions() -> None:
    assert settle([], {}) == {}


def test_rule_4_9_a_claim_that_nobody_touches_creates_a_contact() -> None:
    assert settle([claim(0, None, email(1))], {}) == {0: Decision(None)}


def test_rule_4_8_a_linked_claim_comes_before_an_unlinked_one_of_lower_order() -> None:
    decisions = settle([claim(0, None, email(1)), claim(9, 7, email(1))], {7: holder(True)})
    assert decisions == {0: Decision(None, ((email(1), 7),)), 9: Decision(7)}


def test_rule_4_10_what_a_person_added_is_given_up_by_nobody() -> None:
    holders = {7: holder(True, email(1), by=None)}
    decisions = settle([claim(0, None, email(1)), claim(1, 7, email(2))], holders)
    assert decisions == {0: Decision(None, ((email(1), 7),)), 1: Decision(7)}


def test_rule_3_6_what_an_unreadable_field_gave_before_is_not_given_up() -> None:
    unreadable = Claim(1, 7, {email(2): "Second"}, frozenset({("email", "Field")}))
    decisions = settle([claim(0, None, email(1)), unreadable], {7: holder(True, email(1))})
    assert decisions[0].collisions == ((email(1), 7),)


def test_rule_4_9_b_an_admission_makes_room_for_the_next() -> None:
    # A ring in which each wants what the next holds, and an outsider who holds nothing: all move.
    ring = [claim(number, number, email((number + 1) % 5)) for number in range(5)]
    holders = {number: holder(True, email(number)) for number in range(5)}
    assert settle(ring, holders) == {number: Decision(number) for number in range(5)}


def test_rule_4_9_a_broken_ring_stops_everybody_behind_the_break() -> None:
    # The last of the row wants what somebody holds who is not in this run.
    row = [claim(number, number, email(number + 1)) for number in range(5)]
    holders = {number: holder(True, email(number)) for number in range(6)}
    assert [bool(decision.collisions) for decision in settle(row, holders).values()] == [True] * 5


def test_rule_4_9_groups_that_touch_nowhere_are_settled_as_if_alone() -> None:
    first = [claim(0, None, email(1)), claim(2, None, email(1))]
    second = [claim(1, None, email(2)), claim(3, None, email(2), email(3))]
    alone = settle(first, {}) | settle(second, {})
    assert settle([*second, *first], {}) == alone


@pytest.mark.parametrize("count", [20_000])
def test_rule_4_9_colleagues_behind_one_switchboard_are_settled_within_two_seconds(count: int) -> None:
    claims = [claim(number, None, email(number), SWITCHBOARD) for number in range(count)]
    seconds, decisions = seconds_to_settle(claims, {})
    assert decisions[0] == Decision(None)
    assert decisions[count - 1] == Decision(None, ((SWITCHBOARD, -1),))
    assert sum(bool(decision.collisions) for decision in decisions.values()) == count - 1
    assert seconds < 2


def test_rule_4_9_linked_colleagues_who_all_get_the_switchboard_are_settled_within_two_seconds() -> None:
    count = 10_000
    claims = [claim(number, number, email(number), SWITCHBOARD) for number in range(count)]
    holders = {number: holder(True, email(number)) for number in range(count)}
    seconds, decisions = seconds_to_settle(claims, holders)
    assert sum(not decision.collisions for decision in decisions.values()) == 1
    assert seconds < 2


@pytest.mark.parametrize("forward", [True, False], ids=["towards the end", "towards the beginning"])
def test_rule_4_9_a_long_chain_of_takes_is_settled_within_two_seconds(forward: bool) -> None:
    count, step = 5_000, 1 if forward else -1
    claims = [claim(number, number, email(number + step)) for number in range(count)]
    holders = {number: holder(True, email(number)) for number in range(count)}
    seconds, decisions = seconds_to_settle(claims, holders)
    assert all(decision == Decision(number) for number, decision in decisions.items())
    assert seconds < 2


@pytest.mark.parametrize("forward", [True, False], ids=["towards the end", "towards the beginning"])
def test_rule_4_9_a_long_chain_that_is_blocked_at_its_end_is_settled_within_two_seconds(forward: bool) -> None:
    count, step = 5_000, 1 if forward else -1
    claims = [claim(number, number, email(number + step)) for number in range(count)]
    holders = {number: holder(True, email(number)) for number in range(-1, count + 1)}
    seconds, decisions = seconds_to_settle(claims, holders)
    assert all(decision.collisions for decision in decisions.values())
    assert seconds < 2
