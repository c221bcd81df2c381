"""Faults on command: "on the n-th call that matches, do this instead".

A fault either answers in place of Salesforce, spoils the answer on its way out, or changes the organisation just
before the call is answered. The control API keeps the script; `http` asks it on every call. Each fault counts how often it
made a difference, so that whoever asked for it can be sure that it happened.
"""

import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from include.salesforce_simulator.answers import Refusal
from include.salesforce_simulator.connection import TRANSPORT, reset

_SIMPLE: dict[str, Refusal] = {
    "session_expired": Refusal(401, "INVALID_SESSION_ID", "Session expired or invalid"),
    "request_limit": Refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."),
    "concurrent_limit": Refusal(
        403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."
    ),
    "api_disabled": Refusal(403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization."),
    "server_error": Refusal(
        500,
        "UNKNOWN_EXCEPTION",
        "An unexpected error occurred. Please include this ErrorId if you contact support: 1234567890-123 (1234567890)",
    ),
    "unavailable": Refusal(503, "SERVER_UNAVAILABLE", "Server too busy"),
    "query_timeout": Refusal(400, "QUERY_TIMEOUT", "Your query request was running for too long."),
    "dead_locator": Refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator"),
    "bulk_limit": Refusal(400, "LIMIT_EXCEEDED", "Max bulk v2 query jobs (10000) per 24 hrs has been reached (10021)"),
}
_HTML: dict[str, tuple[int, str]] = {
    "session_expired_html": (401, "<html><head><title>Login</title></head><body>Please log in</body></html>"),
    "http_420": (420, ""),
    "http_429": (429, "<html><body>Too Many Requests</body></html>"),
    "bad_gateway": (502, "<html><body><h1>502 Bad Gateway</h1></body></html>"),
    "unavailable_html": (
        503,
        "<html><head><title>Down For Maintenance</title></head><body>We are down for maintenance.</body></html>",
    ),
    "gateway_timeout": (504, "<html><body><h1>504 Gateway Time-out</h1></body></html>"),
    "uri_too_long": (414, "<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>"),
}
_SPOILING = {"cut_body", "close_early", "wrong_count", "drop_rows", "duplicate_page", "no_charset", "nul", "gzip"}
_OTHER = {"answer", "reset", "slow", "control", "page_size", "job_failed", "job_aborted", "job_stuck"}
_QUERY = re.compile(r"/query(?:All)?(?:/[^/]+)?$")
KINDS = frozenset(_SIMPLE) | frozenset(_HTML) | _SPOILING | _OTHER


@dataclass
class Fault:
    """One line of the script.

    `do` happens on the `nth` call (from now on) whose method and path match, and on the calls after it, `times` in
    all (0: for ever). `values` are what the kind needs: `seconds`, `message`, `rows`, `share`, `status`, `body`,
    `headers`, `verb` and `arguments` of a control action.
    """

    do: str
    path: str = ""
    method: str = ""
    nth: int = 1
    times: int = 1
    values: dict[str, Any] = field(default_factory=dict)
    seen: int = 0
    struck: int = 0

    def __post_init__(self) -> None:
        if self.do not in KINDS:
            raise ValueError(f"no such fault: {self.do}; there are {', '.join(sorted(KINDS))}")
        self._pattern = re.compile(self.path)

    def strikes(self, method: str, path: str) -> bool:
        """Count a call; whether the fault happens on it."""
        if self.method not in {"", method} or not self._pattern.search(path):
            return False
        self.seen += 1
        return self.seen >= self.nth and (self.times == 0 or self.seen < self.nth + self.times)

    def answer(self) -> Response | Refusal | None:
        """What is answered in place of Salesforce's answer, for a fault that does so."""
        if self.do in _SIMPLE:
            return _SIMPLE[self.do]
        if self.do in _HTML:
            status, body = _HTML[self.do]
            return Response(body, status, media_type="text/html")
        if self.do == "answer":
            return Response(self.values.get("body", ""), self.values.get("status", 200), self.values.get("headers"))
        return Reset() if self.do == "reset" else None


class Script:
    """All faults, in the order in which they were asked for."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self._pages: dict[str, bytes] = {}

    def add(self, fault: Fault) -> None:
        """Add a line to the script."""
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        """Forget the script."""
        with self._lock:
            self._faults.clear()
            self._pages.clear()

    def striking(self, method: str, path: str) -> list[Fault]:
        """The faults that happen on this call."""
        with self._lock:
            return [fault for fault in self._faults if fault.strikes(method, path)]

    def told(self) -> list[dict[str, Any]]:
        """Each line of the script, and how often it made a difference."""
        with self._lock:
            return [{"do": fault.do, "struck": fault.struck} for fault in self._faults]

    def spoil(self, faults: list[Fault], path: str, response: Response) -> Response:
        """The answer after the faults went over it. A page is kept, to be sent again in the next one's place."""
        body, download = bytes(response.body), _QUERY.sub("/query", path)
        last = self._pages.get(download, body)
        if self._faults and ("Sforce-Locator" in response.headers or b'"nextRecordsUrl"' in body):
            self._pages[download] = body
        for fault in faults:
            if fault.do in _SPOILING and response.body:
                before = (response.body, response.raw_headers)
                response = _spoil(fault, response, last)
                fault.struck += (response.body, response.raw_headers) != before or fault.do == "close_early"
        return response


def _spoil(fault: Fault, response: Response, last: bytes) -> Response:
    body, is_json = bytes(response.body), response.headers["Content-Type"].startswith("application/json")
    rows, share = fault.values.get("rows", 1), fault.values.get("share", 0.5)
    response = Response(body, response.status_code, dict(response.headers))
    match fault.do:
        case "cut_body":
            response.body = body[: int(len(body) * share)]
        case "close_early":
            return ClosedEarly(response, share)
        case "wrong_count" if is_json:
            response.body = _miscounted(body, rows)
        case "wrong_count":
            count = int(response.headers.get("Sforce-NumberOfRecords", "0"))
            response.headers["Sforce-NumberOfRecords"] = str(count + rows)
        case "drop_rows" if is_json:
            response.body = _without_last_records(body, rows)
        case "drop_rows":
            response.body = b"".join(body.splitlines(keepends=True)[:-rows])
        case "duplicate_page":
            response.body = last
        case "no_charset":
            response.headers["Content-Type"] = response.headers["Content-Type"].partition(";")[0]
        case "nul":
            place, nul = fault.values.get("behind", '"').encode(), b"\\u0000" if is_json else b"\x00"
            at = 0 if is_json else body.find(b"\n") + 1
            response.body = body[:at] + body[at:].replace(place, place + nul, 1)
        case "gzip":
            response.headers["X-Simulator-Gzip"] = "1"
    response.headers["Content-Length"] = str(len(response.body))
    return response


def _miscounted(body: bytes, rows: int) -> bytes:
    """JSON that tells another number of records than there are; as it is where it tells none."""
    content = json.loads(body)
    counts = [name for name in ("totalSize", "numberRecordsProcessed") if name in content]
    return _as_json(content | {name: content[name] + rows for name in counts}) if counts else body


def _without_last_records(body: bytes, rows: int) -> bytes:
    """JSON that lacks the last of its records; as it is where there are none."""
    content = json.loads(body)
    return _as_json(content | {"records": content["records"][:-rows]}) if "records" in content else body


def _as_json(content: Any) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


class Reset(Response):
    """No answer: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reset the connection."""
        await reset(scope[TRANSPORT])


class ClosedEarly(Response):
    """An answer that ends before the length that it promised."""

    def __init__(self, response: Response, share: float) -> None:
        super().__init__(bytes(response.body), response.status_code, dict(response.headers))
        self._share = share

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a part of the body; the server then closes the connection."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        part = self.body[: int(len(self.body) * self._share)]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        scope[TRANSPORT].close()
