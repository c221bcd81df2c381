"""Salesforce ids in their 18-character form (rule 2.7).

An id of 15 characters is base 62 and case-sensitive; the three characters that make it 18 say which of the
15 are capitals, so that two ids never differ by case alone.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync.arrays import one_piece

_CHECK_CHARACTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"
_LETTERS = np.frombuffer(_CHECK_CHARACTERS, dtype=np.uint8)
_BITS = np.array([1, 2, 4, 8, 16], dtype=np.uint8)


def to_18(salesforce_id: str) -> str:
    """One id in its 18-character form.

    >>> to_18("70130000001tcyI")
    '70130000001tcyIAAQ'
    """
    return str(to_18_each(pa.array([salesforce_id]))[0])


def to_18_each(ids: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Every id in its 18-character form; null stays null.

    Raises:
        ValueError: an id has neither 15 nor 18 characters; the message does not repeat it.
    """
    column = one_piece(ids) if len(ids) else pa.array([], pa.string())
    short = pc.equal(pc.binary_length(column), 15)
    if pc.any(pc.invert(pc.or_(short, pc.equal(pc.binary_length(column), 18)))).as_py():
        raise ValueError("an id has neither 15 nor 18 characters")
    if not pc.any(short).as_py():
        return column
    return pc.replace_with_mask(column, pc.fill_null(short, False), _lengthened(pc.drop_null(pc.filter(column, short))))


def _lengthened(short: pa.Array) -> pa.Array:
    text = np.array(short.to_pylist(), dtype="S15").view(np.uint8).reshape(-1, 15)
    capitals = (text >= ord("A")) & (text <= ord("Z"))
    checks = _LETTERS[(capitals.reshape(-1, 3, 5) * _BITS).sum(axis=2)]
    whole = np.ascontiguousarray(np.hstack([text, checks]).astype(np.uint8))
    offsets = np.arange(len(short) + 1, dtype=np.int32) * 18
    return pa.Array.from_buffers(pa.string(), len(short), [None, pa.py_buffer(offsets), pa.py_buffer(whole)])
