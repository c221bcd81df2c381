"""A query by Bulk API 2.0: one job, polled until Salesforce has collected the records, then pages of CSV.

While one page is read and worked on the next is under way. Each page is checked against the number of records in its
header and asked for again when it is damaged, and then the next one too, since where it begins was said by the damaged
one. The job is deleted at the end, whatever the end was: its result holds
personal data, which Salesforce would keep for seven days.
"""

import csv
import logging
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import requests

from include.contact_sync.errors import RetryableError, RunError
from include.contact_sync.salesforce.faults import CursorLost, Damaged, Refused, error_of, read_job_failure
from include.contact_sync.salesforce.pace import Pace
from include.contact_sync.salesforce.pages import Page, finished
from include.contact_sync.salesforce.session import Session, read_json
from include.contact_sync.salesforce.soql import Query

Progress = Callable[[str], None]
log = logging.getLogger(__name__)

_LAST_LOCATOR = "null"
_BLOCKS = (2 * 1024 * 1024, 16 * 1024 * 1024)
"""Bytes that are parsed at once. The parser wants a whole record in one block: nearly every record is smaller than the first,
and an organisation's largest possible one smaller than the second."""
_QUOTE = ord('"')


@dataclass(frozen=True)
class _Portion:
    """Which of a job's records to ask for: so many, from a locator on (None: from the first)."""

    locator: str | None
    rows: int


@dataclass(frozen=True)
class _Results:
    """One page of a job's results as it was sent; how many records it announces, and the locator of the next page."""

    content: bytes
    announced: int | None
    locator: str | None


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
    begun: set[str | None] = set()
    start = _Portion(None, session.pace.first_page_rows)
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="salesforce-results") as ahead:
        under_way = ahead.submit(_fetch, session, job, start, _receive)
        portion: _Portion | None = start
        while portion:
            results = _awaited(under_way, session.pace.report_seconds, progress, received, records)
            following = _following(portion, results, session.pace)
            if following and following.locator in begun:
                raise Damaged("the pages lead in a circle")
            if following:
                under_way = ahead.submit(_fetch, session, job, following, _receive)
            try:
                table = _read_page(results, fields)
            except Damaged as damaged:
                log.warning("Salesforce: %s; the page is asked for again", damaged.detail)
                under_way = ahead.submit(_fetch, session, job, portion, partial(_receive_sound, fields=fields))
                continue
            received += table.num_rows
            begun.add(portion.locator)
            portion = following
            yield Page(table, records, len(results.content))


def _awaited(page: Future[_Results], seconds: float, progress: Progress, received: int, records: int) -> _Results:
    while True:
        try:
            return page.result(timeout=seconds)
        except NotYet:
            progress(f"{received:,} of {records:,} records received; waiting for the next page")


def _following(portion: _Portion, results: _Results, pace: Pace) -> _Portion | None:
    """The portion after this one; its rows by the size of those seen: few calls, yet bounded memory."""
    if results.locator is None:
        return None
    row_bytes = max(1, len(results.content) // max(1, results.announced or portion.rows))
    return _Portion(results.locator, max(pace.first_page_rows, min(pace.page_rows, pace.page_bytes // row_bytes)))


def _fetch(session: Session, job: str, portion: _Portion, read: Callable[[requests.Response], _Results]) -> _Results:
    params = {"maxRecords": str(portion.rows), **({"locator": portion.locator} if portion.locator else {})}
    try:
        return session.request("GET", f"jobs/query/{job}/results", read, params=params, accept="text/csv")
    except Refused as refused:
        raise CursorLost(f"a page of job {job} cannot be had: {refused.detail}") from refused


def _receive(response: requests.Response) -> _Results:
    announced = response.headers.get("Sforce-NumberOfRecords")
    locator = response.headers.get("Sforce-Locator", _LAST_LOCATOR)
    if announced is not None and not announced.isdecimal():
        raise Damaged("a page announces a number of records that is none")
    return _Results(
        response.content,
        None if announced is None else int(announced),
        None if locator == _LAST_LOCATOR else locator,
    )


def _receive_sound(response: requests.Response, fields: Sequence[str]) -> _Results:
    """Receive a page and make sure of it at once, so that the session asks again for one that is damaged."""
    results = _receive(response)
    _read_page(results, fields)
    return results


def _read_page(results: _Results, fields: Sequence[str]) -> pa.Table:
    table = read_csv(results.content, fields)
    if results.announced is not None and results.announced != table.num_rows:
        raise Damaged(f"a page announced {results.announced} records and holds {table.num_rows}")
    return table


def read_csv(content: bytes, fields: Sequence[str]) -> pa.Table:
    """One CSV page as Arrow text, values exactly as sent: no detection of types or of words for null (rule 3.7).

    The bytes are UTF-8 whatever the header says or leaves out. A text that ends inside a quoted value would be
    accepted by the parser, so the quotes are counted first.

    Raises:
        Damaged: the page is cut off, not CSV, or has other columns than were asked for.
    """
    content = content.replace(b"\0", b"")
    quotes = np.count_nonzero(np.frombuffer(content, dtype=np.uint8) == _QUOTE)
    if not content.endswith((b"\n", b'"')) or quotes % 2:
        raise Damaged("a page is cut off")
    if _header(content) != [field.lower() for field in fields]:
        raise Damaged("a page has other columns than were asked for")
    for block in _BLOCKS:
        with suppress(pa.ArrowInvalid):
            return finished(_parse(content, fields, block), fields)
    raise Damaged("a page is not the CSV it should be")


def _header(content: bytes) -> list[str]:
    line = content[: content.find(b"\n")].decode("utf-8-sig", "replace")
    return [name.lower() for name in next(csv.reader([line.rstrip("\r")]), [])]


def _parse(content: bytes, fields: Sequence[str], block: int) -> pa.Table:
    return pyarrow.csv.read_csv(
        pa.BufferReader(content),
        read_options=pyarrow.csv.ReadOptions(block_size=block, column_names=list(fields), skip_rows=1),
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
