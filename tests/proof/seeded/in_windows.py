"""Defects of runs over a window, looked for on the days around its borders."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from include.contact_sync import conclude, extract, flow
from include.contact_sync.salesforce import soql
from include.contact_sync.staging import Staging
from include.contact_sync.store import error_book, runs
from include.contact_sync.store.connection import connect
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.proof.conftest import Score
from tests.proof.prove_windows import (
    test_a_run_over_a_window_takes_who_was_stamped_in_it_and_is_silent_about_the_rest as days_around_a_window,
)
from tests.proof.seeded.defect import Defect, Invariant, Plant, Scene, instead, without


@cache
def days(source: str, zone: str) -> Scene:
    """Some days in that zone, read from that source."""

    def scene(
        organisation: Simulator, store: Store, staging: Staging, postgres: DatabaseServer, score: Score, tmp_path: Path
    ) -> None:
        days_around_a_window(organisation, store, staging, postgres, score, tmp_path, "REST", source, zone)

    scene.__name__ = f"days around a window: {source}, {zone}"
    return scene


LIST_VIEW, ACCOUNTS = days("list view", "Asia/Kolkata"), days("synced accounts", "America/New_York")


def condition(change: Callable[[str], str]) -> Plant:
    """The condition that makes a window, changed."""
    return instead(extract, "within", lambda original: lambda *arguments: change(original(*arguments)))


def on(date: str) -> Plant:
    return condition(lambda text: text.replace("SystemModstamp", date))


def whole(original: Any) -> Any:
    """As if there were no window."""
    return lambda *arguments, **options: original(*arguments, **options | {"window": None})


def as_of_the_whole_source(original: Any) -> Any:
    return lambda *arguments, **options: original(*arguments, **options | {"whole_source": True})


def takes_any_window_for_large_enough(original: Any) -> Any:
    """What stopped earlier runs stops none any more."""
    return lambda cursor, run_id, part, still=(): original(cursor, run_id, part)


def in_the_machines_zone(original: Any) -> Any:
    return lambda moment: original(moment.astimezone().replace(tzinfo=UTC))


def without_its_zone(original: Any) -> Any:
    def opened(connection: Any, *, window: tuple[datetime, datetime] | None, **facts: Any) -> Any:
        named = window and tuple(moment.replace(tzinfo=UTC) for moment in window)
        return original(connection, window=named, **facts)

    return opened


def a_day_too_long(original: Any) -> Any:
    def within(field: str, start: datetime, end: datetime) -> str:
        return str(original(field, start, end + timedelta(days=1)))

    return within


def counts_without_a_window(original: Any) -> Any:
    """Salesforce is asked how large the source is, not how much of it will be read."""

    def count(self: Any, query: Any) -> Any:
        is_limit = [text for text in query.conditions if not text.startswith("SystemModstamp")]
        return original(self, replace(query, conditions=tuple(is_limit)))

    return count


def accounts_of_the_window(original: Any) -> Any:
    def extracted(salesforce: Any, source: Any, staging: Any, progress: Any) -> Any:
        with connect() as connection:
            window = runs.load_run(connection, staging.run_id).window
        if window and source.part == "accounts":
            source = replace(source, conditions=(soql.within("SystemModstamp", *window),))
        return original(salesforce, source, staging, progress)

    return extracted


def planned_without_a_window(original: Any) -> Any:
    return lambda run, *arguments: original(replace(run, window_start=None, window_end=None), *arguments)


TAKEN = "takes_who_was_stamped_in_the_window: assert "
CLOSED = "is_silent_about_the_rest: assert closed <= expected"
GONE = "is_silent_about_the_rest: assert ids(life.store, GONE) <= gone"
SUCCEEDED = 'run_over: assert done.state == "succeeded"'
DEFECTS = [
    Defect(
        "a window's end is a part of it (1.3)",
        Invariant.WINDOWS,
        condition(lambda text: text.replace(" < ", " <= ")),
        LIST_VIEW,
        TAKEN,
    ),
    Defect(
        "a window's start is no part of it (1.3)",
        Invariant.WINDOWS,
        condition(lambda text: text.replace(" >= ", " > ")),
        LIST_VIEW,
        TAKEN,
    ),
    Defect(
        "a window ends a day late (1.3)",
        Invariant.WINDOWS,
        instead(extract, "within", a_day_too_long),
        LIST_VIEW,
        TAKEN,
    ),
    Defect(
        "a backfill reads the whole source (1.3)",
        Invariant.WINDOWS,
        instead(flow, "extract_contacts", whole),
        ACCOUNTS,
        TAKEN,
    ),
    Defect("a window is one of CreatedDate (1.3)", Invariant.WINDOWS, on("CreatedDate"), ACCOUNTS, TAKEN),
    Defect("a window is one of LastModifiedDate (1.3)", Invariant.WINDOWS, on("LastModifiedDate"), ACCOUNTS, TAKEN),
    Defect(
        "a window is read in the machine's time zone (1.3)",
        Invariant.WINDOWS,
        instead(soql, "_moment", in_the_machines_zone),
        LIST_VIEW,
        TAKEN,
    ),
    Defect(
        "a window loses the time zone in which it was named (1.3)",
        Invariant.WINDOWS,
        instead(runs, "open_run", without_its_zone),
        ACCOUNTS,
        TAKEN,
    ),
    Defect(
        "a backfill closes errors of what it did not read (1.3)",
        Invariant.SILENT_WINDOWS,
        instead(flow, "apply_plan", as_of_the_whole_source),
        LIST_VIEW,
        CLOSED,
    ),
    Defect(
        "a backfill says that the source is no longer too large (1.3)",
        Invariant.SILENT_WINDOWS,
        instead(error_book, "close_run_errors", takes_any_window_for_large_enough),
        LIST_VIEW,
        CLOSED,
    ),
    Defect(
        "who is not in the window stopped syncing (2.6)",
        Invariant.SILENT_WINDOWS,
        instead(flow, "match", as_of_the_whole_source),
        ACCOUNTS,
        GONE,
    ),
    Defect(
        "a dry run over a window says that what it did not read is resolved (1.3)",
        Invariant.SILENT_WINDOWS,
        instead(conclude, "_planned_errors", planned_without_a_window),
        LIST_VIEW,
        "is_told_before_it_is_done: assert planned == told(",
    ),
    Defect(
        "accounts are limited to the window, too (1.3)",
        Invariant.WHOLE_ACCOUNTS,
        instead(extract, "_extract", accounts_of_the_window),
        LIST_VIEW,
        "reads_accounts_whole: assert ",
    ),
    Defect(
        "the limit is counted on the whole source (1.3)",
        Invariant.LIMITED_WINDOWS,
        instead(extract._Reader, "_count", counts_without_a_window),
        LIST_VIEW,
        SUCCEEDED,
    ),
    Defect(
        "a window may hold any number of contacts (1.5)",
        Invariant.LIMITED_WINDOWS,
        instead(extract._Reader, "_refuse_too_many", without),
        ACCOUNTS,
        'is_refused_when_it_is_too_large: assert failed.state == "failed"',
    ),
]
