"""Salesforce record ids: 15 case-sensitive characters, or 18 with three that make case irrelevant."""

import re

import numpy as np
import pyarrow as pa

_CHECK = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SHAPE = re.compile(r"[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?")
_POD = "Hs"


def is_id(text: str) -> bool:
    """Whether a text has the shape of an id."""
    return _SHAPE.fullmatch(text) is not None


def lengthen(identifier: str) -> str:
    """The 18-character form.

    >>> lengthen("70130000001tcyI")
    '70130000001tcyIAAQ'
    """
    head = identifier[:15]
    chunks = (head[start : start + 5] for start in (0, 5, 10))
    return head + "".join(
        _CHECK[sum(character.isupper() << place for place, character in enumerate(chunk))] for chunk in chunks
    )


def make_id(prefix: str, serial: int) -> str:
    """The id of the record with this serial number."""
    return str(make_ids(prefix, np.array([serial]))[0])


def make_ids(prefix: str, serials: np.ndarray) -> pa.Array:
    """The ids of many records, as an Arrow array of 18-character texts."""
    characters = np.empty((len(serials), 18), dtype=np.uint8)
    characters[:, :5] = np.frombuffer((prefix + _POD).encode(), dtype=np.uint8)
    digits = np.frombuffer(_DIGITS.encode(), dtype=np.uint8)
    rest = serials.astype(np.int64)
    for place in range(14, 4, -1):
        rest, digit = np.divmod(rest, 62)
        characters[:, place] = digits[digit]
    upper = (characters[:, :15] >= ord("A")) & (characters[:, :15] <= ord("Z"))
    weights = np.array([1, 2, 4, 8, 16])
    check = np.frombuffer(_CHECK.encode(), dtype=np.uint8)
    for chunk in range(3):
        characters[:, 15 + chunk] = check[upper[:, chunk * 5 : chunk * 5 + 5] @ weights]
    return texts_of(characters)


def texts_of(characters: np.ndarray) -> pa.Array:
    """Rows of ASCII characters of one length as an Arrow text array, without a Python string in between."""
    rows, length = characters.shape
    offsets = np.arange(0, (rows + 1) * length, length, dtype=np.int32)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(characters)))
