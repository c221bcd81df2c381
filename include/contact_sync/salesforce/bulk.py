"""A query by Bulk API 2.0: one job, polled until Salesforce has collected the records, then pages of CSV.

While one page is worked on the next is under way. Each page is checked against the number of records in its header and
asked for again alone when it is damaged. The job is deleted at the end, whatever the end was: its result holds
personal data, which Salesforce would keep for seven days.
"""

import csv
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.csv
import requests

from include.contact_sync.errors import RetryableError, RunError
from include.contact_sync.salesforce.faults import CursorLost, Damaged, Refused, error_of, read_job_failure
from include.contact_sync.salesforce.pages import Page, finished
from include.contact_sync.salesforce.session import Session, read_json
from include.contact_sync.salesforce.soql import Query

Progress = Callable[[str], None]
log = logging.getLogger(__name__)

_LAST_LOCATOR = "null"
_BLOCK = 16 * 1024 * 1024
"""The parser wants a whole record in one block; an organisation's largest possible record is smaller than this."""


@dataclass(frozen=True)
class _Results:
    """One page of a job's results and the locator of the next."""

    table: pa.Table
    locator: str | None
    bytes: int


def read_by_bulk(
    session: Session, query: Query, progress: Progress, *, include_deleted: bool = False
) -> Generator[Page]:
    """The query's records, page by page."""
    job = _create(session, query, include_deleted)
    done = False
    try:
        records = _wait(session, job, progress)
        done = True
        yield from _read_results(session, job, query.fields, records, progress)
    finally:
        _remove(session, job, done)


def _create(session: Session, query: Query, include_deleted: bool) -> str:
    body = {
        "operation": "queryAll" if include_deleted else "query",
        "query": query.select(),
        "contentType": "CSV",
        "columnDelimiter": "COMMA",
        "lineEnding": "LF",
    }
    return str(session.request("POST", "jobs/query", read_json, body=body)["id"])


def _wait(session: Session, job: str, progress: Progress) -> int:
    """Wait until the job has its records; their number."""
    started = time.monotonic()
    while True:
        status = _status(session, job)
        state, records = status["state"], int(status.get("numberRecordsProcessed") or 0)
        if state == "JobComplete":
            return records
        if state == "Failed":
            raise error_of(read_job_failure(str(status.get("errorMessage") or "the query job failed")))
        if state == "Aborted":
            raise RetryableError("salesforce_unavailable", f"the query job {job} was aborted in Salesforce")
        waited = time.monotonic() - started
        if waited >= session.pace.job_seconds:
            raise RetryableError(
                "salesforce_unavailable", f"the query job {job} was still {state} after {waited:.0f} s"
            )
        progress(f"Salesforce is collecting: {records:,} records so far, job {job} {state}")
        session.sleep(min(max(session.pace.first_poll, waited / 6), session.pace.longest_poll))


def _status(session: Session, job: str) -> Mapping[str, Any]:
    try:
        return session.get(f"jobs/query/{job}")
    except Refused as refused:
        raise CursorLost(f"the query job {job} is gone: {refused.detail}") from refused


def _read_results(
    session: Session, job: str, fields: Sequence[str], records: int, progress: Progress
) -> Generator[Page]:
    received = 0
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="salesforce-results") as ahead:
        under_way: Future[_Results] | None = ahead.submit(
            _fetch, session, job, fields, None, session.pace.first_page_rows
        )
        while under_way:
            results = _awaited(under_way, session.pace.report_seconds, progress, received, records)
            received += results.table.num_rows
            under_way = None
            if results.locator and received <= records:
                rows = _rows_for(results, session)
                under_way = ahead.submit(_fetch, session, job, fields, results.locator, rows)
            yield Page(results.table, records, results.bytes)


def _awaited(page: Future[_Results], seconds: float, progress: Progress, received: int, records: int) -> _Results:
    while True:
        try:
            return page.result(timeout=seconds)
        except NotYet:
            progress(f"{received:,} of {records:,} records received; waiting for the next page")


def _rows_for(results: _Results, session: Session) -> int:
    """How many rows the next page may have, by the size of the rows seen: few calls, yet bounded memory."""
    pace = session.pace
    row_bytes = max(1, results.bytes // max(1, results.table.num_rows))
    return max(pace.first_page_rows, min(pace.page_rows, pace.page_bytes // row_bytes))


def _fetch(session: Session, job: str, fields: Sequence[str], locator: str | None, rows: int) -> _Results:
    params = {"maxRecords": str(rows), **({"locator": locator} if locator else {})}
    path = f"jobs/query/{job}/results"
    try:
        return session.request("GET", path, lambda answer: _read_page(answer, fields), params=params, accept="text/csv")
    except Refused as refused:
        raise CursorLost(f"a page of job {job} cannot be had: {refused.detail}") from refused


def _read_page(response: requests.Response, fields: Sequence[str]) -> _Results:
    table = read_csv(response.content, fields)
    announced = response.headers.get("Sforce-NumberOfRecords")
    if announced is not None and announced != str(table.num_rows):
        raise Damaged(f"a page announced {announced} records and holds {table.num_rows}")
    locator = response.headers.get("Sforce-Locator", _LAST_LOCATOR)
    return _Results(table, None if locator == _LAST_LOCATOR else locator, len(response.content))


def read_csv(content: bytes, fields: Sequence[str]) -> pa.Table:
    """One CSV page as Arrow text, values exactly as sent: no detection of types or of words for null (rule 3.7).

    The bytes are UTF-8 whatever the header says or leaves out. A text that ends inside a quoted value would be
    accepted by the parser, so the quotes are counted first.

    Raises:
        Damaged: the page is cut off, not CSV, or has other columns than were asked for.
    """
    content = content.replace(b"\0", b"")
    if not content.endswith((b"\n", b'"')) or content.count(b'"') % 2:
        raise Damaged("a page is cut off")
    if _header(content) != [field.lower() for field in fields]:
        raise Damaged("a page has other columns than were asked for")
    try:
        return finished(_parse(content, fields), fields)
    except pa.ArrowInvalid as invalid:
        raise Damaged("a page is not the CSV it should be") from invalid


def _header(content: bytes) -> list[str]:
    line = content[: content.find(b"\n")].decode("utf-8-sig", "replace")
    return [name.lower() for name in next(csv.reader([line.rstrip("\r")]), [])]


def _parse(content: bytes, fields: Sequence[str]) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(content),
        read_options=pyarrow.csv.ReadOptions(block_size=_BLOCK, column_names=list(fields), skip_rows=1),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(fields, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _remove(session: Session, job: str, done: bool) -> None:
    """Delete the job, best effort: the records are here (or an error is on its way), a leftover job harms nobody."""
    try:
        if not done:
            session.request("PATCH", f"jobs/query/{job}", _nothing, body={"state": "Aborted"}, attempts=1)
    except RunError as refused:
        log.info("The query job %s could not be aborted: %s", job, refused.detail)
    try:
        session.request("DELETE", f"jobs/query/{job}", _nothing, attempts=1)
    except RunError as refused:
        log.warning("The query job %s could not be deleted in Salesforce: %s", job, refused.detail)


def _nothing(response: requests.Response) -> None:
    return None
