"""Somebody acts at a chosen moment of a run, in a session of their own, as people do.

A moment is the beginning of whatever a run does outside itself, in any of its threads: a statement, a table that ADBC
reads, a COPY, a commit, a call to Salesforce. Nothing here knows a function of the product, so that every moment there
is can be chosen. What a run then has to do depends on what it has already looked at for the last time; `Watch` tells.
"""

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import psycopg
from adbc_driver_manager import dbapi as adbc

from include.contact_sync import conclude, flow
from include.contact_sync.errors import AnotherRunIsActive
from include.contact_sync.store.connection import SQL_FOLDER
from tests.conftest import Store
from tests.proof.dying import TASKS, Kind, Seams, do, first_line, of_the_rest, of_the_store, put_in

DAG_RUN = "manual__2026-06-02"
LONG = 30.0
"""Seconds after which somebody who still waits is taken to wait for ever."""

BEFORE_THE_ACCOUNTS, BEFORE_THE_SOURCE, BEFORE_THE_CONTACTS, AFTER_THE_RUN = range(4)
"""Before the accounts are judged for the last time, before it is read whose contacts to fetch, before the contacts are judged
for the last time, and after that: an edit counts as if it had been made at one of these times while nothing else happened."""

QUIET = {
    "sync_accounts": BEFORE_THE_ACCOUNTS,
    "extract_contacts_of_source": BEFORE_THE_SOURCE,
    "transform_contacts": BEFORE_THE_CONTACTS,
    "conclude": AFTER_THE_RUN,
}
"""At the beginning of which task each of them can be had."""

LOCKED = {
    "sync_accounts": {"accounts", "account_domains"},
    "load_contacts": {"accounts", "contacts", "contact_handles"},
}
"""What a task keeps others from changing while it judges and writes."""

ONCE_LOCKED = {"sync_accounts": BEFORE_THE_SOURCE, "load_contacts": AFTER_THE_RUN}
SOURCE_IS_READ = "-- Names what this transaction sees"
"""The statement at which the accounts whose contacts are fetched are seen."""

TABLE_WAS_READ = "after a table was read"
APPLIED = "-- Records the outcome counts of"
"""The last statement of a part, before it is committed."""

LOCKS = """
    SELECT relname FROM pg_locks JOIN pg_class ON pg_class.oid = relation JOIN pg_stat_activity USING (pid)
    WHERE granted AND application_name = 'contact_sync' AND relnamespace = 'contact_store'::regnamespace
        AND mode IN ('ShareRowExclusiveLock', 'AccessExclusiveLock')
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database() AND application_name = %s"""


@dataclass(frozen=True)
class Moment:
    """The nth time that a task begins this."""

    task: str
    kind: str
    what: str
    nth: int


def beginning(file: str) -> str:
    """What a moment is called at which the statement of this file is carried out."""
    return (SQL_FOLDER / f"{file}.sql").read_text(encoding="utf-8").partition("\n")[0][:70]


# ---------------------------------------------------------------------------------------------------- who acts there


class Somebody(threading.Thread, ABC):
    """Acts in a thread of their own. `refused`: the name of the error with which that was declined."""

    session = "somebody"

    def __init__(self, store: Store) -> None:
        super().__init__(daemon=True)
        self.store = store
        self.refused: str | None = None
        self.failure: BaseException | None = None
        self.had_to_wait = False

    @abstractmethod
    def act(self) -> None: ...

    def run(self) -> None:
        try:
            self.act()
        except (psycopg.errors.IntegrityError, AnotherRunIsActive) as refused:
            self.refused = type(refused).__name__
        except BaseException as failure:  # ruff: ignore[blind-except] -- told by `wait_for_the_end`
            self.failure = failure

    def settle(self) -> None:
        """Start, and come back when it is done, or can go on only after somebody else."""
        self.start()
        with psycopg.connect(self.store.uri, autocommit=True) as asking:
            until(lambda: not self.is_alive() or asking.execute(WAITING, [self.session]).fetchone())
        self.had_to_wait = self.is_alive()

    def wait_for_the_end(self) -> None:
        self.join(LONG)
        assert not self.is_alive(), "somebody waits for ever"
        assert self.failure is None, repr(self.failure)


@dataclass(frozen=True)
class Edit:
    """What a person does in one transaction, and which tables that writes to."""

    what: str
    tables: frozenset[str]
    statements: tuple[str, ...]


class Person(Somebody):
    """Carries out an edit. `holds`: having begun, goes on only when the run waits for it."""

    def __init__(self, store: Store, edit: Edit, values: dict[str, Any], *, holds: bool = False) -> None:
        super().__init__(store)
        self.edit, self.values, self.holds = edit, values, holds
        self.is_holding = threading.Event()

    def act(self) -> None:
        with psycopg.connect(self.store.uri, application_name=self.session) as connection:
            connection.execute("SET deadlock_timeout = '1min'")  # PostgreSQL would break off the run, not the person
            first, *others = self.edit.statements
            connection.execute(first, self.values)
            if self.holds:
                self.is_holding.set()
                with psycopg.connect(self.store.uri, autocommit=True) as asking:
                    until(lambda: asking.execute(WAITING, ["contact_sync"]).fetchone())
            for statement in others:
                connection.execute(statement, self.values)

    def settle(self) -> None:
        if self.holds:
            self.start()
            assert self.is_holding.wait(LONG), self.failure
        else:
            super().settle()


class Starter(Somebody):
    """Starts another run."""

    session = "contact_sync"

    def act(self) -> None:
        flow.validate_settings(flow.RunRequest(dag_run_id="another"))


def until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + LONG
    while not is_so():
        assert time.monotonic() < end, "this never happens"
        time.sleep(0.003)


# -------------------------------------------------------------------------------------------------- moments of a run


class Watch:
    """Is told what a run begins, as `Points` are; lets somebody act at the chosen moment.

    `moments` are all there were. `possible`: as what the act may count, once it has happened.
    """

    def __init__(self, store: Store, somebody: Somebody | None = None, at: Moment | None = None) -> None:
        self.store, self.somebody, self.at = store, somebody, at
        self.task = ""
        self.moments: list[Moment] = []
        self.possible: set[int] = set()
        self._passed = BEFORE_THE_ACCOUNTS
        self._counts: Counter[tuple[str, str, str]] = Counter()
        self._one_at_a_time = threading.RLock()
        self._in_here = threading.local()

    def begin(self, task: str) -> None:
        self._passed = max(self._passed, QUIET.get(task, 0))
        self.task = task

    def reach(self, kind: str, what: str = "", session: int | None = None) -> None:
        """Somebody's own statements, and those that ask how things stand, are not the run's."""
        if isinstance(threading.current_thread(), Somebody) or getattr(self._in_here, "is_so", False):
            return
        with self._one_at_a_time:
            self._in_here.is_so = True
            try:
                self._reach(kind, what)
            finally:
                self._in_here.is_so = False

    def _reach(self, kind: str, what: str) -> None:
        self._counts[self.task, kind, what] += 1
        moment = Moment(self.task, kind, what, self._counts[self.task, kind, what])
        self.moments.append(moment)
        if moment == self.at and self.somebody:
            self.possible = self._now()
            self.somebody.settle()
        if self.task == "extract_contacts_of_source" and what.startswith(SOURCE_IS_READ):
            self._passed = BEFORE_THE_CONTACTS
        if what.startswith(APPLIED):
            self._passed = ONCE_LOCKED[self.task]

    def _now(self) -> set[int]:
        """What counts from here on. Where only some tables are locked, it depends on which one an edit needs first."""
        wanted = LOCKED.get(self.task, set())
        locked = wanted & {name for (name,) in self.store.execute(LOCKS)}
        if locked and locked == wanted:
            return {ONCE_LOCKED[self.task]}
        return {self._passed, ONCE_LOCKED[self.task]} if locked else {self._passed}


def watching(watch: Watch) -> AbstractContextManager[None]:
    """Everything that a run does outside goes through `watch`."""
    return put_in([*of_the_store(watch), *of_tables(watch), *of_the_rest(watch)])  # type: ignore[arg-type]


def of_tables(watch: Watch) -> Seams:
    """The tables that are read by ADBC, one after the other."""
    execute, fetch = adbc.Cursor.execute, adbc.Cursor.fetch_arrow_table
    one_table = threading.Lock()

    def execute_(self: adbc.Cursor, statement: Any, *values: Any, **options: Any) -> Any:
        if "SELECT" in statement:
            one_table.acquire()
            watch.reach(Kind.FRAME, first_line(statement))
        return execute(self, statement, *values, **options)

    def fetch_(self: adbc.Cursor, *values: Any, **options: Any) -> Any:
        try:
            found = fetch(self, *values, **options)
            watch.reach(TABLE_WAS_READ, "was read")
            return found
        finally:
            one_table.release()

    return [(adbc.Cursor, "execute", execute_), (adbc.Cursor, "fetch_arrow_table", fetch_)]


def run_watched(watch: Watch) -> None:
    """One run, task by task, to its conclusion."""
    with watching(watch):
        for task in TASKS[:-1]:
            watch.begin(task)
            do(task, DAG_RUN)
            if watch.somebody and watch.somebody.ident:
                watch.somebody.wait_for_the_end()  # who waited for this task's commit is not to race with the next task
        watch.begin("conclude")
        conclude.conclude_run(flow.find_run(DAG_RUN))
    if watch.somebody:
        watch.somebody.wait_for_the_end()


def run_with_a_quiet_act(somebody: Somebody, when: int) -> None:
    """The same run, and somebody acts while no task is at work."""
    for task in (*TASKS[:-1], "conclude"):
        if QUIET.get(task) == when:
            somebody.start()
            somebody.wait_for_the_end()
        if task in TASKS:
            do(task, DAG_RUN)
    conclude.conclude_run(flow.find_run(DAG_RUN))
