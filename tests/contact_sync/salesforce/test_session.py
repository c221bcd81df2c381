"""Logins, and requests that survive what is worth surviving; over HTTP against the simulator."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest

from include.contact_sync.errors import RetryableError, RunError
from include.contact_sync.salesforce import Salesforce
from include.contact_sync.salesforce.session import Login
from include.salesforce_simulator.server import Simulator

Connect = Callable[..., Salesforce]
TOKEN = "oauth2/token"


@pytest.fixture
def use_connection(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change the Airflow connection; `extra` is merged into its extra."""

    def use(kind: str = "client_credentials", extra: dict[str, Any] | None = None, **changes: Any) -> None:
        connection = simulator.connection(kind)
        connection = {**connection, **changes, "extra": {**connection["extra"], **(extra or {})}}
        monkeypatch.setenv("AIRFLOW_CONN_SALESFORCE_DEFAULT", json.dumps(connection))

    return use


def calls(simulator: Simulator, kind: str) -> int:
    return simulator.control.calls()["by_kind"].get(kind, 0)


def wait_for_calls(simulator: Simulator, kind: str, number: int) -> None:
    """Until the simulator has answered also those calls that the client gave up: another test would count them."""
    deadline = time.monotonic() + 10
    while calls(simulator, kind) < number and time.monotonic() < deadline:
        time.sleep(0.02)
    assert calls(simulator, kind) == number


@pytest.mark.parametrize("kind", ["client_credentials", "jwt", "password", "oauth_password"])
def test_every_form_of_login_that_the_provider_knows_works(
    connect: Connect, use_connection: Callable[..., None], kind: str
) -> None:
    use_connection(kind)
    assert connect().describe("Contact")["Email"] == "email"


@pytest.mark.parametrize(
    ("verb", "change", "kind", "code", "reason"),
    [
        ("change_app", {"blocked": True}, "client_credentials", "app_blocked", "this app is blocked by admin"),
        ("change_app", {"installed": False}, "client_credentials", "app_blocked", "app must be installed into org"),
        ("change_app", {"approved_users": []}, "jwt", "app_blocked", "user is not admin approved to access this app"),
        ("change_app", {"run_as": None}, "client_credentials", "login_failed", "no client credentials user enabled"),
        (
            "change_app",
            {"consumer_secret": "other"},
            "client_credentials",
            "login_failed",
            "invalid client credentials",
        ),
        ("change_app", {"consumer_key": "other"}, "jwt", "login_failed", "client identifier invalid"),
        (
            "change_user",
            {"password": "other"},
            "password",
            "login_failed",
            "Invalid username, password, security token",
        ),
        ("change_user", {"password": "other"}, "oauth_password", "login_failed", "authentication failure"),
        ("change_user", {"active": False}, "client_credentials", "login_failed", "user is inactive"),
        ("change_user", {"login_refused_because": "ip restricted"}, "jwt", "login_failed", "ip restricted"),
        ("change_user", {"may_login_by_soap": False}, "password", "login_failed", "INSUFFICIENT_ACCESS"),
        ("change_user", {"api_enabled": False}, "password", "api_disabled", "API is disabled for this User"),
    ],
)
def test_a_refused_login_has_its_code_and_salesforces_reason_and_is_not_tried_again(
    simulator: Simulator,
    connect: Connect,
    use_connection: Callable[..., None],
    verb: str,
    change: dict[str, Any],
    kind: str,
    code: str,
    reason: str,
) -> None:
    """A second try with a wrong password could lock the user out."""
    use_connection(kind)
    getattr(simulator.control, verb)(**change)
    with pytest.raises(RunError) as error:
        connect()
    assert error.value.code == code
    assert reason in error.value.detail
    assert not isinstance(error.value, RetryableError)
    assert calls(simulator, "token") + calls(simulator, "soap_login") == 1


def test_a_user_who_never_approved_the_app_needs_an_administrator_and_no_key_is_shown(
    connect: Connect, use_connection: Callable[..., None], recwarn: pytest.WarningsRecorder
) -> None:
    use_connection("jwt", login="nobody@example.org")
    with pytest.raises(RunError, match="app_blocked"):
        connect()
    assert not [warning for warning in recwarn if "authorize" in str(warning.message)]


def test_a_user_without_api_permission_is_told_so_at_the_first_request(simulator: Simulator, connect: Connect) -> None:
    simulator.control.change_user(api_enabled=False)
    with pytest.raises(RunError, match="api_disabled"):
        connect().describe("Contact")


@pytest.mark.parametrize("fault", ["reset", "unavailable_html", "unavailable", "http_420", "close_early", "cut_body"])
@pytest.mark.parametrize("kind", ["client_credentials", "password"])
def test_a_login_that_gets_no_answer_is_tried_again(
    simulator: Simulator, connect: Connect, use_connection: Callable[..., None], fault: str, kind: str
) -> None:
    use_connection(kind)
    simulator.control.add_fault(do=fault, path="token|Soap")
    assert connect().describe("Account")


@pytest.mark.parametrize(
    ("fault", "values", "reason"),
    [
        ("reset", {}, "ConnectionError at login"),
        ("unavailable_html", {}, "HTTP 503"),
        ("unavailable", {}, "not what it should be"),
        (
            "answer",
            {"status": 400, "body": '{"error":"unknown_error","error_description":"retry your request"}'},
            "retry your request",
        ),
        ("slow", {"seconds": 0.3}, "ReadTimeout at login"),
        ("answer", {"status": 200, "body": "{}"}, "not what it should be"),
    ],
)
def test_a_login_that_stays_without_answer_is_given_up(
    simulator: Simulator, connect: Connect, fault: str, values: dict[str, Any], reason: str
) -> None:
    simulator.control.add_fault(do=fault, path=TOKEN, times=0, values=values)
    with pytest.raises(RetryableError) as error:
        connect(read_seconds=0.1)
    assert error.value.code == "salesforce_unavailable"
    assert reason in error.value.detail
    if fault != "reset":
        wait_for_calls(simulator, "token", 3)


def test_a_used_up_limit_at_login_is_the_limit(simulator: Simulator, connect: Connect) -> None:
    body = '{"error":"REQUEST_LIMIT_EXCEEDED","error_description":"TotalRequests Limit exceeded."}'
    simulator.control.add_fault(do="answer", path=TOKEN, values={"status": 400, "body": body})
    with pytest.raises(RetryableError, match="api_limit"):
        connect()


def test_a_missing_connection_is_a_failed_login(simulator: Simulator) -> None:
    with pytest.raises(RunError, match="isn't defined") as error:
        Salesforce.connect("nowhere")
    assert error.value.code == "login_failed"


@pytest.mark.parametrize(
    ("kind", "extra"),
    [
        ("client_credentials", {"consumer_secret": None}),
        ("jwt", {"private_key": "not a key"}),
        ("jwt", {"private_key": None, "private_key_file_path": "/nowhere/key.pem"}),
        ("password", {"version": "v64.0"}),
        ("client_credentials", {"proxies": "not JSON"}),
    ],
)
def test_a_connection_that_cannot_be_used_is_a_failed_login_without_its_secrets(
    connect: Connect, use_connection: Callable[..., None], kind: str, extra: dict[str, Any]
) -> None:
    use_connection(kind, extra)
    with pytest.raises(RunError) as error:
        connect().describe("Contact")
    assert error.value.code == "login_failed"
    assert not any(value in error.value.detail for value in extra.values() if value)


@pytest.mark.parametrize("proxies", [{"https": "http://127.0.0.1:1"}, '{"https": "http://127.0.0.1:1"}'])
def test_a_connections_proxies_are_used_for_the_login_and_never_logged(
    connect: Connect, use_connection: Callable[..., None], proxies: Any, caplog: pytest.LogCaptureFixture
) -> None:
    use_connection(extra={"proxies": proxies})
    with pytest.raises(RetryableError, match="ProxyError at login"):
        connect()
    assert "127.0.0.1:1" not in caplog.text


def test_a_version_may_be_written_as_in_addresses(connect: Connect, use_connection: Callable[..., None]) -> None:
    use_connection(extra={"version": "v66.0"})
    assert connect().describe("Contact")


def test_a_login_answer_that_is_cut_off_never_shows_its_token(
    simulator: Simulator, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken answer of a login that worked holds the beginning of a valid token."""
    simulator.control.add_fault(do="cut_body", path=TOKEN, times=0)
    with pytest.raises(RetryableError, match="not what it should be") as error:
        connect()
    assert "00D" not in f"{error.value} {error.value.__cause__} {caplog.text}"


def test_a_login_never_shows_its_token() -> None:
    assert "secret" not in repr(Login("secret", "host", "66.0"))


# Requests


def test_waits_grow_and_stay_bounded(simulator: Simulator, connect: Connect) -> None:
    simulator.control.add_fault(do="unavailable_html", path="describe", times=0)
    waits: list[float] = []
    with pytest.raises(RetryableError, match="HTTP 503"):
        connect(sleep=waits.append, attempts=6, first_wait=1, longest_wait=5).describe("Contact")
    for wait, least in zip(waits, [1, 2, 4, 5, 5], strict=True):
        assert least <= wait <= least + 1
    assert calls(simulator, "describe") == 6


def test_a_request_that_takes_too_long_is_tried_again(simulator: Simulator, connect: Connect) -> None:
    simulator.control.add_fault(do="slow", path="describe", values={"seconds": 0.5})
    assert connect(read_seconds=0.2).describe("Account")
    wait_for_calls(simulator, "describe", 2)


@pytest.mark.parametrize("fault", ["session_expired", "session_expired_html"])
def test_an_expired_session_is_renewed_a_bounded_number_of_times(
    simulator: Simulator, connect: Connect, fault: str
) -> None:
    simulator.control.add_fault(do=fault, path="describe", times=0)
    with pytest.raises(RunError) as error:
        connect().describe("Contact")
    assert error.value.code == "login_failed"
    assert calls(simulator, "token") == 3
    assert calls(simulator, "describe") == 3


def test_a_login_in_between_may_be_tried_again_too(simulator: Simulator, connect: Connect) -> None:
    salesforce = connect()
    simulator.control.expire_sessions()
    simulator.control.add_fault(do="unavailable_html", path=TOKEN)
    assert salesforce.describe("Contact")


@pytest.mark.parametrize(
    ("verb", "change", "code"),
    [
        ("change_app", {"blocked": True}, "app_blocked"),
        ("change_user", {"active": False}, "login_failed"),
        ("change_user", {"api_enabled": False}, "api_disabled"),
    ],
)
def test_a_permission_that_is_taken_away_in_the_middle_has_its_code(
    simulator: Simulator, connect: Connect, verb: str, change: dict[str, Any], code: str
) -> None:
    salesforce = connect()
    salesforce.describe("Contact")
    getattr(simulator.control, verb)(**change)
    with pytest.raises(RunError) as error:
        salesforce.describe("Contact")
    assert error.value.code == code


def test_a_retired_api_version_says_where_to_change_it(connect: Connect, use_connection: Callable[..., None]) -> None:
    use_connection(extra={"version": "30.0"})
    with pytest.raises(RunError, match="API version is retired; set a newer `version`") as error:
        connect().describe("Contact")
    assert not isinstance(error.value, RetryableError)


@pytest.mark.parametrize("body", ["<html>maintenance</html>", "", '{"fields": ['])
def test_an_answer_that_should_be_json_and_is_not_is_asked_for_again_and_given_up(
    simulator: Simulator, connect: Connect, body: str
) -> None:
    simulator.control.add_fault(do="answer", path="Contact/describe", values={"body": body})
    assert connect().describe("Contact")
    simulator.control.add_fault(do="answer", path="Account/describe", times=0, values={"body": body})
    with pytest.raises(RetryableError, match="not the JSON it should be") as error:
        connect().describe("Account")
    assert error.value.code == "salesforce_unavailable"


def test_calls_count_every_attempt(simulator: Simulator, connect: Connect) -> None:
    simulator.control.add_fault(do="unavailable_html", path="describe")
    salesforce = connect()
    salesforce.describe("Contact")
    assert salesforce.calls == 2


@pytest.mark.parametrize("form", ["plain", "bursts", "per_app"])
def test_what_salesforce_says_of_its_limit_is_kept_in_any_form(
    simulator: Simulator, connect: Connect, form: str
) -> None:
    simulator.control.change_options(limit_info=form)
    salesforce = connect()
    assert salesforce.api_usage is None
    salesforce.describe("Contact")
    assert (salesforce.api_usage or "").startswith("api-usage=1/")


def test_neither_tokens_nor_addresses_nor_bodies_are_logged(
    simulator: Simulator, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    simulator.control.add_fault(do="session_expired", path="describe")
    simulator.control.add_fault(do="unavailable", path="describe", nth=2)
    connect().describe("Contact")
    logged = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("include."))
    assert "logging in again" in logged
    assert "SERVER_UNAVAILABLE: Server too busy; attempt 1 again in 0 s" in logged
    assert not any(secret in logged for secret in ("00D", "SimulatedConsumer", "/services/"))
