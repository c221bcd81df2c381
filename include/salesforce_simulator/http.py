"""The web application: addresses, and what happens around every call.

In this order: address too long, fault script, API version, session, permission, daily limit, then the endpoint in
`rest`; afterwards counting and compression. The control API hangs beside `/services`, behind a token of its own.
"""

import asyncio
import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from include.salesforce_simulator import access, rest
from include.salesforce_simulator.answers import LoginRefusal, Refusal, SoapRefusal, not_found
from include.salesforce_simulator.control import Control
from include.salesforce_simulator.faults import Fault
from include.salesforce_simulator.rest import Call, answer_json
from include.salesforce_simulator.state import CallRecord, State

LONGEST_ADDRESS = 16_384
LAST_RETIRED_VERSION = 30.0
ODD_PREFIX = "/.salesforce.com"
"""simple-salesforce appends `.salesforce.com` to whatever it takes for a host; with `127.0.0.1:PORT/` it lands in the path."""

Handler = Callable[[Call], Response]


class _AsWritten(bytes):
    """A header's name that uvicorn does not make small."""

    def lower(self) -> bytes:
        """Itself."""
        return self


_CONTENT_TYPE = _AsWritten(b"Content-Type")
"""As Salesforce writes it; airbyte-cdk 7 takes offence at the small form."""


@dataclass(frozen=True)
class Resource:
    """One address below a version, with what answers it and under which name it is counted."""

    kind: str
    method: str
    path: str
    handler: Handler


RESOURCES = (
    Resource("resources", "GET", "", rest.list_resources),
    Resource("query", "GET", "/query", rest.query),
    Resource("query_all", "GET", "/queryAll", rest.query_all),
    Resource("query_more", "GET", "/query/{locator}", rest.query_more),
    Resource("query_more", "GET", "/queryAll/{locator}", rest.query_more),
    Resource("sobjects", "GET", "/sobjects", rest.list_objects),
    Resource("describe", "GET", "/sobjects/{sobject}/describe", rest.describe),
    Resource("updated", "GET", "/sobjects/{sobject}/updated", rest.updated),
    Resource("deleted", "GET", "/sobjects/{sobject}/deleted", rest.deleted),
    Resource("list_views", "GET", "/sobjects/{sobject}/listviews", rest.list_list_views),
    Resource("list_view", "GET", "/sobjects/{sobject}/listviews/{id}", rest.get_list_view),
    Resource("list_view_describe", "GET", "/sobjects/{sobject}/listviews/{id}/describe", rest.describe_list_view),
    Resource("list_view_results", "GET", "/sobjects/{sobject}/listviews/{id}/results", rest.show_list_view),
    Resource("record", "GET", "/sobjects/{sobject}/{id}", rest.get_record),
    Resource("limits", "GET", "/limits", rest.limits),
    Resource("bulk_create", "POST", "/jobs/query", rest.create_job),
    Resource("bulk_list", "GET", "/jobs/query", rest.list_jobs),
    Resource("bulk_poll", "GET", "/jobs/query/{job}", rest.poll_job),
    Resource("bulk_abort", "PATCH", "/jobs/query/{job}", rest.abort_job),
    Resource("bulk_delete", "DELETE", "/jobs/query/{job}", rest.delete_job),
    Resource("bulk_results", "GET", "/jobs/query/{job}/results", rest.job_results),
    Resource("bulk_pages", "GET", "/jobs/query/{job}/resultPages", rest.job_pages),
    Resource("bulk_pages", "GET", "/jobs/query/{job}/resultpages", rest.job_pages),
)


def build_application(state: State) -> Starlette:
    """The whole application."""
    routes = []
    for resource in RESOURCES:
        address = "/services/data/v{version}" + resource.path
        answer = _around(state, resource.kind, _versioned(state, resource))
        routes += [Route(address + slash, answer, methods=[resource.method]) for slash in ("", "/")]
    versions = _around(state, "versions", lambda request, body, faults: rest.list_versions(state))
    routes += [Route(f"/services/data{slash}", versions, methods=["GET"]) for slash in ("", "/")]
    for prefix in ("", ODD_PREFIX):
        routes.append(
            Route(prefix + "/services/oauth2/token", _around(state, "token", _token(state)), methods=["POST"])
        )
        routes.append(
            Route(prefix + "/services/Soap/u/{version}", _around(state, "soap_login", _soap(state)), methods=["POST"])
        )
    routes.append(Route("/control/{verb:path}", _control(state), methods=["GET", "POST"]))
    nowhere = _around(state, "nowhere", _nowhere)
    routes.append(Route("/{rest:path}", nowhere, methods=["GET", "POST", "PUT", "PATCH", "DELETE"]))
    return Starlette(routes=routes)


Answering = Callable[[Request, bytes, list[Fault]], Response]


def _around(state: State, kind: str, answering: Answering) -> Callable[[Request], Any]:
    """An endpoint with everything that every call goes through."""

    async def endpoint(request: Request) -> Response:
        body = await request.body()
        address = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        faults = state.script.striking(request.method, address)
        await asyncio.sleep(sum(fault.values.get("seconds", 1) for fault in faults if fault.do == "slow"))
        response = await run_in_threadpool(_answer, state, answering, request, body, faults)
        response = _compress(state, request, state.script.spoil(faults, request.url.path, response))
        state.calls.add(CallRecord(kind, request.method, address, response.status_code, len(response.body)))
        response.raw_headers = [
            (_CONTENT_TYPE if name == b"content-type" else name, value) for name, value in response.raw_headers
        ]
        return response

    return endpoint


def _answer(state: State, answering: Answering, request: Request, body: bytes, faults: list[Fault]) -> Response:
    too_long = _refuse_lengths(request)
    if too_long is not None:
        return too_long
    try:
        with state.lock:
            return _instead(state, faults) or answering(request, body, faults)
    except Refusal as refusal:
        return answer_json(refusal.body, refusal.status)
    except LoginRefusal as refusal:
        response = answer_json(refusal.body, 400)
        response.headers["Cache-Control"] = "no-store"
        return response
    except SoapRefusal as refusal:
        return Response(access.soap_fault(refusal), 500, media_type="text/xml")


def _instead(state: State, faults: list[Fault]) -> Response | None:
    """What the fault script answers in Salesforce's place, after it changed what it was told to change."""
    for fault in faults:
        instead = fault.answer()
        if fault.do == "control":
            Control(state).run(fault.values["verb"], fault.values.get("arguments", {}))
        if fault.do in {"control", "slow"} or instead is not None:
            fault.struck += 1
        if isinstance(instead, Refusal):
            raise instead
        if instead is not None:
            return instead
    return None


def _refuse_lengths(request: Request) -> Response | None:
    address = len(request.url.path) + len(request.url.query)
    if address > LONGEST_ADDRESS:
        return Response("<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>", 414, media_type="text/html")
    if address + sum(len(name) + len(value) for name, value in request.headers.raw) > LONGEST_ADDRESS:
        return Response(
            "<h1>Bad Message 431</h1><pre>reason: Request Header Fields Too Large</pre>", 431, media_type="text/html"
        )
    return None


def _versioned(state: State, resource: Resource) -> Answering:
    def answer(request: Request, body: bytes, faults: list[Fault]) -> Response:
        version = _check_version(request.path_params["version"])
        token = _bearer(request)
        user = state.sessions.user_of(token)
        used = state.meter()
        call = Call(state, version, user, token, request.path_params, request.query_params, request.headers, body)
        for fault in faults:
            if fault.do == "page_size":
                call.page_cap = min(call.page_cap, fault.values.get("rows", 1))
                fault.struck += 1
        response = _handle(resource, call, faults)
        response.headers["Sforce-Limit-Info"] = _limit_info(state, used)
        return response

    return answer


def _handle(resource: Resource, call: Call, faults: list[Fault]) -> Response:
    """The endpoint, with the faults that decide what becomes of a job."""
    fates = {"job_failed": "Failed", "job_aborted": "Aborted"}
    job_faults = [fault for fault in faults if fault.do in {*fates, "job_stuck"}]
    if resource.kind == "bulk_poll" and job_faults:
        _decide(call, job_faults, fates)
    response = resource.handler(call)
    if resource.kind == "bulk_create":
        _decide(call, job_faults, fates)
    return response


def _decide(call: Call, faults: list[Fault], fates: dict[str, str]) -> None:
    job = call.jobs_touched[-1] if call.jobs_touched else call.job()
    for fault in faults:
        job.stuck = fault.do == "job_stuck"
        job.fate = fates.get(fault.do, job.fate)
        job.message = fault.values.get("message", job.message)
        fault.struck += 1


def _check_version(version: str) -> str:
    if version in rest.VERSIONS:
        return version
    try:
        retired = float(version) < float(rest.VERSIONS[0])
    except ValueError:
        retired = False
    if retired:
        raise Refusal(
            410,
            "GONE",
            f"API Version {version} is retired; the simulator accepts {rest.VERSIONS[0]} to {rest.VERSIONS[-1]}",
        )
    raise not_found()


def _bearer(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme not in {"Bearer", "OAuth"}:
        raise Refusal(401, "INVALID_SESSION_ID", "Session expired or invalid")
    return token


def _limit_info(state: State, used: int) -> str:
    usage = f"api-usage={used}/{state.options.daily_calls}"
    forms = {
        "plain": usage,
        "bursts": f"{usage}; api-bursts=1/750",
        "per_app": f"{usage}; per-app-api-usage={used}/{state.options.daily_calls}(appName=contacts-sync)",
    }
    return forms[state.options.limit_info]


def _token(state: State) -> Answering:
    def answer(request: Request, body: bytes, faults: list[Fault]) -> Response:
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        content = access.grant_token(
            state.sessions, form, request.headers.get("Authorization", ""), _address_of(request)
        )
        response = answer_json(content)
        response.headers["Cache-Control"] = "no-store"
        return response

    return answer


def _soap(state: State) -> Answering:
    def answer(request: Request, body: bytes, faults: list[Fault]) -> Response:
        version = float(request.path_params["version"].strip("/"))
        if version <= LAST_RETIRED_VERSION:
            raise SoapRefusal("UNSUPPORTED_API_VERSION", f"API version {version} is retired")
        return Response(
            access.login_by_soap(state.sessions, version, body.decode(), _address_of(request)), media_type="text/xml"
        )

    return answer


def _nowhere(request: Request, body: bytes, faults: list[Fault]) -> Response:
    raise not_found()


def _address_of(request: Request) -> str:
    return f"https://{request.headers['Host']}"


def _compress(state: State, request: Request, response: Response) -> Response:
    wanted = state.options.gzip or "X-Simulator-Gzip" in response.headers
    del response.headers["X-Simulator-Gzip"]
    if (
        not wanted
        or "gzip" not in request.headers.get("Accept-Encoding", "")
        or not response.body
        or type(response) is not Response
    ):
        return response
    response.body = gzip.compress(bytes(response.body), 1)
    response.headers["Content-Encoding"] = "gzip"
    response.headers["Content-Length"] = str(len(response.body))
    return response


def _control(state: State) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        if request.headers.get("X-Simulator-Token") != state.control_token:
            return answer_json({"error": "the control API wants its token in X-Simulator-Token"}, 403)
        verb = request.path_params["verb"].strip("/")
        body = await request.body()
        arguments = json.loads(body) if body else {}
        if verb.startswith("records/"):
            arguments = {"sobject": verb.removeprefix("records/"), **arguments, **request.query_params}
            verb = "records"
        return await run_in_threadpool(_run_control, state, verb, arguments)

    return endpoint


def _run_control(state: State, verb: str, arguments: dict[str, Any]) -> Response:
    try:
        with state.lock:
            return answer_json(Control(state).run(verb, arguments))
    except Refusal as refusal:
        return answer_json({"error": refusal.message}, refusal.status)
    except (KeyError, TypeError, ValueError) as wrong:
        return answer_json({"error": f"{type(wrong).__name__}: {wrong}"}, 400)
