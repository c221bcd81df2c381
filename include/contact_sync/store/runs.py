"""Keeps the runs: who started them, with which settings, how far they came; and one run at a time per store (rule 6.3).

A running run holds a lease (`alive_until`) that it renews while it works. A run that died lets it pass, and the next
one takes over. All times are the database's, so that workers with different clocks agree. Everything here is a short
transaction of its own, except `begin_apply` and `mark_applied`, which belong to the transaction of a load. What a run
did to contacts is written by `load`; its errors are in `error_book`.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Literal, LiteralString

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from include.contact_sync.errors import AnotherRunIsActive, RunRefused
from include.contact_sync.settings import Settings, parse_settings
from include.contact_sync.store.connection import own_transaction, sql

ALIVE_FOR = timedelta(minutes=30)
"""How long a run may be silent before the next one takes over; retry delays must stay below it."""

Trigger = Literal["schedule", "manual", "backfill"]
Part = Literal["accounts", "contacts"]
Counts = Mapping[str, int]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One run as the store knows it. `window` is a backfill's [start, end); `steps` holds each step's facts."""

    id: int
    dag_run_id: str | None
    trigger: Trigger
    triggered_by: str | None
    notify: str | None
    settings_version: int | None
    settings_as_saved: dict[str, Any]
    dry_run: bool
    window_start: datetime | None
    window_end: datetime | None
    state: Literal["running", "succeeded", "failed"]
    started_at: datetime
    ended_at: datetime | None
    alive_until: datetime
    taken_over_by: int | None
    accounts_applied_at: datetime | None
    contacts_applied_at: datetime | None
    accounts: Counts | None
    contacts: Counts | None
    steps: dict[str, dict[str, Any]]
    report_sent_at: datetime | None
    report_handed_over_in: int | None

    @property
    def window(self) -> tuple[datetime, datetime] | None:
        """What a backfill is limited to (rule 1.3); None for a run over the whole source."""
        return None if self.window_start is None or self.window_end is None else (self.window_start, self.window_end)

    @cached_property
    def settings(self) -> Settings:
        """What the run uses. Raises RunError `settings_invalid` where an old run's settings are no longer valid."""
        return parse_settings(self.settings_as_saved)


def open_run(
    connection: psycopg.Connection,
    *,
    dag_run_id: str | None,
    trigger: Trigger,
    triggered_by: str | None,
    notify: str | None,
    settings_version: int | None,
    settings: Settings | Mapping[str, Any],
    dry_run: bool,
    window: tuple[datetime, datetime] | None,
) -> Run:
    """Open a run, or go on with the running one of the same DAG run (a retried task).

    `settings` may be those of an older release, as they were saved, so that a run that fails on them can say so.

    Raises:
        AnotherRunIsActive: a run that is alive; one whose lease has passed is closed as failed instead.
    """
    window_start, window_end = window or (None, None)
    values = {
        "dag_run_id": dag_run_id,
        "trigger": trigger,
        "triggered_by": triggered_by,
        "notify": notify,
        "settings_version": settings_version,
        "settings": Jsonb(settings.as_json if isinstance(settings, Settings) else settings),
        "dry_run": dry_run,
        "window_start": window_start,
        "window_end": window_end,
        "alive_for": ALIVE_FOR,
    }
    with own_transaction(connection) as cursor:
        cursor.execute(sql("lock_runs"))
        run_id = _first_value(cursor, sql("renew_run_of_dag_run"), values)
        if run_id is None:
            run_id = _insert_run(cursor, values)
        return _run(cursor, run_id)


def resume_run(connection: psycopg.Connection, run_id: int) -> Run:
    """Renew the lease at the start of a step; open a failed run again when a person cleared its task.

    A run that succeeded is returned as it is. The steps that end a run (report, close) use `load_run` instead, since
    a failed run is what they have to report.

    Raises:
        AnotherRunIsActive: the failed run cannot be opened again while another one works.
        RunRefused: another run took over, or a later one has already applied its outcomes.
    """
    with own_transaction(connection) as cursor:
        cursor.execute(sql("lock_runs"))
        run = _run(cursor, run_id)
        if run.state == "failed":
            _refuse_to_reopen(cursor, run)
            cursor.execute(sql("reopen_run"), {"run_id": run_id, "alive_for": ALIVE_FOR})
            log.info("Run %d had failed and goes on", run_id)
        elif run.state == "running":
            cursor.execute(sql("renew_run"), {"run_id": run_id, "alive_for": ALIVE_FOR})
        return _run(cursor, run_id)


def keep_alive(connection: psycopg.Connection, run_id: int) -> None:
    """Renew the lease during a long step.

    Raises:
        RunRefused: the run is no longer running; another one took over.
    """
    with own_transaction(connection) as cursor:
        cursor.execute(sql("renew_run"), {"run_id": run_id, "alive_for": ALIVE_FOR})
        _refuse_unless_running(cursor, run_id)


def begin_apply(cursor: psycopg.Cursor, run_id: int) -> None:
    """Open the transaction of a load: applies wait for each other, and a run that was taken over applies nothing."""
    cursor.execute(sql("lock_apply"))
    cursor.execute(sql("running_run"), {"run_id": run_id})
    _refuse_unless_running(cursor, run_id)


def mark_applied(cursor: psycopg.Cursor, run_id: int, part: Part, counts: Counts) -> None:
    """Record a part's outcome counts as the last statement of its load, just before the commit.

    Renewing the lease from another connection waits from here until the commit.
    """
    statement = sql("mark_accounts_applied" if part == "accounts" else "mark_contacts_applied")
    cursor.execute(statement, {"run_id": run_id, "counts": Jsonb(dict(counts))})
    _refuse_unless_running(cursor, run_id)


def record_counts(connection: psycopg.Connection, run_id: int, part: Part, counts: Counts) -> None:
    """Record the outcome counts of a part that was planned but not applied (a dry run)."""
    statement = sql("record_accounts_counts" if part == "accounts" else "record_contacts_counts")
    with own_transaction(connection) as cursor:
        cursor.execute(statement, {"run_id": run_id, "counts": Jsonb(dict(counts))})


def record_step(connection: psycopg.Connection, run_id: int, step: str, facts: Mapping[str, Any]) -> None:
    """Merge facts of a step (seconds, peak_mb, counts) into what is known of it."""
    with own_transaction(connection) as cursor:
        cursor.execute(sql("record_step"), {"run_id": run_id, "step": step, "facts": Jsonb(dict(facts))})


def close_run(connection: psycopg.Connection, run_id: int, state: Literal["succeeded", "failed"]) -> None:
    """End a run. One that has already ended, or was taken over, stays as it is."""
    with own_transaction(connection) as cursor:
        cursor.execute(sql("close_run"), {"run_id": run_id, "state": state})


def mark_report_handed_over(connection: psycopg.Connection, run_id: int, tries: int) -> None:
    """Remember under which count of tries the run's e-mail is given to the mail server.

    Raises:
        RunRefused: another try, which Airflow had given up, has done so meanwhile.
    """
    with own_transaction(connection) as cursor:
        if not cursor.execute(sql("mark_report_handed_over"), {"run_id": run_id, "tries": tries}).rowcount:
            raise RunRefused(f"The report of run {run_id} was given to the mail server by another try of this task")


def mark_report_refused(connection: psycopg.Connection, run_id: int, tries: int) -> None:
    """Remember that the mail server did not take the run's e-mail, which was given to it under this count of tries."""
    with own_transaction(connection) as cursor:
        cursor.execute(sql("mark_report_refused"), {"run_id": run_id, "tries": tries})


def mark_report_sent(connection: psycopg.Connection, run_id: int) -> None:
    """Remember that the mail server took the run's e-mail."""
    with own_transaction(connection) as cursor:
        cursor.execute(sql("mark_report_sent"), {"run_id": run_id})


def load_run(connection: psycopg.Connection, run_id: int) -> Run:
    """Load a run without touching it. Raises RunRefused where there is none."""
    with own_transaction(connection) as cursor:
        return _run(cursor, run_id)


def run_of_dag_run(connection: psycopg.Connection, dag_run_id: str) -> Run | None:
    """The newest run of a DAG run; a DAG run whose first task was cleared after a failure has several."""
    with own_transaction(connection) as cursor:
        run_id = _first_value(cursor, sql("run_of_dag_run"), {"dag_run_id": dag_run_id})
        return None if run_id is None else _run(cursor, run_id)


def last_whole_transform(connection: psycopg.Connection, run_id: int, step: str) -> int | None:
    """The newest run before this one whose `step` read the values of a whole source, if there is one."""
    with own_transaction(connection) as cursor:
        return _first_value(cursor, sql("last_whole_transform"), {"run_id": run_id, "step": step})


def last_store_copy(connection: psycopg.Connection, run_id: int) -> tuple[int, str] | None:
    """The newest run before this one that kept a copy of the store, and the copy's token; None where there is none."""
    with own_transaction(connection) as cursor:
        row = cursor.execute(sql("last_store_copy"), {"run_id": run_id}).fetchone()
    return None if row is None else (int(row[0]), str(row[1]))


def _insert_run(cursor: psycopg.Cursor, values: Mapping[str, object]) -> int:
    dead = _first_value(cursor, sql("close_dead_run"), values)
    run_id = _first_value(cursor, sql("open_run"), values)
    if run_id is None:
        raise AnotherRunIsActive(f"{_describe_active_run(cursor)} is active; one run at a time per store")
    if dead is not None:
        cursor.execute(sql("record_takeover"), {"run_id": run_id, "dead": dead})
        log.warning(
            "Run %d gave no sign of life for %s; run %d closed it as failed and took over", dead, ALIVE_FOR, run_id
        )
    return run_id


def _refuse_to_reopen(cursor: psycopg.Cursor, run: Run) -> None:
    if run.taken_over_by is not None:
        raise RunRefused(f"Run {run.id} was taken over by run {run.taken_over_by}; start a new run")
    active = _describe_active_run(cursor)
    if active is not None:
        raise AnotherRunIsActive(f"{active} is active; clear the task again when it has ended")
    later = _first_value(cursor, sql("later_applied_run"), {"run_id": run.id})
    if later is not None:
        raise RunRefused(f"Run {later}, which is later than run {run.id}, was already applied; start a new run")


def _refuse_unless_running(cursor: psycopg.Cursor, run_id: int) -> None:
    """Look at what the last statement found of the running run."""
    if not cursor.rowcount:
        raise RunRefused(f"Run {run_id} is not running any more: it was closed, or another run took over")


def _describe_active_run(cursor: psycopg.Cursor) -> str | None:
    row = cursor.execute(sql("active_run")).fetchone()
    if row is None:
        return None
    run_id, dag_run_id, started_at = row
    return f"Run {run_id} ({dag_run_id or 'started without Airflow'}, since {started_at:%Y-%m-%d %H:%M:%SZ})"


def _run(cursor: psycopg.Cursor, run_id: int) -> Run:
    with cursor.connection.cursor(row_factory=dict_row) as rows:
        row = rows.execute(sql("load_run"), {"run_id": run_id}).fetchone()
    if row is None:
        raise RunRefused(f"There is no run {run_id} in this store")
    return Run(**row)


def _first_value(cursor: psycopg.Cursor, statement: LiteralString, values: Mapping[str, object]) -> int | None:
    row = cursor.execute(statement, values).fetchone()
    return None if row is None else int(row[0])
