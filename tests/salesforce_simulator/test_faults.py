"""The fault script: each fault, on the call that was meant and on no other."""

import time
from contextlib import suppress
from typing import Any

import pytest
import requests

from tests.salesforce_simulator.conftest import VERSION, Api, token_answer

QUERY = "SELECT Id, LastName FROM Contact"


@pytest.mark.parametrize(
    ("fault", "status", "words"),
    [
        ("session_expired", 401, "INVALID_SESSION_ID"),
        ("session_expired_html", 401, "<html>"),
        ("request_limit", 403, "TotalRequests Limit exceeded."),
        ("concurrent_limit", 403, "ConcurrentRequests (Concurrent API Requests) Limit exceeded."),
        ("api_disabled", 403, "API_DISABLED_FOR_ORG"),
        ("http_420", 420, ""),
        ("http_429", 429, "Too Many Requests"),
        ("server_error", 500, "UNKNOWN_EXCEPTION"),
        ("unavailable", 503, "Server too busy"),
        ("unavailable_html", 503, "maintenance"),
        ("bad_gateway", 502, "502 Bad Gateway"),
        ("gateway_timeout", 504, "504 Gateway"),
        ("uri_too_long", 414, "Bad Message 414"),
        ("query_timeout", 400, "Your query request was running for too long."),
        ("dead_locator", 400, "INVALID_QUERY_LOCATOR"),
        ("bulk_limit", 400, "LIMIT_EXCEEDED"),
    ],
)
def test_an_answer_is_replaced_once(api: Api, fault: str, status: int, words: str) -> None:
    api.sim.control.add_fault(do=fault, path="/limits")
    answer = api.get("/limits")
    assert answer.status_code == status
    assert words in answer.text
    assert api.get("/limits").ok


def test_any_answer_can_be_scripted(api: Api) -> None:
    api.sim.control.add_fault(do="answer", values={"status": 418, "body": "teapot", "headers": {"X-Tea": "yes"}})
    answer = api.get("/limits")
    assert (answer.status_code, answer.text, answer.headers["X-Tea"]) == (418, "teapot", "yes")


def test_a_fault_strikes_from_the_nth_matching_call_for_as_long_as_said(api: Api) -> None:
    api.sim.control.add_fault(do="unavailable", path=r"/limits$", method="GET", nth=2, times=2)
    api.sim.control.add_fault(do="unavailable", path="/sobjects", times=0)
    assert api.get("/query", q="SELECT Id FROM User").ok
    assert [api.get("/limits").status_code for _ in range(4)] == [200, 503, 503, 200]
    assert [api.get("/sobjects").status_code for _ in range(3)] == [503] * 3
    api.sim.control.clear_faults()
    assert api.get("/sobjects").ok


def test_a_login_can_be_struck_too(api: Api) -> None:
    api.sim.control.add_fault(do="unavailable_html", path="/oauth2/token")
    assert token_answer(api.sim).status_code == 503
    assert token_answer(api.sim).ok


def test_a_connection_is_reset(api: Api) -> None:
    api.sim.control.add_fault(do="reset", path="/limits")
    with pytest.raises(requests.ConnectionError):
        api.get("/limits")
    assert api.get("/limits").ok


def test_an_answer_is_slow(api: Api) -> None:
    api.sim.control.add_fault(do="slow", path="/limits", values={"seconds": 0.3})
    start = time.monotonic()
    assert api.get("/limits").ok
    assert time.monotonic() - start >= 0.3


def page_with(api: Api, fault: str, **values: Any) -> requests.Response:
    job = api.finished_job(QUERY)
    api.sim.control.add_fault(do=fault, path="/results", values=values)
    return api.page(job, maxRecords=100)


def test_a_connection_is_closed_before_the_promised_length(api: Api) -> None:
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        page_with(api, "close_early", share=0.9)
    assert api.get("/limits").ok


def test_a_body_is_cut_in_the_middle_of_a_row(api: Api) -> None:
    page = page_with(api, "cut_body", share=0.5)
    assert page.headers["Sforce-NumberOfRecords"] == "100"
    assert page.text.count("\n") < 60
    assert not page.text.endswith("\n")


def test_rows_are_missing(api: Api) -> None:
    page = page_with(api, "drop_rows", rows=3)
    assert (page.text.count("\n"), page.headers["Sforce-NumberOfRecords"]) == (98, "100")


def test_the_count_is_wrong(api: Api) -> None:
    page = page_with(api, "wrong_count", rows=-1)
    assert (page.text.count("\n"), page.headers["Sforce-NumberOfRecords"]) == (101, "99")


def test_the_charset_is_missing_while_the_text_is_still_utf_8(api: Api) -> None:
    page = page_with(api, "no_charset")
    assert page.headers["Content-Type"] == "text/csv"
    page.content.decode("utf-8")


def test_a_nul_stands_in_a_value(api: Api) -> None:
    header, first = page_with(api, "nul").text.split("\n")[:2]
    assert ("\x00" in header, first.startswith('"\x00003')) == (False, True)


def test_a_page_is_compressed(api: Api) -> None:
    page = page_with(api, "gzip")
    assert (page.headers["Content-Encoding"], page.text.count("\n")) == ("gzip", 101)
    assert "X-Simulator-Gzip" not in page.headers


def test_a_page_is_smaller_than_asked_for(api: Api) -> None:
    page = page_with(api, "page_size", rows=7)
    assert page.headers["Sforce-NumberOfRecords"] == "7"
    api.sim.control.add_fault(do="page_size", path="/query", values={"rows": 3})
    assert len(api.query(QUERY)["records"]) == 3


def test_a_page_is_sent_twice(api: Api) -> None:
    api.sim.control.add_fault(do="duplicate_page", path="/results", nth=2)
    job = api.finished_job(QUERY)
    first = api.page(job, maxRecords=100)
    second = api.page(job, maxRecords=100, locator=first.headers["Sforce-Locator"])
    assert second.text == first.text
    assert second.headers["Sforce-Locator"] != first.headers["Sforce-Locator"]
    assert api.page(job, maxRecords=100, locator=first.headers["Sforce-Locator"]).text != first.text


def test_a_rest_page_lacks_rows_or_tells_another_number_of_them(api: Api) -> None:
    whole = api.query(QUERY)
    api.sim.control.add_fault(do="drop_rows", path="/query", values={"rows": 2})
    short = api.query(QUERY)
    assert (short["totalSize"], short["records"]) == (whole["totalSize"], whole["records"][:-2])
    api.sim.control.add_fault(do="wrong_count", path="/query", values={"rows": 2})
    assert api.query(QUERY) == whole | {"totalSize": whole["totalSize"] + 2}


def test_a_finished_job_tells_another_number_of_records_than_it_has(api: Api) -> None:
    job = api.finished_job(QUERY)
    api.sim.control.add_fault(do="wrong_count", path="/jobs/query/")
    told = api.get(f"/jobs/query/{job['id']}").json()
    assert told["numberRecordsProcessed"] == job["numberRecordsProcessed"] + 1


def test_a_rest_page_is_sent_twice(api: Api) -> None:
    api.sim.control.change_options(page_size=5)
    api.sim.control.add_fault(do="duplicate_page", path="/query/0")
    first = api.query(QUERY)
    following = first["nextRecordsUrl"].partition(VERSION)[2]
    second, again = (api.get(following).json() for _ in range(2))
    assert second == first
    assert again["records"] != first["records"]


def test_a_nul_stands_in_a_value_of_a_rest_page(api: Api) -> None:
    api.sim.control.add_fault(do="nul", path="/query", values={"behind": '"LastName":"'})
    first, second = api.query(QUERY)["records"][:2]
    assert (first["LastName"][0], "\x00" in first["Id"], "\x00" in second["LastName"]) == ("\x00", False, False)


@pytest.mark.parametrize(
    ("fault", "path", "struck"),
    [
        ("unavailable", "/limits", 1),
        ("slow", "/limits", 1),
        ("no_charset", "/limits", 1),
        ("close_early", "/limits", 1),
        ("wrong_count", "/limits", 0),
        ("drop_rows", "/limits", 0),
        ("duplicate_page", "/limits", 0),
        ("nul", "/limits", 1),
        ("job_failed", "/limits", 0),
        ("unavailable", "/sobjects", 0),
    ],
)
def test_a_fault_tells_how_often_it_made_a_difference(api: Api, fault: str, path: str, struck: int) -> None:
    api.sim.control.add_fault(do=fault, path=path, times=0, values={"seconds": 0})
    with suppress(requests.RequestException):
        api.get("/limits")
    assert api.sim.control.faults() == [{"do": fault, "struck": struck}]
    api.sim.control.clear_faults()
    assert api.sim.control.faults() == []


@pytest.mark.parametrize(("fault", "state"), [("job_failed", "Failed"), ("job_aborted", "Aborted")])
def test_a_job_ends_badly_from_its_creation_or_at_a_poll(api: Api, fault: str, state: str) -> None:
    api.sim.control.add_fault(
        do=fault, path="/jobs/query$", method="POST", values={"message": "InternalServerError: gave up"}
    )
    job = api.finished_job(QUERY)
    assert job["state"] == state
    assert job.get("errorMessage") == ("InternalServerError: gave up" if state == "Failed" else None)
    assert api.page(job).status_code == 400
    api.sim.control.add_fault(do=fault, path="/jobs/query/")
    assert api.finished_job(QUERY)["state"] == state


def test_a_job_is_stuck(api: Api) -> None:
    api.sim.control.add_fault(do="job_stuck", path="/jobs/query$", method="POST")
    job = api.create_job(QUERY).json()
    assert {api.get(f"/jobs/query/{job['id']}").json()["state"] for _ in range(6)} == {"InProgress"}


def test_the_organisation_changes_just_before_a_call(api: Api) -> None:
    hide = {"verb": "hide_field", "arguments": {"sobject": "Contact", "name": "LastName"}}
    api.sim.control.add_fault(do="control", path="/jobs/query$", method="POST", values=hide)
    assert "LastName" in api.get("/sobjects/Contact/describe").text
    assert api.create_job(QUERY).json()[0]["errorCode"] == "INVALID_FIELD"


def test_an_unknown_fault_is_refused(api: Api) -> None:
    with pytest.raises(ValueError, match="no such fault: explode"):
        api.sim.control.add_fault(do="explode")
