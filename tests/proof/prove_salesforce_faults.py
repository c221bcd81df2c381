"""Whatever Salesforce does wrong at any call: the run recovers and its result is the undisturbed one, or it fails with
the right code and has changed nothing, and the next run brings the undisturbed result."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from include.contact_sync.salesforce import client
from include.contact_sync.settings import parse_settings
from include.contact_sync.staging import Staging
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.proof.conftest import Score
from tests.proof.invariants import broken
from tests.proof.nights import MAPPING, dump, fresh, keep_as_template, prepare
from tests.proof.one_run import sync
from tests.whole_runs import IN_HASTE, lines, settings_with

UNAVAILABLE = {"salesforce_unavailable"}
ONCE: dict[str, set[str]] = {
    "session_expired": set(),
    "session_expired_html": set(),
    "server_error": set(),
    "unavailable": set(),
    "unavailable_html": set(),
    "http_420": set(),
    "http_429": set(),
    "bad_gateway": set(),
    "gateway_timeout": set(),
    "query_timeout": set(),
    "concurrent_limit": set(),
    "dead_locator": set(),
    "reset": set(),
    "cut_body": set(),
    "close_early": set(),
    "wrong_count": set(),
    "drop_rows": set(),
    "duplicate_page": set(),
    "no_charset": set(),
    "gzip": set(),
    "nul": set(),
    "job_failed": UNAVAILABLE,
    "job_aborted": UNAVAILABLE,
    "job_stuck": UNAVAILABLE,
    "request_limit": {"api_limit"},
    "api_disabled": {"api_disabled"},
    "bulk_limit": {"api_limit"} | UNAVAILABLE,
    "uri_too_long": UNAVAILABLE,
}
"""What happens once, at one call; the codes with which a run may fail then (none: it must recover)."""
FOR_EVER: dict[str, set[str]] = {
    "session_expired": {"login_failed"},
    "server_error": UNAVAILABLE,
    "unavailable_html": UNAVAILABLE,
    "http_420": UNAVAILABLE | {"api_limit"},
    "reset": UNAVAILABLE,
    "cut_body": UNAVAILABLE | {"not_balanced"},
    "close_early": UNAVAILABLE | {"not_balanced"},
    "wrong_count": {"not_balanced"},
    "drop_rows": {"not_balanced"} | UNAVAILABLE,
    "duplicate_page": {"not_balanced"},
    "dead_locator": UNAVAILABLE | {"not_balanced"},
    "request_limit": {"api_limit"},
    "api_disabled": {"api_disabled"},
    "job_failed": UNAVAILABLE,
    "job_stuck": UNAVAILABLE,
}
DOWNLOADS = {"query", "query_all", "query_more", "bulk_results"}
WITH_A_SESSION = DOWNLOADS | {"describe", "list_view", "list_view_describe", "bulk_create", "bulk_poll", "bulk_delete"}
WHERE: dict[str, set[str]] = {
    "session_expired": WITH_A_SESSION,
    "session_expired_html": WITH_A_SESSION,
    "request_limit": WITH_A_SESSION,
    "api_disabled": WITH_A_SESSION,
    "query_timeout": {"query", "query_all"},
    "uri_too_long": {"query", "query_all"},
    "dead_locator": {"query_more", "bulk_results"},
    "cut_body": DOWNLOADS | {"describe"},
    "close_early": DOWNLOADS | {"describe"},
    "wrong_count": {"bulk_results"},
    "drop_rows": {"bulk_results"},
    "duplicate_page": {"bulk_results"},
    "no_charset": DOWNLOADS,
    "gzip": DOWNLOADS,
    "nul": {"bulk_results"},
    "job_failed": {"bulk_create", "bulk_poll"},
    "job_aborted": {"bulk_create", "bulk_poll"},
    "job_stuck": {"bulk_create", "bulk_poll"},
    "bulk_limit": {"bulk_create"},
}
"""At which kinds of call a fault makes sense; any other fault does at all."""
ADDRESSES = {
    "token": ("POST", "/token$"),
    "describe": ("GET", "/sobjects/[^/]+/describe$"),
    "list_view": ("GET", "/listviews/[^/]+$"),
    "list_view_describe": ("GET", "/listviews/[^/]+/describe$"),
    "query": ("GET", r"/query\?"),
    "query_all": ("GET", r"/queryAll\?"),
    "query_more": ("GET", "/query/0"),
    "bulk_create": ("POST", "/jobs/query$"),
    "bulk_poll": ("GET", "/jobs/query/[^/]+$"),
    "bulk_results": ("GET", "/results"),
    "bulk_delete": ("DELETE", "/jobs/query/"),
}
"""Where a fault that lasts for ever strikes: at all calls of one kind."""
OPEN_RUN_ERRORS = "SELECT code FROM contact_store.sync_errors WHERE level = 'run' AND closed_run IS NULL"
TABLES = ("contacts", "handles", "accounts", "domains")


@pytest.fixture(params=["rest", "bulk"])
def two_nights(
    request: pytest.FixtureRequest,
    organisation: Simulator,
    store: Store,
    staging: Staging,
    postgres: DatabaseServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    yield from second_night(request.param, organisation, store, postgres, monkeypatch)


def second_night(
    way: str, organisation: Simulator, store: Store, postgres: DatabaseServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The template of the store to which the second night comes; contacts of a list view, in pages of three."""
    organisation.control.change_options(page_size=3)
    pace = replace(IN_HASTE, job_seconds=0.3)
    if way == "bulk":
        pace = replace(pace, rest_rows=0, first_page_rows=3, page_rows=3)
    monkeypatch.setattr(client, "Pace", lambda: pace)
    view = organisation.control.create_list_view(label="Everybody", where="LastName != 'nobody'")
    contacts = {"mapping": MAPPING, "source": {"list_view": view}}
    prepare(organisation, store, settings_with(accounts={"enabled": False, "mapping": lines()}, contacts=contacts))
    yield from keep_as_template(postgres, store)


def tables(store: Store) -> dict[str, list[tuple]]:
    found = dump(store)
    return {name: found[name] for name in TABLES}


def calls_worth_disturbing(organisation: Simulator) -> dict[int, str]:
    """The last call of each kind in the run that has just been, of pages the first, too: its number, and its kind."""
    log = organisation.control.calls()["log"]
    numbered = [(number, call["kind"]) for number, call in enumerate(log, start=1)]
    first = {kind: number for number, kind in reversed(numbered) if kind in DOWNLOADS}
    last = {kind: number for number, kind in numbered}
    return dict(sorted((number, kind) for found in (first, last) for kind, number in found.items()))


def first_page(calls: dict[int, str]) -> int:
    """The first page of a job has none before it that could come again."""
    return min((number for number, kind in calls.items() if kind == "bulk_results"), default=0)


@pytest.mark.parametrize("lasting", ["once", "for ever"])
def test_a_fault_at_any_call_changes_nothing_in_the_end(
    two_nights: str,
    organisation: Simulator,
    postgres: DatabaseServer,
    score: Score,
    monkeypatch: pytest.MonkeyPatch,
    lasting: str,
) -> None:
    control = organisation.control
    for store in fresh(postgres, two_nights, monkeypatch):
        before = tables(store)
        control.forget_calls()
        assert sync().run.state == "succeeded"
        undisturbed = tables(store)
        assert undisturbed != before
    calls = calls_worth_disturbing(organisation)
    for fault, codes in (ONCE if lasting == "once" else FOR_EVER).items():
        for number, kind in calls.items():
            if kind not in WHERE.get(fault, {kind}) or (fault == "duplicate_page" and number == first_page(calls)):
                continue
            for store in fresh(postgres, two_nights, monkeypatch):
                disturb(organisation, fault, number, kind, for_ever=lasting == "for ever")
                concluded = sync()
                control.clear_faults()
                control.change_user(api_enabled=True)
                at = f"{fault} at call {number}, {kind}"
                if concluded.run.state == "succeeded":
                    assert tables(store) == undisturbed, at
                    score.met["the result is the undisturbed one"] += 1
                else:
                    found = {code for (code,) in store.execute(OPEN_RUN_ERRORS)}
                    assert found and found <= codes, (at, found)
                    assert tables(store) == before, at
                    assert sync().run.state == "succeeded", at
                    assert tables(store) == undisturbed, at
                    score.met[
                        f"failed with {', '.join(sorted(found))}, changed nothing, and the next run made it good"
                    ] += 1
                assert broken(store) == {}
            score.tried["faults"] += 1
            score.met[f"at a call of the kind {kind}"] += 1


# --------------------------------------------------------------------------------- what an administrator does there


@dataclass(frozen=True)
class Change:
    """What somebody changes in Salesforce, how it is undone (None: it cannot be), and the code of a run that it stops.

    Without a code a run goes on without the field.
    """

    does: tuple[str, dict[str, Any]]
    undoes: tuple[str, dict[str, Any]] | None
    code: str | None


FIELD = {"sobject": "Contact", "name": "Level_Text__c"}
CHANGES = {
    "the user is deactivated": Change(
        ("change_user", {"active": False}), ("change_user", {"active": True}), "login_failed"
    ),
    "the user may not use the API": Change(
        ("change_user", {"api_enabled": False}), ("change_user", {"api_enabled": True}), "api_disabled"
    ),
    "the app is blocked": Change(("change_app", {"blocked": True}), ("change_app", {"blocked": False}), "app_blocked"),
    "the list view is deleted": Change(("delete_list_view", {"id": "VIEW"}), None, "list_view_not_found"),
    "the list view is unshared": Change(
        ("unshare_list_view", {"id": "VIEW"}), ("share_list_view", {"id": "VIEW"}), "list_view_not_found"
    ),
    "the list view filters on a field that is not there": Change(
        ("update_list_view", {"id": "VIEW", "where": "Nothing__c = 'x'"}),
        ("update_list_view", {"id": "VIEW", "where": "LastName != 'nobody'"}),
        "list_view_not_usable",
    ),
    "a mapped field is hidden": Change(("hide_field", FIELD), ("show_field", FIELD), None),
    "a mapped field is deleted": Change(("delete_field", FIELD), None, None),
}
DESCRIPTION = 5
"""The place of what that field feeds in a dumped contact."""


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_changed_in_salesforce_stops_a_run_or_is_left_out(
    two_nights: str,
    organisation: Simulator,
    postgres: DatabaseServer,
    score: Score,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    """Between two runs, and at each call of one."""
    change, control = CHANGES[name], organisation.control
    for store in fresh(postgres, two_nights, monkeypatch):
        before = tables(store)
        control.forget_calls()
        assert sync().run.state == "succeeded"
        undisturbed = tables(store)
    count = len(control.calls()["log"])
    verb, arguments = with_view(change.does, organisation)
    undo = change.undoes and with_view(change.undoes, organisation)
    for moment in [0, *(range(1, count + 1) if undo else [])]:
        for store in fresh(postgres, two_nights, monkeypatch):
            if moment:
                control.add_fault(do="control", nth=moment, values={"verb": verb, "arguments": arguments})
            else:
                getattr(control, verb)(**arguments)
            concluded = sync()
            codes = {code for (code,) in store.execute(OPEN_RUN_ERRORS)}
            if concluded.run.state == "failed":
                assert codes == {change.code}, (moment, codes)
                assert tables(store) == before, moment
                score.met[f"failed with {change.code}, changed nothing"] += 1
            elif codes:
                assert change.code is None, moment
                assert codes == {"field_not_found"}, moment
                assert tables(store) == undisturbed | {"contacts": as_described(before, undisturbed)}, moment
                score.met["went on without the field, whose values stay"] += 1
            else:
                assert moment, "a change between two runs was not noticed"
                assert tables(store) == undisturbed, moment
                score.met["came too late to matter"] += 1
            control.clear_faults()
            if undo:
                getattr(control, undo[0])(**undo[1])
                assert sync().run.state == "succeeded", moment
                assert tables(store) == undisturbed, moment
            assert broken(store) == {}
        score.tried["changes"] += 1


def with_view(what: tuple[str, dict[str, Any]], organisation: Simulator) -> tuple[str, dict[str, Any]]:
    (view,) = [view.id for view in organisation.organisation.list_views.values() if view.label == "Everybody"]
    return what[0], {key: view if value == "VIEW" else value for key, value in what[1].items()}


def as_described(before: dict[str, list[tuple]], undisturbed: dict[str, list[tuple]]) -> list[tuple]:
    """The undisturbed contacts with the descriptions that they had before."""
    descriptions = {contact[0]: contact[DESCRIPTION] for contact in before["contacts"]}
    return [
        (*contact[:DESCRIPTION], descriptions.get(contact[0]), *contact[DESCRIPTION + 1 :])
        for contact in undisturbed["contacts"]
    ]


def test_a_source_that_has_grown_too_large_changes_nothing(
    two_nights: str,
    organisation: Simulator,
    postgres: DatabaseServer,
    score: Score,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 1.5."""
    for store in fresh(postgres, two_nights, monkeypatch):
        before = tables(store)
        saved = json.loads(store.execute("SELECT settings::text FROM contact_store.sync_settings")[0][0])
        assert sync(parse_settings(saved | {"maximum_contacts": 3})).run.state == "failed"
        assert store.execute(OPEN_RUN_ERRORS) == [("too_many_contacts",)]
        assert tables(store) == before
        assert sync().run.state == "succeeded"
        assert tables(store) != before
        score.tried["sources"] += 1


def disturb(organisation: Simulator, fault: str, number: int, kind: str, *, for_ever: bool) -> None:
    values: dict[str, Any] = {"rows": 1, "share": 0.5, "message": "Error: an internal error"}
    if for_ever:
        method, path = ADDRESSES[kind]
        organisation.control.add_fault(do=fault, method=method, path=path, times=0, values=values)
    else:
        organisation.control.add_fault(do=fault, nth=number, values=values)
