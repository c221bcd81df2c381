"""Bulk API 2.0 queries: states, pages, the CSV dialect, refusals."""

import csv
import io
from typing import Any

import pytest

from include.salesforce_simulator.render import java_double
from tests.salesforce_simulator.conftest import Api, create_contacts


def rows(text: str, **dialect: Any) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline=""), **dialect))


def test_a_job_goes_from_upload_complete_over_in_progress_to_complete(api: Api) -> None:
    api.sim.control.change_options(bulk_polls=2)
    job = api.create_job("SELECT Id FROM Contact").json()
    assert {
        key: job[key]
        for key in ("operation", "object", "state", "contentType", "apiVersion", "lineEnding", "columnDelimiter")
    } == {
        "operation": "query",
        "object": "Contact",
        "state": "UploadComplete",
        "contentType": "CSV",
        "apiVersion": 66.0,
        "lineEnding": "LF",
        "columnDelimiter": "COMMA",
    }
    polled = [api.get(f"/jobs/query/{job['id']}").json() for _ in range(3)]
    assert [one["state"] for one in polled] == ["InProgress", "InProgress", "JobComplete"]
    assert (polled[-1]["numberRecordsProcessed"], polled[-1]["jobType"], polled[-1]["isPkChunkingSupported"]) == (
        1988,
        "V2Query",
        True,
    )
    assert [one["id"] for one in api.get("/jobs/query").json()["records"]] == [job["id"]]


def test_pages_have_a_header_row_a_count_and_a_locator_until_null(api: Api) -> None:
    job = api.finished_job("SELECT Id, Email FROM Contact")
    seen: set[str] = set()
    locator, sizes = "", []
    while locator != "null":
        page = api.page(job, maxRecords=900, **({"locator": locator} if locator else {}))
        header, *body = rows(page.text)
        assert header == ["Id", "Email"]
        assert len(body) == int(page.headers["Sforce-NumberOfRecords"])
        assert page.headers["Content-Type"] == "text/csv; charset=UTF-8"
        seen |= {one[0] for one in body}
        sizes.append(len(body))
        locator = page.headers["Sforce-Locator"]
    assert sizes == [900, 900, 188]
    assert len(seen) == 1988


def test_a_page_can_be_fetched_again_and_out_of_order(api: Api) -> None:
    job = api.finished_job("SELECT Id FROM Contact")
    second = api.page(job, maxRecords=500).headers["Sforce-Locator"]
    third = api.page(job, maxRecords=500, locator=second).headers["Sforce-Locator"]
    assert api.page(job, maxRecords=500, locator=third).text == api.page(job, maxRecords=500, locator=third).text
    assert api.page(job, maxRecords=500, locator=second).headers["Sforce-Locator"] == third
    assert api.page(job, locator="guessed").json()[0]["errorCode"] == "INVALID_QUERY_LOCATOR"


def test_the_addresses_of_pages_come_five_at_a_time(api: Api) -> None:
    api.sim.control.change_options(bulk_page_size=300)
    job = api.finished_job("SELECT Id FROM Contact")
    first = api.get(f"/jobs/query/{job['id']}/resultPages").json()
    rest = api.session.get(api.sim.url + first["nextRecordsUrl"], timeout=20).json()
    assert (len(first["resultPages"]), first["done"], len(rest["resultPages"]), rest["done"]) == (5, False, 2, True)
    pages = [
        api.session.get(api.sim.url + one["resultUrl"], timeout=20)
        for one in first["resultPages"] + rest["resultPages"]
    ]
    assert len({row[0] for page in pages for row in rows(page.text)[1:]}) == 1988


def test_every_value_is_quoted_and_nulls_are_quoted_or_bare(api: Api) -> None:
    [made] = create_contacts(
        api.sim,
        {"FirstName": 'say "hi"', "Score__c": 5, "Renewal__c": "2018-12-10T17:50:19Z", "Birthdate": "1990-02-03"},
    )
    query = f"SELECT Id, FirstName, Title, Score__c, Newsletter__c, Renewal__c, Birthdate, Account.Name FROM Contact WHERE Id = '{made}'"
    header = '"Id","FirstName","Title","Score__c","Newsletter__c","Renewal__c","Birthdate","Account.Name"\n'
    row = f'"{made}","say ""hi""","","5.0","false","2018-12-10T17:50:19.000Z","1990-02-03",""\n'
    assert api.page(api.finished_job(query)).text == header + row
    api.sim.control.change_options(bulk_nulls="bare", bulk_datetimes="+0000", bulk_charset=False)
    page = api.page(api.finished_job(query))
    assert page.content.decode() == header + row.replace('""\n', "\n").replace(',"",', ",,").replace("000Z", "000+0000")
    assert page.headers["Content-Type"] == "text/csv"


@pytest.mark.parametrize(
    ("name", "sign"), [("BACKQUOTE", "`"), ("CARET", "^"), ("PIPE", "|"), ("SEMICOLON", ";"), ("TAB", "\t")]
)
def test_delimiter_and_line_ending_are_as_asked_and_line_breaks_in_values_stay(api: Api, name: str, sign: str) -> None:
    street = f"a\nb\r\nc{sign}d\r"
    [made] = create_contacts(api.sim, {"MailingStreet": street})
    query = f"SELECT Id, MailingStreet FROM Contact WHERE Id = '{made}'"
    page = api.page(api.finished_job(query, columnDelimiter=name, lineEnding="CRLF"))
    assert page.content.startswith(f'"Id"{sign}"MailingStreet"\r\n"'.encode())
    assert rows(page.content.decode(), delimiter=sign)[1] == [made, street]


def test_no_rows_are_a_header_line_and_a_zero(api: Api) -> None:
    page = api.page(api.finished_job("SELECT Id, Name FROM Contact WHERE LastName = 'nobody has this name'"))
    assert (page.text, page.headers["Sforce-NumberOfRecords"], page.headers["Sforce-Locator"]) == (
        '"Id","Name"\n',
        "0",
        "null",
    )


def test_query_all_sees_what_was_deleted_and_merged(api: Api) -> None:
    query = "SELECT Id, MasterRecordId FROM Contact WHERE IsDeleted = true AND MasterRecordId != null"
    assert api.finished_job(query)["numberRecordsProcessed"] == 0
    assert api.finished_job(query, "queryAll")["numberRecordsProcessed"] == 4
    assert api.finished_job("SELECT Id FROM Contact", "queryAll")["numberRecordsProcessed"] == 2000


def test_rows_come_unsorted_unless_an_order_is_asked_for(api: Api) -> None:
    unsorted = [row[0] for row in rows(api.page(api.finished_job("SELECT Id FROM Account")).text)[1:]]
    in_order = [row[0] for row in rows(api.page(api.finished_job("SELECT Id FROM Account ORDER BY Id")).text)[1:]]
    assert unsorted != in_order
    assert sorted(unsorted) == in_order


def test_a_job_belongs_to_its_api_version(api: Api) -> None:
    job = api.finished_job("SELECT Id FROM Contact")
    assert api.call("GET", f"/jobs/query/{job['id']}/results", version="65.0").status_code == 409


def test_results_before_completion_are_refused(api: Api) -> None:
    job = api.create_job("SELECT Id FROM Contact").json()
    assert (api.page(job).status_code, api.page(job).json()[0]["errorCode"]) == (400, "INVALIDJOBSTATE")


def test_a_job_can_be_aborted_until_it_is_complete(api: Api) -> None:
    job = api.create_job("SELECT Id FROM Contact").json()
    assert api.call("PATCH", f"/jobs/query/{job['id']}", json={"state": "Done"}).status_code == 400
    assert api.call("PATCH", f"/jobs/query/{job['id']}", json={"state": "Aborted"}).json()["state"] == "Aborted"
    assert api.get(f"/jobs/query/{job['id']}").json()["state"] == "Aborted"
    done = api.finished_job("SELECT Id FROM Contact")
    answer = api.call("PATCH", f"/jobs/query/{done['id']}", json={"state": "Aborted"})
    assert (answer.status_code, answer.json()) == (
        400,
        [{"errorCode": "INVALIDJOBSTATE", "message": "Aborting already Completed Job not allowed"}],
    )


def test_a_job_can_be_deleted_once_it_has_ended(api: Api) -> None:
    job = api.create_job("SELECT Id FROM Contact").json()
    early = api.call("DELETE", f"/jobs/query/{job['id']}")
    assert early.json()[0]["message"] == "Error encountered when deleting the job because the job is not terminated"
    done = api.finished_job("SELECT Id FROM Contact")
    assert api.call("DELETE", f"/jobs/query/{done['id']}").status_code == 204
    assert api.get(f"/jobs/query/{done['id']}").json() == [
        {"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}
    ]


@pytest.mark.parametrize(
    ("query", "code", "words"),
    [
        ("SELECT MailingAddress FROM Contact", "API_ERROR", "Selecting compound data not supported in Bulk Query"),
        ("SELECT Id FROM Contact LIMIT 5 OFFSET 5", "API_ERROR", "OFFSET"),
        ("SELECT count() FROM Contact", "API_ERROR", "Aggregate Relationships not supported"),
        ("SELECT Id FROM ListView", "INVALIDENTITY", "Entity 'ListView' is not supported by the Bulk API."),
        ("SELECT Id FROM Contact GROUP BY Id", "MALFORMED_QUERY", "GROUP"),
        ("SELECT Nope FROM Contact", "INVALID_FIELD", "No such column 'Nope'"),
        ("SELECT Id FROM Nope", "INVALID_TYPE", "sObject type 'Nope' is not supported"),
    ],
)
def test_what_bulk_does_not_take_is_refused_at_creation(api: Api, query: str, code: str, words: str) -> None:
    answer = api.create_job(query)
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (400, code)
    assert words in answer.json()[0]["message"]


@pytest.mark.parametrize(
    "changes", [{"operation": "insert"}, {"columnDelimiter": "DOT"}, {"lineEnding": "CR"}, {"contentType": "JSON"}]
)
def test_a_job_that_makes_no_sense_is_refused(api: Api, changes: dict[str, str]) -> None:
    answer = api.call("POST", "/jobs/query", json={"operation": "query", "query": "SELECT Id FROM Contact", **changes})
    assert answer.json()[0]["errorCode"] == "INVALIDJOB"


@pytest.mark.parametrize("body", [b"{", b"[]"])
def test_a_body_that_is_not_an_object_is_refused(api: Api, body: bytes) -> None:
    assert api.call("POST", "/jobs/query", data=body).json()[0]["errorCode"] == "JSON_PARSER_ERROR"


def test_an_unknown_field_can_also_make_a_failed_job(api: Api) -> None:
    api.sim.control.change_options(bulk_refuses_fields="failed_job")
    job = api.finished_job("SELECT Nope FROM Contact")
    assert job["state"] == "Failed"
    assert job["errorMessage"].startswith("INVALID_FIELD: \nSELECT Nope FROM Contact\n")
    assert api.create_job("SELECT MailingAddress FROM Contact").status_code == 400


def test_a_page_is_no_larger_than_the_service_likes(api: Api) -> None:
    api.sim.control.change_options(bulk_page_cap=100)
    assert (
        api.page(api.finished_job("SELECT Id FROM Contact"), maxRecords=5000).headers["Sforce-NumberOfRecords"] == "100"
    )


def test_kept_pages_are_what_would_have_been_rendered_until_something_changes(api: Api) -> None:
    query = "SELECT Id, Title FROM Contact WHERE AccountId != null"
    rendered = api.page(api.finished_job(query), maxRecords=1000).text
    api.sim.control.change_options(keep_pages=True)
    assert api.page(api.finished_job(query), maxRecords=1000).text == rendered
    job = api.finished_job(query)
    assert api.page(job, maxRecords=1000).text == rendered
    one = rows(rendered)[1][0]
    api.sim.control.update(sobject="Contact", ids=[one], values={"Title": "Changed"})
    assert f'"{one}","Changed"' in api.page(api.finished_job(query), maxRecords=1000).text
    assert api.page(job, maxRecords=1000).text == rendered


def test_what_was_kept_is_forgotten_when_the_data_change(api: Api) -> None:
    api.sim.control.change_options(keep_pages=True)
    for title in ("One", "Two", "Three"):
        one = rows(api.page(api.finished_job("SELECT Id, Title FROM Contact")).text)[1][0]
        api.sim.control.update(sobject="Contact", ids=[one], values={"Title": title})
    jobs = api.sim.state.jobs
    assert (len(jobs._kept_answers), len(jobs._kept_pages)) == (1, 1)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0"),
        (-2.5, "-2.5"),
        (1e6, "1000000.0"),
        (1e7, "1.0E7"),
        (-12345678.9, "-1.23456789E7"),
        (0.0001, "1.0E-4"),
        (1e300, "1.0E300"),
    ],
)
def test_numbers_are_written_as_java_does(value: float, text: str) -> None:
    assert java_double(value) == text
    assert repr(float(text)) == repr(value)
