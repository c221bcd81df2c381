"""What the steps do with columns: nothing is copied without need, null is a value like others, text is kept exactly."""

import json

import pyarrow as pa
import pytest

from include.contact_sync.arrays import (
    NONE,
    by_distinct,
    coded,
    differ,
    is_ascending,
    join_present,
    json_strings,
    one_piece,
    pair_places,
    wrapped,
)

TEXTS = pa.array(["one", None, "", "two"])


def test_a_column_in_one_piece_is_not_copied() -> None:
    assert one_piece(TEXTS) is TEXTS
    found = one_piece(pa.chunked_array([TEXTS]))
    assert isinstance(found, pa.StringArray)
    assert [part and part.address for part in found.buffers()] == [part and part.address for part in TEXTS.buffers()]


@pytest.mark.parametrize("pieces", [[], [TEXTS[:1], TEXTS[1:]], [TEXTS[:0], TEXTS]])
def test_a_column_in_pieces_becomes_one(pieces: list[pa.Array]) -> None:
    found = one_piece(pa.chunked_array(pieces, pa.string()))
    assert isinstance(found, pa.StringArray)
    assert found.to_pylist() == (TEXTS.to_pylist() if pieces else [])


def test_null_differs_from_everything_but_null() -> None:
    one, other = pa.array([None, None, "", "a", "a"]), pa.array([None, "", None, "a", "A"])
    assert differ(one, other).to_pylist() == [False, True, True, False, True]


@pytest.mark.parametrize("as_dictionary", [False, True])
def test_texts_are_numbered_alike_in_every_piece(*, as_dictionary: bool) -> None:
    pieces = [pa.array(["b", "a", None]), pa.array(["a", "c"])]
    column = pa.chunked_array([piece.dictionary_encode() for piece in pieces] if as_dictionary else pieces)
    places, distinct = coded(column)
    texts = [*distinct.to_pylist(), None]  # NONE finds the last one
    assert [texts[place] for place in places] == ["b", "a", None, "a", "c"]
    assert places[2] == NONE


def test_no_texts_have_no_numbers() -> None:
    places, distinct = coded(pa.chunked_array([], pa.string()))
    assert (len(places), len(distinct)) == (0, 0)


def test_a_pair_has_the_place_that_the_order_gives_it() -> None:
    order = [("b", "x"), ("a", "y"), ("a", "x")]
    first = pa.chunked_array([["a", "b", None], ["a", "b", "c", "a"]])
    second = pa.chunked_array([["x", "x", "x", "y", "y", "x", None]], pa.string())
    assert pair_places(first, second, order).tolist() == [2, 0, NONE, 1, NONE, NONE, NONE]
    assert pair_places(first.dictionary_encode(), second, order).tolist() == [2, 0, NONE, 1, NONE, NONE, NONE]
    assert pair_places(first, second, []).tolist() == [NONE] * 7
    assert pair_places(first[:0], second[:0], order).tolist() == []


@pytest.mark.parametrize(
    ("values", "expected"), [([], True), (["a"], True), (["a", "b"], True), (["b", "a"], False), (["a", "a"], False)]
)
def test_what_ascends_has_nothing_twice(values: list[str], *, expected: bool) -> None:
    assert is_ascending(pa.array(values, pa.string())) is expected


def test_each_distinct_text_is_read_once() -> None:
    asked: list[str] = []

    def read(texts: list[str]) -> list[str | None]:
        asked.extend(texts)
        return [text.upper() or None for text in texts]

    found = by_distinct(pa.array(["b", None, "a", "b", ""]), read)
    assert found.to_pylist() == ["B", None, "A", "B", None]
    assert sorted(asked) == ["", "a", "b"]


def test_what_is_wrapped_is_null_where_a_part_is() -> None:
    assert wrapped("<", TEXTS, "|", pa.array(["1", "2", None, "4"]), ">").to_pylist() == [
        "<one|1>",
        None,
        None,
        "<two|4>",
    ]


def test_what_is_present_is_joined() -> None:
    found = join_present([TEXTS, pa.array([None, None, "b", "c"]), pa.array(["x", None, "y", None])])
    assert found.to_pylist() == ["one, x", "", ", b, y", "two, c"]
    assert join_present([TEXTS]).to_pylist() == ["one", "", "", "two"]
    assert join_present([TEXTS, TEXTS], "; ").to_pylist() == ["one; one", "", "; ", "two; two"]


def test_json_strings_are_written_as_postgresql_writes_jsonb() -> None:
    texts = ["", "plain", 'quote "', "back \\ slash", "tab \t, line \n, bell \x07", "é 名 😀", "\x1f", "\x7f", None]
    found = json_strings(pa.array(texts)).to_pylist()
    assert found == [None if text is None else json.dumps(text, ensure_ascii=False) for text in texts]
    assert json_strings(TEXTS).to_pylist() == ['"one"', None, '""', '"two"']
