"""What several steps do with tables of Arrow and their columns: merge, compare, number, join their texts. Pure."""

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints = npt.NDArray[np.int64]
SmallInts = npt.NDArray[np.integer[Any]]
"""Integers of as few bytes as there need be."""

Bools = npt.NDArray[np.bool_]
Reader = Callable[[list[str]], list[str | None]]

READERS = 3
"""Columns that are worked on at the same time: Arrow works while Python waits for phones or reads other texts."""

NONE = -1
"""No such row, no text, or a pair that is not in the order."""


FEW_TEXTS = pa.dictionary(pa.int16(), pa.string())
"""The type of a column in which few texts stand again and again."""


class LazyTable(Protocol):
    """A table, or one whose columns are read when they are asked for."""

    @property
    def schema(self) -> pa.Schema:
        """Names and types of the columns."""
        ...

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        """One column."""
        ...


def one_piece(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The column without breaks; it is copied only where there are several pieces."""
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def is_ascending(column: pa.Array) -> bool:
    """Whether each value is greater than the one before, so that they are in order and none is there twice."""
    return bool(pc.all(pc.less(column[:-1], column[1:]), min_count=0).as_py())


def differ(one: pa.Array, other: pa.Array) -> pa.Array:
    """Where two arrays differ; null equals null."""
    return pc.or_(pc.xor(pc.is_null(one), pc.is_null(other)), pc.fill_null(pc.not_equal(one, other), False))


def coded(column: pa.ChunkedArray) -> tuple[SmallInts, pa.Array]:
    """The place of each text among the distinct ones (NONE for null), and the distinct ones; neither may be written to."""
    encoded = one_piece(
        column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    )
    return encoded.indices.fill_null(NONE).to_numpy(), encoded.dictionary


def pair_places(first: pa.ChunkedArray, second: pa.ChunkedArray, order: Sequence[tuple[str, str]]) -> SmallInts:
    """Where in the order the pair of texts stands that each row has in two columns; NONE where it is not there."""
    (one, ones), (other, others) = coded(first), coded(second)
    # The pair of NONE and NONE is the first one. Arrow looks numbers up without widening them all before.
    pair = (one.astype(np.int32) + 1) * (len(others) + 1) + other + 1
    known = {names: place for place, names in enumerate(order)}
    pairs = product([None, *ones.to_pylist()], [None, *others.to_pylist()])
    places = pa.array([known.get(names, NONE) for names in pairs], pa.int16())
    return places.take(pa.array(pair)).to_numpy()


def by_distinct(texts: pa.Array, read: Reader) -> pa.Array:
    """Apply `read` once for each distinct text; null stays null."""
    encoded = one_piece(pc.dictionary_encode(texts))
    values = pa.array(read(encoded.dictionary.to_pylist()), pa.string())
    return values.take(encoded.indices)


def wrapped(*texts: Any) -> pa.Array:
    """The texts of each row one after the other; null where one of them is null."""
    return one_piece(pc.binary_join_element_wise(*texts, ""))


def join_present(texts: list[pa.Array], separator: str = ", ") -> pa.Array:
    """The texts of each row that are not null, joined; an empty text where all are null."""
    absent = pc.is_null(texts[0])
    for others in texts[1:]:
        absent = pc.and_(absent, pc.is_null(others))
    # Arrow drops a row in which "skip" leaves nothing to join.
    first = pc.if_else(absent, "", texts[0])
    return pc.binary_join_element_wise(first, *texts[1:], separator, null_handling="skip")


def json_strings(texts: pa.Array) -> pa.Array:
    """Each text as a JSON string, written as PostgreSQL writes jsonb, so that both can be compared; null stays null."""
    special = pc.match_substring_regex(texts, r'[\x00-\x1f"\\]')
    plain = wrapped('"', texts, '"')
    if not pc.any(special).as_py():
        return plain
    others = pc.if_else(special, texts, pa.scalar(None, pa.string()))
    return pc.if_else(
        special, by_distinct(others, lambda found: [json.dumps(text, ensure_ascii=False) for text in found]), plain
    )


@dataclass(frozen=True)
class RowMerge:
    """How two tables in the same order become one.

    Attributes:
        stays: which rows of the first table are left.
        places: before which row of the first table each row of the second goes; ascending.
    """

    stays: Bools
    places: Ints

    @cached_property
    def order(self) -> Ints:
        """Which rows of the two tables, one below the other, make the one that they become."""
        left = np.flatnonzero(self.stays)
        new = len(self.stays) + np.arange(len(self.places))
        return np.insert(left, np.searchsorted(left, self.places), new)

    def rows(self) -> list[pa.Array]:
        """Where the rows of either table are in the one that they become."""
        now = np.zeros(len(self.stays) + len(self.places), dtype=np.int32)
        now[self.order] = np.arange(len(self.order))
        return [pa.array(now[: len(self.stays)]), pa.array(now[len(self.stays) :])]

    def take(self, first: LazyTable, second: pa.Table) -> pa.Table:
        """What the tables become; columns are taken at the same time, and not copied where they stay the same."""
        replaced = pa.array(~self.stays)
        is_in_place = np.array_equal(np.flatnonzero(~self.stays), self.places)  # nothing but replaced rows
        order = pa.array(self.order)

        def take(name: str) -> pa.Array:
            before, new = one_piece(first[name]), one_piece(second[name])
            if is_in_place and before.filter(replaced).cast(pa.string()) == new.cast(pa.string()):
                return before
            return one_piece(pa.chunked_array([before, new], before.type).take(order))

        with ThreadPoolExecutor(READERS, thread_name_prefix="take") as readers:
            return pa.table([*readers.map(take, first.schema.names)], schema=first.schema)
