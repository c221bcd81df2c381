"""Extract: brings the source accounts and source contacts, as Salesforce has them, into the staging place.

The snapshot of a part holds every source record once, each mapped field as the raw text that Salesforce sent, and
which records were merged into which. What the values mean is decided later (transform, match); here it is only made
certain that nothing is missing: pages, jobs and totals are held to what Salesforce announced, and a reading that does
not come out right is begun again once. How Salesforce is spoken to is the package `salesforce`.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from include.contact_sync.errors import RetryableError, RunError
from include.contact_sync.salesforce import Salesforce
from include.contact_sync.salesforce.faults import CursorLost, Damaged, Refused
from include.contact_sync.salesforce.fields import Resolved, unusable_fields
from include.contact_sync.salesforce.list_views import not_usable
from include.contact_sync.salesforce.pages import Page
from include.contact_sync.salesforce.soql import Filter, Query, is_set, is_true, within
from include.contact_sync.settings import ListViewSource, Settings
from include.contact_sync.staging import RunStaging

Progress = Callable[[str], None]
Window = tuple[datetime, datetime]

_READ_AGAIN = {"not_balanced": 1, "salesforce_unavailable": 2}
"""How often a part is read again from its start, by what went wrong."""


@dataclass(frozen=True)
class Extraction:
    """What was read of one part; `received = read + out_of_source`. Can be turned into JSON by `asdict`."""

    read: int
    received: int
    out_of_source: int
    field_types: dict[str, str]
    missing_fields: list[str]
    merges: int
    pages: int
    bytes: int
    how: str
    salesforce_calls: int


@dataclass(frozen=True)
class _Source:
    """What to read: an object with its mapped fields, and which of its records."""

    part: str
    sobject: str
    always: tuple[str, ...]
    mapped: tuple[str, ...]
    list_view: str | None
    conditions: tuple[str, ...] = ()
    linked_accounts: pa.Array | None = None
    maximum: int | None = None

    @property
    def folder(self) -> str:
        return f"{self.part}/snapshot"


class _FieldVanished(RetryableError):
    """A mapped field was there when the fields were looked up and is refused now; `detail` is its name."""

    def __init__(self, field: str) -> None:
        super().__init__("salesforce_unavailable", field)


def extract_accounts(salesforce: Salesforce, settings: Settings, staging: RunStaging, progress: Progress) -> Extraction:
    """Stage the source accounts, always whole (rules 1.3, 2.2)."""
    source = _Source(
        part="accounts",
        sobject="Account",
        always=("Id",),
        mapped=tuple(line.salesforce_field for line in settings.accounts.mapping),
        list_view=_list_view(settings.accounts.source),
    )
    return _extract(salesforce, source, staging, progress)


def extract_contacts(
    salesforce: Salesforce,
    settings: Settings,
    staging: RunStaging,
    progress: Progress,
    *,
    linked_accounts: pa.Array | None,
    window: Window | None,
) -> Extraction:
    """Stage the source contacts (rules 1.3, 1.5, 2.1).

    Where contacts come from synced accounts, `linked_accounts` are the 18-character ids of the accounts linked in the
    store; contacts of other accounts are counted as out of the source and not kept.
    """
    list_view = _list_view(settings.contacts.source)
    if list_view is None and linked_accounts is None:
        raise ValueError("contacts from synced accounts need the linked accounts")
    source = _Source(
        part="contacts",
        sobject="Contact",
        always=("Id", "AccountId"),
        mapped=tuple(line.salesforce_field for line in settings.contacts.mapping),
        list_view=list_view,
        conditions=(
            *((is_set("AccountId"),) if list_view is None else ()),
            *((within("SystemModstamp", *window),) if window else ()),
        ),
        linked_accounts=linked_accounts if list_view is None else None,
        maximum=settings.maximum_contacts,
    )
    return _extract(salesforce, source, staging, progress)


def _list_view(source: object) -> str | None:
    return source.list_view if isinstance(source, ListViewSource) else None


def _extract(salesforce: Salesforce, source: _Source, staging: RunStaging, progress: Progress) -> Extraction:
    """Read a part, again from its start where that can help."""
    calls = salesforce.calls
    failures: Counter[str] = Counter()
    refused_fields: list[str] = []
    while True:
        try:
            return _read(salesforce, source, staging, progress, refused_fields, calls)
        except _FieldVanished as vanished:
            if failures["field_not_found"]:  # still described and still refused: it counts as missing from now on
                refused_fields = [*refused_fields, vanished.detail]
            failures["field_not_found"] += 1
            progress(f"{source.part}: Salesforce field {vanished.detail} vanished; looking up the fields again")
        except (Damaged, CursorLost) as incomplete:
            failures[incomplete.code] += 1
            if failures[incomplete.code] > _READ_AGAIN[incomplete.code]:
                again = f"{incomplete.detail}; read {failures[incomplete.code]} times from the start"
                raise RetryableError(incomplete.code, again) from incomplete
            progress(f"{source.part}: {incomplete.detail}; reading again from the start")


def _read(
    salesforce: Salesforce,
    source: _Source,
    staging: RunStaging,
    progress: Progress,
    refused_fields: list[str],
    calls: int,
) -> Extraction:
    """Read a part once: fields, list view, number, merges, records."""
    resolved = salesforce.resolve_fields(source.sobject, source.mapped, needed=source.always)
    for error in unusable_fields(source.sobject, resolved):
        raise error
    for name in refused_fields:
        resolved = resolved.without(name)
    chosen = salesforce.list_view_filter(source.sobject, source.list_view) if source.list_view else Filter()
    query = _query(source, resolved, chosen)
    count = _count(salesforce, source, query, progress)
    merges = _stage_merges(salesforce, source, staging, progress)
    how, received, read, pages, size = _stage_records(salesforce, source, resolved, query, count, staging, progress)
    return Extraction(
        read=read,
        received=received,
        out_of_source=received - read,
        field_types={name: field.type for name, field in resolved.fields.items()},
        missing_fields=list(resolved.missing),
        merges=merges,
        pages=pages,
        bytes=size,
        how=how,
        salesforce_calls=salesforce.calls - calls,
    )


def _query(source: _Source, resolved: Resolved, chosen: Filter) -> Query:
    paths = dict.fromkeys([*source.always, *(field.path for field in resolved.fields.values())])
    conditions = (*((chosen.condition,) if chosen.condition else ()), *source.conditions)
    return Query(source.sobject, tuple(paths), chosen.scope, conditions)


def _count(salesforce: Salesforce, source: _Source, query: Query, progress: Progress) -> int | None:
    """How many records there will be, if Salesforce can say so; too many are refused before they are read (rule 1.5).

    The count names no mapped field, so a query that is refused here is refused for the list view's filter.
    """
    try:
        count = salesforce.count(query)
    except Refused as refused:
        if source.list_view and refused.is_about_the_query:
            raise not_usable(source.sobject, source.list_view, refused.detail) from refused
        raise
    if source.linked_accounts is None:
        _refuse_too_many(source, count or 0)
    progress(f"{source.part}: {'an unknown number of' if count is None else f'{count:,}'} records to read")
    return count


def _refuse_too_many(source: _Source, count: int) -> None:
    if source.maximum is not None and count > source.maximum:
        raise RunError("too_many_contacts", f"{count:,} or more; a sync takes at most {source.maximum:,}")


def _stage_merges(salesforce: Salesforce, source: _Source, staging: RunStaging, progress: Progress) -> int:
    """Stage which record was merged into which (rule 4.11).

    They are read before the records, so that a record which is merged away meanwhile is a loser of the next run and
    never a loser that is also in the snapshot.
    """
    conditions = (is_true("IsDeleted"), is_set("MasterRecordId"))
    query = Query(source.sobject, ("Id", "MasterRecordId"), conditions=conditions)
    count = salesforce.count(query, include_deleted=True)
    reading = salesforce.read(query, count, progress, include_deleted=True)
    merges = pa.concat_tables([page.table for page in reading.pages]).rename_columns(["loser", "winner"])
    staging.write(f"{source.part}/merges", merges)
    return merges.num_rows


def _stage_records(
    salesforce: Salesforce,
    source: _Source,
    resolved: Resolved,
    query: Query,
    count: int | None,
    staging: RunStaging,
    progress: Progress,
) -> tuple[str, int, int, int, int]:
    staging.clear(source.folder)
    received = read = pages = size = 0
    reading = salesforce.read(query, count, lambda line: progress(f"{source.part}: {line}"))
    try:
        with closing(reading.pages) as arriving:
            for page in arriving:
                kept = _kept(page, source)
                received, read, size = received + page.table.num_rows, read + kept.num_rows, size + page.bytes
                _refuse_too_many(source, read)
                staging.write_part(source.folder, pages, _as_mapped(kept, source, resolved))
                pages += 1
                progress(f"{source.part}: {received:,} of {page.announced:,} records received")
    except Refused as refused:
        raise _explained(refused, source, resolved) from refused
    return reading.how, received, read, pages, size


def _kept(page: Page, source: _Source) -> pa.Table:
    """The records of the page that belong to the source (rule 2.1)."""
    if source.linked_accounts is None:
        return page.table
    return page.table.filter(pc.is_in(page.table["AccountId"], value_set=source.linked_accounts))


def _as_mapped(table: pa.Table, source: _Source, resolved: Resolved) -> pa.Table:
    """One column per mapped field, named as in the mapping, whatever Salesforce's own spelling is."""
    columns = [*source.always, *resolved.fields]
    paths = {name: resolved.fields[name].path if name in resolved.fields else name for name in columns}
    return pa.table([table[path] for path in paths.values()], names=list(paths))


def _explained(refused: Refused, source: _Source, resolved: Resolved) -> RunError:
    """What a refusal of the records' query means: the count before it was not refused."""
    name = refused.named_field
    if name and resolved.without(name).missing != resolved.missing:
        return _FieldVanished(name)
    if source.list_view and refused.is_about_the_query:
        return not_usable(source.sobject, source.list_view, refused.detail)
    return refused
