"""The REST API: what each address answers.

An endpoint gets a `Call` (who asks, for what, in which version) and gives JSON, text or a `Refusal`. Logging in,
counting, faults and the wire are around it, in `http`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from starlette.responses import Response

from include.salesforce_simulator import evaluate, soql
from include.salesforce_simulator.answers import Refusal, not_found
from include.salesforce_simulator.bulk import Job
from include.salesforce_simulator.list_views import as_shown
from include.salesforce_simulator.organisation import RECYCLE_BIN, User
from include.salesforce_simulator.render import as_json, render_records
from include.salesforce_simulator.state import Cursor, State

VERSIONS = tuple(f"{number}.0" for number in range(59, 69))
_SMALLEST_BATCH = 200
_LONGEST_REPLICATION = timedelta(days=30)
_MOST_UPDATED_IDS = 600_000
_LIST_VIEWS_PER_ANSWER = 2000


@dataclass
class Call:
    """One call of the API."""

    state: State
    version: str
    user: User
    token: str
    path: Mapping[str, str]
    parameters: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    page_cap: int = 1_000_000
    jobs_touched: list[Job] = field(default_factory=list)

    @property
    def base(self) -> str:
        """The address of this version."""
        return f"/services/data/v{self.version}"

    @cached_property
    def json(self) -> dict[str, Any]:
        """The body."""
        try:
            parsed = json.loads(self.body or b"{}")
        except ValueError as broken:
            raise Refusal(
                400, "JSON_PARSER_ERROR", f"The HTTP entity body is required, but this entity has no body. {broken}"
            ) from broken
        if not isinstance(parsed, dict):
            raise Refusal(400, "JSON_PARSER_ERROR", "Unexpected parameter encountered during deserialization")
        return parsed

    def sobject(self) -> str:
        """The object in the path, under its own name."""
        schema = self.state.organisation.schema(self.path["sobject"])
        if schema is None:
            raise not_found()
        return schema.name

    def job(self) -> Job:
        """The job in the path."""
        job = self.state.jobs.find(self.path["job"], self.version)
        self.jobs_touched.append(job)
        return job


def answer_json(content: Any, status: int = 200) -> Response:
    """JSON as Salesforce sends it."""
    return _json_response(_json(content), status)


def _json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _json_response(text: str, status: int = 200) -> Response:
    return Response(text.encode("utf-8", "surrogatepass"), status, {"Content-Type": "application/json;charset=UTF-8"})


def list_versions(state: State) -> Response:
    """The API versions; nobody needs to be logged in for this."""
    return answer_json([{"label": f"v{one}", "url": f"/services/data/v{one}", "version": one} for one in VERSIONS])


def list_resources(call: Call) -> Response:
    """The resources of a version."""
    names = ("jobs", "limits", "query", "queryAll", "sobjects")
    return answer_json({name: f"{call.base}/{name}" for name in names})


def query(call: Call) -> Response:
    """The first page of a query."""
    return _first_page(call, deleted_too=False)


def query_all(call: Call) -> Response:
    """The first page of a query that also sees what was deleted."""
    return _first_page(call, deleted_too=True)


def _first_page(call: Call, *, deleted_too: bool) -> Response:
    if "q" not in call.parameters:
        raise Refusal(400, "MALFORMED_QUERY", "A query string has to be specified")
    understood = soql.read_query(call.parameters["q"])
    answer = evaluate.answer_query(call.state.organisation, call.user, understood, deleted_too=deleted_too)
    if understood.counts:
        return answer_json({"totalSize": answer.total, "done": True, "records": []})
    key = (understood.text, deleted_too, call.user.username, call.state.organisation.generation)
    cursor = Cursor(answer, call.token, _wanted_page_size(call), call.state.kept_pages(key))
    return _page(call, cursor, None, 0)


def _wanted_page_size(call: Call) -> int:
    size = call.state.options.page_size
    for option in call.headers.get("sforce-query-options", "").split(","):
        name, _, number = option.partition("=")
        if name.strip().lower() == "batchsize" and number.strip().isdigit():
            size = min(size, max(int(number), _SMALLEST_BATCH))
    return size


def query_more(call: Call) -> Response:
    """A later page, by its locator."""
    identifier, _, row = call.path["locator"].rpartition("-")
    if not row.isdigit():
        raise Refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
    cursor = call.state.cursor(identifier, call.token)
    if int(row) >= len(cursor.answer):
        raise Refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
    return _page(call, cursor, identifier, int(row))


def _page(call: Call, cursor: Cursor, identifier: str | None, start: int) -> Response:
    size = min(cursor.page_size, call.page_cap)
    if call.state.options.vary_page_size and start and size > 1:
        size = max(1, size - (start * 137 + 71) % max(1, size // 4))
    end = min(start + size, len(cursor.answer))
    done = end == len(cursor.answer)
    content: dict[str, Any] = {"totalSize": cursor.answer.total, "done": done}
    if not done:
        identifier = identifier or call.state.open_cursor(cursor)
        content["nextRecordsUrl"] = f"{call.base}/query/{identifier}-{end}"
    records = cursor.kept_pages.get((start, end))
    if records is None:
        records = cursor.kept_pages[start, end] = _json(
            render_records(cursor.answer.slice(start, end - start), call.base)
        )
    return _json_response(f'{_json(content)[:-1]},"records":{records}}}')


def list_objects(call: Call) -> Response:
    """All objects."""
    organisation = call.state.organisation
    summaries = [organisation.table(name).schema.summary(call.base) for name in organisation.object_names()]
    return answer_json({"encoding": "UTF-8", "maxBatchSize": 200, "sobjects": summaries})


def describe(call: Call) -> Response:
    """One object with its fields, as far as the user may see them."""
    name = call.sobject()
    schema = call.state.organisation.table(name).schema
    return answer_json(schema.describe(call.base, call.user.hidden(name)))


def get_record(call: Call) -> Response:
    """One record with all its fields, or with those asked for."""
    organisation = call.state.organisation
    name = call.sobject()
    row = organisation.find(name, call.path["id"])
    table = organisation.table(name)
    if "IsDeleted" in table.schema.fields and table.value(row, "IsDeleted"):
        raise Refusal(404, "ENTITY_IS_DELETED", "entity is deleted", [])
    fields = [one for one in table.schema.fields if one not in call.user.hidden(name)]
    if "fields" in call.parameters:
        fields = call.parameters["fields"].split(",")
    text = f"SELECT {', '.join(fields)} FROM {name} WHERE Id = '{table.value(row, 'Id')}'"  # ruff: ignore[hardcoded-sql-expression]  # SOQL for ourselves
    answer = evaluate.answer_query(organisation, call.user, soql.read_query(text))
    return answer_json(render_records(answer, call.base)[0])


def list_list_views(call: Call) -> Response:
    """The list views of an object that the user can see."""
    views = call.state.organisation.visible_list_views(call.user, call.sobject())
    start, size = (_number(call, name, default) for name, default in (("offset", 0), ("limit", _LIST_VIEWS_PER_ANSWER)))
    shown = views[start : start + size]
    more = start + size < len(views)
    following = f"{call.base}/sobjects/{call.sobject()}/listviews?limit={size}&offset={start + size}" if more else None
    content = {
        "done": not more,
        "listviews": [view.summary(call.base) for view in shown],
        "nextRecordsUrl": following,
        "size": len(shown),
        "sobjectType": call.sobject(),
    }
    return answer_json(content)


def get_list_view(call: Call) -> Response:
    """One list view."""
    view = call.state.organisation.list_view(call.user, call.sobject(), call.path["id"])
    return answer_json(view.summary(call.base))


def describe_list_view(call: Call) -> Response:
    """A list view's query, filter and columns."""
    view = call.state.organisation.list_view(call.user, call.sobject(), call.path["id"])
    options = call.state.options
    return answer_json(view.describe(id_length=options.list_view_id_length, query_case=options.list_view_query_case))


def show_list_view(call: Call) -> Response:
    """A list view's rows, as a person would see them: all texts, 25 at a time."""
    view = call.state.organisation.list_view(call.user, call.sobject(), call.path["id"])
    if not view.soql_compatible:
        raise Refusal(400, "INVALID_OPERATION", "The list view cannot be shown through the API")
    limit, offset = _number(call, "limit", 25), _number(call, "offset", 0)
    if not 1 <= limit <= evaluate.MAXIMUM_ROWS_WITH_OFFSET:
        raise Refusal(400, "NUMBER_OUTSIDE_VALID_RANGE", "limit must be between 1 and 2000")
    text = f"{view.query()} LIMIT {limit} OFFSET {offset}"
    answer = evaluate.answer_query(call.state.organisation, call.user, soql.read_query(text))
    names = [one.name for one in answer.selected]
    rows = zip(*(one.values.to_pylist() for one in answer.selected), strict=True)
    records = [
        {
            "columns": [
                {"fieldNameOrPath": name, "value": as_shown(value)} for name, value in zip(names, row, strict=True)
            ]
        }
        for row in rows
    ]
    content = {
        "columns": view.describe_columns(),
        "developerName": view.developer_name,
        "done": len(records) < limit,
        "id": view.id[: call.state.options.list_view_id_length],
        "label": view.label,
        "records": records,
        "size": len(records),
    }
    return answer_json(content)


def _number(call: Call, name: str, default: int) -> int:
    text = call.parameters.get(name, str(default))
    if not text.isdigit():
        raise Refusal(400, "INVALID_QUERY_FILTER_OPERATOR", f"{name} must be a number")
    return int(text)


def updated(call: Call) -> Response:
    """The ids of records that changed in a window."""
    name = call.sobject()
    start, end = _window(call)
    text = f"SELECT Id FROM {name} WHERE SystemModstamp >= {_soql_time(start)} AND SystemModstamp < {_soql_time(end)}"  # ruff: ignore[hardcoded-sql-expression]  # SOQL for ourselves
    answer = evaluate.answer_query(call.state.organisation, call.user, soql.read_query(text))
    if len(answer) > _MOST_UPDATED_IDS:
        raise Refusal(400, "EXCEEDED_ID_LIMIT", "exceeded the maximum number of ids")
    return answer_json({"ids": answer.ids.to_pylist(), "latestDateCovered": as_json(end)})


def deleted(call: Call) -> Response:
    """The ids of records that were deleted in a window, hard deletes among them."""
    start, end = _window(call)
    earliest = call.state.organisation.clock.now() - RECYCLE_BIN
    if start < earliest.replace(second=0):
        raise Refusal(400, "INVALID_REPLICATION_DATE", "startDate before org replication enabled date")
    deletions = call.state.organisation.deletions.get(call.sobject(), {})
    found = [{"id": one, "deletedDate": as_json(moment)} for one, moment in deletions.items() if start <= moment < end]
    return answer_json(
        {"deletedRecords": found, "earliestDateAvailable": as_json(earliest), "latestDateCovered": as_json(end)}
    )


def _window(call: Call) -> tuple[datetime, datetime]:
    """`start` and `end`, of which Salesforce ignores the seconds."""
    try:
        start, end = (datetime.fromisoformat(call.parameters[name]).replace(second=0) for name in ("start", "end"))
    except (KeyError, ValueError) as broken:
        raise Refusal(400, "INVALID_REPLICATION_DATE", "start and end must be dates with a time zone") from broken
    if (
        start.tzinfo is None
        or end.tzinfo is None
        or end - start < timedelta(minutes=1)
        or end - start > _LONGEST_REPLICATION
    ):
        raise Refusal(400, "INVALID_REPLICATION_DATE", "end must be at least a minute and at most 30 days after start")
    return start, end


def _soql_time(moment: datetime) -> str:
    return moment.isoformat()


def limits(call: Call) -> Response:
    """What is left of the organisation's allowances."""
    most = call.state.options.daily_calls
    return answer_json(
        {
            "DailyApiRequests": {"Max": most, "Remaining": most - call.state.calls_today},
            "DailyBulkApiBatches": {"Max": 15000, "Remaining": 15000},
            "DailyBulkV2QueryFileStorageMB": {"Max": 976562, "Remaining": 976562},
            "DailyBulkV2QueryJobs": {"Max": 10000, "Remaining": 10000 - len(call.state.jobs.all())},
        }
    )


def create_job(call: Call) -> Response:
    """Start a bulk query."""
    job = call.state.jobs.create(call.user, call.version, call.json, call.state.options)
    call.jobs_touched.append(job)
    return answer_json(job.describe(detailed=False))


def list_jobs(call: Call) -> Response:
    """All bulk queries."""
    records = [job.describe(detailed=False) for job in call.state.jobs.all()]
    return answer_json({"done": True, "records": records, "nextRecordsUrl": None})


def poll_job(call: Call) -> Response:
    """How a bulk query is doing."""
    job = call.job()
    job.poll()
    return answer_json(job.describe(detailed=True))


def abort_job(call: Call) -> Response:
    """Stop a bulk query."""
    if call.json.get("state") != "Aborted":
        raise Refusal(400, "INVALIDJOBSTATE", "A query job can only be set to Aborted")
    job = call.job()
    call.state.jobs.abort(job)
    return answer_json(job.describe(detailed=False))


def delete_job(call: Call) -> Response:
    """Forget a bulk query."""
    call.state.jobs.delete(call.job())
    return Response(status_code=204)


def job_results(call: Call) -> Response:
    """A page of a bulk query's results."""
    wanted = _number(call, "maxRecords", 0) or None
    page = call.state.jobs.page(call.job(), call.parameters.get("locator"), wanted, call.page_cap)
    charset = "; charset=UTF-8" if call.state.options.bulk_charset else ""
    headers = {
        "Content-Type": f"text/csv{charset}",
        "Sforce-Locator": page.locator or "null",
        "Sforce-NumberOfRecords": str(page.rows),
    }
    return Response(page.body, 200, headers)


def job_pages(call: Call) -> Response:
    """The addresses of the next pages, to be fetched side by side."""
    job = call.job()
    locators, following = call.state.jobs.page_locators(job, call.parameters.get("locator"))
    address = f"{call.base}/jobs/query/{job.id}"
    content: dict[str, Any] = {"resultPages": [{"resultUrl": f"{address}/results?locator={one}"} for one in locators]}
    if following:
        content["nextRecordsUrl"] = f"{address}/resultpages?locator={following}"
    return answer_json({**content, "done": following is None})
