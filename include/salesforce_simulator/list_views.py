"""List views: what they show, and the three forms in which Salesforce tells about them.

A view is a scope, a filter and columns. Its query is written here; whoever runs it (`rest`, a client) sends it
through `soql` and `evaluate` like any other. A view that a user does not share, and one that was deleted, look alike: not there.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from include.salesforce_simulator import soql

_QUOTED = re.compile(r"('(?:[^'\\]|\\.)*')")
_HIDDEN_COLUMNS = ("Id", "CreatedDate", "LastModifiedDate", "SystemModstamp")
_OPERATORS = {
    "=": "equals",
    "!=": "notEquals",
    "<": "lessThan",
    "<=": "lessThanOrEqual",
    ">": "greaterThan",
    ">=": "greaterThanOrEqual",
    "like": "like",
    "in": "in",
    "not in": "notIn",
    "includes": "includes",
    "excludes": "excludes",
}


@dataclass(frozen=True)
class ListView:
    """A list view. `where` is SOQL or empty; `not_shared_with` holds names of users who cannot see it."""

    id: str
    sobject: str
    label: str
    developer_name: str
    where: str = ""
    scope: str = "everything"
    columns: tuple[str, ...] = ("Name",)
    soql_compatible: bool = True
    not_shared_with: frozenset[str] = field(default_factory=frozenset)

    def hide_from(self, username: str) -> "ListView":
        """The view when it is no longer shared with a user."""
        return replace(self, not_shared_with=self.not_shared_with | {username})

    def share_with(self, username: str) -> "ListView":
        """The view when it is shared with a user again."""
        return replace(self, not_shared_with=self.not_shared_with - {username})

    def summary(self, base: str) -> dict[str, Any]:
        """The view's entry in the list of views: here the id has 18 characters."""
        address = f"{base}/sobjects/{self.sobject}/listviews/{self.id}"
        return {
            "describeUrl": f"{address}/describe",
            "developerName": self.developer_name,
            "id": self.id,
            "label": self.label,
            "resultsUrl": f"{address}/results",
            "soqlCompatible": self.soql_compatible,
            "url": address,
        }

    def query(self) -> str:
        """The query behind the view, as its describe shows it."""
        selected = ", ".join([*self.columns, *_HIDDEN_COLUMNS])
        scope = f" USING SCOPE {self.scope}" if self.scope != "everything" else ""
        where = f" WHERE {self.where}" if self.where else ""
        return f"SELECT {selected} FROM {self.sobject}{scope}{where} ORDER BY Name ASC NULLS FIRST, Id ASC NULLS FIRST"  # ruff: ignore[hardcoded-sql-expression]  # SOQL for ourselves

    def describe(self, *, id_length: int, query_case: str) -> dict[str, Any]:
        """The describe: here the id has 15 characters, and the query's keywords may be in lower case."""
        condition = _condition(soql.read_where(self.where)) if self.where and self.soql_compatible else None
        return {
            "columns": self.describe_columns(),
            "id": self.id[:id_length],
            "orderBy": [
                {"fieldNameOrPath": name, "nullsPosition": "first", "sortDirection": "ascending"}
                for name in ("Name", "Id")
            ],
            "query": _in_case(self.query(), query_case) if self.soql_compatible else None,
            "scope": self.scope if self.scope != "everything" else None,
            "sobjectType": self.sobject,
            "whereCondition": condition,
        }

    def describe_columns(self) -> list[dict[str, Any]]:
        """The columns as a person sees them, and the hidden ones."""
        shown = [_column(name, hidden=False) for name in self.columns]
        return shown + [_column(name, hidden=True) for name in _HIDDEN_COLUMNS if name not in self.columns]


def _column(item: str, *, hidden: bool) -> dict[str, Any]:
    name = item.removeprefix("toLabel(").removesuffix(")")
    sorted_by = name == "Name"
    return {
        "ascendingLabel": "Z-A",
        "descendingLabel": "A-Z",
        "fieldNameOrPath": name,
        "hidden": hidden,
        "label": name,
        "selectListItem": item,
        "sortDirection": "ascending" if sorted_by else None,
        "sortIndex": 0 if sorted_by else None,
        "sortable": True,
        "type": "string",
    }


def _condition(where: soql.Where) -> dict[str, Any]:
    if isinstance(where, soql.Group):
        return {"conjunction": where.conjunction, "conditions": [_condition(one) for one in where.conditions]}
    if isinstance(where, soql.Negation):
        return {"condition": _condition(where.condition)}
    return {"field": where.path.text, "operator": _OPERATORS[where.operator], "values": list(where.written)}


def _in_case(query: str, case: str) -> str:
    """The query's text in the case asked for; what stands between quotes stays."""
    if case == "mixed":
        return query
    change = str.lower if case == "lower" else str.upper
    return "".join(part if part.startswith("'") else change(part) for part in _QUOTED.split(query))


def as_shown(value: Any) -> str | None:
    """A value as the results of a list view give it: always a text, datetimes in the form of Java's `Date.toString()`."""
    if isinstance(value, datetime):
        return value.strftime("%a %b %d %H:%M:%S GMT %Y")
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value)
