"""What the side-by-side benchmark counts as lost or altered."""

import pytest

from tests.benchmark.peers.compare import compare, how_altered

FIELDS = ("Name", "Score__c")
RECORDS = {"1": ("NA", 5.0), "2": ("Ada", None), "3": ("0012", 0.25)}


def test_a_faithful_table_has_nothing_lost_or_altered() -> None:
    found = compare(RECORDS, [("3", ("0012", "0.25")), ("1", ("NA", "5")), ("2", ("Ada", ""))], FIELDS)
    assert (found.lost, found.repeated, found.unknown, found.altered) == (set(), 0, 0, 0)


def test_a_missing_row_is_lost_unless_it_was_reported() -> None:
    rows = [("1", ("NA", "5"))]
    assert compare(RECORDS, rows, FIELDS).lost == {"2", "3"}
    assert compare(RECORDS, rows, FIELDS, excused={"3"}).lost == {"2"}


def test_a_duplicate_and_an_unknown_row_are_too_many() -> None:
    found = compare(RECORDS, [("1", ("NA", "5")), ("1", ("NA", "5")), ("4", ("Eve", None))], FIELDS)
    assert (found.repeated, found.unknown) == (1, 1)


def test_a_row_with_two_altered_values_is_one_altered_row() -> None:
    found = compare(RECORDS, [("1", (None, "6")), ("3", ("12", "0.25"))], FIELDS)
    assert found.altered == 2
    assert found.kinds == {
        ("became NULL", "Name"): 1,
        ("another value", "Score__c"): 1,
        ("became a number", "Name"): 1,
    }
    assert found.examples["became NULL"] == ("'NA'", "NULL")


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("NA", None, "became NULL"),
        ("null", "", "became NULL"),
        (None, "nan", "came from nowhere"),
        (None, "", None),
        ("1E5", "100000.0", "became a number"),
        ("TRUE", "true", "another value"),
        (5.0, "5.00", None),
        ("one\r\ntwo", "one\ntwo", "line breaks changed"),
        (" padded ", "padded", "space trimmed"),
        ("x" * 32_000, "x" * 255, "cut short"),
        ("🚀", "🚀", None),
    ],
)
def test_what_happened_to_a_value_is_told(before: str | float | None, after: str | None, told: str | None) -> None:
    assert how_altered(before, after) == told
