"""Defects that only a run that dies and is tried again shows, and only its mails. They get to the process that dies, too."""

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from include.contact_sync import conclude, flow, staging
from include.contact_sync.report import operator
from include.contact_sync.salesforce import bulk
from include.contact_sync.staging import Staging
from include.contact_sync.store import runs
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.proof import dying, prove_crashes
from tests.proof.conftest import Score
from tests.proof.dying import FILES_STAY_SMALL, KILLED, Attempt, Kind, Point, Shape
from tests.proof.nights import Evening
from tests.proof.seeded.defect import SEEDED_DEFECT, Defect, Invariant, Scene, every, instead, statement
from tests.proof.seeded.in_the_store import HALF_COMMITTED
from tests.whole_runs import Mailbox


def carry_out_with_a_defect(attempt: Attempt, environment: dict[str, str], told: Path) -> None:
    """`dying.carry_out` in a process that has the seeded defect too."""
    from tests.proof.seeded.catalogue import DEFECTS

    (defect,) = [defect for defect in DEFECTS if defect.what == environment[SEEDED_DEFECT]]
    defect.plant(pytest.MonkeyPatch())
    dying.carry_out(attempt, environment, told)


def at(task: str, kind: Kind, what: str = "") -> Callable[[list[Point]], list[Point]]:
    """The first such point."""
    return lambda points: [
        point for point in points if (point.task, point.kind) == (task, kind) and point.what.startswith(what)
    ][:1]


def death(
    where: Callable[[list[Point]], list[Point]], name: str, how: str = KILLED, shape: Shape = prove_crashes.REST
) -> Scene:
    """A run dies there and is tried again."""

    def scene(
        two_nights: Evening,
        postgres: DatabaseServer,
        mailbox: Mailbox,
        score: Score,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        mailbox.messages.clear()
        in_processes_too(monkeypatch)
        monkeypatch.setattr(prove_crashes, "chosen", lambda _shape, _how, points: where(points))
        prove_crashes.test_a_run_that_dies_anywhere_and_is_tried_again_ends_as_if_nothing_had_happened(
            two_nights, postgres, mailbox, score, tmp_path, monkeypatch, shape, how
        )
        assert score.tried[how] == 1, "there is no such point"

    scene.__name__ = name
    return scene


def in_processes_too(patch: pytest.MonkeyPatch) -> None:
    if SEEDED_DEFECT in os.environ:
        patch.setattr(dying, "carry_out", carry_out_with_a_defect)


def a_death_for_good(
    two_nights: Evening,
    postgres: DatabaseServer,
    mailbox: Mailbox,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_processes_too(monkeypatch)
    monkeypatch.setattr(prove_crashes, "some_of_each_kind", at("match_contacts", Kind.TASK_BEGINS))
    prove_crashes.test_a_run_that_died_for_good_is_taken_over_by_the_next(
        two_nights, postgres, mailbox, score, tmp_path, monkeypatch
    )


def staged_records_are_lost(
    organisation: Simulator,
    store: Store,
    staging: Staging,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prove_crashes.test_staged_records_that_are_lost_stop_the_run(
        organisation, store, staging, score, tmp_path, monkeypatch
    )


WHILE_APPLYING = death(
    at("load_contacts", Kind.WRITES, "-- Records the outcome counts"), "a death while the contacts are applied"
)
WHEN_APPLIED = death(
    at("load_contacts", Kind.WRITES, "-- Merges facts of a step"), "a death when the contacts are applied"
)
WHILE_STAGING = death(at("transform_contacts", Kind.FILE), "the disk is full", FILES_STAY_SMALL)
WHILE_DOWNLOADING = death(
    at("extract_contacts_of_source", Kind.FILE, "contacts/snapshot"),
    "the disk is full while the next page comes",
    FILES_STAY_SMALL,
    prove_crashes.BULK,
)
WHILE_HANDED_OVER = death(at("report_errors", Kind.TEXT), "a death before the mail server has the text")
AFTER_THE_MAIL = death(at("report_errors", Kind.MAILED), "a death after the mail")
AT_THE_END = death(at("report_errors", Kind.TASK_ENDS), "a death when all is done")


def forgets_what_was_applied(original: Any) -> Any:
    return lambda *arguments: replace(original(*arguments), contacts_applied_at=None)


def says_nothing_of_a_full_disk(original: Any) -> Any:
    def write(*arguments: Any) -> None:
        with suppress(OSError):
            original(*arguments)

    return write


def only_when_all_is_read(original: Any) -> Any:
    def remove(*arguments: Any) -> None:
        if sys.exception() is None:
            original(*arguments)

    return remove


def with_no_doubt(original: Any) -> Any:
    return lambda self, tries: original(self, tries) | {"may_be_out": False}


def with_doubt_for_ever(original: Any) -> Any:
    return lambda self, tries: original(self, tries) | {"may_be_out": self.run.report_handed_over_in is not None}


NUMBERS = count()


def new_message_id(original: Any) -> Any:
    return lambda mail, *others: original(replace(mail, key=f"{mail.key}{os.getpid()}{next(NUMBERS)}"), *others)


LIKE_THE_UNDISTURBED = "UndisturbedRun.compare: assert everything("
NO_ROOM = "UndisturbedRun.die: assert (unwritten, code) == ([Kind.FILE_CUT], FAILED)"
NOT_SENT_AGAIN = "ask_a_person: assert Kind.MAIL not in"
ONE_MAIL = "look_at_mails: assert len(mailbox.messages) == sent"
GOES_ON = "UndisturbedRun.go_on: assert code == 0"
DEFECTS = [
    Defect(
        "half of a load is committed (6.1)",
        Invariant.DEATHS,
        HALF_COMMITTED,
        WHILE_APPLYING,
        LIKE_THE_UNDISTURBED,
    ),
    Defect(
        "what was applied is applied again",
        Invariant.DEATHS,
        instead(runs, "resume_run", forgets_what_was_applied),
        WHEN_APPLIED,
        LIKE_THE_UNDISTURBED,
    ),
    Defect(
        "a full disk is not noticed",
        Invariant.DEATHS,
        instead(staging, "_write_local_file", says_nothing_of_a_full_disk),
        WHILE_STAGING,
        NO_ROOM,
    ),
    Defect(
        "a full disk is not noticed while the next page comes",
        Invariant.DEATHS,
        instead(staging, "_write_local_file", says_nothing_of_a_full_disk),
        WHILE_DOWNLOADING,
        NO_ROOM,
    ),
    Defect(
        "a job whose records could not be staged is left in Salesforce",
        Invariant.DEATHS,
        instead(bulk, "_remove", only_when_all_is_read),
        WHILE_DOWNLOADING,
        "left_no_job: assert ",
    ),
    Defect(
        "a dead run blocks the next (6.3)",
        Invariant.TAKEN_OVER,
        statement("close_dead_run", "AND alive_until < now()", "AND alive_until < now() - interval '1 day'"),
        a_death_for_good,
        "test_a_run_that_died_for_good_is_taken_over_by_the_next: assert code == 0",
    ),
    Defect(
        "staged records are not counted (6.4)",
        Invariant.STAGED_LOSS,
        instead(
            flow,
            "_snapshot",
            lambda _: lambda step, part, _extraction: step.staging.read_parts(f"{part}/snapshot"),
        ),
        staged_records_are_lost,
        "test_staged_records_that_are_lost_stop_the_run: with pytest.raises(RunRefused",
    ),
    Defect(
        "a report is marked as sent before the server took it (8.1)",
        Invariant.NO_LOST_MAIL,
        statement("mark_report_handed_over", "= %(tries)s\n", "= %(tries)s, report_sent_at = now()\n"),
        WHILE_HANDED_OVER,
        'ask_a_person: assert "may have been sent',
    ),
    Defect(
        "a report is never marked as sent (8.1)",
        Invariant.NO_SECOND_MAIL,
        statement("mark_report_sent", "WHERE id", "WHERE false AND id"),
        AT_THE_END,
        GOES_ON,
    ),
    Defect(
        "that the mail server is given a report is not noted (8.1)",
        Invariant.NO_SECOND_MAIL,
        statement("mark_report_handed_over", "SET report_handed_over_in = %(tries)s", "SET report_sent_at = NULL"),
        AFTER_THE_MAIL,
        NOT_SENT_AGAIN,
    ),
    Defect(
        "a report that may be out is sent again by Airflow's next try (8.1)",
        Invariant.NO_SECOND_MAIL,
        instead(conclude.RunReport, "mail", with_no_doubt),
        AFTER_THE_MAIL,
        NOT_SENT_AGAIN,
    ),
    Defect(
        "a report that may be out is not sent even by who clears the task (8.1)",
        Invariant.NO_LOST_MAIL,
        instead(conclude.RunReport, "mail", with_doubt_for_ever),
        WHILE_HANDED_OVER,
        GOES_ON,
    ),
    Defect(
        "nobody asks whether the report was sent (8.1)",
        Invariant.NO_SECOND_MAIL,
        every(
            instead(conclude.RunReport, "is_needed", lambda _: property(lambda self: self.report.is_needed)),
            statement("mark_report_handed_over", "AND report_sent_at IS NULL", ""),
        ),
        AT_THE_END,
        ONE_MAIL,
    ),
    Defect(
        "the id by which a mail that may be out is looked for is that of no mail (8.1)",
        Invariant.NO_SECOND_MAIL,
        instead(operator, "build_message", new_message_id),
        AFTER_THE_MAIL,
        'ask_a_person: assert all(message["Message-ID"] in run.log',
    ),
]
