"""List views: which there are, and what one contributes to a sync: its scope and filter, nothing else (rule 2.3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from include.contact_sync.errors import RunError
from include.contact_sync.salesforce.faults import Refused
from include.contact_sync.salesforce.ids import to_18
from include.contact_sync.salesforce.session import Session
from include.contact_sync.salesforce.soql import Filter, NotUnderstood, plain_scope, read_list_view_query


@dataclass(frozen=True)
class ListView:
    """A list view that the connected user may see."""

    id: str
    label: str
    developer_name: str


def list_views(session: Session, sobject: str) -> list[ListView]:
    """The list views of an object whose filter can be expressed in SOQL."""
    return [
        ListView(to_18(view["id"]), view["label"], view["developerName"])
        for view in _each(session, sobject)
        if view.get("soqlCompatible")
    ]


def _each(session: Session, sobject: str) -> Iterator[dict[str, Any]]:
    following: str | None = f"sobjects/{sobject}/listviews"
    while following:
        answer = session.get(following)
        yield from answer["listviews"]
        following = answer.get("nextRecordsUrl")


def read_filter(session: Session, sobject: str, list_view: str) -> Filter:
    """Scope and filter of a list view.

    Raises:
        RunError: `list_view_not_found` where it is gone or not shared (rule 2.4: Salesforce answers the same),
            `list_view_not_usable` where its filter cannot be expressed in SOQL.
    """
    path = f"sobjects/{sobject}/listviews/{to_18(list_view)}"
    try:
        if not session.get(path).get("soqlCompatible", True):
            raise not_usable(sobject, list_view, "Salesforce says that its filter cannot be expressed in SOQL")
        described = session.get(f"{path}/describe")
    except Refused as refused:
        if refused.refusal.status == HTTPStatus.NOT_FOUND:
            raise RunError("list_view_not_found", f"{sobject} list view {to_18(list_view)}") from refused
        raise
    try:
        found = read_list_view_query(described["query"], sobject)
        return Filter(found.scope or plain_scope(described.get("scope")), found.condition)
    except NotUnderstood as unknown:
        raise not_usable(sobject, list_view, str(unknown)) from unknown


def not_usable(sobject: str, list_view: str, reason: str) -> RunError:
    """The run error for a list view whose filter cannot be used."""
    return RunError("list_view_not_usable", f"{sobject} list view {to_18(list_view)}: {reason}")
