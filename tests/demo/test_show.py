"""What a person sees: progress while it goes on, then what was done, and what is not as it should be."""

import io
from dataclasses import replace

import pytest

from include.contact_sync.store.connection import connect
from include.contact_sync.store.migrations import migrate
from include.demo.airflow import TaskState
from include.demo.show import ErrorCount, Progress, RunResult, describe_result, read_result

COUNTS = {"read": 10, "created": 4, "linked": 1, "updated": 2, "unchanged": 1, "error": 2}
RESULT = RunResult(
    run_id=3,
    state="succeeded",
    accounts={**dict.fromkeys(COUNTS, 0), "read": 5, "created": 5},
    contacts=COUNTS,
    report_sent=True,
    errors=[
        ErrorCount("contacts", "email_taken", "contact", 2, 1),
        ErrorCount("contacts", "invalid_value", "warning", 7, 0),
    ],
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_off_a_terminal_a_line_appears_only_when_a_task_changes() -> None:
    output = io.StringIO()
    progress = Progress(output)
    waiting = TaskState("load_contacts", "waiting", None)
    for tasks in (
        [waiting],
        [replace(waiting, state="running", seconds=0.5)] * 1,
        [replace(waiting, state="running", seconds=1)],
    ):
        progress.update(tasks)
    progress.update([replace(waiting, state="success", seconds=2.04)])

    lines = [line.split() for line in output.getvalue().splitlines()]
    assert lines == [["load_contacts", "running", "0.5", "s"], ["load_contacts", "success", "2.0", "s"]]


def test_on_a_terminal_each_task_keeps_its_line() -> None:
    output = Terminal()
    progress = Progress(output)
    tasks = [TaskState("validate_settings", "success", 2.0), TaskState("sync_accounts", "running", 1.0)]
    progress.update(tasks)
    before = len(output.getvalue())
    progress.update(tasks)

    again = output.getvalue()[before:]
    assert again.startswith("\x1b[2A\x1b[2K")
    assert again.count("\n") == 2


def test_a_good_run_has_no_faults_and_is_shown_with_its_counts_and_errors() -> None:
    shown = "\n".join(describe_result(RESULT))

    assert RESULT.faults == []
    assert "contacts           10          4          1          2          1          2" in shown
    assert "email_taken           contact      2   1 new" in shown
    assert "invalid_value         warning      7   still open" in shown


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"state": "failed"}, "the run's state is failed"),
        ({"accounts": None}, "no accounts were read"),
        ({"contacts": {**COUNTS, "read": 0}}, "no contacts were read"),
        ({"contacts": {**COUNTS, "created": 3}}, "the contacts do not add up"),
        ({"contacts": {**COUNTS, "created": 3, "error": 3}}, "3 contacts are in error, but 2 errors are recorded"),
        ({"report_sent": False}, "there are errors and no e-mail was sent"),
    ],
)
def test_what_is_not_as_it_should_be_is_a_fault(wrong: dict, fault: str) -> None:
    assert any(fault in found for found in replace(RESULT, **wrong).faults)


def test_a_run_without_errors_needs_no_e_mail() -> None:
    clean = {**COUNTS, "unchanged": 3, "error": 0}

    assert replace(RESULT, contacts=clean, errors=[], report_sent=False).faults == []


def test_a_run_that_never_reached_the_store_has_no_result(store) -> None:
    assert read_result(store.uri, "manual__1") is None


def test_a_runs_result_is_what_the_store_says(store) -> None:
    with connect() as connection:
        migrate(connection)
    ((run,),) = store.execute(
        """INSERT INTO contact_store.sync_runs
               (dag_run_id, trigger, settings, state, ended_at, alive_until, accounts, contacts, report_sent_at)
           VALUES ('manual__1', 'manual', '{}', 'succeeded', now(), now(), '{"read": 1}', '{"read": 2}', now())
           RETURNING id"""
    )
    for identifier, opened in (("003000000000001AAA", run), ("003000000000002AAA", run), ("003000000000003AAA", 0)):
        store.execute(
            """INSERT INTO contact_store.sync_errors (part, code, level, external_id, opened_run, last_run)
               VALUES ('contacts', 'no_handle', 'contact', %s, %s, %s)""",
            (identifier, opened, opened),
        )

    assert read_result(store.uri, "manual__1") == RunResult(
        run_id=run,
        state="succeeded",
        accounts={"read": 1},
        contacts={"read": 2},
        report_sent=True,
        errors=[ErrorCount("contacts", "no_handle", "contact", 3, 2)],
    )
