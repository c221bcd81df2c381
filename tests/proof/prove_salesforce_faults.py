"""Whatever Salesforce does wrong at any call: the run recovers and its result is the undisturbed one, or it fails with
the right code and has changed nothing, and the next run brings the undisturbed result.

What each fault must come to stands in `FAULTS` and `CHANGES`, said beforehand. The simulator counts how often a fault
made a difference, so a fault that never happened proves nothing.
"""

import re
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from include.contact_sync.conclude import RunReport
from include.contact_sync.salesforce import client
from include.contact_sync.settings import Settings
from include.contact_sync.staging import Staging
from include.salesforce_simulator.control import ControlClient
from include.salesforce_simulator.ids import lengthen
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.proof.conftest import Score
from tests.proof.invariants import broken
from tests.proof.nights import MAPPING, dump, fresh, keep_as_template, prepare, sent
from tests.proof.one_run import sync
from tests.whole_runs import IN_HASTE, lines, settings_with

# ------------------------------------------------------------------------------------------------ the calls of a run

CALLS = {
    "login": ("POST", "/token$"),
    "describe": ("GET", "/sobjects/[^/]+/describe$"),
    "list view": ("GET", "/listviews/[^/]+$"),
    "list view's query": ("GET", "/listviews/[^/]+/describe$"),
    "count": ("GET", r"/query\?q=SELECT.count"),
    "count of merges": ("GET", r"/queryAll\?q=SELECT.count"),
    "merges": ("GET", r"/queryAll\?q=SELECT.(?!count)"),
    "records": ("GET", r"/query\?q=SELECT.(?!count)"),
    "next page": ("GET", "/query/0"),
    "job": ("POST", "/jobs/query$"),
    "poll": ("GET", "/jobs/query/[^/]+$"),
    "results": ("GET", "/results"),
    "end of a job": ("DELETE", "/jobs/query/"),
}
"""Every kind of call, by method and address. By REST merges and records are queries, by Bulk both are jobs."""
ASKING = {"describe", "list view", "list view's query"}
COUNTS = {"count", "count of merges"}
QUERIES = {"merges", "records"}
JOBS = {"job", "poll"}
LATER = {"next page", "results"}
IN_JSON = ASKING | COUNTS | QUERIES | JOBS | {"next page"}
WITH_A_BODY = IN_JSON | {"login", "results"}
ANY = set(CALLS)
ONE_OF_A_SORT = {"login", "describe", "records", "next page", "job", "results"}
"""Enough for what the product treats as it does something else that is tried everywhere."""
WITH_A_SESSION = ANY - {"login"}
KINDS = {
    "rest": ANY - JOBS - {"results", "end of a job"},
    "bulk": ANY - QUERIES - {"next page"},
}
AFTERWARDS = {"end of a job"}
"""The records are here by then. Whatever happens, a run goes on: a job that is left over harms nobody."""

# --------------------------------------------------------------------------------------- the faults, and their ends

RECOVERS = "recovers"
UNAVAILABLE = "salesforce_unavailable"


@dataclass(frozen=True)
class Fault:
    """What the simulator does, at which kinds of call, and the end of the run: `RECOVERS`, or the code it fails with.

    `once` is the end where it happens at one call only, `for_ever` where it happens at every call of that kind.
    """

    does: tuple[tuple[str, dict[str, Any]], ...]
    at: Collection[str]
    once: str
    for_ever: str


def fault(do: str, at: Collection[str], once: str, for_ever: str, **values: Any) -> Fault:
    return Fault(((do, values),), at, once, for_ever)


def refused_login(error: str, description: str) -> dict[str, Any]:
    body = f'{{"error":"{error}","error_description":"{description}"}}'
    return {"status": 400, "body": body, "headers": {"Content-Type": "application/json"}}


FAULTS = {
    "session expired (JSON) before the download": fault(
        "session_expired", WITH_A_SESSION - LATER - AFTERWARDS, RECOVERS, "login_failed"
    ),
    "session expired (JSON) during the download": fault("session_expired", LATER, RECOVERS, "login_failed"),
    "session expired (JSON) after the download": fault("session_expired", AFTERWARDS, RECOVERS, RECOVERS),
    "session expired (HTML) before the download": fault(
        "session_expired_html", WITH_A_SESSION - LATER - AFTERWARDS, RECOVERS, "login_failed"
    ),
    "session expired (HTML) during the download": fault("session_expired_html", LATER, RECOVERS, "login_failed"),
    "session expired (HTML) after the download": fault("session_expired_html", AFTERWARDS, RECOVERS, RECOVERS),
    "API limit": fault("request_limit", WITH_A_SESSION, "api_limit", "api_limit"),
    "limit of requests at once": fault("concurrent_limit", ONE_OF_A_SORT - {"login"}, RECOVERS, UNAVAILABLE),
    "limit of bulk jobs": fault("bulk_limit", {"job"}, "api_limit", "api_limit"),
    "420": fault("http_420", ANY, RECOVERS, UNAVAILABLE),
    "429": fault("http_429", ONE_OF_A_SORT, RECOVERS, UNAVAILABLE),
    "500": fault("server_error", ANY, RECOVERS, UNAVAILABLE),
    "502": fault("bad_gateway", ONE_OF_A_SORT, RECOVERS, UNAVAILABLE),
    "503 JSON": fault("unavailable", ONE_OF_A_SORT, RECOVERS, UNAVAILABLE),
    "503 HTML": fault("unavailable_html", ANY, RECOVERS, UNAVAILABLE),
    "504": fault("gateway_timeout", ONE_OF_A_SORT, RECOVERS, UNAVAILABLE),
    "connection reset": fault("reset", ANY, RECOVERS, UNAVAILABLE),
    "connection closed in the middle of an answer": fault("close_early", WITH_A_BODY, RECOVERS, UNAVAILABLE),
    "truncated JSON": fault("cut_body", WITH_A_BODY - {"results"}, RECOVERS, UNAVAILABLE),
    "truncated page of CSV": fault("cut_body", {"results"}, RECOVERS, "not_balanced"),
    "wrong row count of a query": fault("wrong_count", QUERIES, RECOVERS, "not_balanced"),
    "wrong row count of a page of CSV": fault("wrong_count", {"results"}, RECOVERS, "not_balanced"),
    "wrong row count of a job": fault("wrong_count", {"poll"}, RECOVERS, "not_balanced"),
    "wrong row count where nobody relies on it": fault(
        "wrong_count", COUNTS | {"next page"}, RECOVERS, RECOVERS, rows=-1
    ),
    "row missing from a page": fault("drop_rows", QUERIES | LATER, RECOVERS, "not_balanced"),
    "row missing from a page that says so": Fault(
        (("drop_rows", {}), ("wrong_count", {"rows": -1})), {"results"}, RECOVERS, "not_balanced"
    ),
    "duplicate page": fault("duplicate_page", LATER, RECOVERS, "not_balanced"),
    "dead locator": fault("dead_locator", LATER, RECOVERS, UNAVAILABLE),
    "missing charset": fault("no_charset", ONE_OF_A_SORT, RECOVERS, RECOVERS),
    "compressed answer": fault("gzip", ONE_OF_A_SORT, RECOVERS, RECOVERS),
    "NUL in JSON": fault("nul", QUERIES | {"next page"}, RECOVERS, RECOVERS, behind='"Id":"'),
    "NUL byte in CSV": fault("nul", {"results"}, RECOVERS, RECOVERS),
    "query given up": fault("query_timeout", QUERIES, RECOVERS, UNAVAILABLE),
    "count given up, so that jobs read": fault("query_timeout", COUNTS, RECOVERS, RECOVERS),
    "address of a query too long": fault("uri_too_long", QUERIES, UNAVAILABLE, UNAVAILABLE),
    "address of a count too long, so that jobs read": fault("uri_too_long", COUNTS, RECOVERS, RECOVERS),
    "job failed": fault("job_failed", JOBS, UNAVAILABLE, UNAVAILABLE, message="InternalServerError: gave up"),
    "job aborted": fault("job_aborted", JOBS, UNAVAILABLE, UNAVAILABLE),
    "job stuck for ever": fault("job_stuck", JOBS, UNAVAILABLE, UNAVAILABLE),
    "API disabled": fault("api_disabled", WITH_A_SESSION, "api_disabled", "api_disabled"),
    "login refused": fault(
        "answer", {"login"}, "login_failed", "login_failed", **refused_login("invalid_grant", "authentication failure")
    ),
    "app blocked": fault(
        "answer",
        {"login"},
        "app_blocked",
        "app_blocked",
        **refused_login("OAUTH_APP_BLOCKED", "this app is blocked by admin"),
    ),
}


# --------------------------------------------------------------------------------------------------- the two nights

VIEW, EVERYBODY = "Everybody", "LastName != 'nobody'"
AS_MANY_AS_THERE_ARE = 9


@pytest.fixture(params=KINDS)
def api(request: pytest.FixtureRequest, organisation: Simulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """By which API the runs read."""
    read_by(request.param, organisation, monkeypatch)
    return str(request.param)


def read_by(api: str, organisation: Simulator, patch: pytest.MonkeyPatch) -> None:
    """In pages of three."""
    organisation.control.change_options(page_size=3)
    pace = replace(IN_HASTE, job_seconds=0.3)
    if api == "bulk":
        pace = replace(pace, rest_rows=0, first_page_rows=3, page_rows=3)
    patch.setattr(client, "Pace", lambda: pace)


@pytest.fixture
def two_nights(
    api: str, organisation: Simulator, store: Store, staging: Staging, postgres: DatabaseServer
) -> Iterator[str]:
    """The template of the store to which the second night comes; contacts of a list view, no accounts."""
    yield from nights_of_a_list_view(organisation, store, postgres)


def nights_of_a_list_view(organisation: Simulator, store: Store, postgres: DatabaseServer) -> Iterator[str]:
    view = organisation.control.create_list_view(label=VIEW, where=EVERYBODY)
    contacts = {"mapping": MAPPING, "source": {"list_view": view}}
    accounts = {"enabled": False, "mapping": lines()}
    settings = settings_with(accounts=accounts, contacts=contacts, maximum_contacts=AS_MANY_AS_THERE_ARE)
    yield from template(organisation, store, postgres, settings)


@pytest.fixture
def two_nights_with_accounts(
    api: str, organisation: Simulator, store: Store, staging: Staging, postgres: DatabaseServer
) -> Iterator[str]:
    """The same with accounts, and the contacts of these."""
    yield from template(organisation, store, postgres, settings_with(contacts={"mapping": MAPPING}))


def template(organisation: Simulator, store: Store, postgres: DatabaseServer, settings: Settings) -> Iterator[str]:
    prepare(organisation, store, settings)
    yield from keep_as_template(postgres, store)


STEPS = {2: ("run", "contacts"), 3: ("run", "accounts", "contacts")}
"""Every step that speaks to Salesforce logs in once: the parts in which the logins of a run are made."""


@dataclass(frozen=True)
class Calls:
    """The calls of a run by their number: what kind of call each is, and in which part of the run it was made."""

    kinds: dict[int, str]
    parts: dict[int, str]
    first_pages: set[int]

    @classmethod
    def of(cls, organisation: Simulator) -> "Calls":
        log = dict(enumerate(organisation.control.calls()["log"], start=1))
        kinds = {number: kind_of(call) for number, call in log.items()}
        logins = [number for number, kind in kinds.items() if kind == "login"]
        parts = {number: STEPS[len(logins)][sum(login < number + 1 for login in logins) - 1] for number in kinds}
        first_pages = {
            number for number, kind in kinds.items() if kind == "results" and "locator=" not in log[number]["path"]
        }
        return cls(kinds, parts, first_pages)

    def last(self, kind: str) -> int:
        return max(number for number, each in self.kinds.items() if each == kind)

    def worth_disturbing(self) -> dict[int, str]:
        """In each part the last call of each kind, and of pages that bring records the first, too."""
        last = {(self.parts[number], kind): number for number, kind in self.kinds.items()}
        first = {(self.parts[number], kind): number for number, kind in reversed(self.kinds.items()) if kind in LATER}
        return {number: self.kinds[number] for number in sorted({*last.values(), *first.values()})}

    def where(self, name: str) -> Iterator[tuple[int, str]]:
        """The calls at which a fault is tried. No page came before the first one that could come again."""
        for number, kind in self.worth_disturbing().items():
            if kind in FAULTS[name].at and not (name == "duplicate page" and number in self.first_pages):
                yield number, kind


@dataclass(frozen=True)
class Night:
    """The second night without any fault: what there was before it, what it made, and the calls that it took."""

    before: dict[str, list[tuple]]
    after: dict[str, list[tuple]]
    calls: Calls

    @classmethod
    def undisturbed(
        cls, organisation: Simulator, postgres: DatabaseServer, template: str, patch: pytest.MonkeyPatch
    ) -> "Night":
        for store in fresh(postgres, template, patch):
            before = dump(store)
            organisation.control.forget_calls()
            assert sync().run.state == "succeeded"
            after = dump(store)
        assert result(after)["contacts"] != result(before)["contacts"]
        return cls(before, after, Calls.of(organisation))


def kind_of(call: dict[str, Any]) -> str:
    (kind,) = [
        kind for kind, (method, path) in CALLS.items() if call["method"] == method and re.search(path, call["path"])
    ]
    return kind


def result(dumped: dict[str, list[tuple]]) -> dict[str, list[tuple]]:
    """What nights come to, however many runs it took: without their numbers, and without the errors that stopped them."""
    return dumped | {
        "entries": [entry[1:] for entry in dumped["entries"]],
        "errors": [error[:-3] for error in dumped["errors"] if error[LEVEL] != "run" and error[CLOSED] is None],
    }


def untouched(dumped: dict[str, list[tuple]]) -> dict[str, list[tuple]]:
    """All that a failed run must leave as it was: everything but the record of itself."""
    return dumped | {"runs": [], "errors": [error for error in dumped["errors"] if error[LEVEL] != "run"]}


TABLES = ("contacts", "handles", "accounts", "domains")
LEVEL, CLOSED, DESCRIPTION = 2, -1, 5
"""Places in a dumped error, and that of the field `Level_Text__c` in a dumped contact."""
RUN_STATES = "SELECT state FROM contact_store.sync_runs ORDER BY id DESC LIMIT 1"
OPEN_RUN_ERRORS = (
    "SELECT part, code FROM contact_store.sync_errors WHERE level = 'run' AND closed_run IS NULL ORDER BY 1"
)


def recovered(store: Store, night: Night, concluded: RunReport) -> None:
    assert (concluded.run.state, store.execute(RUN_STATES)) == ("succeeded", [("succeeded",)])
    assert dump(store) == night.after


def failed(store: Store, concluded: RunReport, errors: list[tuple[str, str]]) -> None:
    assert (concluded.run.state, store.execute(RUN_STATES)) == ("failed", [("failed",)])
    assert store.execute(OPEN_RUN_ERRORS) == errors


def made_good(store: Store, night: Night, told: Collection[str] = ("entries",)) -> None:
    """The next run brings the undisturbed result, tables and what is `told` of it; no error of the run before stays open."""
    assert (sync().run.state, store.execute(OPEN_RUN_ERRORS)) == ("succeeded", [])
    found, expected = result(dump(store)), result(night.after)
    compared = {*TABLES, "errors", *told}
    assert {table: found[table] for table in compared} == {table: expected[table] for table in compared}


# ------------------------------------------------------------------------------------------------------- the proofs


@pytest.mark.parametrize("lasting", ["once", "for ever"])
def test_a_fault_at_any_call_changes_nothing_in_the_end(
    two_nights: str,
    api: str,
    organisation: Simulator,
    postgres: DatabaseServer,
    score: Score,
    monkeypatch: pytest.MonkeyPatch,
    lasting: str,
) -> None:
    night = Night.undisturbed(organisation, postgres, two_nights, monkeypatch)
    assert set(night.calls.kinds.values()) == KINDS[api]
    failures: list[Exception] = []
    for case in each_case(night, score, lasting):
        for store in fresh(postgres, two_nights, monkeypatch):
            with about(case, failures):
                concluded = disturbed(organisation, case)
                if case.end == RECOVERS:
                    recovered(store, night, concluded)
                else:
                    failed(store, concluded, [(case.part, case.end)])
                    assert untouched(dump(store)) == untouched(night.before)
                    made_good(store, night)
                assert broken(store, *sent(organisation)) == {}
        score.met[case.said] += 1
    refuse(failures)


def test_a_fault_in_a_run_with_accounts_leaves_each_part_whole(
    two_nights_with_accounts: str,
    api: str,
    organisation: Simulator,
    postgres: DatabaseServer,
    score: Score,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rules 2.5 and 6.1: without accounts no contacts; accounts that were applied before contacts failed stay."""
    night = Night.undisturbed(organisation, postgres, two_nights_with_accounts, monkeypatch)
    # No account was merged, and no records at all are too few for a job.
    assert set(night.calls.kinds.values()) == KINDS[api] - {"list view", "list view's query"} | {"merges"}
    failures: list[Exception] = []
    for case in each_case(night, score, "once", differs_with_accounts):
        for store in fresh(postgres, two_nights_with_accounts, monkeypatch):
            with about(case, failures):
                concluded = disturbed(organisation, case)
                if case.end == RECOVERS:
                    recovered(store, night, concluded)
                else:
                    too = [("contacts", "accounts_sync_failed")] if case.part == "accounts" else []
                    failed(store, concluded, [(case.part, case.end), *too])
                    applied = ("accounts", "domains") if case.part == "contacts" else ()
                    found, left = dump(store), night.before | {table: night.after[table] for table in applied}
                    assert {table: found[table] for table in TABLES} == {table: left[table] for table in TABLES}
                    made_good(store, night)
                assert broken(store, *sent(organisation)) == {}
        score.met[case.said] += 1
        score.met[f"in the part {case.part}"] += 1
    score.expect(f"in the part {part}" for part in ("run", "accounts", "contacts"))
    refuse(failures)


def refuse(failures: list[Exception]) -> None:
    if failures:
        raise ExceptionGroup("faults that did not come to their end", failures)


def differs_with_accounts(case: "Case") -> bool:
    """All that stops a run; of what does not, the pages of accounts are enough."""
    return case.end != RECOVERS or (case.part == "accounts" and case.kind in LATER)


@dataclass(frozen=True)
class Case:
    """A fault at one call, or at all calls of that kind, and the end that is expected."""

    fault: str
    lasting: str
    number: int
    kind: str
    part: str

    @property
    def end(self) -> str:
        fault_ = FAULTS[self.fault]
        return RECOVERS if self.kind in AFTERWARDS else fault_.once if self.lasting == "once" else fault_.for_ever

    @property
    def said(self) -> str:
        return f"{self.fault}, {self.lasting}: {self.end}"


def each_case(
    night: Night, score: Score, lasting: str, chosen: Callable[[Case], bool] = lambda case: True
) -> Iterator[Case]:
    """Every fault that there is by this API, at every call where it makes sense. Each of them is expected."""
    calls = night.calls
    cases = [
        Case(name, lasting, number, kind, calls.parts[number]) for name in FAULTS for number, kind in calls.where(name)
    ]
    there = set(calls.kinds.values())
    assert {case.fault for case in cases} == {name for name in FAULTS if there & set(FAULTS[name].at)}
    if lasting == "for ever":  # then it is one case for all calls of a kind
        cases = list({(case.fault, case.kind): case for case in reversed(cases)}.values())[::-1]
        cases = [case for case in cases if case.kind in ONE_OF_A_SORT or not ONE_OF_A_SORT & set(FAULTS[case.fault].at)]
    cases = [case for case in cases if chosen(case)]
    score.expect(dict.fromkeys(case.said for case in cases))
    for case in cases:
        score.tried["runs with a fault"] += 1
        yield case


@contextmanager
def about(case: object, others: list[Exception] | None = None) -> Generator[None]:
    """Say which case failed; with `others`, among which it is put, the cases after it are still tried."""
    try:
        yield
    except Exception as failure:
        failure.add_note(str(case))
        if others is None:
            raise
        others.append(failure)


def disturbed(organisation: Simulator, case: Case) -> RunReport:
    """A run in which the fault happens; it must have made a difference."""
    control = organisation.control
    for do, values in FAULTS[case.fault].does:
        if case.lasting == "once":
            control.add_fault(do=do, nth=case.number, values=values)
        else:
            method, path = CALLS[case.kind]
            control.add_fault(do=do, method=method, path=path, times=0, values=values)
    concluded = sync()
    struck = [line["struck"] for line in control.faults()]
    control.clear_faults()
    assert all(struck) if case.lasting == "for ever" else set(struck) == {1}, struck
    return concluded


# --------------------------------------------------------------------------------- what an administrator does there

Action = tuple[str, dict[str, Any]]
LEFT_OUT = "goes on without the field"
AT_LOGIN = {"login_failed", "app_blocked"}


@dataclass(frozen=True)
class Change:
    """What somebody changes in Salesforce, how it is undone, and the end of a run: a code, `LEFT_OUT` or `RECOVERS`.

    `until` names, by API, the last call before which it still matters; after that it comes too late for this run.
    """

    does: tuple[Action, ...]
    undoes: tuple[Action, ...]
    end: str
    until: dict[str, str]


THE_LAST_PAGE = {"rest": "next page", "bulk": "results"}
THE_LAST_LOGIN = {"rest": "login", "bulk": "login"}
ITS_QUERY_IS_READ = {"rest": "list view's query", "bulk": "list view's query"}
RECORDS_ARE_ASKED_FOR = {"rest": "records", "bulk": "job"}
FIELD = {"sobject": "Contact", "name": "Level_Text__c"}
NEWCOMER = {"Id": lengthen("003HsZZZZZZZZZZ"), "LastName": "One too many", "Email": "late@example.org"}
HIDE, SHOW = ("hide_field", FIELD), ("show_field", FIELD)
CHANGES = {
    "the user is deactivated": Change(
        (("change_user", {"active": False}),), (("change_user", {"active": True}),), "login_failed", THE_LAST_PAGE
    ),
    "the user's login is refused": Change(
        (("change_user", {"login_refused_because": "ip restricted"}),),
        (("change_user", {"login_refused_because": None}),),
        "login_failed",
        THE_LAST_LOGIN,
    ),
    "the user may not use the API": Change(
        (("change_user", {"api_enabled": False}),),
        (("change_user", {"api_enabled": True}),),
        "api_disabled",
        THE_LAST_PAGE,
    ),
    "the app is blocked": Change(
        (("change_app", {"blocked": True}),), (("change_app", {"blocked": False}),), "app_blocked", THE_LAST_PAGE
    ),
    "the app is removed": Change(
        (("change_app", {"installed": False}),), (("change_app", {"installed": True}),), "app_blocked", THE_LAST_LOGIN
    ),
    "the API limit is used up": Change(
        (("change_options", {"daily_calls": 0}),),
        (("change_options", {"daily_calls": 1_000_000}),),
        "api_limit",
        THE_LAST_PAGE,
    ),
    "every session is ended": Change((("expire_sessions", {}),), (), RECOVERS, THE_LAST_PAGE),
    "the list view is deleted": Change(
        (("delete_list_view", {"id": "VIEW"}),),
        (("create_list_view", {"label": VIEW, "where": EVERYBODY}),),
        "list_view_not_found",
        ITS_QUERY_IS_READ,
    ),
    "the list view is unshared": Change(
        (("unshare_list_view", {"id": "VIEW"}),),
        (("share_list_view", {"id": "VIEW"}),),
        "list_view_not_found",
        ITS_QUERY_IS_READ,
    ),
    "the list view filters on a field that is not there": Change(
        (("update_list_view", {"id": "VIEW", "where": "Nothing__c = 'x'"}),),
        (("update_list_view", {"id": "VIEW", "where": EVERYBODY}),),
        "list_view_not_usable",
        ITS_QUERY_IS_READ,
    ),
    "a mapped field is hidden": Change((HIDE,), (SHOW,), LEFT_OUT, RECORDS_ARE_ASKED_FOR),
    "a mapped field is hidden, for which jobs fail": Change(
        (HIDE, ("change_options", {"bulk_refuses_fields": "failed_job"})),
        (SHOW, ("change_options", {"bulk_refuses_fields": "at_creation"})),
        LEFT_OUT,
        RECORDS_ARE_ASKED_FOR,
    ),
    "a mapped field is deleted": Change(
        (("delete_field", FIELD),),
        (
            ("add_field", FIELD | {"length": 40}),
            ("update", {"sobject": "Contact", "ids": "SWAPPED", "values": {"Level_Text__c": "swapped"}}),
        ),
        LEFT_OUT,
        RECORDS_ARE_ASKED_FOR,
    ),
    "the source grows too large": Change(
        (("create", {"sobject": "Contact", "records": [NEWCOMER]}),),
        (("hard_delete", {"sobject": "Contact", "ids": [NEWCOMER["Id"]]}),),
        "too_many_contacts",
        RECORDS_ARE_ASKED_FOR,
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_in_salesforce_stops_a_run_or_is_left_out(
    two_nights: str,
    api: str,
    organisation: Simulator,
    postgres: DatabaseServer,
    score: Score,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Between two runs (moment 0), right before the first call of a run, in its middle, when it last matters, and later."""
    change, control = CHANGES[name], organisation.control
    night = Night.undisturbed(organisation, postgres, two_nights, monkeypatch)
    in_time = night.calls.last(change.until[api])
    do, undo = (with_ids(actions, organisation) for actions in (change.does, change.undoes))
    moments = {0, 1, night.calls.last("count"), in_time, *({in_time + 1} & set(night.calls.kinds))}
    for moment in sorted(moments):
        end = change.end if moment <= in_time else RECOVERS
        for store in fresh(postgres, two_nights, monkeypatch):
            with about(f"{name}, moment {moment}"):
                concluded = changed(control, do, moment)
                if end == RECOVERS:
                    recovered(store, night, concluded)
                elif end == LEFT_OUT:
                    went_on_without(store, night, concluded)
                else:
                    failed(store, concluded, [("run" if moment <= 1 and end in AT_LOGIN else "contacts", end)])
                    assert untouched(dump(store)) == untouched(night.before)
                for verb, arguments in undo:
                    getattr(control, verb)(**arguments)
                made_good(store, night, told=() if end == LEFT_OUT else ("entries",))  # it came in two steps
                assert broken(store, *sent(organisation)) == {}
        score.tried["runs with a change"] += 1
        score.met[said(change, moment, in_time)] += 1
    score.expect(said(change, moment, in_time) for moment in (0, 1))
    if change.until[api] != "next page":  # after which there is nothing
        score.expect([said(change, in_time + 1, in_time)])


def said(change: Change, moment: int, in_time: int) -> str:
    if moment > in_time:
        return "too late to matter"
    return f"{'during a run' if moment else 'between two runs'}: {change.end}"


def changed(control: ControlClient, actions: tuple[Action, ...], moment: int) -> RunReport:
    """A run before which, or right before a call of which, somebody changes something."""
    for verb, arguments in actions:
        if moment:
            control.add_fault(do="control", nth=moment, values={"verb": verb, "arguments": arguments})
        else:
            getattr(control, verb)(**arguments)
    concluded = sync()
    assert [line["struck"] for line in control.faults()] == [1] * (len(actions) if moment else 0)
    control.clear_faults()
    return concluded


def went_on_without(store: Store, night: Night, concluded: RunReport) -> None:
    """Rule 3.3: what the field gave stays, everything else is as in the undisturbed run."""
    assert concluded.run.state == "succeeded"
    assert store.execute(OPEN_RUN_ERRORS) == [("contacts", "field_not_found")]
    had = {contact[0]: contact[DESCRIPTION] for contact in night.before["contacts"]}
    contacts = [
        (*contact[:DESCRIPTION], had.get(contact[0]), *contact[DESCRIPTION + 1 :])
        for contact in night.after["contacts"]
    ]
    found, expected = dump(store), night.after | {"contacts": contacts}
    assert {table: found[table] for table in TABLES} == {table: expected[table] for table in TABLES}


def with_ids(actions: tuple[Action, ...], organisation: Simulator) -> tuple[Action, ...]:
    """The actions, with the ids of the list view and of the contact that the field describes."""
    (view,) = [view.id for view in organisation.organisation.list_views.values() if view.label == VIEW]
    records = organisation.control.records(sobject="Contact")
    (swapped,) = [record["Id"] for record in records if record["Level_Text__c"]]
    given = {"id": {"VIEW": view}, "ids": {"SWAPPED": [swapped]}}
    return tuple(
        (
            verb,
            {
                key: given.get(key, {}).get(value, value) if isinstance(value, str) else value
                for key, value in arguments.items()
            },
        )
        for verb, arguments in actions
    )
