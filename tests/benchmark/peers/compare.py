"""What counts as lost or altered: a table that a tool filled, held against Salesforce's own records.

Pure: rows in, counts out. An empty text and NULL are the same, as they are in Salesforce, and numbers are compared as
numbers; all else has to be equal to the character.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

Values = Sequence[str | float | None]

_LONGEST_EXAMPLE = 40


@dataclass
class Comparison:
    """What became of the records: ids of the lost ones, and how many rows there are too many or not as they were.

    Attributes:
        expected: records that Salesforce has.
        lost: ids of those that are not in the table.
        repeated: rows whose id had been seen before.
        unknown: rows whose id Salesforce does not have.
        altered: rows in which at least one value differs.
        kinds: differing values, by what happened to them and the field.
        examples: for each kind the first value before and after, cut short.
    """

    expected: int
    lost: set[str]
    repeated: int = 0
    unknown: int = 0
    altered: int = 0
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[str, tuple[str, str]] = field(default_factory=dict)


def compare(
    records: Mapping[str, Values],
    rows: Iterable[tuple[str, Values]],
    fields: Sequence[str],
    excused: Collection[str] = (),
) -> Comparison:
    """Hold a table's rows (id, values of `fields`) against the records; `excused` may be missing, having been reported."""
    result = Comparison(len(records), set(records))
    seen: set[str] = set()
    for identifier, values in rows:
        if identifier in seen:
            result.repeated += 1
        elif identifier not in records:
            result.unknown += 1
        else:
            _compare_values(result, fields, records[identifier], values)
        seen.add(identifier)
    result.lost -= seen
    result.lost -= set(excused)
    return result


def _compare_values(result: Comparison, fields: Sequence[str], wanted: Values, found: Values) -> None:
    differing = False
    for name, before, after in zip(fields, wanted, found, strict=True):
        if before == after:
            continue
        kind = how_altered(before, after)
        if kind:
            differing = True
            result.kinds[kind, name] += 1
            result.examples.setdefault(kind, (_short(before), _short(after)))
    result.altered += differing


def how_altered(before: str | float | None, after: str | float | None) -> str | None:
    """What happened to a value; None where it is the same.

    >>> [how_altered("NA", None), how_altered("0012", "12"), how_altered("a\\r\\nb", "a\\nb"), how_altered(5.0, "5")]
    ['became NULL', 'became a number', 'line breaks changed', None]
    """
    if (before in {None, ""} and after in {None, ""}) or before == after:
        return None
    if after in {None, ""}:
        return "became NULL"
    if before in {None, ""}:
        return "came from nowhere"
    if _number(before) is not None and _number(before) == _number(after):
        return None if isinstance(before, float) else "became a number"
    one, other = str(before), str(after)
    if one.replace("\r\n", "\n") == other.replace("\r\n", "\n"):
        return "line breaks changed"
    if one.strip() == other.strip():
        return "space trimmed"
    return "cut short" if one.startswith(other) else "another value"


def _number(value: str | float | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None


def _short(value: str | float | None) -> str:
    text = "NULL" if value is None else repr(value)
    return text if len(text) <= _LONGEST_EXAMPLE else f"{text[:_LONGEST_EXAMPLE]}…"
