"""Bulk API 2.0 query jobs: creation, states, pages of CSV.

A job's rows are found when it is created and rendered when a page is fetched; with the option `keep_pages` both are
kept, until the data change, for the next job that asks the same. A job belongs to the API version that created it.
"""

import secrets
import threading
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from include.salesforce_simulator import ids, soql
from include.salesforce_simulator.answers import Refusal, not_found
from include.salesforce_simulator.evaluate import Answer, Selected, answer_query
from include.salesforce_simulator.options import Options
from include.salesforce_simulator.organisation import Organisation, User
from include.salesforce_simulator.render import DELIMITERS, LINE_ENDINGS, as_json, render_csv

_TERMINAL = {"JobComplete", "Failed", "Aborted"}
_PAGES_PER_ANSWER = 5
_JOBS_PER_ANSWER = 1000


@dataclass
class Job:
    """A query job. `stuck` keeps it InProgress, `fate` is what it becomes instead of JobComplete."""

    id: str
    query: str
    operation: str
    version: str
    user: User
    created: str
    delimiter: str
    line_ending: str
    sobject: str
    answer: Answer | None
    options: Options
    generation: int = 0
    state: str = "UploadComplete"
    message: str | None = None
    polls: int = 0
    fate: str = "JobComplete"
    stuck: bool = False
    locators: dict[str, int] = field(default_factory=dict)

    def poll(self) -> None:
        """Let some time pass."""
        if self.state in _TERMINAL:
            return
        self.polls += 1
        if self.stuck or self.polls <= self.options.bulk_polls:
            self.state = "InProgress"
        else:
            self.state = self.fate

    def describe(self, *, detailed: bool) -> dict[str, Any]:
        """The job's JSON."""
        answer: dict[str, Any] = {
            "id": self.id,
            "operation": self.operation,
            "object": self.sobject,
            "createdById": self.user.id,
            "createdDate": self.created,
            "systemModstamp": self.created,
            "state": self.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": float(self.version),
            "lineEnding": self.line_ending,
            "columnDelimiter": self.delimiter,
        }
        if detailed:
            processed = len(self.answer) if self.answer is not None and self.state == "JobComplete" else 0
            answer |= {
                "jobType": "V2Query",
                "numberRecordsProcessed": processed,
                "retries": 0,
                "totalProcessingTime": 334,
                "isPkChunkingSupported": True,
            }
            if self.state == "Failed":
                answer["errorMessage"] = self.message or "InternalServerError: Retried more than fifteen times"
        return answer

    def start_of(self, locator: str | None) -> int:
        """The first row of the page that a locator names."""
        if locator is None:
            return 0
        if locator not in self.locators:
            raise Refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return self.locators[locator]

    def locator_at(self, row: int) -> str:
        """A locator for the page that begins at a row; opaque, as it should be."""
        for locator, start in self.locators.items():
            if start == row:
                return locator
        locator = secrets.token_urlsafe(6)
        self.locators[locator] = row
        return locator


@dataclass(frozen=True)
class Page:
    """One page of results; `locator` None on the last."""

    body: bytes
    rows: int
    locator: str | None


class Jobs:
    """The jobs of an organisation."""

    def __init__(self, organisation: Organisation) -> None:
        self.organisation = organisation
        self._jobs: dict[str, Job] = {}
        self._kept_answers: dict[tuple[Any, ...], Answer] = {}
        self._kept_pages: dict[tuple[Any, ...], bytes] = {}
        self._kept_generation = 0
        self._serial = 0
        self._lock = threading.Lock()

    def create(self, user: User, version: str, wanted: dict[str, Any], options: Options) -> Job:
        """Accept a query, or refuse it as the Bulk API does."""
        operation = wanted.get("operation")
        if operation not in {"query", "queryAll"}:
            raise Refusal(400, "INVALIDJOB", f"operation {operation!r} is not one of query, queryAll")
        delimiter, line_ending = wanted.get("columnDelimiter", "COMMA"), wanted.get("lineEnding", "LF")
        if delimiter not in DELIMITERS or line_ending not in LINE_ENDINGS or wanted.get("contentType", "CSV") != "CSV":
            raise Refusal(400, "INVALIDJOB", "unknown columnDelimiter, lineEnding or contentType")
        text = str(wanted.get("query", ""))
        query = read_bulk_query(text)
        generation = self.organisation.generation
        answer, message = self._answer(user, query, operation == "queryAll", options, generation)
        now = as_json(self.organisation.clock.now())
        with self._lock:
            self._serial += 1
            job = Job(
                ids.make_id("750", self._serial),
                text,
                operation,
                version,
                user,
                now,
                delimiter,
                line_ending,
                answer.sobject if answer else query.sobject.text,
                answer,
                options,
                generation,
                message=message,
                fate="JobComplete" if answer is not None else "Failed",
            )
            self._jobs[job.id] = job
        return job

    def _answer(
        self, user: User, query: soql.Query, deleted_too: bool, options: Options, generation: int
    ) -> tuple[Answer | None, str | None]:
        self._forget_all_but(generation)
        key = (query.text, deleted_too, user.username, generation)
        if key in self._kept_answers:
            return self._kept_answers[key], None
        try:
            answer = answer_query(self.organisation, user, query, deleted_too=deleted_too)
        except Refusal as refusal:
            if refusal.code != "INVALID_FIELD" or options.bulk_refuses_fields == "at_creation":
                raise
            return None, f"{refusal.code}: {refusal.message}"
        for one in answer.selected:
            if one.definition.type == "address":
                raise _restriction("Selecting compound data not supported in Bulk Query")
        if not query.order:
            answer = in_chunk_order(answer)
        if options.keep_pages:
            self._kept_answers[key] = answer
        return answer, None

    def _forget_all_but(self, generation: int) -> None:
        """What was kept of data that is no more is of no use to anybody."""
        with self._lock:
            if generation != self._kept_generation:
                self._kept_answers.clear()
                self._kept_pages.clear()
                self._kept_generation = generation

    def find(self, identifier: str, version: str) -> Job:
        """A job by its id; only the API version that made it may ask."""
        job = self._jobs.get(ids.lengthen(identifier)) if ids.is_id(identifier) else None
        if job is None:
            raise not_found()
        if job.version != version:
            raise Refusal(409, "API_VERSION_MISMATCH", f"The job was created with API version {job.version}")
        return job

    def all(self) -> list[Job]:
        """Every job, newest first."""
        return list(self._jobs.values())[::-1][:_JOBS_PER_ANSWER]

    def abort(self, job: Job) -> None:
        """Stop a job that is not done."""
        if job.state in _TERMINAL:
            raise Refusal(400, "INVALIDJOBSTATE", "Aborting already Completed Job not allowed")
        job.state = "Aborted"

    def delete(self, job: Job) -> None:
        """Forget a job that is done."""
        if job.state not in _TERMINAL:
            raise Refusal(400, "API_ERROR", "Error encountered when deleting the job because the job is not terminated")
        del self._jobs[job.id]

    def page(self, job: Job, locator: str | None, wanted: int | None, cap: int) -> Page:
        """A page of a job's results, of at most `wanted` rows."""
        answer = _results(job)
        rows = min(wanted or job.options.bulk_page_size, job.options.bulk_page_cap, cap)
        start = job.start_of(locator)
        end = min(start + rows, len(answer))
        key = _key(job, start, end)
        body = self._kept_pages.get(key) or _render(job, answer, start, end)
        if job.options.keep_pages:
            self._kept_pages[key] = body
        return Page(body, end - start, job.locator_at(end) if end < len(answer) else None)

    def page_locators(self, job: Job, locator: str | None) -> tuple[list[str], str | None]:
        """The locators of up to five pages, and where the next five begin."""
        answer = _results(job)
        size = min(job.options.bulk_page_size, job.options.bulk_page_cap)
        start = job.start_of(locator)
        starts = list(range(start, max(len(answer), 1), size))
        shown, rest = starts[:_PAGES_PER_ANSWER], starts[_PAGES_PER_ANSWER:]
        return [job.locator_at(row) for row in shown], job.locator_at(rest[0]) if rest else None


def read_bulk_query(text: str) -> soql.Query:
    """Understand a query, and refuse what the Bulk API refuses."""
    query = soql.read_query(text)
    if query.counts:
        raise _restriction("Aggregate Relationships not supported in Bulk V2 Query with CSV content type")
    if query.offset is not None:
        raise _restriction("Implementation restriction: OFFSET is not supported in Bulk Query")
    if query.sobject.text.lower() in {"listview", "organization"}:
        raise Refusal(400, "INVALIDENTITY", f"Entity '{query.sobject.text}' is not supported by the Bulk API.")
    return query


def in_chunk_order(answer: Answer) -> Answer:
    """The rows as chunks of ids deliver them: complete, but not sorted."""
    if len(answer) < 3:
        return answer
    order = pa.array(np.roll(np.arange(len(answer)), len(answer) // 3))
    selected = tuple(Selected(one.name, one.definition, one.values.take(order)) for one in answer.selected)
    return Answer(answer.sobject, answer.total, answer.ids.take(order), selected, {})


def _restriction(message: str) -> Refusal:
    return Refusal(400, "API_ERROR", message)


def _results(job: Job) -> Answer:
    if job.state != "JobComplete" or job.answer is None:
        raise Refusal(400, "INVALIDJOBSTATE", f"Results cannot be retrieved: the job is {job.state}")
    return job.answer


def _render(job: Job, answer: Answer, start: int, end: int) -> bytes:
    options = job.options
    return render_csv(
        answer.slice(start, end - start),
        delimiter=job.delimiter,
        line_ending=job.line_ending,
        nulls=options.bulk_nulls,
        datetimes=options.bulk_datetimes,
    )


def _key(job: Job, start: int, end: int) -> tuple[Any, ...]:
    options = job.options
    form = (job.delimiter, job.line_ending, options.bulk_nulls, options.bulk_datetimes)
    return (job.query, job.operation, job.user.username, job.generation, form, start, end)
