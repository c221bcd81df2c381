"""What is not proven of Salesforce, or varies between organisations: the simulator can do it either way."""

from dataclasses import dataclass, fields, replace
from typing import Any


@dataclass(frozen=True)
class Options:
    """The ways in which the organisation answers; changed through the control API.

    Attributes:
        page_size: rows of a REST page; `Sforce-Query-Options: batchSize` can lower it.
        vary_page_size: later pages are a little smaller, as nothing guarantees a size.
        bulk_page_size: rows of a bulk page where the client does not ask for a number.
        bulk_page_cap: rows of a bulk page at most, whatever the client asks for.
        bulk_polls: polls that answer UploadComplete or InProgress before JobComplete.
        bulk_nulls: `quoted` (`""`) or `bare` (nothing between the delimiters).
        bulk_datetimes: `Z` or `+0000`, the end of a datetime in CSV.
        bulk_refuses_fields: an unknown field is refused `at_creation`, or makes a `failed_job`.
        keep_pages: a page of results is rendered once and served again to whoever asks the same of the same data:
            a benchmark measures its client then.
        bulk_charset: whether the content type of a page names UTF-8.
        gzip: compress what a client accepts compressed.
        list_view_id_length: characters of the id in a list view's describe.
        list_view_query_case: `mixed`, `lower` or `upper` keywords and names in a list view's query.
        session_seconds: how long an unused session lives.
        daily_calls: the API calls of 24 hours.
        limit_info: `plain`, `bursts` or `per_app` form of `Sforce-Limit-Info`.
        locator_form: `01g` or `0r8`, the begin of a query locator.
    """

    page_size: int = 2000
    vary_page_size: bool = True
    bulk_page_size: int = 50_000
    bulk_page_cap: int = 250_000
    bulk_polls: int = 1
    bulk_nulls: str = "quoted"
    bulk_datetimes: str = "Z"
    bulk_refuses_fields: str = "at_creation"
    keep_pages: bool = False
    bulk_charset: bool = True
    gzip: bool = False
    list_view_id_length: int = 15
    list_view_query_case: str = "mixed"
    session_seconds: int = 7200
    daily_calls: int = 100_000
    limit_info: str = "plain"
    locator_form: str = "01g"

    def changed(self, **changes: Any) -> "Options":
        """The options with some changed; an option that does not exist is refused."""
        unknown = set(changes) - {one.name for one in fields(self)}
        if unknown:
            raise ValueError(
                f"no such option: {', '.join(sorted(unknown))}; there are {', '.join(one.name for one in fields(self))}"
            )
        return replace(self, **changes)
