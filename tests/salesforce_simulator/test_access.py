"""Logging in, by every grant, and being refused in Salesforce's words."""

import time
from typing import Any

import jwt
import pytest
import requests

from include.salesforce_simulator.access import JWT_BEARER
from include.salesforce_simulator.server import Simulator
from tests.salesforce_simulator.conftest import Api, open_session, token_answer

SOAP_BODY = """<?xml version="1.0" encoding="utf-8" ?>
<env:Envelope xmlns:env="http://schemas.xmlsoap.org/soap/envelope/"><env:Body><n1:login xmlns:n1="urn:partner.soap.sforce.com">
<n1:username>{}</n1:username><n1:password>{}</n1:password></n1:login></env:Body></env:Envelope>"""


def soap_login(
    sim: Simulator, password: str | None = None, version: str = "59.0", prefix: str = ""
) -> requests.Response:
    user = sim.organisation.integration_user
    body = SOAP_BODY.format(user.username, password or user.password + user.security_token)
    with open_session(sim) as session:
        address = f"{sim.url}{prefix}/services/Soap/u/{version}"
        return session.post(address, data=body, headers={"content-type": "text/xml", "SOAPAction": "login"}, timeout=20)


def assertion(sim: Simulator, **changes: Any) -> str:
    organisation = sim.organisation
    claims = {
        "iss": organisation.app.consumer_key,
        "sub": organisation.integration_user.username,
        "aud": "https://login.salesforce.com",
        "exp": str(int(time.time()) + 180),
        **changes,
    }
    return jwt.encode(claims, organisation.app.private_key_pem, algorithm="RS256")


def password_form(sim: Simulator, **changes: str) -> dict[str, str]:
    organisation = sim.organisation
    user = organisation.integration_user
    return {
        "grant_type": "password",
        "client_id": organisation.app.consumer_key,
        "client_secret": organisation.app.consumer_secret,
        "username": user.username,
        "password": user.password + user.security_token,
        **changes,
    }


def works(sim: Simulator, token: str) -> bool:
    with open_session(sim) as session:
        session.headers["Authorization"] = f"Bearer {token}"
        return session.get(f"{sim.url}/services/data/v66.0/limits", timeout=20).ok


@pytest.mark.parametrize("prefix", ["", "/.salesforce.com"])
def test_soap_login_opens_a_session(sim: Simulator, prefix: str) -> None:
    answer = soap_login(sim, prefix=prefix)
    assert answer.status_code == 200
    token = answer.text.partition("<sessionId>")[2].partition("</sessionId>")[0]
    assert works(sim, token)
    assert f"<serverUrl>{sim.url}/services/Soap/u/59.0/" in answer.text
    assert "<sessionSecondsValid>7200</sessionSecondsValid>" in answer.text


def test_soap_login_refuses_a_wrong_password_with_status_500_and_the_recorded_fault(sim: Simulator) -> None:
    answer = soap_login(sim, "wrong")
    assert answer.status_code == 500
    assert "<faultcode>INVALID_LOGIN</faultcode>" in answer.text
    assert (
        "<sf:exceptionMessage>Invalid username, password, security token; or user locked out.</sf:exceptionMessage>"
        in answer.text
    )


@pytest.mark.parametrize(
    ("changes", "version", "code"),
    [
        ({"active": False}, "59.0", "INVALID_LOGIN"),
        ({"api_enabled": False}, "59.0", "API_CURRENTLY_DISABLED"),
        ({"may_login_by_soap": False}, "59.0", "INSUFFICIENT_ACCESS"),
        ({}, "65.0", "INVALID_OPERATION"),
        ({}, "30.0", "UNSUPPORTED_API_VERSION"),
    ],
)
def test_soap_login_is_refused(sim: Simulator, changes: dict[str, Any], version: str, code: str) -> None:
    sim.control.change_user(**changes)
    answer = soap_login(sim, version=version)
    assert answer.status_code == 500
    assert f"<sf:exceptionCode>{code}</sf:exceptionCode>" in answer.text


def test_client_credentials_open_a_session_by_header_or_form(sim: Simulator) -> None:
    app = sim.organisation.app
    with open_session(sim) as session:
        by_header = session.post(
            f"{sim.url}/.salesforce.com/services/oauth2/token",
            data={"grant_type": "client_credentials"},
            auth=(app.consumer_key, app.consumer_secret),
            timeout=20,
        ).json()
    assert works(sim, by_header["access_token"])
    assert by_header["instance_url"] == sim.url
    assert "refresh_token" not in by_header
    assert "expires_in" not in by_header
    assert works(sim, token_answer(sim).json()["access_token"])


def test_a_password_opens_a_session_and_its_refresh_token_another(sim: Simulator) -> None:
    form = password_form(sim)
    first = token_answer(sim, **form).json()
    again = {**form, "grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = token_answer(sim, **again).json()
    assert works(sim, second["access_token"])
    assert "refresh_token" not in second
    sim.control.revoke_refresh_tokens()
    assert token_answer(sim, **again).json()["error_description"] == "expired access/refresh token"


def test_a_rotated_refresh_token_works_once(sim: Simulator) -> None:
    sim.control.change_app(rotates_refresh_tokens=True)
    form = password_form(sim)
    first = token_answer(sim, **form).json()["refresh_token"]
    second = token_answer(sim, **{**form, "grant_type": "refresh_token", "refresh_token": first}).json()[
        "refresh_token"
    ]
    assert token_answer(sim, **{**form, "grant_type": "refresh_token", "refresh_token": first}).status_code == 400
    assert token_answer(sim, **{**form, "grant_type": "refresh_token", "refresh_token": second}).ok


def test_a_signed_assertion_opens_a_session_without_a_refresh_token(sim: Simulator) -> None:
    answer = token_answer(sim, grant_type=JWT_BEARER, assertion=assertion(sim)).json()
    assert works(sim, answer["access_token"])
    assert (answer["token_type"], "refresh_token" in answer) == ("Bearer", False)


@pytest.mark.parametrize(
    ("changes", "error", "description"),
    [
        ({"iss": "somebody"}, "invalid_client_id", "client identifier invalid"),
        ({"sub": "nobody@demo.example"}, "invalid_grant", "user hasn't approved this consumer"),
        ({"aud": "https://example.org"}, "invalid_grant", "Audience validation failed"),
        ({"exp": 1}, "invalid_grant", "expired authorization code"),
        ({"exp": 32503680000}, "invalid_grant", "expired authorization code"),
    ],
)
def test_an_assertion_with_a_wrong_claim_is_refused(
    sim: Simulator, changes: dict[str, Any], error: str, description: str
) -> None:
    answer = token_answer(sim, grant_type=JWT_BEARER, assertion=assertion(sim, **changes))
    assert (answer.status_code, answer.json()) == (400, {"error": error, "error_description": description})


def test_an_assertion_that_is_broken_or_signed_by_another_is_refused(sim: Simulator) -> None:
    head, claims, _ = assertion(sim).split(".")
    forged = assertion(sim, sub="other@demo.example").split(".")[2]
    for broken in ("nonsense", f"{head}.{claims}.{forged}"):
        answer = token_answer(sim, grant_type=JWT_BEARER, assertion=broken)
        assert answer.json() == {"error": "invalid_grant", "error_description": "invalid assertion"}


@pytest.mark.parametrize(
    ("app", "user", "form", "error", "description"),
    [
        ({}, {}, {"password": "wrong"}, "invalid_grant", "authentication failure"),
        ({}, {}, {"username": "nobody"}, "invalid_grant", "authentication failure"),
        ({"allows_password_flow": False}, {}, {}, "invalid_grant", "authentication failure"),
        ({}, {}, {"client_id": "x"}, "invalid_client_id", "client identifier invalid"),
        ({}, {}, {"client_secret": "x"}, "invalid_client", "invalid client credentials"),
        ({}, {}, {"grant_type": "magic"}, "unsupported_grant_type", "grant type not supported"),
        ({"blocked": True}, {}, {}, "OAUTH_APP_BLOCKED", "this app is blocked by admin"),
        ({"installed": False}, {}, {}, "invalid_client", "app must be installed into org"),
        (
            {"run_as": None},
            {},
            {"grant_type": "client_credentials"},
            "invalid_grant",
            "no client credentials user enabled",
        ),
        ({"approved_users": []}, {}, {}, "invalid_app_access", "user is not admin approved to access this app"),
        ({}, {"active": False}, {}, "inactive_user", "user is inactive"),
        ({}, {"login_refused_because": "ip restricted"}, {}, "invalid_grant", "ip restricted"),
    ],
)
def test_the_token_endpoint_refuses_with_status_400(
    sim: Simulator, app: dict[str, Any], user: dict[str, Any], form: dict[str, str], error: str, description: str
) -> None:
    request = password_form(sim, **form)
    if user:
        sim.control.change_user(**user)
    sim.control.change_app(**app)
    answer = token_answer(sim, **request)
    assert (answer.status_code, answer.json()) == (400, {"error": error, "error_description": description})
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_session_ends_some_time_after_its_last_use(api: Api) -> None:
    api.sim.control.advance_clock(seconds=7000)
    assert api.get("/limits").ok
    api.sim.control.advance_clock(seconds=7000)
    assert api.get("/limits").ok
    api.sim.control.advance_clock(seconds=7300)
    assert_session_invalid(api)


def test_an_expired_session_can_be_replaced(api: Api) -> None:
    api.sim.control.expire_sessions()
    assert_session_invalid(api)
    api.log_in()
    assert api.get("/limits").ok


def test_blocking_the_app_ends_its_sessions(api: Api) -> None:
    api.sim.control.change_app(blocked=True)
    assert_session_invalid(api)


def test_a_call_without_a_token_is_refused(api: Api) -> None:
    del api.session.headers["Authorization"]
    assert_session_invalid(api)


def test_a_user_without_api_enabled_is_refused_on_rest(api: Api) -> None:
    api.sim.control.change_user(api_enabled=False)
    answer = api.get("/limits")
    assert answer.status_code == 403
    assert answer.json() == [
        {"message": "The REST API is not enabled for this Organization.", "errorCode": "API_DISABLED_FOR_ORG"}
    ]


def assert_session_invalid(api: Api) -> None:
    answer = api.get("/limits")
    assert answer.status_code == 401
    assert answer.json() == [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}]
