"""A query by the REST API: pages of JSON of at most 2,000 records, each leading to the next.

Cheap for small sources. A cursor belongs to the session that opened it, so pages cannot be continued after a new login.
"""

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import requests

from include.contact_sync.salesforce.faults import CursorLost, Damaged, Refused
from include.contact_sync.salesforce.pages import Page, finished
from include.contact_sync.salesforce.session import Session, read_json
from include.contact_sync.salesforce.soql import Query


def count_records(session: Session, query: Query, *, include_deleted: bool = False) -> int:
    """How many records a query has."""
    answer = session.get(_resource(include_deleted), params={"q": query.count()})
    return int(answer["totalSize"])


def read_by_rest(session: Session, query: Query, *, include_deleted: bool = False) -> Generator[Page]:
    """The query's records, page by page."""

    def read(response: requests.Response) -> tuple[Page, str | None]:
        answer = read_json(response)
        try:
            page = Page(_table(answer["records"], query.fields), int(answer["totalSize"]), len(response.content))
            return page, None if answer["done"] else answer["nextRecordsUrl"]
        except (KeyError, TypeError, ValueError) as incomplete:
            raise Damaged("a page of records lacks what it should have") from incomplete

    page, following = session.request("GET", _resource(include_deleted), read, params={"q": query.select()})
    announced = page.announced
    yield page
    while following:
        try:
            page, following = session.request("GET", following, read, needs_this_session=True)
        except Refused as refused:
            raise CursorLost(f"the next page cannot be had: {refused.detail}") from refused
        yield Page(page.table, announced, page.bytes)


def _resource(include_deleted: bool) -> str:
    return "queryAll" if include_deleted else "query"


def _table(records: Sequence[Mapping[str, Any]], fields: Sequence[str]) -> pa.Table:
    columns = [[_text(_value(record, field.split("."))) for record in records] for field in fields]
    return finished(pa.table([pa.array(column, pa.string()) for column in columns], names=list(fields)), fields)


def _value(record: Mapping[str, Any], path: Sequence[str]) -> Any:
    value: Any = record
    for step in path:
        value = None if value is None else value[step]
    return value


def _text(value: Any) -> str | None:
    """A value as the text that stands in the answer; Salesforce knows no empty text, and PostgreSQL no NUL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError("a field holds a structure instead of a value")
    return value.replace("\0", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace") or None
