"""An undisturbed run, kept as the store and the staged files were when each of its tasks began.

A death begins at the task where it is, and costs this task and what follows it. The end of the undisturbed run is what
every other run is compared with: all rows in their order, and the keys of the tables.
"""

import os
import shutil
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.conftest import DatabaseServer, Store
from tests.proof.dying import FILES_STAY_SMALL, KILLED, TASKS, Attempt, Kind, Point, Shape, attempt_in_a_process
from tests.proof.invariants import broken
from tests.proof.nights import dump, fresh

DAG_RUN = "scheduled__2026-06-02"
KEYS = """
    SELECT indexdef FROM pg_indexes WHERE schemaname = 'contact_store'
    UNION ALL
    SELECT concat_ws(' ', conrelid::regclass, conname, convalidated, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = 'contact_store'::regnamespace
    ORDER BY 1"""

fresh_store = contextmanager(fresh)


class OneSession(Store):
    """The store, asked through one session."""

    def execute(self, statement: str, values: object = None) -> list[tuple]:
        (session,) = self._connections or [self.connect()]
        session.autocommit = True
        cursor = session.execute(statement, values)
        return cursor.fetchall() if cursor.description else []


def everything(store: Store) -> dict[str, list[tuple]]:
    """The rows, and the keys that a load may have taken off."""
    return dump(store) | {"keys": store.execute(KEYS)}


@dataclass
class UndisturbedRun:
    """The run, and what others are begun from. `points` are all that it reached, in their order."""

    shape: Shape
    postgres: DatabaseServer
    patch: pytest.MonkeyPatch
    folder: Path
    points: list[Point] = field(default_factory=list)
    end: dict[str, list[tuple]] = field(default_factory=dict)

    @property
    def log(self) -> str:
        """The end of what the last attempt said."""
        return (self.folder / "points.log").read_text()[-6000:]

    def attempt(
        self, *tasks: str, dag_run_id: str = DAG_RUN, dies_at: Point | None = None, how: str = KILLED
    ) -> tuple[int, list[Point]]:
        attempt = Attempt(dag_run_id, self.shape, tasks, dies_at, how)
        return attempt_in_a_process(attempt, self.folder / "points")

    def go_through(self, store: Store, database: str) -> None:
        for task in TASKS:
            self.postgres.create_database(f"before_{task}", database)
            _copy_folder(_staging(), self.folder / task)
            code, points = self.attempt(task)
            assert code == 0, self.log
            self.points += points
        self.end = everything(store)
        assert broken(store) == {}

    @contextmanager
    def at_the_beginning_of(self, task: str) -> Generator[Store]:
        """Store and staged files as they were."""
        _copy_folder(self.folder / task, _staging())
        with fresh_store(self.postgres, f"before_{task}", self.patch) as store:
            yield store

    def die(self, point: Point, how: str) -> tuple[int, list[Point]]:
        """Begin the point's task, and let that happen there."""
        code, reached = self.attempt(point.task, dies_at=point, how=how)
        assert point in reached, (point, self.log)
        assert code >= 0 or how == KILLED, (point, self.log)
        if how == FILES_STAY_SMALL:
            assert reached[-1].kind is Kind.FILE_CUT, (point, self.log)
        return code, reached

    def finish(self, *tasks: str, what: object) -> None:
        """The tasks that are left, tried again as Airflow would."""
        code, _ = self.attempt(*tasks) if tasks else (0, [])
        assert code == 0, (what, self.log)

    def compare(self, store: Store, what: object) -> None:
        with closing(OneSession(store.uri)) as seen:
            assert everything(seen) == self.end, what
            assert broken(seen) == {}, what


@contextmanager
def undisturbed_run(
    shape: Shape, postgres: DatabaseServer, template: str, patch: pytest.MonkeyPatch, folder: Path
) -> Generator[UndisturbedRun]:
    """Let it happen, and keep it."""
    run = UndisturbedRun(shape, postgres, patch, folder)
    try:
        with fresh_store(postgres, template, patch) as store:
            ((database,),) = store.execute("SELECT current_database()")
            run.go_through(store, database)
        yield run
    finally:
        for task in TASKS:
            postgres.drop_database(f"before_{task}")


def _staging() -> Path:
    return Path(os.environ["CONTACT_SYNC_STAGING"].removeprefix("file://"))


def _copy_folder(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    if source.exists():
        shutil.copytree(source, target)
