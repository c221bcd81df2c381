"""The proofs catch what they are for: each defect that is put into the product makes the named check fail, and no other
will do; without the defect the same scene passes. Every invariant has at least one."""

from collections.abc import Iterable

import pytest

from tests.proof.conftest import SCORES, Score
from tests.proof.invariants import INVARIANTS
from tests.proof.prove_concurrent_edits import evening, nights
from tests.proof.prove_crashes import two_nights
from tests.proof.seeded.catalogue import DEFECTS
from tests.proof.seeded.defect import Defect, Invariant, Scene, catch, play

__all__ = ["evening", "nights", "two_nights"]


def in_order(defects: Iterable[Defect]) -> list[Defect]:
    """Invariant by invariant, as the scorecard shows them."""
    return sorted(defects, key=lambda defect: [*Invariant].index(defect.invariant))


SCENES = list(dict.fromkeys(defect.scene for defect in DEFECTS))


def card(title: str, config: pytest.Config) -> Score:
    """The lines of this title on the scorecard; several tests write there."""
    scores = config.stash.setdefault(SCORES, [])
    found = next((score for score in scores if score.proof == title), None)
    if found is None:
        scores.append(found := Score(title))
    return found


@pytest.mark.parametrize("defect", in_order(DEFECTS), ids=lambda defect: defect.what)
def test_a_seeded_defect_is_caught_by_the_check_that_is_for_it(request: pytest.FixtureRequest, defect: Defect) -> None:
    score = card(f"seeded defects: {defect.invariant}", request.config)
    score.tried["put into the product"] += 1
    checks = catch(defect, request.getfixturevalue)
    score.met[f"{defect.what}; caught by {'; '.join(checks)}"] += 1


@pytest.mark.parametrize("scene", SCENES, ids=lambda scene: scene.__name__.replace("_", " "))
def test_without_a_defect_the_same_scene_passes(request: pytest.FixtureRequest, scene: Scene) -> None:
    play(scene, request.getfixturevalue, wanted=None)
    card("seeded defects: the same scenes without any", request.config).tried["scenes, in which every check held"] += 1


def test_every_invariant_has_a_seeded_defect(score: Score) -> None:
    assert {defect.invariant for defect in DEFECTS} == set(Invariant)
    asked = {defect.caught_by for defect in DEFECTS if defect.invariant is Invariant.IN_SQL}
    assert asked == set(INVARIANTS), "of what is asked in SQL, too"
    assert len({defect.what for defect in DEFECTS}) == len(DEFECTS)
    score.tried["invariants"] += len(Invariant) + len(INVARIANTS)
    score.met["seeded defects"] = len(DEFECTS)
