"""The checks can fail: a few of the defects that `make prove` puts into the product, each caught by the check for it.

A fixed part of what `make prove` does at length; and what counts as caught, and what does not.
"""

from dataclasses import replace

import pytest

from include.contact_sync import flow
from tests.proof.seeded import in_matching, in_the_store
from tests.proof.seeded.defect import Broken, Defect, Invariant, Plant, catch, instead, statement

FEW = {
    "extensions are forgotten (3.6)",
    "handles are always given up (4.7)",
    "whoever comes first is never skipped (4.9)",
    "every contact is rewritten every night (4.12)",
    "who comes first is who arrives first (4.6)",
    "the first record has two outcomes, the last none",
    "the records are committed before the errors (6.1)",
    "created contacts leave no entry",
}
CHOSEN = [defect for defect in [*in_matching.DEFECTS, *in_the_store.DEFECTS] if defect.what in FEW]


@pytest.mark.parametrize("defect", CHOSEN, ids=lambda defect: defect.what)
def test_a_seeded_defect_is_caught_by_the_check_that_is_for_it(request: pytest.FixtureRequest, defect: Defect) -> None:
    assert catch(defect, request.getfixturevalue)


def test_the_chosen_defects_are_there() -> None:
    assert {defect.what for defect in CHOSEN} == FEW


# ---------------------------------------------------------------------------------------- what counts as caught


class Product:
    """Something to put a defect into."""

    @staticmethod
    def answer() -> int:
        return 1


def answers(value: object) -> Plant:
    return instead(Product, "answer", lambda _: lambda: value)


def scene_of_assertions() -> None:
    assert Product.answer() > 0
    assert Product.answer() < 2


def scene_of_names() -> None:
    if Product.answer() != 1:
        raise Broken(["it is odd", "it is one"])


def scene_of_the_product_s_own_assertion() -> None:
    if Product.answer() != 1:
        flow.run_all_steps(flow.RunRequest(dag_run_id=None))


SEEDED = Defect("a defect", Invariant.SPECIFIED, answers(2), scene_of_assertions, "assert Product.answer() < 2")


def no_fixture(name: str) -> None:
    raise LookupError(name)


@pytest.mark.parametrize(
    ("defect", "checks"),
    [
        (SEEDED, ["scene_of_assertions: assert Product.answer() < 2"]),
        (replace(SEEDED, scene=scene_of_names, caught_by="it is odd"), ["it is odd", "it is one"]),
    ],
)
def test_the_checks_that_failed_are_named_and_the_defect_is_gone_afterwards(defect: Defect, checks: list[str]) -> None:
    assert catch(defect, no_fixture) == checks
    assert Product.answer() == 1


@pytest.mark.parametrize(
    ("defect", "why"),
    [
        (replace(SEEDED, plant=answers(1)), "nobody noticed: a defect"),
        (replace(SEEDED, plant=answers(0)), "a defect: caught by .*answer.. > 0"),
        (replace(SEEDED, scene=scene_of_the_product_s_own_assertion), "caught by nothing that is a check"),
    ],
    ids=["it changes nothing", "another check failed", "an assertion of the product failed"],
)
def test_a_defect_that_the_named_check_did_not_catch_fails(defect: Defect, why: str) -> None:
    with pytest.raises(AssertionError, match=why):
        catch(defect, no_fixture)


def test_a_patch_that_makes_something_fall_over_is_not_caught() -> None:
    with pytest.raises(TypeError):
        catch(replace(SEEDED, plant=answers(None)), no_fixture)


def test_a_statement_that_says_something_else_by_now_cannot_be_changed() -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(AssertionError, match="no more says"):
        statement("mark_stopped", "what it never said", "")(patch)
