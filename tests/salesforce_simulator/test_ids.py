"""Ids: 15 and 18 characters."""

import numpy as np
import pytest

from include.salesforce_simulator import ids


@pytest.mark.parametrize(
    ("short", "long"), [("70130000001tcyI", "70130000001tcyIAAQ"), ("a0D30000001n7Pi", "a0D30000001n7PiEAI")]
)
def test_the_recorded_examples_lengthen_as_salesforce_does(short: str, long: str) -> None:
    assert ids.lengthen(short) == long
    assert ids.lengthen(long) == long


def test_many_ids_are_made_as_single_ones_are() -> None:
    made = ids.make_ids("003", np.array([1, 61, 62, 10**9])).to_pylist()
    assert made == [ids.lengthen(one[:15]) for one in made]
    assert [one[5:15] for one in made] == ["0000000001", "000000000z", "0000000010", "00001" + made[3][10:15]]
    assert ids.make_id("003", 61) == made[1]


@pytest.mark.parametrize("text", ["", "003", "0030000000000-1", "0030000000000012"])
def test_other_texts_are_not_ids(text: str) -> None:
    assert not ids.is_id(text)
