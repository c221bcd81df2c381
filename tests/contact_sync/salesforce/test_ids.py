"""Ids of 15 and 18 characters (rule 2.7)."""

import pyarrow as pa
import pytest

from include.contact_sync.salesforce.ids import to_18, to_18_each


@pytest.mark.parametrize(
    ("short", "long"),
    [
        ("70130000001tcyI", "70130000001tcyIAAQ"),
        ("a0D30000001n7Pi", "a0D30000001n7PiEAI"),
        ("000000000000000", "000000000000000AAA"),
        ("ABCDEFGHIJKLMNO", "ABCDEFGHIJKLMNO555"),
    ],
)
def test_rule_2_7_an_id_of_15_characters_gets_the_three_that_tell_its_capitals(short: str, long: str) -> None:
    assert to_18(short) == long


def test_rule_2_7_ids_that_differ_by_case_alone_stay_different() -> None:
    ids = to_18_each(pa.array(["003000000000abc", "003000000000ABC", "003000000000aBc"])).to_pylist()
    assert len({salesforce_id.lower() for salesforce_id in ids}) == 3


def test_rule_2_7_an_id_of_18_characters_stays_as_it_is() -> None:
    ids = pa.chunked_array([["70130000001tcyIAAQ"], ["a0D30000001n7PiEAI"]])
    assert to_18_each(ids).to_pylist() == ["70130000001tcyIAAQ", "a0D30000001n7PiEAI"]


def test_short_long_and_missing_ids_may_come_mixed_and_in_slices() -> None:
    ids = pa.array(["skipped", None, "70130000001tcyI", "a0D30000001n7PiEAI", "a0D30000001n7Pi", None]).slice(1)
    assert to_18_each(ids).to_pylist() == [None, "70130000001tcyIAAQ", "a0D30000001n7PiEAI", "a0D30000001n7PiEAI", None]


@pytest.mark.parametrize(
    "empty", [pa.array([], pa.string()), pa.chunked_array([], pa.string()), pa.array([None], pa.string())]
)
def test_no_ids_are_no_fault(empty: pa.Array) -> None:
    assert to_18_each(empty).to_pylist() == empty.to_pylist()


def test_anything_else_is_refused_without_repeating_it() -> None:
    with pytest.raises(ValueError, match="neither 15 nor 18") as refused:
        to_18_each(pa.array(["secret"]))
    assert "secret" not in str(refused.value)
