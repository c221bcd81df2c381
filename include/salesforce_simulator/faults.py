"""Faults on command: "on the n-th call that matches, do this instead".

A fault either answers in place of Salesforce, spoils the answer on its way out, or changes the organisation just
before the call is answered. The control API keeps the script; `http` asks it on every call.
"""

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

    def spoil(self, faults: list[Fault], place: str, response: Response) -> Response:
        """The answer after the faults went over it. `place` is the path; a page of it is kept to be sent twice."""
        body = bytes(response.body)
        last = self._pages.get(place, body)
        if "Sforce-Locator" in response.headers and self._faults:
            self._pages[place] = body
        for fault in faults:
            if fault.do in _SPOILING:
                response = _spoil(fault, response, last)
        return response


def _spoil(fault: Fault, response: Response, last: bytes) -> Response:
    body = bytes(response.body)
    match fault.do:
        case "cut_body":
            response.body = body[: int(len(body) * fault.values.get("share", 0.5))]
        case "close_early":
            return ClosedEarly(response, fault.values.get("share", 0.5))
        case "wrong_count":
            count = int(response.headers.get("Sforce-NumberOfRecords", "0"))
            response.headers["Sforce-NumberOfRecords"] = str(count + fault.values.get("rows", 1))
        case "drop_rows":
            response.body = b"".join(body.splitlines(keepends=True)[: -fault.values.get("rows", 1)])
        case "duplicate_page":
            response.body = last
        case "no_charset":
            response.headers["Content-Type"] = response.headers["Content-Type"].partition(";")[0]
        case "nul":
            place = fault.values.get("behind", '"').encode()
            at = body.find(b"\n") + 1
            response.body = body[:at] + body[at:].replace(place, place + b"\x00", 1)
        case "gzip":
            response.headers["X-Simulator-Gzip"] = "1"
    response.headers["Content-Length"] = str(len(response.body))
    return response


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
