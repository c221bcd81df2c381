"""What the demo prints: a run's progress, and what it did.

On a terminal the progress is one line per task that keeps changing; elsewhere a line whenever a task changes.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import psycopg
from psycopg.rows import dict_row

from include.demo.airflow import TaskState

OUTCOMES = ("created", "linked", "updated", "unchanged", "error")
_SQL = Path(__file__).with_name("sql")


def show(line: str = "") -> None:
    """Print a line at once."""
    print(line, flush=True)


@dataclass
class Progress:
    """Shows how far each task is."""

    output: TextIO = field(default_factory=lambda: sys.stdout)
    _shown: dict[str, str] = field(default_factory=dict)
    _lines: int = 0

    def update(self, tasks: Sequence[TaskState]) -> None:
        """Show the tasks as they are now."""
        if self.output.isatty():
            self._redraw(tasks)
        else:
            self._report_changes(tasks)
        self.output.flush()

    def _redraw(self, tasks: Sequence[TaskState]) -> None:
        if self._lines:
            self.output.write(f"\x1b[{self._lines}A")
        for task in tasks:
            self.output.write(f"\x1b[2K  {_progress_line(task)}\n")
        self._lines = len(tasks)

    def _report_changes(self, tasks: Sequence[TaskState]) -> None:
        for task in tasks:
            before = self._shown.get(task.task_id, "waiting")
            if task.state != before:
                self._shown[task.task_id] = task.state
                self.output.write(f"  {_progress_line(task)}\n")


def _progress_line(task: TaskState) -> str:
    seconds = "" if task.seconds is None else f"{task.seconds:6.1f} s"
    return f"{task.task_id:<32} {task.state:<16} {seconds}".rstrip()


@dataclass(frozen=True)
class ErrorCount:
    """How many errors of one code are open after a run, and how many of them no run before it had."""

    part: str
    code: str
    level: str
    errors: int
    new_errors: int


@dataclass(frozen=True)
class RunResult:
    """What the store says about a run."""

    run_id: int
    state: str
    accounts: Mapping[str, int] | None
    contacts: Mapping[str, int] | None
    report_sent: bool
    errors: Sequence[ErrorCount]

    @property
    def faults(self) -> list[str]:
        """Why this is not what a run of the demo should do; empty when all is well."""
        faults = [] if self.state == "succeeded" else [f"the run's state is {self.state}"]
        for part, counts in (("accounts", self.accounts), ("contacts", self.contacts)):
            if not counts or not counts["read"]:
                faults.append(f"no {part} were read")
            elif counts["read"] != sum(counts[outcome] for outcome in OUTCOMES):
                faults.append(f"the {part} do not add up: {dict(counts)}")
            elif counts["error"] != (recorded := self._refused(part)):
                faults.append(f"{counts['error']} {part} are in error, but {recorded} errors are recorded")
        if self.errors and not self.report_sent:
            faults.append("there are errors and no e-mail was sent")
        return faults

    def _refused(self, part: str) -> int:
        """How many records of a part were not synced; warnings and run errors do not count."""
        return sum(row.errors for row in self.errors if row.part == part and row.level in {"contact", "account"})


def read_result(store: str, dag_run_id: str) -> RunResult | None:
    """Read from the store what the run did; None when it never reached the store. `store` is libpq's URI."""
    with psycopg.connect(store, row_factory=dict_row) as connection:
        run = connection.execute(_statement("run_result"), {"dag_run_id": dag_run_id}).fetchone()
        if run is None:
            return None
        errors = connection.execute(_statement("open_errors"), {"run_id": run["id"]}).fetchall()
    return RunResult(
        run_id=run["id"],
        state=run["state"],
        accounts=run["accounts"],
        contacts=run["contacts"],
        report_sent=run["report_sent"],
        errors=[ErrorCount(**row) for row in errors],
    )


def describe_result(result: RunResult) -> Iterator[str]:
    """The lines that say what was synced."""
    yield f"Run {result.run_id}: {result.state}"
    yield ""
    yield _table_row(("", "read", *OUTCOMES))
    for part, counts in (("accounts", result.accounts), ("contacts", result.contacts)):
        if counts:
            yield _table_row((part, *(str(counts[name]) for name in ("read", *OUTCOMES))))
    if result.errors:
        yield ""
        yield "Errors by code:"
        for row in result.errors:
            news = f"{row.new_errors} new" if row.new_errors else "still open"
            yield f"  {row.part:<10}{row.code:<22}{row.level:<9}{row.errors:>5}   {news}"


def _table_row(cells: Sequence[Any]) -> str:
    first, *others = cells
    return f"  {first:<10}" + "".join(f"{cell:>11}" for cell in others)


def _statement(name: str) -> bytes:
    return (_SQL / f"{name}.sql").read_bytes()
