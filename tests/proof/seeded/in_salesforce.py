"""Defects of how a run takes what Salesforce does wrong, and what administrators change there."""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cache
from typing import Any

import pyarrow as pa
import pytest

from include.contact_sync import extract, flow
from include.contact_sync.errors import RunError
from include.contact_sync.salesforce import bulk, client, faults, session
from include.contact_sync.salesforce.faults import CursorLost
from include.contact_sync.salesforce.pages import Page
from include.contact_sync.salesforce.soql import Filter
from include.contact_sync.staging import Staging
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.proof import prove_salesforce_faults as faulty
from tests.proof.conftest import Score
from tests.proof.seeded.defect import Defect, Invariant, Plant, Scene, every, instead, without
from tests.proof.seeded.in_lives import everybody_has_left


@contextmanager
def second_night(
    api: str, organisation: Simulator, store: Store, postgres: DatabaseServer, patch: pytest.MonkeyPatch
) -> Generator[str]:
    """The proof's two nights, by one of Salesforce's interfaces; of faults only the first failure counts."""
    patch.setattr(faulty, "refuse", the_first)
    faulty.read_by(api, organisation, patch)
    yield from faulty.nights_of_a_list_view(organisation, store, postgres)


def the_first(failures: list[Exception]) -> None:
    for failure in failures:
        raise failure


@cache
def fault(name: str, kind: str, api: str, lasting: str = "once") -> Scene:
    """A fault at the calls of one kind."""

    def scene(
        organisation: Simulator,
        store: Store,
        staging: Staging,
        postgres: DatabaseServer,
        score: Score,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(faulty, "FAULTS", {name: replace(faulty.FAULTS[name], at={kind})})
        with second_night(api, organisation, store, postgres, monkeypatch) as template:
            faulty.test_a_fault_at_any_call_changes_nothing_in_the_end(
                template, api, organisation, postgres, score, monkeypatch, lasting
            )
        assert score.tried["runs with a fault"], "there is no such call"

    scene.__name__ = f"{name} {lasting} at {kind} by {api}"
    return scene


@cache
def change(name: str) -> Scene:
    """What an administrator changes between two runs, and while one reads."""

    def scene(
        organisation: Simulator,
        store: Store,
        staging: Staging,
        postgres: DatabaseServer,
        score: Score,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with second_night("rest", organisation, store, postgres, monkeypatch) as template:
            faulty.test_what_is_changed_in_salesforce_stops_a_run_or_is_left_out(
                template, "rest", organisation, postgres, score, monkeypatch, name
            )

    scene.__name__ = name
    return scene


def nobody_counts(original: Any) -> Any:
    return lambda pages: pages


def each_once(original: Any) -> Any:
    def snapshot(*arguments: Any) -> pa.Table:
        records = original(*arguments).read()
        return records.filter(pa.array(~records["Id"].to_pandas().duplicated().to_numpy()))

    return snapshot


def takes_what_comes(original: Any) -> Any:
    def read_page(results: Any, fields: Any) -> Any:
        return original(replace(results, announced=None), fields)

    return read_page


def ends_quietly(original: Any) -> Any:
    """When there was a page, and the next cannot be had."""

    def read(*arguments: Any, **options: Any) -> Iterator[Page]:
        pages = original(*arguments, **options)
        yield next(pages)
        with suppress(CursorLost):
            yield from pages

    return read


def gives_up_quietly(original: Any) -> Any:
    def read(*arguments: Any, **options: Any) -> Iterator[Page]:
        with suppress(RunError):
            yield from original(*arguments, **options)

    return read


def takes_the_whole_object(original: Any) -> Any:
    def read_filter(*arguments: Any) -> Filter:
        try:
            found: Filter = original(*arguments)
        except RunError:
            found = Filter()
        return found

    return read_filter


def never_logs_in_again(original: Any) -> Any:
    def log_in_again(self: Any, expired: Any) -> None:
        self._logins_left = 0
        original(self, expired)

    return log_in_again


UNCOUNTED: Plant = instead(client, "balanced", nobody_counts)
UNDISTURBED, SUCCEEDED = "recovered: assert dump(store) == night.after", "recovered: assert (concluded.run.state"
FAILED, RIGHT_CODE = "failed: assert (concluded.run.state", "failed: assert store.execute(OPEN_RUN_ERRORS) == errors"
UNTOUCHED = "changes_nothing_in_the_end: assert untouched(dump(store)) == untouched(night.before)"
EXPIRED = fault("session expired (JSON) during the download", "next page", "rest")
FAILING = fault("500", "next page", "rest", "for ever")
DEFECTS = [
    Defect(
        "a duplicate page is taken in place of the one that is missing (6.4)",
        Invariant.RECOVERS,
        every(UNCOUNTED, instead(flow, "_snapshot", each_once)),
        fault("duplicate page", "results", "bulk"),
        UNDISTURBED,
    ),
    Defect(
        "a page with a wrong count is taken (6.4)",
        Invariant.RECOVERS,
        every(UNCOUNTED, instead(bulk, "_read_page", takes_what_comes)),
        fault("row missing from a page", "results", "bulk"),
        UNDISTURBED,
    ),
    Defect(
        "pages behind an expired session are lost (6.4)",
        Invariant.RECOVERS,
        every(UNCOUNTED, instead(client, "read_by_rest", ends_quietly)),
        EXPIRED,
        UNDISTURBED,
    ),
    Defect(
        "a dead locator ends the reading quietly (6.4)",
        Invariant.RECOVERS,
        every(UNCOUNTED, instead(client, "read_by_bulk", ends_quietly)),
        fault("dead locator", "results", "bulk"),
        UNDISTURBED,
    ),
    Defect(
        "an expired session is not renewed",
        Invariant.RECOVERS,
        instead(session.Session, "_log_in_again", never_logs_in_again),
        EXPIRED,
        SUCCEEDED,
    ),
    Defect(
        "what was read is enough when Salesforce fails",
        Invariant.FAILS_WHOLE,
        every(UNCOUNTED, instead(client, "read_by_rest", gives_up_quietly)),
        FAILING,
        FAILED,
    ),
    Defect(
        "contacts count as gone until they are read",
        Invariant.FAILS_WHOLE,
        instead(flow, "extract_contacts", everybody_has_left),
        FAILING,
        UNTOUCHED,
    ),
    Defect(
        "the API limit counts as an outage (7)",
        Invariant.RIGHT_CODE,
        instead(faults, "_LIMITS", lambda _: frozenset()),
        fault("API limit", "next page", "rest", "for ever"),
        RIGHT_CODE,
    ),
    Defect(
        "without its list view the whole object is read (2.4)",
        Invariant.CHANGES_NOTICED,
        instead(client, "read_filter", takes_the_whole_object),
        change("the list view is deleted"),
        FAILED,
    ),
    Defect(
        "a field that is gone is not reported (3.3)",
        Invariant.CHANGES_NOTICED,
        instead(flow, "_field_errors", lambda original: lambda missing: original([])),
        change("a mapped field is deleted"),
        "went_on_without: assert store.execute(OPEN_RUN_ERRORS) ==",
    ),
    Defect(
        "nobody looks how large the source is (1.5)",
        Invariant.TOO_LARGE,
        instead(extract._Reader, "_refuse_too_many", without),
        change("the source grows too large"),
        FAILED,
    ),
]
