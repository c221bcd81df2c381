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


def test_rule_4_9_b_after_each_admission_the_first_one_skipped_comes_first_again() -> None:
    # 3 must wait for 0, who is skipped because 1 cannot move; then 3 gives up its address, which 2 and 4 want.
    claims = [
        claim(0, 10, email(1), email(2)),
        claim(1, 11, email(3)),
        claim(2, 12, email(4)),
        claim(3, 13, email(1)),
        claim(4, 14, email(4)),
    ]
    holders = {number: holder(True) for number in (10, 12, 14)}
    holders |= {11: holder(True, email(2)), 13: holder(True, email(4)), 99: holder(True, email(3))}
    decisions = settle(claims, holders)
    assert [order for order, decision in decisions.items() if not decision.collisions] == [2, 3]
    assert decisions[4].collisions == ((email(4), 12),)


def test_rule_4_9_a_whoever_wants_what_its_holder_keeps_stands_in_nobodys_way() -> None:
    claims = [claim(0, 10, email(1)), claim(1, 11, email(1), email(2)), claim(2, None, email(2))]
    decisions = settle(claims, {10: holder(True), 11: holder(True, email(1))})
    assert decisions == {0: Decision(None, ((email(1), 11),)), 1: Decision(11), 2: Decision(None, ((email(2), 11),))}


def test_rule_4_8_a_contact_that_becomes_free_late_is_filled_by_the_lower_id_alone() -> None:
    # 5 would fill contact 20, until 2 turns out to keep what 5 wants, because 3 cannot move. Then 6 could fill it, and 4
    # must come before 6: what 4 wants of it would stay there, for 6 cannot read the field that gave it.
    claims = [
        claim(0, 10, email(91)),
        claim(1, 11, email(92)),
        claim(2, 12, email(13)),
        claim(3, 13, email(99)),
        claim(4, None, email(1), email(10)),
        claim(5, None, email(2), email(12)),
        Claim(6, None, dict.fromkeys([email(3), email(11)], "Field"), frozenset({("email", "First")})),
        Claim(7, None, {email(4): "Field"}, frozenset({("email", "Second")})),
    ]
    holders = {number: holder(True, email(number)) for number in (10, 11, 12, 13, 99)}
    given_by = {email(1): "First", email(2): "Second", email(3): "Field", email(4): "Field"}
    holders[20] = Holder(False, {handle: ("email", field) for handle, field in given_by.items()})
    decisions = settle(claims, holders)
    assert [order for order, decision in decisions.items() if decision.collisions] == [2, 3, 5]
    assert {order: decisions[order].contact for order in (4, 6, 7)} == {4: 20, 6: None, 7: None}


@pytest.mark.parametrize("count", [2, 3, 40])
def test_rule_4_9_a_passes_go_on_while_somebody_comes_to_another_contact_though_nobody_is_skipped(count: int) -> None:
    # Contact 20 keeps, of what its filler cannot read, just what the claim before that filler wants: so that claim comes to
    # it, one more in each pass, and whoever filled it creates a contact. Only the first of them keeps what -1 wants of it.
    last = count - 1
    row = [
        Claim(
            number,
            None,
            {email(number): "Field"} | ({email(100 + number): "Other"} if number < last else {}),
            frozenset({("email", f"Field {number - 1}")}),
        )
        for number in range(count)
    ]
    gives_way, wants_what_is_kept = claim(-2, 10, email(98)), claim(-1, 11, email(-1))
    holders = {
        10: holder(True, *(email(100 + number) for number in range(last))),
        11: holder(True),
        20: Holder(False, {email(number): ("email", f"Field {number}") for number in range(-1, count)}),
    }
    decisions = settle([gives_way, wants_what_is_kept, *row], holders)
    assert decisions.pop(-1).collisions == ((email(-1), 20),)
    assert decisions == {-2: Decision(10), 0: Decision(20)} | {number: Decision(None) for number in range(1, count)}


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
