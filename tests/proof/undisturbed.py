"""An undisturbed run, kept as the store and the staged files were when each of its tasks began.

A death begins at the task where it is. After the retry everything that the next task finds is compared with what it found
in the undisturbed run: all rows in their order, the keys of the tables, the run's receipts and each byte that is staged.
Where that is equal, so is the rest; the first death of each kind in each task goes on to the end all the same.
"""

import os
import shutil
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import DatabaseServer, Store
from tests.contact_sync.specification import World
from tests.proof.dying import (
    FAILED,
    FILES_STAY_SMALL,
    KILLED,
    OF_A_FULL_DISK,
    TASKS,
    Attempt,
    Kind,
    Point,
    Shape,
    attempt_in_a_process,
)
from tests.proof.invariants import broken
from tests.proof.nights import Evening, dump, fresh

DAG_RUN = "scheduled__2026-06-02"
KEYS = """
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'contact_store'
    UNION ALL
    SELECT concat_ws(' ', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = 'contact_store'::regnamespace
    ORDER BY 1"""

RECEIPTS = """
    SELECT array(SELECT jsonb_object_keys(steps) ORDER BY 1), (steps -> 'extract_contacts') - 'seconds' - 'peak_mb',
        (steps -> 'match_contacts') ? 'fingerprint'
    FROM contact_store.sync_runs WHERE state = 'running'"""
"""What a task finds of those before it; a run that has ended has no use for them."""

fresh_store = contextmanager(fresh)


class OneSession(Store):
    """The store, asked through one session."""

    def execute(self, statement: str, values: object = None) -> list[tuple]:
        (session,) = self._connections or [self.connect()]
        session.autocommit = True
        cursor = session.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def everything(store: Store) -> dict[str, list[tuple]]:
    """The rows, the keys that a load may have taken off, and what the tasks leave for each other."""
    return dump(store) | {"keys": store.execute(KEYS), "receipts": store.execute(RECEIPTS)}


def staged() -> dict[str, bytes]:
    """The newest run's files, which its tasks leave for each other; what a dead process left unfinished nobody reads."""
    folders = sorted(_staging().glob("run-*"), key=lambda folder: int(folder.name.removeprefix("run-")))
    return {
        str(path.relative_to(newest)): path.read_bytes() for newest in folders[-1:] for path in newest.rglob("*.arrows")
    }


@dataclass
class UndisturbedRun:
    """The run, and what others are begun from.

    `sent` is what Salesforce holds, `points` are all that it reached, in their order; `before` names the database that holds the store as it was before
    each task, `after` is what the task left behind.
    """

    shape: Shape
    postgres: DatabaseServer
    patch: pytest.MonkeyPatch
    folder: Path
    sent: list[World]
    points: list[Point] = field(default_factory=list)
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, tuple[dict[str, list[tuple]], dict[str, bytes]]] = field(default_factory=dict)

    @property
    def end(self) -> dict[str, list[tuple]]:
        """The store after the last task."""
        return self.after[TASKS[-1]][0]

    @property
    def log(self) -> str:
        """The end of what the last attempt said."""
        return (self.folder / "points.log").read_text()[-6000:]

    def attempt(
        self, *tasks: str, dag_run_id: str = DAG_RUN, dies_at: Point | None = None, how: str = KILLED, tries: int = 3
    ) -> tuple[int, list[Point]]:
        attempt = Attempt(dag_run_id, self.shape, tasks, dies_at, how, tries)
        return attempt_in_a_process(attempt, self.folder / "points")

    def go_through(self, store: Store, stack: ExitStack) -> None:
        ((database,),) = store.execute("SELECT current_database()")
        for task in TASKS:
            self.before[task] = stack.enter_context(self.postgres.fresh_database(database))
            _copy_folder(_staging(), self.folder / task)
            code, points = self.attempt(task)
            assert code == 0, self.log
            self.points += points
            self.after[task] = everything(store), staged()
        assert broken(store, *self.sent) == {}

    @contextmanager
    def at_the_beginning_of(self, task: str) -> Generator[Store]:
        """Store and staged files as they were."""
        _copy_folder(self.folder / task, _staging())
        with fresh_store(self.postgres, self.before[task], self.patch) as store:
            yield store

    def die(self, point: Point, how: str) -> tuple[int, list[Point]]:
        """Begin the point's task, and let that happen there."""
        code, reached = self.attempt(point.task, dies_at=point, how=how)
        assert point in reached, (point, self.log)
        assert code >= 0 or how == KILLED, (point, self.log)
        if how == FILES_STAY_SMALL:
            unwritten = [each.kind for each in reached if each.kind in OF_A_FULL_DISK]
            assert (unwritten, code) == ([Kind.FILE_CUT], FAILED), (point, self.log)
        return code, reached

    def go_on(self, store: Store, task: str, *, was_unhurt: bool, to_the_end: bool, what: object) -> str:
        """Try the task again as Airflow would, unless it got through, and compare; returns the last task of all."""
        last = TASKS[-1] if to_the_end else task
        left = TASKS[TASKS.index(task) + was_unhurt : TASKS.index(last) + 1]
        code, _ = self.attempt(*left) if left else (0, [])
        assert code == 0, (what, self.log)
        self.compare(store, last, what)
        return last

    def compare(self, store: Store, task: str, what: object) -> None:
        """Store and staged files with those of the undisturbed run after the same task."""
        with closing(OneSession(store.uri)) as seen:
            rows, files = self.after[task]
            assert everything(seen) == rows, what
            assert staged() == files, what
            assert broken(seen) == {}, what


@contextmanager
def undisturbed_run(
    shape: Shape, postgres: DatabaseServer, evening: Evening, patch: pytest.MonkeyPatch, folder: Path
) -> Generator[UndisturbedRun]:
    """Let it happen, and keep it."""
    run = UndisturbedRun(shape, postgres, patch, folder, evening.sent)
    with ExitStack() as stack:
        with fresh_store(postgres, evening.template, patch) as store:
            run.go_through(store, stack)
        yield run


def _staging() -> Path:
    return Path(os.environ["CONTACT_SYNC_STAGING"].removeprefix("file://"))


def _copy_folder(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target)
