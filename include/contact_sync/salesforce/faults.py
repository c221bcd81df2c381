"""What Salesforce's refusals mean, in the words of the error catalogue.

Salesforce says no in many forms: a JSON array, an OAuth object, the message of a failed job, HTML from the edge, or
nothing. They are read here, once. The exceptions are errors of the catalogue, so that one which nobody
interprets is still a true statement about the run:

    RetryableError
    ├── Refused       Salesforce understood and said no; the caller may know why
    ├── CursorLost    the pages under way cannot be continued, only begun again
    ├── Damaged       an answer is not what Salesforce itself said it would be
    └── Unanswered    no usable answer; worth asking again at once
"""

import json
import re
from dataclasses import dataclass
from http import HTTPStatus

import requests

from include.contact_sync.errors import RetryableError, RunError

_TRANSIENT_STATUS = {406, 408, 420, 429, 500, 502, 503, 504}
_TRANSIENT_CODES = {"QUERY_TIMEOUT", "SERVER_UNAVAILABLE"}
_TRANSIENT_LOGINS = {"unknown_error", "rate_limit_exceeded", "SERVER_UNAVAILABLE", "UNKNOWN_EXCEPTION"}
_API_DISABLED = {"API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED"}
_LIMITS = {"REQUEST_LIMIT_EXCEEDED", "LIMIT_EXCEEDED"}
_APP_BLOCKED = (
    "oauth_app_blocked",
    "oauth_app_access_denied",
    "oauth_ec_app_not_found",
    "app is blocked",
    "invalid_app_access",
    "app must be installed",
    "user hasn't approved this consumer",
)
_LONGEST_REASON = 300
_CARET_BLOCK = re.compile(r".*ERROR at Row:\d+:Column:\d+\s*", re.DOTALL)
_ADVICE = re.compile(r"\s*If you are attempting to use a custom.*", re.DOTALL)
_NAMED_FIELD = re.compile(
    r"No such column '(?P<column>[^']+)'|field '(?P<field>[^']+)'|relationship '(?P<relationship>[^']+)' in field path"
)


@dataclass(frozen=True)
class Refusal:
    """One refusal as read from an answer; `code` is Salesforce's error code, empty where it gave none."""

    status: int
    code: str
    message: str

    @property
    def reason(self) -> str:
        """Salesforce's reason in one short line: without the query it quotes, which may hold a filter's values.

        What cannot be printed, such as NUL or half a surrogate pair, could not be stored and is left out.
        """
        message = " ".join(_ADVICE.sub("", _CARET_BLOCK.sub("", self.message)).split())
        told = ": ".join(part for part in (self.code, message[:_LONGEST_REASON]) if part)
        return "".join(filter(str.isprintable, told)) or (f"HTTP {self.status}" if self.status else "no reason given")


class Refused(RetryableError):
    """Salesforce understood the request and said no."""

    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal
        super().__init__("salesforce_unavailable", refusal.reason)

    @property
    def is_about_the_query(self) -> bool:
        """Whether the query itself was refused: a name or a form in it."""
        return self.refusal.code in {
            "INVALID_FIELD",
            "MALFORMED_QUERY",
            "INVALID_QUERY_FILTER_OPERATOR",
            "INVALID_TYPE",
        }

    @property
    def is_too_long(self) -> bool:
        """Whether the address was too long for a GET; the same query fits into the body of a Bulk job."""
        return self.refusal.status in {HTTPStatus.REQUEST_URI_TOO_LONG, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE}

    @property
    def named_field(self) -> str | None:
        """The field that the refusal names, as the last step of its path."""
        found = _NAMED_FIELD.search(self.refusal.message) if self.refusal.code == "INVALID_FIELD" else None
        return next((name for name in found.groups() if name), None) if found else None


class CursorLost(RetryableError):
    """The pages under way cannot be continued: their cursor or job is gone, or belonged to an expired session."""

    def __init__(self, detail: str) -> None:
        super().__init__("salesforce_unavailable", detail)


class Damaged(RetryableError):
    """An answer does not hold what Salesforce itself said it would; `not_balanced` unless said otherwise."""

    def __init__(self, detail: str, code: str = "not_balanced") -> None:
        super().__init__(code, detail)


class Unanswered(RetryableError):
    """Salesforce did not answer, or asked for patience; `refusal` where it said something."""

    def __init__(self, detail: str, refusal: Refusal | None = None) -> None:
        self.refusal = refusal
        super().__init__("salesforce_unavailable", detail)

    @property
    def is_query_timeout(self) -> bool:
        """Whether Salesforce gave up the query after its two minutes; a few tries tell whether it always will."""
        return self.refusal is not None and self.refusal.code == "QUERY_TIMEOUT"


class SessionExpired(RetryableError):
    """Salesforce no longer knows the session; a new login may help."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__("salesforce_unavailable", refusal.reason)


def read_refusal(response: requests.Response) -> Refusal:
    """What an answer with an error status says. A body that is not JSON (HTML from the edge, nothing) is not repeated."""
    try:
        body = json.loads(response.content)
    except ValueError:
        return Refusal(response.status_code, "", "")
    said = body[0] if isinstance(body, list) and body else body
    if not isinstance(said, dict):
        return Refusal(response.status_code, "", "")
    code = said.get("errorCode") or said.get("exceptionCode") or said.get("error") or ""
    message = said.get("message") or said.get("exceptionMessage") or said.get("error_description") or ""
    return Refusal(response.status_code, str(code), str(message))


def read_job_failure(message: str) -> Refusal:
    """What the `errorMessage` of a failed job says: `CODE: text`, or text alone."""
    code, colon, text = message.partition(":")
    if colon and re.fullmatch(r"[A-Z][A-Za-z_]+", code.strip()):
        return Refusal(HTTPStatus.BAD_REQUEST, code.strip(), text)
    return Refusal(HTTPStatus.BAD_REQUEST, "", message)


def error_of(refusal: Refusal) -> RunError:
    """The exception that a refusal is, by what helps against it."""
    code, status = refusal.code, refusal.status
    if status == HTTPStatus.UNAUTHORIZED or code in {"INVALID_SESSION_ID", "InvalidSessionId"}:
        return SessionExpired(refusal)
    if code in _API_DISABLED:
        return RunError("api_disabled", refusal.reason)
    if code in _LIMITS and "concurrent" not in refusal.message.lower():
        return RetryableError("api_limit", refusal.reason)
    if status == HTTPStatus.GONE:
        return RunError(
            "salesforce_unavailable", "the connection's API version is retired; set a newer `version` in it"
        )
    if code in _LIMITS | _TRANSIENT_CODES or status in _TRANSIENT_STATUS:
        return Unanswered(refusal.reason, refusal)
    return Refused(refusal)


def login_error(code: object, message: object) -> RunError:
    """The exception that a refused login is. `code` is an OAuth or SOAP code, or an HTTP status where the body said nothing."""
    if code is None and "<" in str(message):
        return Unanswered("a page of HTML or XML instead of an answer at login")
    if isinstance(code, int) and code < HTTPStatus.BAD_REQUEST:
        return garbled_login()  # the message is what came of the answer, which begins with a valid token
    refusal = _read_login_refusal(code, message)
    said = f"{refusal.code} {refusal.message}".lower()
    if any(words in said for words in _APP_BLOCKED):
        return RunError("app_blocked", refusal.reason)
    if refusal.code in _API_DISABLED:
        return RunError("api_disabled", refusal.reason)
    if refusal.code in _LIMITS:
        return RetryableError("api_limit", refusal.reason)
    if refusal.code in _TRANSIENT_LOGINS or refusal.status in _TRANSIENT_STATUS:
        return Unanswered(refusal.reason, refusal)
    return RunError("login_failed", refusal.reason)


def garbled_login() -> Unanswered:
    """The exception that an unreadable answer to a login is; nothing of the answer is repeated."""
    return Unanswered("an answer at login is not what it should be")


def _read_login_refusal(code: object, message: object) -> Refusal:
    text = "" if "<" in str(message) else str(message or "")
    return Refusal(code, "", text) if isinstance(code, int) else Refusal(0, str(code or ""), text)
