"""The pages of a Bulk job when headers and contents do not agree; what is sent back is written here, page by page."""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import pytest
import requests

from include.contact_sync.salesforce.bulk import read_by_bulk
from include.contact_sync.salesforce.faults import Damaged
from include.contact_sync.salesforce.pace import Pace
from include.contact_sync.salesforce.session import Login, Session
from include.contact_sync.salesforce.soql import Query
from tests.contact_sync.salesforce.organisation import IN_HASTE

FIELDS = ("Id", "LastName")
HEADER = b'"Id","LastName"\n'


def answer(content: bytes, **headers: str) -> requests.Response:
    response = requests.Response()
    response.status_code = HTTPStatus.OK
    response._content = content
    response.headers.update({name.replace("_", "-"): value for name, value in headers.items()})
    return response


def page(numbers: Iterable[int], following: str | None, announced: str | None = None) -> requests.Response:
    """A page with these records, the locator of the next one, and how many it says that it holds."""
    rows = [f'"{name(number)}","{number}"\n'.encode() for number in numbers]
    return answer(
        HEADER + b"".join(rows),
        Sforce_Locator=following or "null",
        Sforce_NumberOfRecords=str(len(rows)) if announced is None else announced,
    )


def name(number: int) -> str:
    return f"003{number:012d}AAA"


class Job:
    """A job's answers by locator, each list one answer for each time that it is asked; the last one stays."""

    def __init__(self, pages: dict[str | None, list[requests.Response]], pace: Pace = IN_HASTE) -> None:
        self.pages, self.pace = pages, pace
        self.asked: list[tuple[str | None, int]] = []

    def request(self, method: str, url: str, *, params: Any = None, **_: Any) -> requests.Response:
        if not url.endswith("/results"):
            return answer(b'{"id": "750", "state": "JobComplete", "numberRecordsProcessed": 6}')
        locator = params.get("locator")
        self.asked.append((locator, int(params["maxRecords"])))
        answers = self.pages[locator]
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def read(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The names of all records, in their order."""
        session = Session(lambda: Login("token", "host", "66.0"), self.pace, lambda _: None)
        monkeypatch.setattr(session._http, "request", self.request)
        pages = read_by_bulk(session, Query("Contact", FIELDS), lambda _: None)
        return [last for each in pages for last in each.table["LastName"].to_pylist()]

    @property
    def locators(self) -> list[str | None]:
        return [locator for locator, _ in self.asked]


def test_while_a_page_is_read_the_next_one_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job({None: [page([1, 2], "a")], "a": [page([3, 4], "b")], "b": [page([5, 6], None)]})
    assert job.read(monkeypatch) == ["1", "2", "3", "4", "5", "6"]
    assert job.locators == [None, "a", "b"]


@pytest.mark.parametrize("said", ["b", None], ids=["the page after the next", "that it is the last"])
def test_where_a_damaged_page_says_that_the_next_begins_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, said: str | None
) -> None:
    pages = {
        None: [page([1, 2], said, announced="3"), page([1, 2], "a")],
        "a": [page([3, 4], "b")],
        "b": [page([5, 6], None)],
    }
    job = Job(pages)
    assert job.read(monkeypatch) == ["1", "2", "3", "4", "5", "6"]
    assert job.locators == [None, *([said] if said else []), None, "a", "b"]


@pytest.mark.parametrize("announced", ["3", "-1", "²", "two", ""])
def test_a_page_that_stays_damaged_is_given_up(monkeypatch: pytest.MonkeyPatch, announced: str) -> None:
    job = Job({None: [page([1, 2], "a")], "a": [page([3, 4], None, announced)]})
    with pytest.raises(Damaged):
        job.read(monkeypatch)
    assert job.locators.count("a") <= 1 + IN_HASTE.damaged_answers


@pytest.mark.parametrize("numbers", [[3, 4], []], ids=["with records", "without any"])
def test_pages_that_lead_in_a_circle_are_given_up(monkeypatch: pytest.MonkeyPatch, numbers: list[int]) -> None:
    job = Job({None: [page([1, 2], "a")], "a": [page(numbers, "b")], "b": [page(numbers, "a")]})
    with pytest.raises(Damaged, match="circle"):
        job.read(monkeypatch)


def test_how_many_records_are_asked_for_follows_from_the_size_of_those_that_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By what the page holds, not by what was asked for; never fewer than at first, never more than is taken at once."""
    content = len(page([1, 2], None).content)
    for page_bytes, rows in ((content * 4, 8), (content * 100, 20), (1, 6)):
        pace = Pace(first_page_rows=6, page_rows=20, page_bytes=page_bytes, first_poll=0)
        job = Job({None: [page([1, 2], "a")], "a": [page([3, 4], None)]}, pace)
        job.read(monkeypatch)
        assert job.asked == [(None, 6), ("a", rows)]
