"""A run dies at every point, is tried again as Airflow would, and the store is that of a run that was never disturbed."""

import os
import random
import re
import shutil
import signal
import string
import subprocess
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.message import EmailMessage
from itertools import count
from pathlib import Path

import pytest

from include.contact_sync import flow
from include.contact_sync.errors import RunRefused
from include.contact_sync.salesforce import client
from include.contact_sync.settings import Settings
from include.contact_sync.staging import Staging
from include.contact_sync.store.connection import sql
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.proof.conftest import Score
from tests.proof.dying import (
    CUT_OFF,
    FAILED,
    FAILED_FOR_GOOD,
    FILES_STAY_SMALL,
    KILLED,
    OF_A_FULL_DISK,
    TASKS,
    Attempt,
    Kind,
    Point,
    Shape,
    attempt_in_a_process,
    first_line,
)
from tests.proof.invariants import broken
from tests.proof.nights import MAPPING, Evening, dump, keep_as_template, prepare, sent
from tests.proof.undisturbed import DAG_RUN, UndisturbedRun, everything, fresh_store, staged, undisturbed_run
from tests.whole_runs import IN_HASTE, Mailbox, settings_with

BULK_PACE = replace(IN_HASTE, rest_rows=0, first_page_rows=4, page_rows=4)
REST, BULK, KEYS_OFF = Shape("REST"), Shape("Bulk", pace=BULK_PACE), Shape("keys off", many_handles=1)

OF_A_SESSION = {
    *(Kind.READS, Kind.WRITES, Kind.COPIES, Kind.FIRST_BLOCK, Kind.LATER_BLOCK, Kind.COMMITS, Kind.COMMITTED),
    *(Kind.FRAME, Kind.IN_FRAME),
}
OF_A_JOB = {Kind.JOB, Kind.POLL, Kind.FIRST_JOB_PAGE, Kind.LATER_JOB_PAGE, Kind.JOB_REMOVED}
OF_AN_END = {Kind.COMMITS, Kind.COMMITTED, Kind.TASK_ENDS}
OF_A_FILE = {Kind.FILE, Kind.FILE_WHOLE}
LONG = 500_000
"""Characters of a description; a few of them are more than a socket takes before somebody reads."""


@pytest.fixture
def two_nights(organisation: Simulator, store: Store, staging: Staging, postgres: DatabaseServer) -> Iterator[Evening]:
    """The template of the store to which the second night comes; Salesforce sends several pages."""
    yield from evening_of(organisation, store, postgres, settings_with(contacts={"mapping": MAPPING}))


@pytest.fixture
def two_nights_that_keep_nothing(
    organisation: Simulator, store: Store, staging: Staging, postgres: DatabaseServer
) -> Iterator[Evening]:
    """The same, where no staged data outlives its run."""
    settings = settings_with(contacts={"mapping": MAPPING}, staged_data_days=0)
    yield from evening_of(organisation, store, postgres, settings)


def evening_of(
    organisation: Simulator, store: Store, postgres: DatabaseServer, settings: Settings
) -> Iterator[Evening]:
    prepare(organisation, store, settings)
    organisation.control.create(sobject="Contact", records=[_newcomer(organisation)])
    organisation.control.change_options(page_size=4)
    for _ in range(4):
        store.execute("INSERT INTO contact_store.contacts (description) VALUES (repeat('long', %s))", [LONG // 4])
    for template in keep_as_template(postgres, store):
        yield Evening(template, sent(organisation))


def _newcomer(organisation: Simulator) -> dict[str, object]:
    (account, *_) = organisation.control.records(sobject="Account", fields=["Id"])
    pages_full = "".join(random.Random(1).choices(string.ascii_letters, k=8_000))  # not to be compressed
    return {
        "LastName": "Newer",
        "Email": "newer@example.org",
        "AccountId": account["Id"],
        "Level_Text__c": pages_full,
    }


EACH = int(os.environ.get("POINTS", "1"))
"""Every so many points of a kind, the first always; all of them where nothing is said."""


def of_rest(points: list[Point]) -> list[Point]:
    """A statement that only reads stands for those like it in its task."""
    return [point for point in points if point.kind is not Kind.READS or point.nth == 1]


def of_bulk(points: list[Point]) -> list[Point]:
    """Where reading by Bulk API 2.0 differs: the jobs, and the files that take what they bring, while the next page comes."""
    return [
        point for point in points if point.kind in OF_A_JOB or (point.kind in OF_A_FILE and is_downloaded(point.what))
    ]


def is_downloaded(file: str) -> bool:
    """Whether a staged file holds what Salesforce sent, as it sent it."""
    return "/snapshot/" in file or file.endswith("/merges")


def of_keys_off(points: list[Point]) -> list[Point]:
    """Where a load that takes the keys off differs: from there until they are on again and the next rows are written,
    and at the end of the load."""
    points = [point for point in points if point.task == "load_contacts"]
    first, after = place_of("lock_whole_tables_now", points), place_of("put_on_keys", points) + 4
    return points[first:after] + [point for point in points[after:] if point.kind in OF_AN_END]


CHOICES: dict[str, Callable[[list[Point]], list[Point]]] = {
    REST.name: of_rest,
    BULK.name: of_bulk,
    KEYS_OFF.name: of_keys_off,
}
EXPECTED = {
    REST.name: set(Kind) - OF_A_JOB - OF_A_FULL_DISK - {Kind.OTHER_CALL},
    BULK.name: OF_A_JOB | OF_A_FILE,
    KEYS_OFF.name: OF_A_SESSION - {Kind.FRAME, Kind.IN_FRAME},
}
KINDS: dict[str, set[Kind]] = {KILLED: set(Kind), CUT_OFF: OF_A_SESSION, FILES_STAY_SMALL: {Kind.FILE}}
"""Where this can happen."""


def chosen(shape: Shape, how: str, points: list[Point]) -> list[Point]:
    found = [point for point in CHOICES[shape.name](points) if point.kind in KINDS[how]]
    by_kind = {kind: [point for point in found if point.kind is kind] for kind in Kind}
    return [point for same in by_kind.values() for point in same[::EACH]]


def place_of(statement: str, points: list[Point]) -> int:
    """Where in the run a statement of the product's comes first."""
    return next(at for at, point in enumerate(points) if point.what == first_line(sql(statement)))


AROUND_THE_KEYS = ("before the keys are taken off", "while the keys are off", "after the keys are on again")


WRITTEN_BY_COPY = ("contact_store.contacts", "contact_store.contact_handles", "contact_store.sync_changes")
WRITTEN_BY_COPY += ("pg_temp.part_rows", "pg_temp.part_handles", "pg_temp.part_errors")


def cases(shape: Shape, point: Point, points: list[Point]) -> list[str]:
    """What a death at this point is a case of."""
    found = [point.kind, f"in {point.task}"]
    if point.kind is Kind.LATER_BLOCK:
        found.append(f"in the middle of a COPY to {point.what}")
    if shape is KEYS_OFF:
        moments = [place_of(statement, points) for statement in ("take_off_keys", "put_on_keys")]
        found.append(AROUND_THE_KEYS[sum(points.index(point) > moment for moment in moments)])
    return found


def expected_cases(shape: Shape, how: str) -> list[str]:
    """A sample holds each kind of point, all points hold all of these."""
    found: list[str] = sorted(EXPECTED[shape.name] & KINDS[how])
    if EACH > 1:
        return found
    if shape is KEYS_OFF:
        found += AROUND_THE_KEYS
    if shape is REST and how != FILES_STAY_SMALL:
        found += [f"in {task}" for task in TASKS] + [f"in the middle of a COPY to {table}" for table in WRITTEN_BY_COPY]
    if shape is REST and how == KILLED:
        found += [IS_OUT, IS_NOT_OUT]
    return found


IS_OUT = "the server's answer was lost, the mail is out: no second one"
IS_NOT_OUT = "the mail server never had the mail: sent by who clears the task"


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        *((REST, how) for how in (KILLED, CUT_OFF, FILES_STAY_SMALL)),
        *((BULK, how) for how in (KILLED, FILES_STAY_SMALL)),
        *((KEYS_OFF, how) for how in (KILLED, CUT_OFF)),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_run_that_dies_anywhere_and_is_tried_again_ends_as_if_nothing_had_happened(
    two_nights: Evening,
    postgres: DatabaseServer,
    mailbox: Mailbox,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: Shape,
    how: str,
) -> None:
    """Rules 6.1 and 8.1; the retry is Airflow's: the task that died, then those after it."""
    score.expect(expected_cases(shape, how))
    with undisturbed_run(shape, postgres, two_nights, monkeypatch, tmp_path) as run:
        assert len(mailbox.messages) == 1
        score.tried["points of an undisturbed run"] += len(run.points)
        in_doubt = while_handed_over(run.points)
        met: set[tuple[str, Kind]] = set()
        for point in chosen(shape, how, run.points):
            mailbox.messages.clear()
            to_the_end = (point.task, point.kind) not in met
            met.add((point.task, point.kind))
            with run.at_the_beginning_of(point.task) as store:
                code = die(run, point, how)
                if point in in_doubt:
                    code = ask_a_person(run, store, code, mailbox, score)
                was_unhurt = code == 0
                last = run.go_on(store, point.task, was_unhurt=was_unhurt, to_the_end=to_the_end, what=point)
            look_at_mails(mailbox, point, sent=last == TASKS[-1])
            score.tried[how] += 1
            score.tried["of these, went on to the end of the run"] += last == TASKS[-1]
            score.met.update(cases(shape, point, run.points))


def die(run: UndisturbedRun, point: Point, how: str) -> int:
    """Returns how the process ended."""
    code, reached = run.die(point, how)
    if how == FILES_STAY_SMALL:
        left_no_job(reached)
    assert (code == -signal.SIGKILL) == (how == KILLED), (point, run.log)
    return code


def while_handed_over(points: list[Point]) -> list[Point]:
    """From when the store knows that the mail server is given the report until it knows that the server took it."""
    given, known = (
        next(at for at, point in enumerate(points) if at > place_of(note, points) and point.kind is Kind.COMMITTED)
        for note in ("mark_report_handed_over", "mark_report_sent")
    )
    return points[given:known]


def ask_a_person(run: UndisturbedRun, store: Store, code: int, mailbox: Mailbox, score: Score) -> int:
    """The mail may be out, and only a person can find that out; one who has none clears the task. Returns how that ends."""
    task = TASKS[-1]
    if code == -signal.SIGKILL:
        code, reached = run.attempt(task)
        assert Kind.MAIL not in {point.kind for point in reached}, run.log
        assert "may have been sent: an earlier try of this task ended before" in run.log
        assert all(message["Message-ID"] in run.log for message in mailbox.messages)
    if code != FAILED_FOR_GOOD:  # the session that was cut had done its work
        return code
    assert re.search(r"mark this task as success|clear this task", run.log)
    score.met[IS_OUT if mailbox.messages else IS_NOT_OUT] += 1
    if not mailbox.messages:
        return run.attempt(task, tries=4)[0]
    ((noted,),) = store.execute("SELECT max(report_handed_over_in) FROM contact_store.sync_runs")
    assert noted == 3
    store.execute(
        "UPDATE contact_store.sync_runs SET report_sent_at = now(), report_handed_over_in = NULL"
        " WHERE report_handed_over_in = 3"
    )
    return 0


def look_at_mails(mailbox: Mailbox, what: object, *, sent: bool) -> None:
    """One, once the last task was gone through, and never two."""
    assert len(mailbox.messages) == sent, what


def test_a_death_around_a_refusal_by_the_mail_server_neither_loses_the_report_nor_doubles_it(
    two_nights: Evening,
    postgres: DatabaseServer,
    mailbox: Mailbox,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 8.1: a report that was refused for now is sent by the next try, unless nobody noted that it was refused."""
    refusal, task = "451 try again later", TASKS[-1]
    score.expect([KILLED, CUT_OFF, "sent by the next try", IS_NOT_OUT])
    with undisturbed_run(REST, postgres, two_nights, monkeypatch, tmp_path) as run:
        with run.at_the_beginning_of(task):
            mailbox.refusals = [refusal]
            code, points = run.attempt(task)
            assert code == FAILED, run.log
        for how, point in [(how, point) for how in (KILLED, CUT_OFF) for point in points if point.kind in KINDS[how]]:
            mailbox.messages.clear()
            mailbox.refusals = [refusal]
            with run.at_the_beginning_of(task) as store:
                code = die(run, point, how)
                mailbox.refusals = []
                ((noted,),) = store.execute("SELECT max(report_handed_over_in) FROM contact_store.sync_runs")
                if noted is not None:
                    code = ask_a_person(run, store, code, mailbox, score)
                run.go_on(store, task, was_unhurt=code == 0, to_the_end=True, what=(how, point))
            look_at_mails(mailbox, point, sent=True)
            score.met.update([how, *(["sent by the next try"] if noted is None else [])])
            score.tried["deaths and cuts while a report is refused"] += 1


def test_where_no_staged_data_is_kept_a_death_around_the_mail_leaves_none_behind(
    two_nights_that_keep_nothing: Evening,
    postgres: DatabaseServer,
    mailbox: Mailbox,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 8.1: as long as the report is not out its advice can be read; the next run removes what was left."""
    score.expect([IS_OUT, IS_NOT_OUT, "nothing staged is left", "staged data is left until the next run"])
    task = TASKS[-1]
    with undisturbed_run(REST, postgres, two_nights_that_keep_nothing, monkeypatch, tmp_path) as run:
        (undisturbed,) = (list_of_errors(message) for message in mailbox.messages)
        assert not run.after[task][1]
        in_doubt = while_handed_over(run.points)
        for point in [point for point in run.points if point.task == task]:
            mailbox.messages.clear()
            with run.at_the_beginning_of(task) as store:
                code = die(run, point, KILLED)
                if point in in_doubt:
                    code = ask_a_person(run, store, code, mailbox, score)
                if code:
                    code, _ = run.attempt(task)
                assert code == 0, (point, run.log)
                assert [list_of_errors(message) for message in mailbox.messages] == [undisturbed], point
                assert everything(store) == run.end, point
                assert broken(store, *two_nights_that_keep_nothing.sent) == {}, point
                score.met["staged data is left until the next run" if staged() else "nothing staged is left"] += 1
                assert run.attempt(*TASKS, dag_run_id="scheduled__2026-06-03")[0] == 0, (point, run.log)
                assert not staged(), point
            score.tried[KILLED] += 1


def list_of_errors(message: EmailMessage) -> bytes:
    (attached,) = message.iter_attachments()
    content = attached.get_content()
    return content.encode() if isinstance(content, str) else content


def test_it_makes_no_difference_how_a_run_reads_and_writes(
    two_nights: Evening,
    postgres: DatabaseServer,
    mailbox: Mailbox,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 4.6: so the deaths of the other shapes are compared with the same end."""
    ends = []
    for shape in (REST, BULK, KEYS_OFF):
        with fresh_store(postgres, two_nights.template, monkeypatch) as store:
            code, _ = attempt_in_a_process(Attempt(DAG_RUN, shape), tmp_path / "points")
            assert code == 0, (tmp_path / "points.log").read_text()
            ends.append(everything(store))
            assert broken(store, *two_nights.sent) == {}
        score.tried[f"undisturbed runs: {shape.name}"] += 1
    assert ends[1:] == ends[:1] * 2


def test_a_run_that_died_for_good_is_taken_over_by_the_next(
    two_nights: Evening,
    postgres: DatabaseServer,
    mailbox: Mailbox,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rules 6.3 and 8.1: the contacts are those of an undisturbed night, whatever the dead run had got done."""
    score.expect(f"died {kind}" for kind in sorted(EXPECTED[REST.name]))
    score.expect(["the dead run's own mail was out already"])
    tables = ("contacts", "handles", "accounts", "domains", "keys")
    with undisturbed_run(REST, postgres, two_nights, monkeypatch, tmp_path) as run:
        for point in some_of_each_kind(run.points):
            mailbox.messages.clear()
            with run.at_the_beginning_of(point.task) as store:
                run.die(point, KILLED)
                store.execute(
                    "UPDATE contact_store.sync_runs SET alive_until = now() - interval '1 s' WHERE state = 'running'"
                )
                code, _ = run.attempt(*TASKS, dag_run_id="scheduled__2026-06-03")
                assert code == 0, (point, run.log)
                found = everything(store)
                assert {name: found[name] for name in tables} == {name: run.end[name] for name in tables}, point
                assert broken(store, *two_nights.sent) == {}
            sent = [message["Message-ID"] for message in mailbox.messages]
            assert len(sent) == len(set(sent)), point
            score.tried["next runs after a death"] += 1
            score.met[f"died in {point.task}"] += 1
            score.met[f"died {point.kind}"] += 1
            score.met["the dead run's own mail was out already"] += len(sent) == 2


def some_of_each_kind(points: list[Point]) -> list[Point]:
    """The first of each kind; and in each task what is around its last commit, and its end."""
    first = {point.kind: point for point in reversed(points)}
    in_each_task = [Kind.COMMITS, Kind.COMMITTED, Kind.TASK_ENDS]
    last = {(point.task, point.kind): point for point in points if point.kind in in_each_task and EACH == 1}
    chosen = {*first.values(), *last.values()}
    return [point for point in points if point in chosen]


# ------------------------------------------------------------------------------------------------------- a full disk

FILLING = "filling"


@pytest.fixture
def small_disk(tmp_path: Path, score: Score) -> Iterator[Path]:
    """A file system of its own. Only who may mount one can have it; for others there is the limit of file sizes above."""
    place = tmp_path / "disk"
    place.mkdir()
    if mounted("mount", "-t", "tmpfs", "-o", "size=4m,mode=711", "contact-sync-proof", place):
        yield place
        assert mounted("umount", place)
    else:
        score.cannot_be_tried(
            "no file system can be mounted here; deaths by the limit of file sizes stand for those by a full disk"
        )


def mounted(*command: str | Path) -> bool:
    return shutil.which(str(command[0])) is not None and not subprocess.run(command, capture_output=True).returncode


@contextmanager
def filled(disk: Path, pages_left: int) -> Generator[None]:
    """Only so many pages are free."""
    free = os.statvfs(disk)
    (disk / FILLING).write_bytes(bytes((free.f_bavail - pages_left) * free.f_frsize))
    try:
        yield
    finally:
        (disk / FILLING).unlink()


STAGED: dict[str, tuple[tuple[str, ...], Callable[[str], bool]]] = {
    REST.name: (
        ("sync_accounts", "extract_contacts_of_source", "transform_contacts", "match_contacts"),
        lambda file: True,
    ),
    BULK.name: (("sync_accounts", "extract_contacts_of_source"), is_downloaded),
}
"""The tasks that stage something, and which of their files; where reading by Bulk API 2.0 differs, those it brings."""


@pytest.mark.parametrize("shape", [REST, BULK], ids=lambda shape: shape.name)
def test_a_run_that_fills_the_disk_goes_on_when_there_is_room_again(
    small_disk: Path,
    two_nights: Evening,
    postgres: DatabaseServer,
    mailbox: Mailbox,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    shape: Shape,
) -> None:
    """Each page of each staged file in turn is the first that the kernel has no room for (ENOSPC)."""
    tasks, is_meant = STAGED[shape.name]
    score.expect([*sorted(OF_A_FULL_DISK), *(f"in {task}" for task in tasks)])
    monkeypatch.setenv("CONTACT_SYNC_STAGING", f"file://{small_disk}/staging")
    with undisturbed_run(shape, postgres, two_nights, monkeypatch, tmp_path) as run:
        hit = set().union(*(fill_at_each_page(run, small_disk, task, is_meant, mailbox, score) for task in tasks))
        whole = {(point.task, point.what) for point in run.points if point.kind is Kind.FILE_WHOLE}
    assert hit == {(task, file) for task, file in whole if task in tasks and is_meant(file)}
    score.met["staged files that the disk had no room for"] += len(hit)


def fill_at_each_page(
    run: UndisturbedRun, disk: Path, task: str, is_meant: Callable[[str], bool], mailbox: Mailbox, score: Score
) -> set[tuple[str, str]]:
    """Less and less full, until the task gets as far as it is meant to; returns the files that there was no room for."""
    hit = set()
    for pages in count():
        mailbox.messages.clear()
        with run.at_the_beginning_of(task) as store:
            with filled(disk, pages):
                code, reached = run.attempt(task)
            unwritten = [point for point in reached if point.kind in OF_A_FULL_DISK]
            if code == 0 or not is_meant(unwritten[-1].what):
                return hit
            assert code == FAILED, run.log
            assert len(unwritten) == 1, run.log
            assert "No space left on device" in run.log
            left_no_job(reached)
            run.go_on(store, task, was_unhurt=False, to_the_end=pages == 0, what=(task, pages))
            assert len(mailbox.messages) == (pages == 0)
        hit.add((task, unwritten[0].what))
        score.tried["a file system of its own (tmpfs) was filled: ENOSPC"] += 1
        score.met.update([f"in {task}", unwritten[0].kind])
    raise AssertionError("never enough room")


def left_no_job(reached: list[Point]) -> None:
    """Every job was deleted, whose results Salesforce would keep for a week."""
    kinds = Counter(point.kind for point in reached)
    assert kinds[Kind.JOB] == kinds[Kind.JOB_REMOVED]


def test_staged_records_that_are_lost_stop_the_run(
    organisation: Simulator,
    store: Store,
    staging: Staging,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rules 2.6 and 6.4: or the lost ones would be taken to have left the source."""
    monkeypatch.setattr(client, "Pace", lambda: replace(IN_HASTE, rest_rows=0, first_page_rows=3, page_rows=3))
    prepare(organisation, store, settings_with(contacts={"mapping": MAPPING}))
    before = dump(store)["contacts"]
    run_id = flow.validate_settings(flow.RunRequest(dag_run_id=DAG_RUN))
    flow.sync_accounts(run_id)
    flow.extract_contacts_of_source(run_id)
    parts = sorted((tmp_path / "staging" / f"run-{run_id}" / "contacts" / "snapshot").glob("*.arrows"))
    assert len(parts) > 1
    parts[-1].unlink()
    with pytest.raises(RunRefused, match="are staged"):
        flow.transform_contacts(run_id)
    assert dump(store)["contacts"] == before
    score.tried["lost files"] += 1
