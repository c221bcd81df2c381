"""Turns an answer into what goes over the wire: JSON records of the REST API, CSV pages of Bulk API 2.0."""

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from include.salesforce_simulator.evaluate import Answer, Selected

DELIMITERS = {"BACKQUOTE": "`", "CARET": "^", "COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "TAB": "\t"}
LINE_ENDINGS = {"LF": "\n", "CRLF": "\r\n"}


def as_json(value: Any) -> Any:
    """A value in REST JSON: datetimes end in `+0000`."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.000+0000")
    if isinstance(value, date):
        return value.isoformat()
    return value


def render_records(answer: Answer, base: str) -> list[dict[str, Any]]:
    """The rows of an answer as nested JSON records."""
    columns = [(one.name.split("."), [as_json(value) for value in one.values.to_pylist()]) for one in answer.selected]
    identifiers = answer.ids.to_pylist()
    parents = {name: (sobject, keys.to_pylist()) for name, (sobject, keys) in answer.parents.items()}
    return [
        _record(row, identifier, answer.sobject, base, columns, parents) for row, identifier in enumerate(identifiers)
    ]


def _record(
    row: int,
    identifier: str,
    sobject: str,
    base: str,
    columns: list[tuple[list[str], list[Any]]],
    parents: dict[str, tuple[str, list[Any]]],
) -> dict[str, Any]:
    record = {"attributes": _attributes(sobject, identifier, base)}
    for names, values in columns:
        place: dict[str, Any] | None = record
        for depth in range(1, len(names)):
            place = _parent(place, names[:depth], row, base, parents)
            if place is None:
                break
        if place is not None:
            place[names[-1]] = values[row]
    return record


def _parent(
    place: dict[str, Any] | None, names: list[str], row: int, base: str, parents: dict[str, tuple[str, list[Any]]]
) -> dict[str, Any] | None:
    assert place is not None
    sobject, keys = parents[".".join(names)]
    if names[-1] not in place:
        place[names[-1]] = {"attributes": _attributes(sobject, keys[row], base)} if keys[row] else None
    return place[names[-1]]


def _attributes(sobject: str, identifier: str, base: str) -> dict[str, Any]:
    return {"type": sobject, "url": f"{base}/sobjects/{sobject}/{identifier}"}


def render_csv(answer: Answer, *, delimiter: str, line_ending: str, nulls: str, datetimes: str) -> bytes:
    """A page of CSV: a header and the rows, everything quoted, the header's names as selected."""
    columns = [_as_text(one, datetimes) for one in answer.selected]
    if nulls == "quoted":
        columns = [column.fill_null("") for column in columns]
    table = pa.table(columns, names=[one.name for one in answer.selected])
    sink = pa.BufferOutputStream()
    options = pyarrow.csv.WriteOptions(
        include_header=True, delimiter=DELIMITERS[delimiter], quoting_style="all_valid", eol=LINE_ENDINGS[line_ending]
    )
    pyarrow.csv.write_csv(table, sink, options)
    return sink.getvalue().to_pybytes()


def _as_text(column: Selected, datetimes: str) -> pa.Array:
    values = column.values
    if pa.types.is_timestamp(values.type):
        text = pc.utf8_replace_slice(pc.cast(pc.cast(values, pa.timestamp("s")), pa.string()), 10, 11, "T")
        return pc.binary_join_element_wise(text, f".000{datetimes}", "")
    if pa.types.is_floating(values.type):
        return _map_distinct(values, java_double)
    return values if pa.types.is_string(values.type) else pc.cast(values, pa.string())


def _map_distinct(values: pa.Array, write: Callable[[Any], str | None]) -> pa.Array:
    coded = values.dictionary_encode()
    written = pa.array([None if value is None else write(value) for value in coded.dictionary.to_pylist()], pa.string())
    return written.take(coded.indices)


def java_double(value: float) -> str:
    """A double as Java prints it.

    >>> [java_double(value) for value in (5.0, 0.25, 12345678.9)]
    ['5.0', '0.25', '1.23456789E7']
    """
    if value == 0 or 1e-3 <= abs(value) < 1e7:
        return repr(float(value))
    number = Decimal(repr(value)).normalize()
    digits = "".join(map(str, number.as_tuple().digits))
    return f"{'-' if value < 0 else ''}{digits[0]}.{digits[1:] or '0'}E{number.adjusted()}"
