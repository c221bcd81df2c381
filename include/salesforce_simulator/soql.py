"""Reads SOQL: the text of a query becomes a `Query`, or is refused with Salesforce's words.

Only what `evaluate` can answer is read. Everything else (aggregates other than `count()`, GROUP BY, sub-selects in
SELECT, TYPEOF …) is refused with `MALFORMED_QUERY`: a query is never answered with nothing because it was not
understood. Keywords are read without regard to case, as Salesforce does.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from include.salesforce_simulator.answers import Refusal, malformed

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<text>'(?:[^'\\]|\\.)*')
    |(?P<datetime>\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:?\d\d))
    |(?P<date>\d{4}-\d\d-\d\d)
    |(?P<number>[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*(?::\d+)?)
    |(?P<sign><=|>=|!=|<>|=|<|>|\(|\)|,)
    """,
    re.VERBOSE,
)
_ESCAPES = {
    "n": "\n",
    "N": "\n",
    "r": "\r",
    "R": "\r",
    "t": "\t",
    "T": "\t",
    "b": "\b",
    "B": "\b",
    "f": "\f",
    "F": "\f",
}
_PLAIN_ESCAPES = "\"'\\"
_DATE_LITERALS = {
    f"{which}_{unit}" for which in ("LAST", "THIS", "NEXT") for unit in ("WEEK", "MONTH", "QUARTER", "YEAR")
} | {"TODAY", "YESTERDAY", "TOMORROW", "LAST_90_DAYS", "NEXT_90_DAYS"}
_COUNTED_LITERALS = {
    f"{which}_N_{unit}S" for which in ("LAST", "NEXT") for unit in ("DAY", "WEEK", "MONTH", "QUARTER", "YEAR")
} | {f"N_{unit}S_AGO" for unit in ("DAY", "WEEK", "MONTH", "QUARTER", "YEAR")}
_SCOPES = {
    "everything",
    "mine",
    "mine_and_my_groups",
    "my_territory",
    "my_team_territory",
    "team",
    "delegated",
    "scopingrule",
}
MAXIMUM_LENGTH = 100_000
MAXIMUM_OFFSET = 2000


@dataclass(frozen=True)
class Path:
    """A field as the query names it, and where. `text` may lead over parents: `Account.Owner.Name`."""

    text: str
    position: int
    label: bool = False

    @property
    def parts(self) -> list[str]:
        """The names between the dots."""
        return self.text.split(".")


@dataclass(frozen=True)
class DateRange:
    """A date literal such as `LAST_N_DAYS:7`."""

    name: str
    count: int = 0

    def __str__(self) -> str:
        return f"{self.name}:{self.count}" if self.name in _COUNTED_LITERALS else self.name


@dataclass(frozen=True)
class SubSelect:
    """The right side of a semi-join."""

    query: "Query"


@dataclass(frozen=True)
class Condition:
    """One comparison; `value` is a list for IN, NOT IN, INCLUDES and EXCLUDES, or a `SubSelect`."""

    path: Path
    operator: str
    value: Any
    written: tuple[str, ...]


@dataclass(frozen=True)
class Group:
    """Conditions joined by `and` or `or`."""

    conjunction: str
    conditions: tuple["Where", ...]


@dataclass(frozen=True)
class Negation:
    """NOT."""

    condition: "Where"


Where = Condition | Group | Negation


@dataclass(frozen=True)
class Ordering:
    """One key of ORDER BY."""

    path: Path
    descending: bool
    nulls_first: bool


@dataclass(frozen=True)
class Query:
    """A query that was understood. `fields` is empty for `count()`."""

    text: str
    fields: tuple[Path, ...]
    sobject: Path
    scope: str | None
    where: Where | None
    order: tuple[Ordering, ...]
    limit: int | None
    offset: int | None

    @property
    def counts(self) -> bool:
        """Whether only the number of records was asked for."""
        return not self.fields


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int

    @property
    def word(self) -> str:
        return self.text.upper() if self.kind == "word" else ""


def read_query(text: str) -> Query:
    """Understand a query, or refuse it."""
    if len(text) > MAXIMUM_LENGTH:
        raise malformed("SOQL statements cannot be longer than 100000 characters.")
    return _Reader(text).read()


def read_where(text: str) -> Where:
    """Understand a list view's filter."""
    where = read_query(f"SELECT Id FROM Contact WHERE {text}").where  # ruff: ignore[hardcoded-sql-expression]  # SOQL for ourselves
    assert where is not None
    return where


def _tokens(text: str) -> list[_Token]:
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise malformed(f"line 1:{position} no viable alternative at character '{text[position]}'", text, position)
        if match.lastgroup != "space":
            tokens.append(_Token(str(match.lastgroup), match.group(), position))
        position = match.end()
    return [*tokens, _Token("end", "<EOF>", len(text))]


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0

    def read(self) -> Query:
        query = self._query()
        if self._here.kind != "end":
            raise self._unexpected()
        return query

    @property
    def _here(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._here
        if token.kind != "end":
            self._next += 1
        return token

    def _unexpected(self, token: _Token | None = None) -> Refusal:
        token = token or self._here
        return malformed(f"unexpected token: {token.text}", self._text, token.position)

    def _sees(self, *words: str) -> bool:
        ahead = self._tokens[self._next : self._next + len(words)]
        return [token.word or token.text for token in ahead] == list(words)

    def _accept(self, *words: str) -> bool:
        if not self._sees(*words):
            return False
        self._next += len(words)
        return True

    def _expect(self, *words: str) -> None:
        if not self._accept(*words):
            raise self._unexpected()

    def _list_of(self, read: Callable[[], Any]) -> list[Any]:
        items = [read()]
        while self._accept(","):
            items.append(read())
        return items

    def _query(self) -> Query:
        self._expect("SELECT")
        fields = () if self._counts() else tuple(self._list_of(self._selected))
        self._expect("FROM")
        sobject = self._path()
        if self._here.kind == "word" and not self._sees_clause():
            raise self._refused("an alias of the object")
        scope = self._scope()
        where = self._where() if self._accept("WHERE") else None
        self._refuse_clauses()
        order = tuple(self._list_of(self._ordering)) if self._accept("ORDER", "BY") else ()
        limit = self._whole_number() if self._accept("LIMIT") else None
        offset = self._offset() if self._accept("OFFSET") else None
        return Query(self._text, fields, sobject, scope, where, order, limit, offset)

    def _counts(self) -> bool:
        return self._accept("COUNT", "(", ")")

    def _sees_clause(self) -> bool:
        return self._here.word in {
            "USING",
            "WHERE",
            "ORDER",
            "LIMIT",
            "OFFSET",
            "WITH",
            "GROUP",
            "HAVING",
            "FOR",
            "ALL",
            "UPDATE",
        }

    def _sees_function(self) -> bool:
        return self._here.kind == "word" and self._tokens[self._next + 1].text == "("

    def _refuse_clauses(self) -> None:
        if self._here.word in {"WITH", "GROUP", "HAVING", "FOR", "ALL", "UPDATE"}:
            raise self._refused(self._here.word)

    def _refused(self, what: str) -> Refusal:
        return malformed(f"this simulator does not evaluate {what}", self._text, self._here.position)

    def _selected(self) -> Path:
        if self._sees("(") or self._here.word == "TYPEOF":
            raise self._refused("a sub-select in SELECT, or TYPEOF")
        if not self._sees_function():
            return self._path()
        if not self._accept("TOLABEL", "("):
            raise self._refused(f"the function {self._here.text}()")
        path = self._path()
        self._expect(")")
        return Path(path.text, path.position, label=True)

    def _path(self) -> Path:
        token = self._take()
        if token.kind != "word" or ":" in token.text:
            raise self._unexpected(token)
        return Path(token.text, token.position)

    def _scope(self) -> str | None:
        if not self._accept("USING"):
            return None
        self._expect("SCOPE")
        token = self._take()
        if token.text.lower() not in _SCOPES:
            raise self._unexpected(token)
        return token.text.lower()

    def _where(self) -> Where:
        first = self._simple()
        for word in ("AND", "OR"):
            if self._sees(word):
                conditions = [first]
                while self._accept(word):
                    conditions.append(self._simple())
                # Salesforce wants parentheses where AND and OR meet.
                if self._here.word in {"AND", "OR"}:
                    raise self._unexpected()
                return Group(word.lower(), tuple(conditions))
        return first

    def _simple(self) -> Where:
        if self._accept("NOT"):
            return Negation(self._simple())
        if self._accept("("):
            where = self._where()
            self._expect(")")
            return where
        return self._condition()

    def _condition(self) -> Condition:
        if self._sees_function():
            raise self._refused(f"the function {self._here.text}() in WHERE")
        path = self._path()
        operator = self._operator()
        start = self._next
        value = self._values(operator)
        written = tuple(token.text for token in self._tokens[start : self._next] if token.text not in {"(", ")", ","})
        return Condition(path, operator, value, written)

    def _operator(self) -> str:
        token = self._take()
        if token.kind == "sign" and token.text not in {"(", ")", ","}:
            return "!=" if token.text == "<>" else token.text
        if token.word in {"LIKE", "IN", "INCLUDES", "EXCLUDES"}:
            return token.word.lower()
        if token.word == "NOT" and self._accept("IN"):
            return "not in"
        raise self._unexpected(token)

    def _values(self, operator: str) -> Any:
        if operator in {"=", "!=", "<", "<=", ">", ">=", "like"}:
            return self._literal()
        self._expect("(")
        if self._sees("SELECT"):
            value: Any = SubSelect(self._query())
        else:
            value = self._list_of(self._literal)
        self._expect(")")
        return value

    def _literal(self) -> Any:
        token = self._take()
        if token.kind == "text":
            return self._unescape(token)
        if token.kind == "number":
            return float(token.text) if re.search(r"[.eE]", token.text) else int(token.text)
        try:
            if token.kind == "datetime":
                return datetime.fromisoformat(token.text.upper()).astimezone(UTC)
            if token.kind == "date":
                return date.fromisoformat(token.text)
        except ValueError:
            raise malformed(f"Invalid date: {token.text}", self._text, token.position) from None
        return self._named_literal(token)

    def _named_literal(self, token: _Token) -> Any:
        named = {"TRUE": True, "FALSE": False, "NULL": None}
        if token.word in named:
            return named[token.word]
        if token.word in _DATE_LITERALS:
            return DateRange(token.word)
        name, _, count = token.word.partition(":")
        if name in _COUNTED_LITERALS and count:
            return DateRange(name, int(count))
        raise self._unexpected(token)

    def _unescape(self, token: _Token) -> str:
        def plain(match: re.Match[str]) -> str:
            escape = match.group(1)
            if escape[0] in "uU" and len(escape) == 5:
                return chr(int(escape[1:], 16))
            if escape in _ESCAPES:
                return _ESCAPES[escape]
            if escape in _PLAIN_ESCAPES:
                return escape
            if escape in "%_":
                return f"\\{escape}"  # still an escape for LIKE
            raise malformed(f"Illegal escape sequence: \\{escape}", self._text, token.position + match.start())

        return re.sub(r"\\([uU][0-9A-Fa-f]{4}|.)", plain, token.text[1:-1], flags=re.DOTALL)

    def _ordering(self) -> Ordering:
        path = self._path()
        descending = self._accept("DESC")
        if not descending:
            self._accept("ASC")
        nulls_first = True
        if self._accept("NULLS"):
            nulls_first = self._accept("FIRST")
            if not nulls_first:
                self._expect("LAST")
        return Ordering(path, descending, nulls_first)

    def _whole_number(self) -> int:
        token = self._take()
        if token.kind != "number" or not token.text.isdigit():
            raise self._unexpected(token)
        return int(token.text)

    def _offset(self) -> int:
        offset = self._whole_number()
        if offset > MAXIMUM_OFFSET:
            raise Refusal(400, "NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000")
        return offset
