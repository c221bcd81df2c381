"""A DAG run in a process of its own that dies, or is cut off, at a chosen point.

Points are what a run does to the world outside: a statement, a commit, a staged file, a call to Salesforce, a mail, the
beginning of a task. `carry_out` runs the tasks as the DAG does; the process that it runs in is forked from one that has
imported everything, so that hundreds of deaths are affordable.
"""

import errno
import multiprocessing
import os
import signal
import smtplib
import sys
import traceback
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import requests
from airflow.sdk.exceptions import AirflowFailException

from include.contact_sync import conclude, flow
from include.contact_sync.errors import RetryableError, RunError, RunRefused
from include.contact_sync.report.operator import ErrorReportOperator, MailToSend
from include.contact_sync.salesforce import client
from tests.whole_runs import IN_HASTE

TASKS = (
    "validate_settings",
    "sync_accounts",
    "extract_contacts_of_source",
    "transform_contacts",
    "match_contacts",
    "load_contacts",
    "report_errors",
)
FAILED, FAILED_FOR_GOOD = 1, 3
KILLED, CUT_OFF, DISK_FULL = "the process is killed", "the database session is cut off", "the disk is full"


@dataclass(frozen=True)
class Point:
    """The number-th thing that happened, in which task, and what it was."""

    number: int
    task: str
    kind: str
    what: str


@dataclass(frozen=True)
class Attempt:
    """One process's part of a DAG run: from which task on, and at which point what becomes of it."""

    dag_run_id: str
    first_task: int = 0
    dies_at: int | None = None
    how: str = KILLED


class Points:
    """Counts the points, writes them down, and strikes at the chosen one."""

    def __init__(self, attempt: Attempt, told: Path) -> None:
        self.attempt, self.told = attempt, told.open("a", encoding="utf-8")
        self.number, self.task = 0, ""

    def reach(self, kind: str, what: str, connection: psycopg.Connection | None = None) -> None:
        if not self.task:
            return
        self.number += 1
        print(self.number, self.task, kind, what.replace("\n", " "), sep="\t", file=self.told, flush=True)
        if self.number != self.attempt.dies_at:
            return
        if self.attempt.how == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.attempt.how == CUT_OFF and connection is not None:
            with psycopg.connect(connection.info.dsn, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", [connection.info.backend_pid])
        if self.attempt.how == DISK_FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_points(told: Path) -> list[Point]:
    lines = told.read_text(encoding="utf-8").splitlines()
    return [Point(int(number), *rest) for number, *rest in (line.split("\t", 3) for line in lines)]


def first_line(statement: Any, connection: psycopg.Connection) -> str:
    if isinstance(statement, bytes):
        statement = statement.decode()
    text: str = statement if isinstance(statement, str) else statement.as_string(connection)
    return text.partition("\n")[0][:70]


@contextmanager
def watched(points: Points) -> Generator[None, None, None]:
    """Everything that a run does outside goes through `points`, before it happens; mails and commits also after."""
    execute, copy, commit = psycopg.Cursor.execute, psycopg.Cursor.copy, psycopg.Connection.commit
    send, mail, replace = requests.Session.send, smtplib.SMTP.send_message, Path.replace

    def execute_(self: psycopg.Cursor, statement: Any, *values: Any, **options: Any) -> Any:
        points.reach("statement", first_line(statement, self.connection), self.connection)
        return execute(self, statement, *values, **options)

    def copy_(self: psycopg.Cursor, statement: Any, *values: Any, **options: Any) -> Any:
        points.reach("copy", first_line(statement, self.connection), self.connection)
        return copy(self, statement, *values, **options)

    def commit_(self: psycopg.Connection) -> None:
        points.reach("commit", "before", self)
        commit(self)
        points.reach("commit", "after", self)

    def send_(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        points.reach("call", f"{request.method} {request.path_url.partition('?')[0]}")
        return send(self, request, **options)

    def mail_(self: smtplib.SMTP, *values: Any, **options: Any) -> Any:
        points.reach("mail", "before it is sent")
        answer = mail(self, *values, **options)
        points.reach("mail", "after the server took it")
        return answer

    def replace_(self: Path, target: Path) -> Path:
        points.reach("file", target.name)
        return replace(self, target)

    places: list[tuple[Any, str, Callable[..., Any]]] = [
        (psycopg.Cursor, "execute", execute_),
        (psycopg.Cursor, "copy", copy_),
        (psycopg.Connection, "commit", commit_),
        (requests.Session, "send", send_),
        (smtplib.SMTP, "send_message", mail_),
        (Path, "replace", replace_),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in places]
    for owner, name, seam in places:
        setattr(owner, name, seam)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def carry_out(attempt: Attempt, environment: dict[str, str], told: Path) -> None:
    """The tasks from the attempt's first one on; what Airflow's worker process does. Ends with the process."""
    os.environ.update(environment)
    log = told.with_suffix(".log").open("a", encoding="utf-8")
    sys.stdout = sys.stderr = log
    client.Pace = lambda: IN_HASTE  # type: ignore[assignment]
    points = Points(attempt, told)
    code = 0
    try:
        with watched(points):
            for task in TASKS[attempt.first_task :]:
                points.task = task
                points.reach("task", "begins")
                do(task, attempt.dag_run_id)
    except Exception as failure:  # ruff: ignore[blind-except] -- as Airflow takes any failure of a task
        traceback.print_exc()
        code = FAILED_FOR_GOOD if is_final(failure) else FAILED
    log.flush()
    os._exit(code)


def is_final(failure: Exception) -> bool:
    """Whether the DAG tells Airflow not to try again."""
    if isinstance(failure, RetryableError):
        return False
    return isinstance(failure, RunError | RunRefused | AirflowFailException)


def do(task: str, dag_run_id: str) -> None:
    """One task, as the DAG's file has it."""
    if task == "validate_settings":
        flow.validate_settings(flow.RunRequest(dag_run_id=dag_run_id))
    elif task == "report_errors":
        ErrorReportOperator(task_id=task, load_report=load_report).execute({"run_id": dag_run_id})
    else:
        getattr(flow, task)(flow.find_run(dag_run_id))


def load_report(context: dict[str, Any]) -> MailToSend | None:
    run_id = flow.find_run(context["run_id"])
    concluded = conclude.conclude_run(run_id)
    if not concluded.is_needed:
        return None
    return MailToSend(**concluded.render(), on_accepted=lambda: conclude.mark_report_sent(run_id))


CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["tests.proof.dying", "airflow.providers.postgres.hooks.postgres", "pyarrow.parquet"])


def attempt_in_a_process(attempt: Attempt, told: Path) -> tuple[int, list[Point]]:
    """The exit code (below zero: killed by that signal) and the points that were reached."""
    told.unlink(missing_ok=True)
    chosen = {
        name: value for name, value in os.environ.items() if name.startswith(("AIRFLOW", "CONTACT_SYNC", "REQUESTS"))
    }
    process = CHILDREN.Process(target=carry_out, args=(attempt, chosen, told))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the run waits for ever"
    return process.exitcode, read_points(told) if told.exists() else []
