"""A DAG run in a process of its own that dies, or is cut off, at a chosen point.

Points are what a run does to the world outside: a statement, a block of a COPY, a commit, a frame that is read, a staged
file, a call to Salesforce, a mail, a task's beginning and end. Each is told before it happens, and so after what came
before it. A process runs tasks as the DAG does; it is forked from one that has imported everything, so that hundreds of
deaths are affordable.
"""

import json
import multiprocessing
import os
import re
import resource
import signal
import smtplib
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import adbc_driver_manager.dbapi as adbc
import psycopg
import pyarrow as pa
import requests
from adbc_driver_postgresql import StatementOptions
from airflow.sdk.exceptions import AirflowFailException

from include.contact_sync import conclude, flow, load, reread
from include.contact_sync.errors import RetryableError, RunError, RunRefused
from include.contact_sync.report.operator import ErrorReportOperator, MailToSend
from include.contact_sync.salesforce import Pace, client
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
KILLED, CUT_OFF, FILES_STAY_SMALL = (
    "the process is killed",
    "the database session is cut off",
    "a staged file may grow no further (RLIMIT_FSIZE)",
)


class Kind(StrEnum):
    """What a point is."""

    TASK_BEGINS = "when a task begins"
    TASK_ENDS = "when a task has ended"
    READS = "before a statement that reads"
    WRITES = "before a statement that writes"
    COPIES = "before a COPY"
    FIRST_BLOCK = "in a COPY, after its first block"
    LATER_BLOCK = "in a COPY, after a later block"
    COMMITS = "before a commit"
    COMMITTED = "after a commit"
    FRAME = "before a frame is read"
    IN_FRAME = "in a frame, after its first rows"
    LOGIN = "before a login"
    DESCRIBE = "before the fields are asked for"
    COUNT = "before a count"
    FIRST_REST_PAGE = "before a first page by REST"
    LATER_REST_PAGE = "before a later page by REST"
    JOB = "before a job is created"
    POLL = "before a job is polled"
    FIRST_JOB_PAGE = "before a job's first page"
    LATER_JOB_PAGE = "before a job's later page"
    JOB_REMOVED = "before a job is deleted"
    OTHER_CALL = "before another call"
    FILE = "before a staged file is begun"
    FILE_WHOLE = "before a whole staged file gets its name"
    FILE_EMPTY = "when nothing of a staged file could be written"
    FILE_CUT = "when a part of a staged file could be written"
    MAIL = "before the mail"
    TEXT = "before the mail server is given the text"
    MAILED = "after the server took the mail"


OF_A_FULL_DISK = {Kind.FILE_EMPTY, Kind.FILE_CUT}
CALLS = (
    (Kind.LOGIN, r"POST .*/services/oauth2/token$"),
    (Kind.DESCRIBE, r"GET .*/describe$"),
    (Kind.COUNT, r"(?i)GET .*/query(All)?\?q=SELECT.COUNT"),
    (Kind.JOB, r"POST .*/jobs/query$"),
    (Kind.LATER_JOB_PAGE, r"GET .*/jobs/query/\w+/results\?.*locator="),
    (Kind.FIRST_JOB_PAGE, r"GET .*/jobs/query/\w+/results"),
    (Kind.POLL, r"GET .*/jobs/query/\w+$"),
    (Kind.JOB_REMOVED, r"DELETE .*/jobs/query/\w+$"),
    (Kind.FIRST_REST_PAGE, r"GET .*/query(All)?\?q="),
    (Kind.LATER_REST_PAGE, r"GET .*/query(All)?/"),
    (Kind.OTHER_CALL, r""),
)
"""The first that a request begins with tells what it is."""


@dataclass(frozen=True)
class Point:
    """The nth time that a task comes to this. Threads may change the order of points, never what they are."""

    task: str
    kind: Kind
    what: str
    nth: int


@dataclass(frozen=True)
class Shape:
    """In which portions a run reads and writes: so small ones that a few records come in several."""

    name: str
    pace: Pace = IN_HASTE
    rows_per_copy: int = 1
    many_handles: int = load.MANY_HANDLES


@dataclass(frozen=True)
class Attempt:
    """One process's part of a DAG run: which tasks, and at which point what becomes of it.

    `tries` is Airflow's count for the last task, which grows when a person clears it.
    """

    dag_run_id: str
    shape: Shape
    tasks: tuple[str, ...] = TASKS
    dies_at: Point | None = None
    how: str = KILLED
    tries: int = 3


class Points:
    """Writes the points down as they are reached, and strikes at the chosen one."""

    def __init__(self, attempt: Attempt, told: Path) -> None:
        self.attempt, self.told = attempt, told.open("a", encoding="utf-8")
        self.task, self.times, self.turn = "", Counter[tuple[str, Kind, str]](), threading.Lock()

    def reach(self, kind: Kind, what: str = "", session: int | None = None) -> None:
        """`session` is the number of the database's process that would be cut off."""
        if not self.task:
            return
        with self.turn:
            self.times[self.task, kind, what] += 1
            point = Point(self.task, kind, what, self.times[self.task, kind, what])
            with suppress(OSError):  # while no file may grow it waits in memory; the next page comes all the same
                print(point.task, point.kind, point.what, point.nth, sep="\t", file=self.told, flush=True)
        if point == self.attempt.dies_at:
            self._strike(session)

    def _strike(self, session: int | None) -> None:
        if self.attempt.how == KILLED:
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.attempt.how == CUT_OFF:
            with psycopg.connect(address_of_store(), autocommit=True) as other:
                assert other.execute("SELECT pg_terminate_backend(%s, 5000)", [session]).fetchone() == (True,)
        else:
            limit_files(100)


def read_points(told: Path) -> list[Point]:
    lines = [line.split("\t") for line in told.read_text(encoding="utf-8").splitlines()]
    return [Point(task, Kind(kind), what, int(nth)) for task, kind, what, nth in lines]


def address_of_store() -> str:
    named = json.loads(os.environ["AIRFLOW_CONN_CONTACTS_DB"])
    return psycopg.conninfo.make_conninfo(host=named["host"], user=named["login"], dbname=named["schema"])


def limit_files(size: int) -> None:
    """No file that this process writes gets larger (-1: there is no limit)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


# ------------------------------------------------------------------------------------------------ what a point is


def text_of(statement: Any, connection: psycopg.Connection) -> str:
    if isinstance(statement, bytes):
        return statement.decode()
    return statement if isinstance(statement, str) else str(statement.as_string(connection))


def first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:70]


def kind_of_statement(text: str) -> Kind:
    command = re.sub(r"--.*", "", text).split(maxsplit=1)[0]
    return Kind.READS if command in {"SELECT", "SET", "LOCK"} and "nextval" not in text else Kind.WRITES


def target_of_copy(text: str) -> str:
    return text.partition("(")[0].removeprefix("COPY ").replace('"', "").strip()


def kind_of_call(request: requests.PreparedRequest) -> Kind:
    call = f"{request.method} {request.path_url}"
    return next(kind for kind, pattern in CALLS if re.match(pattern, call))


def path_of_call(request: requests.PreparedRequest) -> str:
    """Without its query, and without the names of jobs and cursors, which no other run has."""
    return re.sub(r"/(750|01g|0r8)[^/]*", "/…", request.path_url.partition("?")[0])


def place_of_file(path: Path) -> str:
    """The path within the run's folder."""
    return str(path).partition("/run-")[2].partition("/")[2].partition(".")[0]


# ------------------------------------------------------------------------------------------- where points are reached


@contextmanager
def watched(points: Points) -> Generator[None, None, None]:
    """Everything that a run does outside goes through `points`."""
    with put_in([*of_the_store(points), *of_frames(points), *of_the_rest(points)]):
        yield


Seams = list[tuple[Any, str, Callable[..., Any]]]


@contextmanager
def put_in(seams: Seams) -> Generator[None, None, None]:
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in seams]
    for owner, name, seam in seams:
        setattr(owner, name, seam)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def of_the_store(points: Points) -> Seams:
    execute, copy, write = psycopg.Cursor.execute, psycopg.Cursor.copy, psycopg.Copy.write
    commit, end = psycopg.Connection.commit, psycopg.Transaction.__exit__
    targets: dict[psycopg.Cursor, str] = {}
    blocks = Counter[psycopg.Copy]()
    have_written: set[psycopg.Connection] = set()

    def execute_(self: psycopg.Cursor, statement: Any, *values: Any, **options: Any) -> Any:
        text = text_of(statement, self.connection)
        kind = kind_of_statement(text)
        points.reach(kind, first_line(text), self.connection.info.backend_pid)
        if kind is Kind.WRITES:
            have_written.add(self.connection)
        return execute(self, statement, *values, **options)

    def copy_(self: psycopg.Cursor, statement: Any, *values: Any, **options: Any) -> Any:
        targets[self] = target_of_copy(text_of(statement, self.connection))
        points.reach(Kind.COPIES, targets[self], self.connection.info.backend_pid)
        return copy(self, statement, *values, **options)

    def write_(self: psycopg.Copy, block: Any) -> None:
        self.writer.flush_threshold = 0  # type: ignore[attr-defined]  # or the server would not have it yet
        write(self, block)
        blocks[self] += 1
        kind = Kind.FIRST_BLOCK if blocks[self] == 1 else Kind.LATER_BLOCK
        points.reach(kind, targets[self.cursor], self.connection.info.backend_pid)

    def committed(connection: psycopg.Connection, commit: Callable[[], Any]) -> Any:
        """Only where there is something to commit: a run opens many sessions that just read."""
        if connection not in have_written:
            return commit()
        have_written.discard(connection)
        points.reach(Kind.COMMITS, "", connection.info.backend_pid)
        ended = commit()
        points.reach(Kind.COMMITTED, "", connection.info.backend_pid)
        return ended

    def commit_(self: psycopg.Connection) -> None:
        committed(self, lambda: commit(self))

    def end_(self: psycopg.Transaction, failure: Any, *more: Any) -> Any:
        if failure or self.savepoint_name:
            return end(self, failure, *more)
        return committed(self.connection, lambda: end(self, failure, *more))

    return [
        (psycopg.Cursor, "execute", execute_),
        (psycopg.Cursor, "copy", copy_),
        (psycopg.Copy, "write", write_),
        (psycopg.Connection, "commit", commit_),
        (psycopg.Transaction, "__exit__", end_),
    ]


def of_frames(points: Points) -> Seams:
    """The sessions that read whole tables, a few rows at a time here."""
    execute, fetch = adbc.Cursor.execute, adbc.Cursor.fetch_arrow_table
    asked: dict[adbc.Cursor, tuple[str, int]] = {}

    def execute_(self: adbc.Cursor, query: str, *values: Any) -> Any:
        if "SET TRANSACTION" in query:
            return execute(self, query, *values)
        asked[self] = first_line(query), backend_of(self.connection)
        self.adbc_statement.set_options(**{StatementOptions.BATCH_SIZE_HINT_BYTES.value: "1"})
        points.reach(Kind.FRAME, *asked[self])
        return execute(self, query, *values)

    def backend_of(connection: adbc.Connection) -> int:
        with connection.cursor() as cursor:
            execute(cursor, "SELECT pg_backend_pid()")
            number: int = fetch(cursor)[0][0].as_py()
        return number

    def fetch_(self: adbc.Cursor) -> pa.Table:
        first = next(self.fetch_record_batch(), None)
        if first is None:
            return fetch(self)
        points.reach(Kind.IN_FRAME, *asked[self])
        return pa.concat_tables([pa.Table.from_batches([first]), fetch(self)])

    return [(adbc.Cursor, "execute", execute_), (adbc.Cursor, "fetch_arrow_table", fetch_)]


def of_the_rest(points: Points) -> Seams:
    send, mail, text = requests.Session.send, smtplib.SMTP.send_message, smtplib.SMTP.data
    touch, replace, unlink = Path.touch, Path.replace, Path.unlink

    def send_(self: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        points.reach(kind_of_call(request), f"{request.method} {path_of_call(request)}")
        return send(self, request, **options)

    def mail_(self: smtplib.SMTP, *values: Any, **options: Any) -> Any:
        points.reach(Kind.MAIL)
        answer = mail(self, *values, **options)
        points.reach(Kind.MAILED)
        return answer

    def text_(self: smtplib.SMTP, *values: Any) -> Any:
        points.reach(Kind.TEXT)
        return text(self, *values)

    def touch_(self: Path, *values: Any, **options: Any) -> None:
        if is_staged(self):
            points.reach(Kind.FILE, place_of_file(self))
        touch(self, *values, **options)

    def replace_(self: Path, target: Path) -> Path:
        points.reach(Kind.FILE_WHOLE, place_of_file(target))
        return replace(self, target)

    def unlink_(self: Path, *values: Any, **options: Any) -> None:
        if is_staged(self):
            limit_files(-1)
            points.reach(Kind.FILE_CUT if self.stat().st_size else Kind.FILE_EMPTY, place_of_file(self))
        unlink(self, *values, **options)

    def is_staged(path: Path) -> bool:
        return path.name.endswith(".unfinished")

    return [
        (requests.Session, "send", send_),
        (smtplib.SMTP, "send_message", mail_),
        (smtplib.SMTP, "data", text_),
        (Path, "touch", touch_),
        (Path, "replace", replace_),
        (Path, "unlink", unlink_),
    ]


# ---------------------------------------------------------------------------------------------- what the process does


def carry_out(attempt: Attempt, environment: dict[str, str], told: Path) -> None:
    """The attempt's tasks; what Airflow's worker processes do. Ends with the process."""
    os.environ.update(environment)
    log = told.with_suffix(".log").open("a", encoding="utf-8")
    sys.stdout = sys.stderr = log
    client.Pace = lambda: attempt.shape.pace  # type: ignore[assignment]
    reread.MOST_DIFFERING = 1
    load.ROWS_PER_COPY, load.MANY_HANDLES = attempt.shape.rows_per_copy, attempt.shape.many_handles
    points = Points(attempt, told)
    code = 0
    try:
        with watched(points):
            for task in attempt.tasks:
                points.task = task
                points.reach(Kind.TASK_BEGINS)
                do(task, attempt.dag_run_id, attempt.tries)
                points.reach(Kind.TASK_ENDS)
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


def do(task: str, dag_run_id: str, tries: int = 3) -> None:
    """One task, as the DAG's file has it."""
    if task == "validate_settings":
        flow.validate_settings(flow.RunRequest(dag_run_id=dag_run_id))
    elif task == "report_errors":
        ErrorReportOperator(task_id=task, load_report=load_report).execute({"run_id": dag_run_id, "tries": tries})
    else:
        getattr(flow, task)(flow.find_run(dag_run_id))


def load_report(context: dict[str, Any]) -> MailToSend | None:
    run_id = flow.find_run(context["run_id"])
    concluded = conclude.conclude_run(run_id)
    if not concluded.is_needed:
        return None
    return MailToSend(**concluded.mail(context["tries"]))


CHILDREN = multiprocessing.get_context("forkserver")
CHILDREN.set_forkserver_preload(["tests.proof.ready"])


def attempt_in_a_process(attempt: Attempt, told: Path) -> tuple[int, list[Point]]:
    """The exit code (below zero: killed by that signal) and the points that were reached."""
    for left in (told, told.with_suffix(".log")):
        left.unlink(missing_ok=True)
    chosen = {
        name: value for name, value in os.environ.items() if name.startswith(("AIRFLOW", "CONTACT_SYNC", "REQUESTS"))
    }
    process = CHILDREN.Process(target=carry_out, args=(attempt, chosen, told))
    process.start()
    process.join(120)
    assert process.exitcode is not None, "the run waits for ever"
    return process.exitcode, read_points(told) if told.exists() else []
