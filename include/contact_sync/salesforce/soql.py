"""The one place where SOQL is made and taken apart.

A query is put together from names that were checked and conditions that this module made; nothing that a person
typed is pasted in. A list view gives its scope and its filter (rule 2.3): they are read token by token from the query
that Salesforce shows for it, so that `'a ORDER BY b'` inside a value is a value. What cannot be read is refused.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_PATH = re.compile(r"[A-Za-z][A-Za-z0-9_]*(?:\.[A-Za-z][A-Za-z0-9_]*)*")
_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<text>'(?:[^'\\]|\\.)*')
      | (?P<mark>[(),]|[<>=!]+)
      | (?P<word>[A-Za-z0-9_.:+\-]+)""",
    re.VERBOSE | re.DOTALL,
)
_AFTER_THE_FILTER = {"WITH", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "FOR", "UPDATE", "ALL"}
"""The words that end a filter; no field is called so (custom ones end in `__c`)."""
_EVERY_RECORD = {"", "everything"}


class NotUnderstood(ValueError):
    """A list view's query has a form from which scope and filter cannot be taken."""


class _Token(NamedTuple):
    text: str
    gap: bool
    """Whether white space came before it."""

    @property
    def word(self) -> str:
        return self.text.upper()


@dataclass(frozen=True)
class Filter:
    """What a list view contributes: whose records, and which of them."""

    scope: str | None = None
    condition: str | None = None


@dataclass(frozen=True)
class Query:
    """A query on one object; `conditions` were made by this module and hold all at once."""

    sobject: str
    fields: tuple[str, ...] = ("Id",)
    scope: str | None = None
    conditions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in (self.sobject, *([self.scope] if self.scope else [])):
            _checked(name, _NAME)
        for path in self.fields:
            _checked(path, _PATH)

    def select(self) -> str:
        """The query for the records."""
        return f"SELECT {', '.join(self.fields)} {self._source()}"

    def count(self) -> str:
        """The query for their number."""
        return f"SELECT count() {self._source()}"

    def _source(self) -> str:
        scope = f" USING SCOPE {self.scope}" if self.scope else ""
        conditions = self.conditions if len(self.conditions) < 2 else [f"({one})" for one in self.conditions]
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return f"FROM {self.sobject}{scope}{where}"


def is_set(field: str) -> str:
    """The condition that a field has a value."""
    return f"{_checked(field, _PATH)} != null"


def is_true(field: str) -> str:
    """The condition that a checkbox is on."""
    return f"{_checked(field, _PATH)} = true"


def within(field: str, start: datetime, end: datetime) -> str:
    """The condition that a moment lies in [start, end)."""
    name = _checked(field, _PATH)
    return f"{name} >= {_moment(start)} AND {name} < {_moment(end)}"


def _moment(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError("a moment without a time zone cannot be compared with Salesforce's")
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"


def _checked(name: str, form: re.Pattern[str]) -> str:
    if not form.fullmatch(name):
        raise ValueError(f"{name!r} is not a name that SOQL knows")
    return name


def read_list_view_query(text: str, sobject: str) -> Filter:
    """Scope and condition of a list view's query, whatever it selects and however it orders (rule 2.3).

    Raises:
        NotUnderstood: the query is not `SELECT … FROM <sobject> [USING SCOPE …] [WHERE …] […]`.
    """
    tokens = list(_tokens(text))
    position = _after_from(tokens, sobject)
    scope = None
    if _words_at(tokens, position, "USING", "SCOPE"):
        scope = _scope(tokens[position + 2 : position + 3])
        position += 3
    if _words_at(tokens, position, "WHERE"):
        end = _end_of_filter(tokens, position + 1)
        return Filter(scope, _joined(tokens[position + 1 : end]))
    if position < len(tokens) and tokens[position].word not in _AFTER_THE_FILTER:
        raise NotUnderstood(f"its query has something else than a filter after FROM {sobject}")
    return Filter(scope)


def plain_scope(scope: str | None) -> str | None:
    """A scope as Salesforce names it; None where it stands for every record."""
    if scope and not _NAME.fullmatch(scope):
        raise NotUnderstood("its scope is not a name")
    return None if (scope or "").lower() in _EVERY_RECORD else scope


def _tokens(text: str) -> Iterator[_Token]:
    position, gap = 0, False
    while position < len(text):
        found = _TOKEN.match(text, position)
        if not found:
            raise NotUnderstood(f"its query cannot be read at character {position + 1}")
        if found.lastgroup != "space":
            yield _Token(found[0], gap)
        gap = found.lastgroup == "space"
        position = found.end()


def _depths(tokens: Sequence[_Token]) -> Iterator[int]:
    """How many parentheses are open after each token."""
    depth = 0
    for token in tokens:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0:
            break
        yield depth
    if depth != 0:
        raise NotUnderstood("the parentheses of its query do not match")


def _after_from(tokens: Sequence[_Token], sobject: str) -> int:
    for position, depth in enumerate(_depths(tokens)):
        if depth == 0 and _words_at(tokens, position, "FROM", sobject):
            return position + 2
    raise NotUnderstood(f"its query does not read FROM {sobject}")


def _words_at(tokens: Sequence[_Token], position: int, *words: str) -> bool:
    return [token.word for token in tokens[position : position + len(words)]] == [word.upper() for word in words]


def _scope(tokens: Sequence[_Token]) -> str | None:
    if not tokens:
        raise NotUnderstood("its query names no scope after USING SCOPE")
    return plain_scope(tokens[0].text)


def _end_of_filter(tokens: Sequence[_Token], start: int) -> int:
    end = len(tokens)
    for position, depth in enumerate(_depths(tokens)):
        if position >= start and depth == 0 and tokens[position].word in _AFTER_THE_FILTER:
            end = position
            break
    if end == start:
        raise NotUnderstood("its query has no condition after WHERE")
    if _words_at(tokens, end, "WITH"):
        raise NotUnderstood("its query has a WITH clause, which a sync cannot use")
    return end


def _joined(tokens: Sequence[_Token]) -> str:
    """The tokens as one condition; white space between them becomes one space, inside values it stays."""
    return "".join(f" {token.text}" if token.gap else token.text for token in tokens).strip()
