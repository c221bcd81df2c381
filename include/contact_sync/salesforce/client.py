"""What the rest of the product knows of Salesforce: one object per step, made from an Airflow connection.

Records come as `Reading`s, by whichever API is cheaper; which one it was makes no difference to their values.
"""

import logging
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from functools import partial
from urllib.parse import quote

from include.contact_sync.salesforce.bulk import Progress, read_by_bulk
from include.contact_sync.salesforce.faults import Refused
from include.contact_sync.salesforce.fields import Resolved, describe, resolve_fields
from include.contact_sync.salesforce.ids import to_18
from include.contact_sync.salesforce.list_views import ListView, list_views, read_filter
from include.contact_sync.salesforce.pace import Pace
from include.contact_sync.salesforce.pages import Page, balanced
from include.contact_sync.salesforce.rest import count_records, read_by_rest
from include.contact_sync.salesforce.session import Login, Session, log_in_by_connection
from include.contact_sync.salesforce.soql import Filter, Query

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """A query under way: by which API ("rest" or "bulk"), and its pages, counted."""

    how: str
    pages: Generator[Page]


class Salesforce:
    """A login to one organisation, for one step of a run."""

    def __init__(
        self, log_in: Callable[[], Login], pace: Pace | None = None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._session = Session(log_in, pace or Pace(), sleep)

    @classmethod
    def connect(
        cls,
        conn_id: str = "salesforce_default",
        pace: Pace | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> "Salesforce":
        """Log in as an Airflow connection says.

        Raises:
            RunError: `login_failed`, `app_blocked`, `api_disabled`, `api_limit`, `salesforce_unavailable`.
        """
        pace = pace or Pace()
        return cls(partial(log_in_by_connection, conn_id, pace), pace, sleep)

    def __enter__(self) -> "Salesforce":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give back the network connections."""
        self._session.close()

    @property
    def calls(self) -> int:
        """How many API calls were made, attempts included."""
        return self._session.calls

    @property
    def api_usage(self) -> str | None:
        """What Salesforce last said about the daily limit, such as `api-usage=18/15000`."""
        return self._session.api_usage

    @property
    def url(self) -> str:
        """The organisation's address in a browser."""
        return f"https://{self._session.host}"

    def record_url(self, sobject: str, record_id: str) -> str:
        """Where a person sees a record."""
        return f"{self.url}/lightning/r/{sobject}/{to_18(record_id)}/view"

    def describe(self, sobject: str) -> dict[str, str]:
        """The fields that the connected user may read, with their types."""
        return {field["name"]: field["type"] for field in describe(self._session, sobject)}

    def resolve_fields(self, sobject: str, names: Iterable[str], needed: Iterable[str] = ()) -> Resolved:
        """Which mapped fields exist, as `fields.resolve_fields`."""
        return resolve_fields(self._session, sobject, names, needed)

    def list_views(self, sobject: str) -> list[ListView]:
        """The list views that a sync can use."""
        return list_views(self._session, sobject)

    def list_view_filter(self, sobject: str, list_view: str) -> Filter:
        """Scope and filter of a list view, as `list_views.read_filter`."""
        return read_filter(self._session, sobject, list_view)

    def count(self, query: Query, *, include_deleted: bool = False) -> int | None:
        """How many records a query has; None where Salesforce would have to be asked in another way.

        A count has no Bulk form: a query that is too long for an address, or for which Salesforce needs more than its
        two minutes, can still be read by Bulk, in portions.
        """
        if self._is_too_long(query.count()):
            return None
        try:
            return count_records(self._session, query, include_deleted=include_deleted)
        except Refused as refused:
            if refused.is_too_long or refused.refusal.code == "QUERY_TIMEOUT":
                log.info("The records could not be counted beforehand: %s", refused.detail)
                return None
            raise

    def read(self, query: Query, count: int | None, progress: Progress, *, include_deleted: bool = False) -> Reading:
        """Read a query's records, of which there are about `count`: a few by REST, many by Bulk."""
        few = count is not None and count <= self._session.pace.rest_rows and not self._is_too_long(query.select())
        if few:
            return Reading("rest", balanced(read_by_rest(self._session, query, include_deleted=include_deleted)))
        return Reading("bulk", balanced(read_by_bulk(self._session, query, progress, include_deleted=include_deleted)))

    def _is_too_long(self, query: str) -> bool:
        return len(quote(query)) > self._session.pace.query_length
