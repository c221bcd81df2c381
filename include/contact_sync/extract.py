"""Extract: brings the source accounts and source contacts, as Salesforce has them, into the staging place.

The snapshot of a part holds every source record once, each mapped field as the raw text that Salesforce sent, and
which records were merged into which. What the values mean is decided later (transform, match); here it is only made
certain that nothing is missing: pages, jobs and totals are held to what Salesforce announced, and a reading that does
not come out right is begun again once. How Salesforce is spoken to is the package `salesforce`.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
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
    linked_accounts: pa.Array | pa.ChunkedArray | None = None
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
    linked_accounts: pa.Array | pa.ChunkedArray | None,
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
    """Read a part, again from its start where that can help (rule 6.4)."""
    reader = _Reader(salesforce, source, staging, lambda line: progress(f"{source.part}: {line}"), salesforce.calls)
    failures: Counter[str] = Counter()
    while True:
        try:
            return reader.read()
        except _FieldVanished as vanished:
            if failures["field_not_found"]:  # still described and still refused: it counts as missing from now on
                reader = replace(reader, refused_fields=(*reader.refused_fields, vanished.detail))
            failures["field_not_found"] += 1
            reader.progress(f"Salesforce field {vanished.detail} vanished; looking up the fields again")
        except (Damaged, CursorLost) as incomplete:
            failures[incomplete.code] += 1
            if failures[incomplete.code] > _READ_AGAIN[incomplete.code]:
                again = f"{incomplete.detail}; read {failures[incomplete.code]} times from the start"
                raise RetryableError(incomplete.code, again) from incomplete
            reader.progress(f"{incomplete.detail}; reading again from the start")


@dataclass(frozen=True)
class _Records:
    """What one reading of the records came to."""

    received: int = 0
    kept: int = 0
    pages: int = 0
    bytes: int = 0

    def with_page(self, page: Page, kept: pa.Table) -> "_Records":
        received, pages, size = self.received + page.table.num_rows, self.pages + 1, self.bytes + page.bytes
        return _Records(received, self.kept + kept.num_rows, pages, size)


@dataclass(frozen=True)
class _Reader:
    """Reads a part once: its fields, list view, number, merges, records."""

    salesforce: Salesforce
    source: _Source
    staging: RunStaging
    progress: Progress
    calls_before: int
    refused_fields: tuple[str, ...] = ()

    def read(self) -> Extraction:
        resolved = self._resolve_fields()
        query = self._query(resolved)
        count = self._count(query)
        merges = self._stage_merges()
        how, records = self._stage_records(resolved, query, count)
        return Extraction(
            read=records.kept,
            received=records.received,
            out_of_source=records.received - records.kept,
            field_types={name: field.type for name, field in resolved.fields.items()},
            missing_fields=list(resolved.missing),
            merges=merges,
            pages=records.pages,
            bytes=records.bytes,
            how=how,
            salesforce_calls=self.salesforce.calls - self.calls_before,
        )

    def _resolve_fields(self) -> Resolved:
        source = self.source
        resolved = self.salesforce.resolve_fields(source.sobject, source.mapped, needed=source.always)
        for error in unusable_fields(source.sobject, resolved):
            raise error
        for name in self.refused_fields:
            resolved = resolved.without(name)
        return resolved

    def _query(self, resolved: Resolved) -> Query:
        source = self.source
        chosen = self.salesforce.list_view_filter(source.sobject, source.list_view) if source.list_view else Filter()
        paths = dict.fromkeys([*source.always, *(field.path for field in resolved.fields.values())])
        conditions = (*((chosen.condition,) if chosen.condition else ()), *source.conditions)
        return Query(source.sobject, tuple(paths), chosen.scope, conditions)

    def _count(self, query: Query) -> int | None:
        """How many records there will be, if Salesforce can say so; too many are refused before they are read (rule 1.5).

        The count names no mapped field, so a query that is refused here is refused for the list view's filter.
        """
        try:
            count = self.salesforce.count(query)
        except Refused as refused:
            raise self._about_the_list_view(refused) from refused
        if self.source.linked_accounts is None:
            self._refuse_too_many(count or 0)
        self.progress(f"{'an unknown number of' if count is None else f'{count:,}'} records to read")
        return count

    def _refuse_too_many(self, count: int) -> None:
        maximum = self.source.maximum
        if maximum is not None and count > maximum:
            raise RunError("too_many_contacts", f"{count:,} or more; a sync takes at most {maximum:,}")

    def _stage_merges(self) -> int:
        """Stage which record was merged into which (rule 4.11).

        They are read before the records, so that a record which is merged away meanwhile is a loser of the next run
        and never a loser that is also in the snapshot.
        """
        conditions = (is_true("IsDeleted"), is_set("MasterRecordId"))
        query = Query(self.source.sobject, ("Id", "MasterRecordId"), conditions=conditions)
        count = self.salesforce.count(query, include_deleted=True)
        reading = self.salesforce.read(query, count, self.progress, include_deleted=True)
        merges = pa.concat_tables([page.table for page in reading.pages]).rename_columns(["loser", "winner"])
        self.staging.write(f"{self.source.part}/merges", merges)
        return merges.num_rows

    def _stage_records(self, resolved: Resolved, query: Query, count: int | None) -> tuple[str, _Records]:
        self.staging.clear(self.source.folder)
        reading = self.salesforce.read(query, count, self.progress)
        records = _Records()
        try:
            with closing(reading.pages) as pages:
                for page in pages:
                    kept = _kept(page.table, self.source)
                    records = records.with_page(page, kept)
                    self._refuse_too_many(records.kept)
                    self.staging.write_part(self.source.folder, records.pages, _as_mapped(kept, self.source, resolved))
                    self.progress(f"{records.received:,} of {page.announced:,} records received")
        except Refused as refused:
            raise self._explained(refused, resolved) from refused
        return reading.how, records

    def _explained(self, refused: Refused, resolved: Resolved) -> RunError:
        """What a refusal of the records' query means; the count before it was not refused."""
        name = refused.named_field
        if name and resolved.without(name).missing != resolved.missing:
            return _FieldVanished(name)
        return self._about_the_list_view(refused)

    def _about_the_list_view(self, refused: Refused) -> RunError:
        if self.source.list_view and refused.is_about_the_query:
            return not_usable(self.source.sobject, self.source.list_view, refused.detail)
        return refused


def _kept(table: pa.Table, source: _Source) -> pa.Table:
    """The records that belong to the source (rule 2.1)."""
    if source.linked_accounts is None:
        return table
    return table.filter(pc.is_in(table["AccountId"], value_set=source.linked_accounts))


def _as_mapped(table: pa.Table, source: _Source, resolved: Resolved) -> pa.Table:
    """One column per mapped field, named as in the mapping, whatever Salesforce's own spelling is."""
    paths = dict.fromkeys(source.always) | {name: field.path for name, field in resolved.fields.items()}
    return pa.table([table[path or name] for name, path in paths.items()], names=list(paths))
