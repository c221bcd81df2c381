"""Answers a query: which records, and what their fields hold, for one user.

Whole columns are compared at once, so that a million records take a moment. What a comparison means is SOQL's:
texts without regard to case, `!=` and `NOT IN` true for null, every other comparison false for null, ids equal in
their 18-character form. A field that the user may not read does not exist.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from include.salesforce_simulator import ids, soql
from include.salesforce_simulator.answers import (
    Refusal,
    invalid_field,
    malformed,
    no_such_column,
    no_such_type,
    with_caret,
)
from include.salesforce_simulator.organisation import Organisation, User
from include.salesforce_simulator.schema import Field, ObjectSchema
from include.salesforce_simulator.table import Table

MAXIMUM_ROWS_WITH_OFFSET = 2000
_ADDRESS_PARTS = ("city", "country", "geocodeAccuracy", "latitude", "longitude", "postalCode", "state", "street")
_TYPE_NAMES = {
    "boolean": "boolean",
    "date": "date",
    "datetime": "dateTime",
    "double": "double",
    "currency": "currency",
    "int": "int",
}


@dataclass(frozen=True)
class Selected:
    """One selected field: its proper name (`Account.Name`), its definition, and where its parents' ids come from."""

    name: str
    definition: Field
    values: pa.Array


@dataclass(frozen=True)
class Answer:
    """What a query gave. `parents` holds, per parent path such as `Account`, the object's name and its ids."""

    sobject: str
    total: int
    ids: pa.Array
    selected: tuple[Selected, ...]
    parents: dict[str, tuple[str, pa.Array]]

    def __len__(self) -> int:
        return len(self.ids)

    def slice(self, start: int, rows: int) -> "Answer":
        """Some of the rows."""
        cut = tuple(Selected(one.name, one.definition, one.values.slice(start, rows)) for one in self.selected)
        parents = {name: (sobject, column.slice(start, rows)) for name, (sobject, column) in self.parents.items()}
        return Answer(self.sobject, self.total, self.ids.slice(start, rows), cut, parents)


def answer_query(organisation: Organisation, user: User, query: soql.Query, *, deleted_too: bool = False) -> Answer:
    """The records that a query finds for a user, and the selected fields."""
    reader = Reader(organisation, user, query.text, query.sobject)
    columns = [reader.resolve(path) for path in query.fields]
    for key in query.order:
        reader.resolve(key.path)
    rows = _matching_rows(reader, query, deleted_too)
    total = len(rows)
    if query.counts:
        return Answer(reader.sobject, total, pa.array([], pa.string()), (), {})
    rows = _ordered(reader, rows, query.order)
    if query.offset is not None:
        rows = rows[query.offset :][:MAXIMUM_ROWS_WITH_OFFSET]
    rows = rows[: query.limit] if query.limit is not None else rows
    total = len(rows) if query.limit is not None or query.offset is not None else total
    everything = len(rows) == len(reader.table) and not query.order

    def taken(column: pa.Array) -> pa.Array:
        return column if everything else column.take(pa.array(rows))

    selected = tuple(Selected(column.name, column.definition, taken(column.values)) for column in columns)
    parents = {name: (sobject, taken(column)) for name, (sobject, column) in reader.parents.items()}
    return Answer(reader.sobject, total, taken(reader.table.column("Id")), selected, parents)


def _matching_rows(reader: "Reader", query: soql.Query, deleted_too: bool) -> np.ndarray:
    keep = np.ones(len(reader.table), dtype=bool)
    if not deleted_too and "IsDeleted" in reader.table.schema.fields:
        keep &= ~_mask(reader.table.column("IsDeleted"))
    if query.scope == "mine":
        keep &= reader.equal(reader.table.column("OwnerId"), reader.user.id)
    elif query.scope not in {None, "everything"}:
        raise malformed(f"this simulator does not evaluate USING SCOPE {query.scope}")
    if reader.sobject == "ListView":
        keep &= reader.visible_list_views()
    if query.where is not None:
        keep &= reader.holds(query.where)
    return np.flatnonzero(keep)


def _ordered(reader: "Reader", rows: np.ndarray, order: tuple[soql.Ordering, ...]) -> np.ndarray:
    for key in reversed(order):
        column = reader.resolve(key.path)
        values = column.values.take(pa.array(rows))
        if column.definition.is_text:
            values = pc.utf8_lower(values)
        direction = "descending" if key.descending else "ascending"
        at = "at_start" if key.nulls_first else "at_end"
        rows = rows[pc.array_sort_indices(values, order=direction, null_placement=at).to_numpy()]
    return rows


class Reader:
    """The records of one object as one user sees them, in the course of one query."""

    def __init__(self, organisation: Organisation, user: User, text: str, sobject: soql.Path) -> None:
        schema = organisation.schema(sobject.text)
        if schema is None:
            raise no_such_type(text, sobject.position, sobject.text)
        self._organisation = organisation
        self.user = user
        self._text = text
        self.sobject = schema.name
        self.table: Table = organisation.table(schema.name)
        self.parents: dict[str, tuple[str, pa.Array]] = {}
        self._resolved: dict[str, Selected] = {}

    def resolve(self, path: soql.Path) -> Selected:
        """The values of a field, for every record."""
        key = path.text.lower()
        if key not in self._resolved:
            self._resolved[key] = self._resolve(path)
        return self._resolved[key]

    def _resolve(self, path: soql.Path) -> Selected:
        *parents, last = path.parts
        if (
            parents
            and parents[0].lower() == self.sobject.lower()
            and self.table.schema.relationship(parents[0]) is None
        ):
            parents = parents[1:]  # `Contact.Name` in a query FROM Contact
        schema = self.table.schema
        rows: pa.Array | None = None
        names: list[str] = []
        for parent in parents:
            schema, rows = self._climb(path, schema, rows, parent, names)
        definition = self._visible(schema, last)
        if definition is None:
            raise no_such_column(self._text, path.position, last, schema.name)
        values = self._values(schema, definition)
        return Selected(".".join([*names, definition.name]), definition, values if rows is None else values.take(rows))

    def _climb(
        self, path: soql.Path, schema: ObjectSchema, rows: pa.Array | None, parent: str, names: list[str]
    ) -> tuple[ObjectSchema, pa.Array]:
        """One step up to a parent: its object, and for every record the parent's row (or null)."""
        reference = schema.relationship(parent)
        visible = reference and self._visible(schema, reference.name)
        target = visible and self._organisation.schema(visible.references or "")
        if not visible or not target:
            raise invalid_field(
                with_caret(
                    self._text,
                    path.position,
                    f"Didn't understand relationship '{parent}' in field path. If you are attempting to use a custom relationship, be "
                    "sure to append the '__r' after the custom relationship name. Please reference your WSDL or the describe call for "
                    "the appropriate names.",
                )
            )
        keys = self._organisation.table(schema.name).column(visible.name)
        keys = keys if rows is None else keys.take(rows)
        names.append(visible.relationship or "")
        self.parents[".".join(names)] = (target.name, keys)
        return target, pc.index_in(keys, value_set=self._organisation.table(target.name).column("Id"))

    def _visible(self, schema: ObjectSchema, name: str) -> Field | None:
        definition = schema.by_lower_name.get(name.lower())
        if definition is None or definition.name in self.user.hidden(schema.name):
            return None
        return definition

    def _values(self, schema: ObjectSchema, definition: Field) -> pa.Array:
        table = self._organisation.table(schema.name)
        if definition.formula is not None:
            return self._account_label(table)
        if definition.type == "address":
            return _address(table, definition.name.removesuffix("Address"))
        if schema.name == "Contact" and definition.name == "Name":
            return _joined(table.column("FirstName"), " ", table.column("LastName"))
        return table.column(definition.name)

    def _account_label(self, contacts: Table) -> pa.Array:
        """The one formula there is. It reads the account as it is now and stamps nobody."""
        accounts = self._organisation.table("Account")
        rows = pc.index_in(contacts.column("AccountId"), value_set=accounts.column("Id"))
        name, country = (accounts.column(name).take(rows) for name in ("Name", "BillingCountry"))
        return _joined(name, " – ", country)

    def visible_list_views(self) -> np.ndarray:
        """For every list view, whether it is shared with the user."""
        return np.array(
            [self.user.username not in view.not_shared_with for view in self._organisation.list_views.values()],
            dtype=bool,
        )

    def holds(self, where: soql.Where) -> np.ndarray:
        """For every record, whether a condition holds."""
        if isinstance(where, soql.Negation):
            return ~self.holds(where.condition)
        if isinstance(where, soql.Group):
            combine = np.logical_and if where.conjunction == "and" else np.logical_or
            return combine.reduce([self.holds(condition) for condition in where.conditions])
        return self._holds_condition(where)

    def _holds_condition(self, condition: soql.Condition) -> np.ndarray:
        column = self.resolve(condition.path)
        definition = column.definition
        if not definition.filterable or definition.type == "address":
            raise invalid_field(
                with_caret(
                    self._text,
                    condition.path.position,
                    f"field '{definition.name}' can not be filtered in a query call",
                    shift=1,
                )
            )
        if isinstance(condition.value, soql.SubSelect):
            return self._semi_join(column, condition)
        values = condition.value if isinstance(condition.value, list) else [condition.value]
        self._check_operator(definition, condition.operator)
        for value in values:
            self._check_type(definition, value, condition.operator)
        return self._compare(column, condition.operator, condition.value)

    def _check_operator(self, definition: Field, operator: str) -> None:
        fits = {
            "like": definition.is_text,
            "includes": definition.type == "multipicklist",
            "excludes": definition.type == "multipicklist",
            **dict.fromkeys(("<", "<=", ">", ">="), definition.type not in {"boolean", "multipicklist"}),
        }
        if not fits.get(operator, True):
            raise Refusal(
                400,
                "INVALID_QUERY_FILTER_OPERATOR",
                f"{definition.name}: operator {operator} cannot be used on this field",
            )

    def _check_type(self, definition: Field, value: Any, operator: str) -> None:
        kind = definition.type
        fits: dict[str, Callable[[Any], bool]] = {
            "boolean": lambda value: isinstance(value, bool),
            "date": lambda value: (
                isinstance(value, soql.DateRange) or (isinstance(value, date) and not isinstance(value, datetime))
            ),
            "datetime": lambda value: isinstance(value, soql.DateRange | datetime),
            **dict.fromkeys(
                ("double", "currency", "percent", "int"),
                lambda value: isinstance(value, int | float) and not isinstance(value, bool),
            ),
        }
        if value is None:
            return
        if kind in fits:
            if not fits[kind](value):
                quotes = " and should not be enclosed in quotes" if isinstance(value, str) else ""
                raise invalid_field(
                    f"value of filter criterion for field '{definition.name}' must be of type {_TYPE_NAMES.get(kind, kind)}{quotes}"
                )
        elif not isinstance(value, str):
            raise invalid_field(
                f"value of filter criterion for field '{definition.name}' must be of type string and should be enclosed in quotes"
            )
        elif definition.is_id and value and not ids.is_id(value):
            raise Refusal(400, "INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {value}")

    def _compare(self, column: Selected, operator: str, value: Any) -> np.ndarray:
        match operator:
            case "=":
                return self._equals(column, value)
            case "!=":
                return ~self._equals(column, value)
            case "in" | "not in":
                found = self._is_one_of(column, value)
                return found if operator == "in" else ~found
            case "includes" | "excludes":
                found = np.logical_or.reduce([_includes(column.values, one) for one in value])
                return found if operator == "includes" else ~found
            case "like":
                return _like(column.values, value)
        return self._is_beyond(column, operator, value)

    def _equals(self, column: Selected, value: Any) -> np.ndarray:
        if value is None or value == "":
            return _mask(pc.is_null(column.values))
        if isinstance(value, soql.DateRange) or (
            column.definition.type == "datetime" and not isinstance(value, datetime)
        ):
            start, end = self._span(column, value)
            after, before = (_scalar(column.values, edge) for edge in (start, end))
            return _mask(pc.and_(pc.greater_equal(column.values, after), pc.less(column.values, before)))
        return self.equal(_comparable(column), _comparable_value(column, value))

    def _is_one_of(self, column: Selected, values: list[Any]) -> np.ndarray:
        if not (column.definition.is_text or column.definition.is_id) or None in values or "" in values:
            return np.logical_or.reduce([self._equals(column, value) for value in values])
        wanted = pa.array([_comparable_value(column, value) for value in values], pa.string())
        return _mask(pc.is_in(_comparable(column), value_set=wanted))

    @staticmethod
    def equal(values: pa.Array, value: Any) -> np.ndarray:
        """Where a column equals a value; never at null."""
        return _mask(pc.equal(values, _scalar(values, value)))

    def _is_beyond(self, column: Selected, operator: str, value: Any) -> np.ndarray:
        if value is None:
            raise invalid_field(f"field '{column.definition.name}': null cannot be compared with {operator}")
        values, value = _comparable(column), _comparable_value(column, value)
        if isinstance(value, soql.DateRange) or (
            column.definition.type == "datetime" and not isinstance(value, datetime)
        ):
            start, end = self._span(column, value)
            operator, value = {"<": ("<", start), "<=": ("<", end), ">": (">=", end), ">=": (">=", start)}[operator]
        compare = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}[operator]
        return _mask(compare(values, _scalar(values, value)))

    def _span(self, column: Selected, value: Any) -> tuple[pa.Scalar, pa.Scalar]:
        """A date literal, or a day compared with a datetime, as [start, end)."""
        days = date_span(value, self.today) if isinstance(value, soql.DateRange) else (value, value + timedelta(days=1))
        if column.definition.type == "date":
            return days
        start, end = (datetime.combine(day, time(0), UTC) for day in days)
        return start, end

    @cached_property
    def today(self) -> date:
        """The organisation's date."""
        return self._organisation.clock.now().date()

    def _semi_join(self, column: Selected, condition: soql.Condition) -> np.ndarray:
        inner: soql.Query = condition.value.query
        if condition.operator not in {"in", "not in"} or len(inner.fields) != 1:
            raise malformed("A semi-join sub-select selects exactly one field")
        wanted = answer_query(self._organisation, self.user, inner).selected[0]
        if not column.definition.is_id or not wanted.definition.is_id:
            raise malformed(f"Semi join sub-selects compare ids only, not '{condition.path.text}' with '{wanted.name}'")
        found = _mask(pc.is_in(column.values, value_set=wanted.values.drop_null()))
        return found if condition.operator == "in" else ~found


def date_span(literal: soql.DateRange, today: date) -> tuple[date, date]:
    """The days that a date literal means, as [first, day after the last). Weeks begin on Sunday, as in an en_US organisation.

    >>> date_span(soql.DateRange("THIS_MONTH"), date(2026, 2, 10))
    (datetime.date(2026, 2, 1), datetime.date(2026, 3, 1))
    """
    day = timedelta(days=1)
    match literal.name:
        case "TODAY":
            return today, today + day
        case "YESTERDAY":
            return today - day, today
        case "TOMORROW":
            return today + day, today + 2 * day
        case "LAST_90_DAYS":
            return today - 90 * day, today + day
        case "NEXT_90_DAYS":
            return today + day, today + 91 * day
        case "LAST_N_DAYS":
            return today - literal.count * day, today + day
        case "NEXT_N_DAYS":
            return today + day, today + (literal.count + 1) * day
        case "N_DAYS_AGO":
            return today - literal.count * day, today - (literal.count - 1) * day
    return _period_span(literal, today)


def _period_span(literal: soql.DateRange, today: date) -> tuple[date, date]:
    words = literal.name.split("_")
    unit = next(word.rstrip("S") for word in words if word.rstrip("S") in {"WEEK", "MONTH", "QUARTER", "YEAR"})
    if words[0] == "N":
        return _period(today, unit, -literal.count), _period(today, unit, 1 - literal.count)
    if words[1] == "N":
        first, last = (-literal.count, 0) if words[0] == "LAST" else (1, literal.count + 1)
        return _period(today, unit, first), _period(today, unit, last)
    shift = {"LAST": -1, "THIS": 0, "NEXT": 1}[words[0]]
    return _period(today, unit, shift), _period(today, unit, shift + 1)


def _period(today: date, unit: str, shift: int) -> date:
    """The first day of the week, month, quarter or year that lies `shift` of them from today's."""
    if unit == "WEEK":
        return today - timedelta(days=(today.weekday() + 1) % 7) + timedelta(weeks=shift)
    months = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}[unit]
    month = (today.year * 12 + today.month - 1) // months * months + shift * months
    return date(month // 12, month % 12 + 1, 1)


def _joined(left: pa.Array, separator: str, right: pa.Array) -> pa.Array:
    """Two texts; where one is missing the other alone. (Arrow's own way of leaving nulls out loses rows of nulls only.)"""
    return pc.coalesce(pc.binary_join_element_wise(left, right, separator), left, right)


def _comparable(column: Selected) -> pa.Array:
    return pc.utf8_lower(column.values) if column.definition.is_text else column.values


def _scalar(values: pa.Array, value: Any) -> pa.Scalar:
    """A value to compare a column with; it may be finer than the column is (half a second, half an employee)."""
    if isinstance(value, datetime):
        return pa.scalar(value, pa.timestamp("us", tz="UTC"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        return pa.scalar(float(value))
    return pa.scalar(value, values.type)


def _comparable_value(column: Selected, value: Any) -> Any:
    if column.definition.is_id:
        return ids.lengthen(value)
    return value.lower() if isinstance(value, str) else value


def _mask(values: pa.Array) -> np.ndarray:
    return pc.fill_null(values, False).to_numpy(zero_copy_only=False)


def _like(values: pa.Array, pattern: Any) -> np.ndarray:
    if pattern is None:
        return np.zeros(len(values), dtype=bool)
    return _mask(pc.match_like(values, pattern, ignore_case=True))


def _includes(values: pa.Array, wanted: str) -> np.ndarray:
    """Whether a multi-picklist holds all of `A;B`."""
    padded = pc.binary_join_element_wise("", pc.utf8_lower(values), "", ";")
    return np.logical_and.reduce(
        [_mask(pc.match_substring(padded, f";{one.strip().lower()};")) for one in wanted.split(";")]
    )


def _address(table: Table, prefix: str) -> pa.Array:
    columns = [table.column(f"{prefix}{part[0].upper()}{part[1:]}") for part in _ADDRESS_PARTS]
    empty = np.logical_and.reduce([_mask(pc.is_null(column)) for column in columns])
    return pa.StructArray.from_arrays(columns, names=list(_ADDRESS_PARTS), mask=pa.array(empty))
