"""Salesforce's refusals in the words of the error catalogue (rule 7)."""

from http import HTTPStatus

import pytest
import requests

from include.contact_sync.errors import RetryableError, RunError
from include.contact_sync.salesforce.faults import (
    Refusal,
    Refused,
    SessionExpired,
    Unanswered,
    error_of,
    login_error,
    read_job_failure,
    read_refusal,
)

NO_SUCH_COLUMN = (
    "\nSELECT Id, BadField FROM Account WHERE LastName = 'Levy'\n            ^\nERROR at Row:1:Column:12\n"
    "No such column 'BadField' on entity 'Account'. If you are attempting to use a custom field, be sure to append the "
    "'__c' after the custom field name. Please reference your WSDL or the describe call for the appropriate names."
)


def answer(status: int, body: bytes) -> requests.Response:
    response = requests.Response()
    response.status_code, response._content = status, body
    return response


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]', "INVALID_SESSION_ID", "Session expired or invalid"),
        (b'{"exceptionCode":"InvalidSessionId","exceptionMessage":"Invalid session id"}', "InvalidSessionId", "Invalid session id"),
        (b'{"error":"invalid_grant","error_description":"authentication failure"}', "invalid_grant", "authentication failure"),
        (b"<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>", "", ""),
        (b"", "", ""),
        (b"[]", "", ""),
        (b'["x"]', "", ""),
        (b"\xff\xfe\x00", "", ""),
    ],
)  # fmt: skip
def test_every_form_of_refusal_can_be_read(body: bytes, code: str, message: str) -> None:
    assert read_refusal(answer(400, body)) == Refusal(400, code, message)


@pytest.mark.parametrize(
    ("refusal", "kind", "code"),
    [
        (Refusal(401, "", ""), SessionExpired, "salesforce_unavailable"),
        (Refusal(403, "INVALID_SESSION_ID", ""), SessionExpired, "salesforce_unavailable"),
        (Refusal(400, "InvalidSessionId", ""), SessionExpired, "salesforce_unavailable"),
        (Refusal(403, "API_DISABLED_FOR_ORG", "The REST API is not enabled for this Organization."), RunError, "api_disabled"),
        (Refusal(500, "API_CURRENTLY_DISABLED", ""), RunError, "api_disabled"),
        (Refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."), RetryableError, "api_limit"),
        (Refusal(400, "LIMIT_EXCEEDED", "Max bulk v2 query jobs (10000) per 24 hrs has been reached (10021)"), RetryableError, "api_limit"),
        (Refusal(403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."), Unanswered, "salesforce_unavailable"),
        (Refusal(400, "QUERY_TIMEOUT", "Your query request was running for too long."), Unanswered, "salesforce_unavailable"),
        (Refusal(500, "UNKNOWN_EXCEPTION", "An unexpected error occurred."), Unanswered, "salesforce_unavailable"),
        *[(Refusal(status, "", ""), Unanswered, "salesforce_unavailable") for status in (406, 408, 420, 429, 500, 502, 503, 504)],
        (Refusal(410, "GONE", ""), RunError, "salesforce_unavailable"),
        (Refusal(404, "NOT_FOUND", "The requested resource does not exist"), Refused, "salesforce_unavailable"),
        (Refusal(414, "", ""), Refused, "salesforce_unavailable"),
        (Refusal(431, "", ""), Refused, "salesforce_unavailable"),
        (Refusal(400, "INVALID_FIELD", NO_SUCH_COLUMN), Refused, "salesforce_unavailable"),
    ],
)  # fmt: skip
def test_a_refusal_becomes_the_error_that_says_what_helps(refusal: Refusal, kind: type[RunError], code: str) -> None:
    error = error_of(refusal)
    assert (type(error), error.code) == (kind, code)


def test_a_reason_names_the_field_and_never_repeats_the_query() -> None:
    refused = error_of(Refusal(400, "INVALID_FIELD", NO_SUCH_COLUMN))
    assert refused.detail == "INVALID_FIELD: No such column 'BadField' on entity 'Account'."


@pytest.mark.parametrize("odd", ["\0", "\ud800", "\x1b", "\x07"])
def test_a_reason_leaves_out_what_cannot_be_stored_or_printed(odd: str) -> None:
    assert Refusal(400, f"MALFORMED{odd}_QUERY", f"bad{odd} thing \N{WAVING HAND SIGN}").reason == (
        "MALFORMED_QUERY: bad thing \N{WAVING HAND SIGN}"
    )


def test_a_reason_without_words_is_the_status() -> None:
    assert Refusal(503, "", "").reason == "HTTP 503"
    assert Refusal(0, "", "").reason == "no reason given"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (NO_SUCH_COLUMN, "BadField"),
        ("field 'SystemModstamp' can not be filtered in a query call", "SystemModstamp"),
        ("Didn't understand relationship 'Tier__r' in field path.", "Tier__r"),
        ("something else", None),
    ],
)
def test_a_refused_field_is_known_by_its_name(message: str, field: str | None) -> None:
    assert Refused(Refusal(400, "INVALID_FIELD", message)).named_field == field
    assert Refused(Refusal(400, "MALFORMED_QUERY", message)).named_field is None


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (f"INVALID_FIELD: {NO_SUCH_COLUMN}", "INVALID_FIELD"),
        ("QUERY_TIMEOUT: Your query request was running for too long.", "QUERY_TIMEOUT"),
        ("InvalidBatch : Failed to process query", "InvalidBatch"),
        ("Retried more than fifteen times", ""),
        ("Unable to finish: too big", ""),
    ],
)
def test_a_failed_jobs_message_is_read_like_a_refusal(message: str, code: str) -> None:
    assert read_job_failure(message).code == code
    assert read_job_failure(message).status == HTTPStatus.BAD_REQUEST


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        ("invalid_grant", "authentication failure", "login_failed"),
        ("invalid_client_id", "client identifier invalid", "login_failed"),
        ("invalid_client", "invalid client credentials", "login_failed"),
        ("invalid_grant", "no client credentials user enabled", "login_failed"),
        ("invalid_grant", "expired access/refresh token", "login_failed"),
        ("inactive_user", None, "login_failed"),
        ("INVALID_LOGIN", "Invalid username, password, security token; or user locked out.", "login_failed"),
        ("INSUFFICIENT_ACCESS", "Use Any API Auth", "login_failed"),
        (404, "<html>no such page</html>", "login_failed"),
        (None, "", "login_failed"),
        ("OAUTH_APP_BLOCKED", "this app is blocked by admin", "app_blocked"),
        ("invalid_grant", "error=OAUTH_APP_BLOCKED&error_description=this app is blocked by admin", "app_blocked"),
        ("invalid_app_access", "user is not admin approved to access this app", "app_blocked"),
        ("invalid_client", "app must be installed into org", "app_blocked"),
        ("OAUTH_EC_APP_NOT_FOUND", "", "app_blocked"),
        ("invalid_grant", "user hasn't approved this consumer", "app_blocked"),
        ("API_CURRENTLY_DISABLED", "API_CURRENTLY_DISABLED: API is disabled for this User", "api_disabled"),
        ("API_DISABLED_FOR_ORG", "API is not enabled for this Organization or Partner", "api_disabled"),
        ("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.", "api_limit"),
        (503, "<html>Maintenance</html>", "salesforce_unavailable"),
        (None, "<html>Maintenance</html>", "salesforce_unavailable"),
        ("unknown_error", "retry your request", "salesforce_unavailable"),
        ("rate_limit_exceeded", "", "salesforce_unavailable"),
        ("SERVER_UNAVAILABLE", "Server too busy", "salesforce_unavailable"),
    ],
)
def test_a_refused_login_says_who_can_help(code: object, message: str | None, expected: str) -> None:
    error = login_error(code, message)
    assert error.code == expected
    assert isinstance(error, RetryableError) == (expected in {"api_limit", "salesforce_unavailable"})
    assert "<" not in error.detail
