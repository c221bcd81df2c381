"""Rules 4.1 to 4.13 and 5 as small examples, each with its number. The proof that they hold everywhere is elsewhere.

Ann, Bob, Cid, Dan and Eve are Salesforce ids in this order. A stored contact is `contact(id, link, handle=field, …)`; a
field of None means that a person added the handle.
"""

import json
from typing import Any
from unittest.mock import patch

import pytest

from include.contact_sync import match as match_module
from include.contact_sync import plan as plan_module
from include.contact_sync.claims import settle
from include.contact_sync.match import Matching, match
from include.contact_sync.plan import Plan
from tests.contact_sync.specification import Contact, Handle, World
from tests.contact_sync.worlds import (
    batch_of_worlds,
    clean_records,
    columns_of,
    plan_for,
    salesforce_id,
    store_after,
    stored_records,
    together,
)

ANN, BOB, CID, DAN, EVE = (salesforce_id(number) for number in range(1, 6))
NAMES = {ANN: "ann", BOB: "bob", CID: "cid", DAN: "dan", EVE: "eve"}
EMAIL_AND_PHONE = [("Email", "email"), ("Phone", "phone")]
PHONE, SECOND_PHONE = "(212) 842-5500", "212-842-5501"
PHONE_HANDLE, SECOND_PHONE_HANDLE = ("phone", "+12128425500"), ("phone", "+12128425501")


def mail(letter: str) -> str:
    return f"{letter}@x.co"


def email(letter: str) -> Handle:
    return ("email", mail(letter))


def contact(number: int, link: str | None, handles: dict[Handle, str | None] | None = None) -> Contact:
    return Contact(number, link, handles or {})


def with_email(number: int, link: str | None, letter: str) -> Contact:
    """A contact with the e-mail address that Salesforce gave it."""
    return contact(number, link, {email(letter): "Email"})


def emails(**letters: str) -> dict[str, dict[str, str | None]]:
    """Source contacts by name, with the letter of each one's e-mail address."""
    ids = {name: external_id for external_id, name in NAMES.items()}
    return {ids[name]: {"Email": mail(letter)} for name, letter in letters.items()}


def world(store: list[Contact], source: dict[str, dict[str, str | None]], **more: Any) -> World:
    return World(store, source, more.pop("mapping", EMAIL_AND_PHONE), **more)


def outcomes(plan: Plan) -> dict[str, str]:
    """By name the outcome, or the code of the error."""
    codes = {row["external_id"]: row["code"] for row in plan.errors.to_pylist()}
    rows = plan.outcomes.to_pylist()
    return {NAMES[row["external_id"]]: codes.get(row["external_id"], row["outcome"]) for row in rows}


def holders(plan: Plan, name: str) -> list[tuple[int | None, str | None, str]]:
    """Of an error: (contact, the name of whom it is linked to, handle)."""
    (row,) = (row for row in plan.errors.to_pylist() if NAMES[row["external_id"]] == name)
    return [(each["contact_id"], NAMES.get(each["external_id"]), each["handle"]) for each in json.loads(row["holders"])]


def after(example: World) -> dict[int, tuple[str | None, dict[Handle, str | None]]]:
    """The store as the plan leaves it; a new contact has a negative id."""
    contacts = store_after(example, plan_for(example))
    return {each.id: (NAMES.get(each.external_id or ""), each.handles) for each in contacts}


# ----------------------------------------------------------------------------------------------- which contact (4.1–4.5)


def test_who_has_its_handles_already_is_not_looked_for_and_keeps_them_from_others() -> None:
    store = [with_email(1, ANN, "a"), with_email(2, BOB, "b"), contact(3, CID, {email("c"): None})]
    example = world(store, emails(ann="a", bob="z", cid="c", dan="a"))
    matching = Matching(clean_records(example), stored_records(example), columns_of(example))
    matching.find_linked()
    matching.place_stored_handles()
    matching.set_aside_those_who_have_their_handles()
    assert matching.set_aside.tolist() == [True, False, False, False]
    assert matching.handles["handle"].to_pylist() == [mail("z"), mail("c"), mail("a")]
    plan = plan_for(example)
    assert outcomes(plan) == {"ann": "unchanged", "bob": "updated", "cid": "updated", "dan": "email_taken"}
    assert holders(plan, "dan") == [(1, "ann", mail("a"))]


def test_rule_4_1_a_linked_contact_is_updated_whatever_its_handles_are() -> None:
    example = world([with_email(1, ANN, "a")], emails(ann="b"))
    assert outcomes(plan_for(example)) == {"ann": "updated"}
    assert after(example) == {1: ("ann", {email("b"): "Email"})}


def test_rule_4_2_nobody_owns_a_handle_so_a_contact_is_created() -> None:
    example = world([with_email(1, EVE, "z")], emails(ann="a"))
    assert outcomes(plan_for(example)) == {"ann": "created"}
    assert after(example)[-1] == ("ann", {email("a"): "Email"})


def test_rule_4_2_exactly_one_unlinked_contact_owns_a_handle_so_it_is_linked() -> None:
    example = world([contact(1, None, {email("a"): None})], emails(ann="a"))
    plan = plan_for(example)
    assert outcomes(plan) == {"ann": "linked"}
    assert after(example) == {1: ("ann", {email("a"): "Email"})}
    (row,) = plan.outcomes.to_pylist()
    assert (row["rule"], row["matched_source"], row["matched_handle"]) == ("4.2", "email", mail("a"))


def test_rule_4_2_of_several_handles_that_match_the_first_in_the_order_of_lookup_is_named() -> None:
    store = [contact(1, None, {PHONE_HANDLE: None, email("a"): None})]
    (row,) = plan_for(world(store, {ANN: {"Phone": PHONE, "Email": mail("a")}})).outcomes.to_pylist()
    assert (row["outcome"], row["matched_source"], row["matched_handle"]) == ("linked", "email", mail("a"))


def test_rule_4_2_the_owner_is_linked_to_somebody_else_so_the_source_contact_is_skipped() -> None:
    example = world([with_email(1, EVE, "a")], emails(ann="a"))
    assert outcomes(plan_for(example)) == {"ann": "email_taken"}
    assert after(example) == {1: ("eve", {email("a"): "Email"})}


def test_rule_4_2_two_different_owners_are_never_guessed_between() -> None:
    """Rule 4.13: every holder is named."""
    store = [contact(1, None, {email("a"): None}), contact(2, None, {PHONE_HANDLE: None})]
    plan = plan_for(world(store, {ANN: {"Email": mail("a"), "Phone": PHONE}}))
    assert outcomes(plan) == {"ann": "email_taken"}
    assert holders(plan, "ann") == [(1, None, mail("a")), (2, None, "+12128425500")]


def test_rule_4_3_without_any_mapped_handle_a_source_contact_can_only_be_updated() -> None:
    example = world([contact(1, ANN)], {ANN: {}, BOB: {}}, mapping=[])
    assert outcomes(plan_for(example)) == {"ann": "unchanged", "bob": "no_handle"}


def test_rule_4_3_the_only_mapped_handle_field_is_missing_so_nobody_new_can_be_looked_up() -> None:
    example = world([with_email(1, ANN, "a")], {ANN: {}, BOB: {}}, mapping=[("Email", "email")], missing={"Email"})
    assert outcomes(plan_for(example)) == {"ann": "unchanged", "bob": "no_handle"}


def test_rule_4_4_a_linked_contact_without_a_handle_in_salesforce_is_left_exactly_as_it_is() -> None:
    store = [contact(1, ANN, {email("a"): "Email", ("facebook", "ann"): None})]
    example = world(store, {ANN: {"Email": None, "Phone": "  "}})
    assert outcomes(plan_for(example)) == {"ann": "no_handle"}
    assert after(example) == {1: ("ann", store[0].handles)}


def test_rule_4_4_a_handle_that_is_kept_counts() -> None:
    """Rules 3.3 and 3.6."""
    unreadable = world([with_email(1, ANN, "a")], {ANN: {"Email": "not an email"}})
    hidden = world([with_email(1, ANN, "a")], {ANN: {}}, missing={"Email"})
    for example in (unreadable, hidden):
        assert outcomes(plan_for(example)) == {"ann": "unchanged"}
        assert after(example) == {1: ("ann", {email("a"): "Email"})}


def test_rule_4_5_a_skipped_source_contact_changes_nothing_at_all() -> None:
    store = [with_email(1, ANN, "a"), contact(2, EVE, {PHONE_HANDLE: "Phone"})]
    example = world(store, {ANN: {"Email": mail("b"), "Phone": PHONE}})
    plan = plan_for(example)
    assert outcomes(plan) == {"ann": "phone_taken"}
    assert [plan.writes.num_rows, plan.handles.num_rows, plan.released.num_rows] == [0, 0, 0]


# ---------------------------------------------------------------------------------------------------- batches (4.6–4.9)


def test_rule_4_6_neither_the_order_of_rows_nor_their_chunks_matter() -> None:
    store = [with_email(1, ANN, "a"), contact(2, None, {email("c"): None}), with_email(3, EVE, "e")]
    source = emails(ann="b", bob="a", cid="c", dan="c", eve="a")
    example, backwards = world(store, source), world(store, dict(reversed(source.items())))
    assert outcomes(plan_for(example)) == {
        "ann": "updated", "bob": "email_taken", "cid": "linked", "dan": "email_taken", "eve": "updated",
    }  # fmt: skip
    assert plan_for(example) == plan_for(backwards)
    small_pages = match(clean_records(example, 1), stored_records(example), columns_of(example), whole_source=True)
    assert small_pages == plan_for(example)


def test_rule_4_7_two_contacts_swap_their_addresses() -> None:
    example = world([with_email(1, ANN, "a"), with_email(2, BOB, "b")], emails(ann="b", bob="a"))
    assert outcomes(plan_for(example)) == {"ann": "updated", "bob": "updated"}
    assert after(example) == {1: ("ann", {email("b"): "Email"}), 2: ("bob", {email("a"): "Email"})}


def test_rule_4_7_a_chain_of_takes_moves_every_address_on_and_the_last_goes_to_somebody_new() -> None:
    store = [with_email(1, ANN, "a"), with_email(2, BOB, "b"), with_email(3, CID, "c")]
    example = world(store, emails(ann="z", bob="a", cid="b", dan="c"))
    assert outcomes(plan_for(example)) == {"ann": "updated", "bob": "updated", "cid": "updated", "dan": "created"}
    assert [handles for _, handles in after(example).values()] == [
        {email(letter): "Email"} for letter in ("z", "a", "b", "c")
    ]


def test_rule_4_8_who_is_linked_comes_first_then_the_lower_id() -> None:
    linked_wins = world([with_email(1, EVE, "e")], emails(ann="x", eve="x"))
    assert outcomes(plan_for(linked_wins)) == {"ann": "email_taken", "eve": "updated"}
    lower_wins = world([], emails(bob="x", ann="x", cid="x"))
    plan = plan_for(lower_wins)
    assert outcomes(plan) == {"ann": "created", "bob": "email_taken", "cid": "email_taken"}
    assert holders(plan, "cid") == [(None, "ann", mail("x"))], "the winner is named"


def test_rule_4_8_one_unlinked_contact_goes_to_the_lower_id() -> None:
    store = [contact(1, None, {email("a"): None, PHONE_HANDLE: None})]
    example = world(store, {BOB: {"Email": mail("a")}, ANN: {"Phone": PHONE}})
    assert outcomes(plan_for(example)) == {"ann": "linked", "bob": "email_taken"}


def test_rule_4_9_a_skipped_contact_keeps_its_handles_and_that_makes_the_next_fail() -> None:
    store = [with_email(1, ANN, "a"), with_email(2, BOB, "b"), with_email(3, EVE, "e")]
    example = world(store, {BOB: {"Email": mail("e")}, CID: {"Email": mail("b")}})
    assert outcomes(plan_for(example)) == {"bob": "email_taken", "cid": "email_taken"}
    assert holders(plan_for(example), "cid") == [(2, "bob", mail("b"))]


def test_rule_4_9_who_was_skipped_is_admitted_when_the_end_state_has_room() -> None:
    """Rule 4.13: the holders are those of the end state."""
    # Cid is skipped for Ann's sake. Ann counts on Bob's telephone, but he is skipped in turn, for Eve keeps her address.
    store = [with_email(1, ANN, "a"), contact(2, BOB, {PHONE_HANDLE: "Phone"}), with_email(3, EVE, "e")]
    source = {ANN: {"Email": mail("x"), "Phone": PHONE}, BOB: {"Email": mail("e")}, CID: {"Email": mail("x")}}
    plan = plan_for(world(store, source))
    assert outcomes(plan) == {"ann": "email_taken", "bob": "email_taken", "cid": "created"}
    assert holders(plan, "ann") == [(None, "cid", mail("x")), (2, "bob", "+12128425500")]


def test_rule_4_9_whoever_is_skipped_could_not_be_synced_against_the_store_that_the_run_leaves() -> None:
    store = [with_email(1, ANN, "a"), contact(2, None, {email("c"): None})]
    first = world(store, emails(ann="b", bob="a", cid="c", dan="c"))
    left = store_after(first, plan_for(first))
    left = [Contact(each.id if each.id > 0 else 100 - each.id, each.external_id, each.handles) for each in left]
    second = outcomes(plan_for(world(left, first.source)))
    assert second == {"ann": "unchanged", "bob": "unchanged", "cid": "unchanged", "dan": "email_taken"}


# ---------------------------------------------------------------- what is settled by joins, and what one by one (4.9)


def settled_one_by_one(example: World) -> set[str]:
    """The names of those who go to `claims`, which is exact and slow; the joins settle everybody else."""
    with patch.object(match_module, "settle", side_effect=settle) as one_by_one:
        plan_for(example)
    ids = sorted(example.source)
    return {NAMES[ids[claim.order]] for call in one_by_one.call_args_list for claim in call.args[0]}


@pytest.mark.parametrize(
    ("store", "source", "more"),
    [
        ([with_email(1, EVE, "e"), contact(2, None, {email("a"): None})], emails(ann="a", bob="b", eve="e"), {}),
        ([], emails(ann="x", bob="x", cid="x"), {}),
        ([with_email(1, EVE, "e")], emails(ann="x", eve="x"), {}),
        ([with_email(1, DAN, "d")], emails(ann="x", eve="x"), {"merges": {DAN: EVE}}),
        ([with_email(1, EVE, "e")], emails(ann="e"), {}),
        ([with_email(1, EVE, "e")], emails(ann="e", eve="e"), {}),
        ([contact(1, EVE, {email("e"): None})], emails(ann="e", eve="x"), {}),
        ([with_email(1, EVE, "e")], emails(ann="e") | {EVE: {"Email": None}}, {}),
        ([with_email(1, EVE, "e")], emails(ann="e") | {EVE: {"Email": "not an email"}}, {}),
        (
            [contact(1, EVE, {email("e"): "Old__c"})],
            emails(ann="e", eve="x"),
            {"mapping": [*EMAIL_AND_PHONE, ("Old__c", "email")], "missing": {"Old__c"}},
        ),
    ],
    ids=[
        "nobody collides", "colleagues share one", "a linked colleague comes first", "a link that moved comes first",
        "the owner left", "the owner gives it again", "a person added it", "the owner has no handle any more",
        "the owner's cannot be read", "the field that gave it is missing",
    ],
)  # fmt: skip
def test_rule_4_9_who_collides_whatever_the_others_do_is_never_settled_one_by_one(
    store: list[Contact], source: dict[str, dict[str, str | None]], more: dict[str, Any]
) -> None:
    assert settled_one_by_one(world(store, source, **more)) == set()


def test_rule_4_9_only_those_in_doubt_are_settled_one_by_one() -> None:
    store = [with_email(1, ANN, "a"), with_email(2, BOB, "b"), contact(3, None, {email("c"): None})]
    assert settled_one_by_one(world(store, emails(ann="b", bob="a", cid="c", dan="d"))) == {"ann", "bob"}


# ------------------------------------------------------------------------------------------------------ handles (4.10)


def test_rule_4_10_what_salesforce_gave_is_replaced_and_what_a_person_added_is_kept() -> None:
    store = [contact(1, ANN, {email("a"): "Email", email("p"): None, ("twitter", "ann"): None})]
    assert after(world(store, emails(ann="b"))) == {
        1: ("ann", {email("b"): "Email", email("p"): None, ("twitter", "ann"): None})
    }


def test_rule_4_10_a_handle_that_both_gave_counts_as_that_of_salesforce() -> None:
    added = world([contact(1, ANN, {email("a"): None})], emails(ann="a"))
    assert outcomes(plan_for(added)) == {"ann": "updated"}
    assert after(added) == {1: ("ann", {email("a"): "Email"})}


def test_rule_4_10_the_first_field_in_the_mapping_is_remembered_and_a_change_of_that_is_an_update() -> None:
    mapping = [("Email", "email"), ("Second_Email__c", "email")]
    store = [contact(1, ANN, {email("a"): "Second_Email__c"})]
    example = world(store, {ANN: {"Email": mail("a"), "Second_Email__c": mail("a")}}, mapping=mapping)
    assert outcomes(plan_for(example)) == {"ann": "updated"}
    assert after(example) == {1: ("ann", {email("a"): "Email"})}


@pytest.mark.parametrize(
    "mapping",
    [[("Phone", "phone"), ("Email", "email")], [("Phone", "phone"), ("Email", "email"), ("Old_Email__c", "custom")]],
    ids=["no longer mapped", "mapped to another field now"],
)
def test_rule_3_4_handles_of_a_field_that_is_no_longer_mapped_there_are_kept(mapping: list[tuple[str, str]]) -> None:
    store = [contact(1, ANN, {email("old"): "Old_Email__c", email("a"): "Email"})]
    assert after(world(store, {ANN: {"Email": mail("b"), "Phone": None}}, mapping=mapping)) == {
        1: ("ann", {email("old"): "Old_Email__c", email("b"): "Email"})
    }


def test_rule_3_6_an_unreadable_value_keeps_what_its_own_field_gave_and_nothing_else() -> None:
    mapping = [("Email", "email"), ("Second_Email__c", "email")]
    store = [contact(1, ANN, {email("a"): "Email", email("s"): "Second_Email__c"})]
    source: dict[str, dict[str, str | None]] = {ANN: {"Email": "not an email", "Second_Email__c": mail("t")}}
    assert after(world(store, source, mapping=mapping)) == {
        1: ("ann", {email("a"): "Email", email("t"): "Second_Email__c"})
    }


# ------------------------------------------------------------------------------------------------------- merges (4.11)


def test_rule_4_11_the_link_moves_to_the_winner_of_a_merge() -> None:
    example = world([with_email(1, ANN, "a")], emails(bob="a"), merges={ANN: BOB})
    plan = plan_for(example)
    assert outcomes(plan) == {"bob": "updated"}
    assert after(example) == {1: ("bob", {email("a"): "Email"})}
    assert plan.outcomes["rule"].to_pylist() == ["4.11"]
    assert plan.writes["old_external_id"].to_pylist() == [ANN]


def test_rule_4_11_a_chain_of_merges_is_followed_to_its_end() -> None:
    example = world([with_email(1, ANN, "a")], emails(dan="a"), merges={ANN: BOB, BOB: CID, CID: DAN})
    assert after(example) == {1: ("dan", {email("a"): "Email"})}


def test_rule_4_11_of_several_losers_the_lowest_id_moves_and_the_others_stay() -> None:
    store = [with_email(1, BOB, "b"), with_email(2, ANN, "a")]
    example = world(store, emails(cid="c"), merges={ANN: CID, BOB: CID})
    assert after(example) == {1: ("bob", {email("b"): "Email"}), 2: ("cid", {email("c"): "Email"})}


def test_rule_4_11_a_winner_with_a_contact_of_its_own_keeps_it() -> None:
    store = [with_email(1, ANN, "a"), with_email(2, BOB, "b")]
    example = world(store, emails(bob="b"), merges={ANN: BOB})
    assert outcomes(plan_for(example)) == {"bob": "unchanged"}
    assert after(example) == {1: ("ann", {email("a"): "Email"}), 2: ("bob", {email("b"): "Email"})}


def test_rule_4_11_a_winner_that_is_skipped_leaves_the_link_where_it_was() -> None:
    store = [with_email(1, ANN, "a"), with_email(2, EVE, "e")]
    example = world(store, emails(bob="e"), merges={ANN: BOB})
    assert outcomes(plan_for(example)) == {"bob": "email_taken"}
    assert after(example)[1] == ("ann", {email("a"): "Email"})


def test_rule_4_11_a_winner_that_is_not_in_the_run_moves_nothing_and_a_circle_leads_nowhere() -> None:
    elsewhere = world([with_email(1, ANN, "a")], {}, merges={ANN: BOB})
    assert after(elsewhere)[1][0] == "ann"
    for circle in ({ANN: BOB, BOB: ANN}, {ANN: BOB, BOB: DAN, DAN: BOB}):
        assert after(world([with_email(1, ANN, "a")], emails(cid="c"), merges=circle))[1][0] == "ann"


# ----------------------------------------------------------------------------------------------------- errors, repeats


def test_rule_4_12_a_second_run_changes_nothing() -> None:
    store = [with_email(1, ANN, "a"), contact(2, BOB, {email("b"): "Email", PHONE_HANDLE: "Phone"})]
    source = {ANN: {"Email": " A@X.co "}, BOB: {"Email": mail("b"), "Phone": PHONE}, CID: {"Email": mail("a")}}
    plan = plan_for(world(store, source))
    assert outcomes(plan) == {"ann": "unchanged", "bob": "unchanged", "cid": "email_taken"}
    assert [plan.writes.num_rows, plan.handles.num_rows, plan.released.num_rows, plan.stopped.num_rows] == [0] * 4


def test_rule_4_13_the_code_is_that_of_the_first_colliding_handle_in_the_order_email_phone_then_others() -> None:
    mapping = [("Twitter__c", "twitter"), ("Phone", "phone"), ("MobilePhone", "phone"), ("Email", "email")]
    store = [
        contact(1, EVE, {PHONE_HANDLE: "Phone"}),
        contact(2, DAN, {SECOND_PHONE_HANDLE: "Phone", ("twitter", "t"): "Twitter__c"}),
    ]
    values = {"Twitter__c": "@T", "Phone": PHONE, "MobilePhone": SECOND_PHONE, "Email": mail("free")}
    plan = plan_for(world(store, {ANN: values}, mapping=mapping))
    assert outcomes(plan) == {"ann": "phone_taken"}
    (error,) = plan.errors.to_pylist()
    assert (error["salesforce_field"], error["value"]) == ("Phone", "+12128425500")
    assert holders(plan, "ann") == [(1, "eve", "+12128425500"), (2, "dan", "+12128425501"), (2, "dan", "t")]
    only_twitter = world(store, {ANN: {"Twitter__c": "t"}}, mapping=mapping)
    assert outcomes(plan_for(only_twitter)) == {"ann": "handle_taken"}


def test_rule_2_6_who_left_the_source_is_named_once_and_only_by_a_run_that_read_it_whole() -> None:
    example = world([with_email(1, ANN, "a"), with_email(2, BOB, "b"), contact(3, None)], emails(ann="a"))
    assert plan_for(example).stopped["id"].to_pylist() == [2]
    window = match(clean_records(example), stored_records(example), columns_of(example), whole_source=False)
    assert window.stopped.num_rows == 0


# -------------------------------------------------------------------------------------------------------- accounts (5)


def sites(**domains: str | None) -> dict[str, dict[str, str | None]]:
    ids = {name: external_id for external_id, name in NAMES.items()}
    return {ids[name]: {"Website": domain} for name, domain in domains.items()}


def accounts(store: list[Contact], source: dict[str, dict[str, str | None]]) -> World:
    return World(store, source, [("Website", "domain")], needs_handle=False)


def test_rule_5_an_account_without_a_domain_is_created() -> None:
    assert outcomes(plan_for(accounts([], sites(ann=None, bob="acme.com")))) == {"ann": "created", "bob": "created"}


def test_rule_5_an_account_is_linked_by_its_domain_else_created_and_a_taken_domain_is_its_own_error() -> None:
    store = [contact(1, None, {("domain", "acme.com"): None}), contact(2, EVE, {("domain", "other.com"): "Website"})]
    example = accounts(store, sites(ann="https://www.ACME.com/", bob="other.com", cid="acme.com", dan="new.com"))
    assert outcomes(plan_for(example)) == {
        "ann": "linked", "bob": "domain_taken", "cid": "domain_taken", "dan": "created",
    }  # fmt: skip
    assert {row["level"] for row in plan_for(example).errors.to_pylist()} == {"account"}


def test_rule_5_accounts_swap_domains_as_contacts_swap_handles() -> None:
    store = [contact(1, ANN, {("domain", "a.com"): "Website"}), contact(2, BOB, {("domain", "b.com"): "Website"})]
    assert outcomes(plan_for(accounts(store, sites(ann="b.com", bob="a.com")))) == {"ann": "updated", "bob": "updated"}


@pytest.mark.parametrize("at_once", [1, 7])
def test_rule_4_6_a_plan_is_the_same_however_many_records_are_looked_at_at_once(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    for number in range(20):
        world = together(batch_of_worlds(number, 10))
        whole = plan_for(world)
        with monkeypatch.context() as patch:
            patch.setattr(plan_module, "RECORDS_AT_ONCE", at_once)
            in_portions = plan_for(world)
        assert in_portions.writes.combine_chunks() == whole.writes.combine_chunks()
        assert in_portions.outcomes == whole.outcomes
