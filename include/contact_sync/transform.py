"""Turns a snapshot (raw text, as Salesforce sent it) into clean records, handles and warnings (rule 3). Pure.

Text is kept exactly; what is read is read by rule 3.6: e-mails, phones, domains, numbers, dates. A value that
cannot be read becomes a warning and is left out, so that matching can keep what was there before. Values are
converted once for each distinct text. Who a record belongs to is decided in `match`.
"""

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync.arrays import (
    FEW_TEXTS,
    READERS,
    LazyTable,
    by_distinct,
    join_present,
    json_strings,
    one_piece,
    wrapped,
)
from include.contact_sync.columns import SOURCE_ORDER, Columns, HandleColumn, Part, ValueColumn
from include.contact_sync.errors import RunRefused
from include.contact_sync.phones import read_phones
from include.contact_sync.settings import CustomFieldType

LONGEST_HANDLE = 500
"""Characters. A longer text is no way to reach a person, and PostgreSQL cannot index it."""

MOST_TEXT = 2**31 - 1
"""Bytes of one field in all records together."""

NUMBER_TYPES = frozenset({"double", "currency", "percent", "int", "long"})
_SPACE = r"\s\p{Z}\x0b\x1c-\x1f\x{85}"
_EMAIL = rf"^[^@{_SPACE}]+@[^@.{_SPACE}]+(\.[^@.{_SPACE}]+)+$"
_PLAIN_INTEGER = r"^(0|-?[1-9][0-9]{0,300})$"
_PLAIN_DECIMAL = r"^-?(0|[1-9][0-9]{0,300})\.[0-9]{0,300}[1-9]$"
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]{0,400})?|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,3})?")
_UTC_SECONDS = r"^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(\.0+)?(Z|\+00:?00)$"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ISO_DATETIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:?[0-9]{2})?"
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://")
_DOMAIN = re.compile(r"(?!-)[^\s./@:\\\"'<>,;()\[\]]{1,63}(?:\.[^\s./@:\\\"'<>,;()\[\]]{1,63})+")

HandleReaders = dict[str, Callable[[pa.Array], pa.Array]]
"""By source: texts become handles; null where they cannot be read. Phones depend on the region and are added for it."""

HANDLES_SCHEMA = pa.schema(
    [("record", pa.int32()), ("source", FEW_TEXTS), ("handle", pa.string()), ("salesforce_field", FEW_TEXTS)]
)
UNREADABLE_SCHEMA = pa.schema([("record", pa.int32()), ("column", pa.string()), ("salesforce_field", pa.string())])
ERRORS_SCHEMA = pa.schema(
    [
        ("code", pa.string()),
        ("level", pa.string()),
        ("external_id", pa.string()),
        ("salesforce_field", pa.string()),
        ("value", pa.string()),
        ("detail", pa.string()),
        ("holders", pa.string()),
    ]
)


@dataclass(frozen=True)
class CleanRecords:
    """What a snapshot says, ready to be matched.

    Attributes:
        records: one row per source record, ordered by Salesforce id (`external_id`); for contacts `account`, the
            Salesforce id of its account; then one column per `Columns.fields`, as text, custom fields and links as JSON.
        handles: the handles that were read, in the order of rule 4.2, each once per record; `record` is a row
            of `records`, `salesforce_field` the first field of the mapping that gave it.
        unreadable: where a field held something that could not be read; `column` is a value column's name or,
            for a handle, its source. What was stored there stays.
        warnings: the same as errors of the catalogue.
    """

    records: pa.Table
    handles: pa.Table
    unreadable: pa.Table
    warnings: pa.Table


Snapshot = LazyTable
"""What Salesforce sent, a row per record, all text."""


def transform(snapshot: Snapshot, columns: Columns) -> CleanRecords:
    """Read every mapped value of `snapshot` (`Id`, for contacts `AccountId`, and the mapped fields).

    An empty snapshot takes the same path as a full one. No record's values depend on another record.
    """
    handle_readers = _HANDLE_READERS | {"phone": partial(_phones, region=columns.default_region)}
    with ThreadPoolExecutor(READERS, thread_name_prefix="transform") as readers:
        ordered = _by_id(snapshot, readers)
        values = [*readers.map(partial(_read_column, ordered), columns.fields)]
        given = [giver for giver in columns.handles if not giver.missing]
        read = [*readers.map(partial(_read_handles, ordered, handle_readers), given)]
    external_ids = _text(ordered, "Id")
    records = {"external_id": external_ids}
    if columns.part is Part.CONTACTS:
        records["account"] = _text(ordered, "AccountId")
    faults: list[pa.Table] = []
    for column, (records[column.name], bad) in zip(columns.fields, values, strict=True):
        if bad is not None:
            faults.append(_fault_rows(bad, column.name, column.salesforce_fields[0], ordered, "invalid_value"))
    handles: dict[str, list[pa.Table]] = {source: [] for source in SOURCE_ORDER}
    for giver, (texts, found) in zip(given, read, strict=True):
        unread = _unread(texts, found)
        faults.append(_fault_rows(unread, giver.source, giver.salesforce_field, ordered, "invalid_handle"))
        handles[giver.source].append(_handle_rows(found, giver))
    fault_rows = _concat(faults, _FAULTS_SCHEMA)
    return CleanRecords(
        pa.table(records),
        _concat([_first_of_each_handle(tables) for tables in handles.values()], HANDLES_SCHEMA),
        fault_rows.select(["record", "column", "salesforce_field"]),
        _warnings(fault_rows, external_ids),
    )


def _by_id(snapshot: Snapshot, readers: ThreadPoolExecutor) -> pa.Table:
    """The snapshot in the order of the Salesforce ids, each column in one piece."""
    order = pc.sort_indices(snapshot["Id"])
    names = snapshot.schema.names
    return pa.table([*readers.map(lambda name: _text(snapshot, name).take(order), names)], names=names)


# ---------------------------------------------------------------------------------------------------- values


def _read_column(snapshot: pa.Table, column: ValueColumn) -> tuple[pa.Array, pa.Array | None]:
    """The column's values and a mask of what could not be read (None where everything can)."""
    if column.name == "links":
        return _links([_text(snapshot, name) for name in column.salesforce_fields]), None
    raw = _text(snapshot, column.salesforce_fields[0])
    if column.custom_type is None:
        return _plain_text(raw, column.types[0]), None
    return _read_custom(raw, column)


def _read_custom(raw: pa.Array, column: ValueColumn) -> tuple[pa.Array, pa.Array | None]:
    kind, describe_type = column.custom_type, column.types[0]
    if kind is CustomFieldType.STRING:
        return json_strings(_plain_text(raw, describe_type)), None
    if kind is CustomFieldType.NUMBER:
        values = _numbers(pc.utf8_trim_whitespace(raw))
        return values, _unread(raw, values)
    if kind is CustomFieldType.BOOLEAN:
        lowered = pc.utf8_lower(pc.utf8_trim_whitespace(raw))
        values = pc.if_else(pc.is_in(lowered, pa.array(["true", "false"])), lowered, pa.scalar(None, pa.string()))
        return values, _unread(raw, values)
    if kind is CustomFieldType.DATETIME:
        values = _datetimes(raw, trusted=describe_type == "datetime")
        return json_strings(values), _unread(raw, values)
    text = _plain_text(raw, describe_type)
    values = pc.if_else(pc.is_in(text, pa.array(column.allowed)), text, pa.scalar(None, pa.string()))
    return json_strings(values), _unread(raw, values)


def _plain_text(raw: pa.Array, describe_type: str) -> pa.Array:
    """Numbers, booleans and dates have one form whichever API delivered them; any other text is kept exactly (3.6, 3.7)."""
    if describe_type in NUMBER_TYPES:
        return pc.coalesce(_numbers(raw), raw)
    if describe_type == "boolean":
        return pc.utf8_lower(raw)
    if describe_type == "datetime":
        return pc.coalesce(_datetimes(raw, trusted=True), raw)
    return raw


def _numbers(raw: pa.Array) -> pa.Array:
    """Shortest decimal, without an exponent; null where the text is no number."""
    shortest = pc.or_(pc.match_substring_regex(raw, _PLAIN_INTEGER), pc.match_substring_regex(raw, _PLAIN_DECIMAL))
    others = pc.if_else(shortest, pa.scalar(None, pa.string()), raw)
    return pc.if_else(shortest, raw, by_distinct(others, lambda texts: [_shortest_decimal(text) for text in texts]))


def _shortest_decimal(text: str) -> str | None:
    if not _NUMBER.fullmatch(text):
        return None
    number = Decimal(text)
    if abs(number.adjusted()) > 400:
        return None
    written = format(number, "f")
    if "." in written:
        written = written.rstrip("0").rstrip(".")
    return "0" if written in {"-0", ""} else written


def _datetimes(raw: pa.Array, *, trusted: bool) -> pa.Array:
    """ISO 8601 in UTC with `Z`, no fraction where it is zero; a date is its midnight; null where it is neither."""
    utc = pc.match_substring_regex(raw, _UTC_SECONDS) if trusted else pc.is_null(raw)
    shortened = pc.replace_substring_regex(raw, _UTC_SECONDS, r"\1Z")
    others = pc.if_else(utc, pa.scalar(None, pa.string()), raw)
    return pc.if_else(utc, shortened, by_distinct(others, lambda texts: [_iso_datetime(text) for text in texts]))


def _iso_datetime(text: str) -> str | None:
    text = text.strip()
    if not (_DATE.fullmatch(text) or _ISO_DATETIME.fullmatch(text)):
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}".zfill(19) + fraction + "Z"


def _links(fields: list[pa.Array]) -> pa.Array:
    """All web links of a contact as one JSON list, in the order of the mapping, each once."""
    distinct = fields[:1]
    for field in fields[1:]:
        repeated = pa.array(np.zeros(len(field), dtype=bool))
        for earlier in distinct:
            repeated = pc.or_(repeated, pc.fill_null(pc.equal(field, earlier), False))
        distinct.append(pc.if_else(repeated, pa.scalar(None, pa.string()), field))
    return wrapped("[", join_present([json_strings(field) for field in distinct]), "]")


# --------------------------------------------------------------------------------------------------- handles


def _read_handles(snapshot: pa.Table, handle_readers: HandleReaders, column: HandleColumn) -> tuple[pa.Array, pa.Array]:
    """The texts of one field (null where there is none) and the handles they were read as (null where they cannot be)."""
    texts = pc.utf8_trim_whitespace(_plain_text(_text(snapshot, column.salesforce_field), column.type))
    texts = pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts)
    values = handle_readers[column.source](texts)
    short = pc.less_equal(pc.utf8_length(values), LONGEST_HANDLE)
    return texts, pc.if_else(short, values, pa.scalar(None, pa.string()))


def _phones(texts: pa.Array, region: str) -> pa.Array:
    return by_distinct(texts, lambda found: read_phones(found, region))


def _emails(texts: pa.Array) -> pa.Array:
    lowered = pc.utf8_lower(texts)
    return pc.if_else(pc.match_substring_regex(lowered, _EMAIL), lowered, pa.scalar(None, pa.string()))


def _twitters(texts: pa.Array) -> pa.Array:
    names = pc.utf8_lower(pc.utf8_trim_whitespace(pc.utf8_ltrim(texts, "@")))
    return pc.if_else(pc.equal(names, ""), pa.scalar(None, pa.string()), names)


def _domains(texts: pa.Array) -> pa.Array:
    return by_distinct(texts, lambda found: [_domain(text) for text in found])


def _domain(text: str) -> str | None:
    """Scheme, `www.`, path and letter case do not count (rule 5)."""
    host = _SCHEME.sub("", text.strip().lower(), count=1)
    host = re.split(r"[/?#\\]", host, maxsplit=1)[0].rpartition("@")[2]
    host = re.sub(r":[0-9]*$", "", host).rstrip(".").removeprefix("www.")
    return host if _DOMAIN.fullmatch(host) and len(host) <= 253 else None


def _as_they_are(texts: pa.Array) -> pa.Array:
    return texts


_HANDLE_READERS: HandleReaders = {
    "email": _emails,
    "twitter": _twitters,
    "facebook": _as_they_are,
    "custom": _as_they_are,
    "domain": _domains,
}


def _handle_rows(values: pa.Array, column: HandleColumn) -> pa.Table:
    present = pc.is_valid(values)
    rows = pc.indices_nonzero(present).cast(pa.int32())
    length = len(rows)
    return pa.table(
        [rows, _same(column.source, length), values.filter(present), _same(column.salesforce_field, length)],
        schema=HANDLES_SCHEMA,
    )


def _same(text: str, length: int) -> pa.Array:
    """One text for many rows, kept once."""
    return pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int16()), length), pa.array([text]))


def _first_of_each_handle(tables: Sequence[pa.Table]) -> pa.Table:
    """Every handle of a record once; the first field in the mapping is remembered (rule 4.10)."""
    rows = _concat([*tables], HANDLES_SCHEMA)
    record = rows["record"].to_numpy()
    several = np.bincount(record)[record] > 1 if len(record) else np.array([], dtype=bool)
    candidates = np.flatnonzero(several)
    repeated = rows.take(pa.array(candidates)).select(["record", "handle"]).to_pandas().duplicated().to_numpy()
    kept = np.ones(len(record), dtype=bool)
    kept[candidates[repeated]] = False
    return rows if kept.all() else rows.filter(pa.array(kept))


# ---------------------------------------------------------------------------------------------------- faults

_FAULTS_SCHEMA = pa.schema([*UNREADABLE_SCHEMA, ("code", pa.string()), ("value", pa.string())])


def _fault_rows(bad: pa.Array, column: str, salesforce_field: str, snapshot: pa.Table, code: str) -> pa.Table:
    rows = pc.indices_nonzero(bad).cast(pa.int32())
    length = len(rows)
    values = _text(snapshot, salesforce_field).take(rows)
    return pa.table(
        [rows, pa.repeat(column, length), pa.repeat(salesforce_field, length), pa.repeat(code, length), values],
        schema=_FAULTS_SCHEMA,
    )


def _warnings(faults: pa.Table, external_ids: pa.Array) -> pa.Table:
    length = faults.num_rows
    return pa.table(
        [
            faults["code"],
            pa.repeat("warning", length),
            external_ids.take(faults["record"]),
            faults["salesforce_field"],
            faults["value"],
            pa.nulls(length, pa.string()),
            pa.repeat("[]", length),
        ],
        schema=ERRORS_SCHEMA,
    )


def _unread(raw: pa.Array, values: pa.Array) -> pa.Array:
    return pc.and_(pc.is_valid(raw), pc.is_null(values))


# ---------------------------------------------------------------------------------------------------- arrays


def _text(snapshot: pa.Table, name: str) -> pa.Array:
    """A column in one piece, as which Arrow takes 2 GB of text."""
    column = snapshot[name].cast(pa.string())
    if column.nbytes > MOST_TEXT:
        raise RunRefused(f"{name} holds more than 2 GB of text in all; map a shorter field, or choose a smaller source")
    return one_piece(column)


def _concat(tables: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()
