"""Defects of whole runs: what a life shows, what a death shows, and what Salesforce's faults show."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from include.contact_sync import conclude, extract, flow, match, plan, staging
from include.contact_sync.errors import RunError
from include.contact_sync.report import operator
from include.contact_sync.salesforce import bulk, client, faults, session
from include.contact_sync.salesforce.faults import CursorLost
from include.contact_sync.salesforce.pages import Page
from include.contact_sync.salesforce.soql import Filter
from include.contact_sync.staging import Staging
from include.contact_sync.store import runs
from include.contact_sync.store.connection import connect
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.proof import dying, prove_a_life, prove_crashes, prove_salesforce_faults
from tests.proof.conftest import Score
from tests.proof.dying import DISK_FULL, KILLED, Attempt, Point
from tests.proof.seeded.defect import SEEDED_DEFECT, Defect, Invariant, Plant, Scene, every, instead, statement, without
from tests.proof.seeded.in_matching import rewrites_everything, takes_persons_handles_away
from tests.proof.seeded.in_the_store import FIELDS_KEPT, HALF_COMMITTED
from tests.whole_runs import Mailbox

# ------------------------------------------------------------------------------------------------------------ a life


def person(letter: str, phone: str | None = None) -> dict[str, str | None]:
    nothing: dict[str, str | None] = dict.fromkeys(prove_a_life.KINDS)
    return nothing | {"Email": f"{letter}@x0.co", "Phone": phone}


def a_short_life(organisation: Simulator, store: Store, staging: Staging, score: Score) -> None:
    """Every kind of run, and something of what happens between them."""
    life = prove_a_life.life(prove_a_life.Place(organisation, store, score))()
    life.begin(people=[person("a", "(212) 200-0000"), person("b"), person("A")])
    life.run_once()
    life.a_person_writes_a_description(number=0)
    life.a_person_adds_a_handle(number=1, handle=("twitter", "b_0"))
    life.somebody_changes(number=1, person=person("c"))
    life.run_once()
    life.somebody_changes(number=0, person=person("d"))
    life.run_fails(fault="server_error")
    life.run_dry()
    life.run_twice()
    life.choose_settings(mapping=prove_a_life.MAPPINGS[1], is_view=True)
    life.somebody_enters_or_leaves_the_view(number=1, tier="Silver")
    life.somebody_changes(number=1, person=person("e"))
    life.run_once()
    life.a_field_is_hidden_or_shown(name="Email")
    life.run_once()
    life.a_field_is_hidden_or_shown(name="Email")
    life.somebody_is_deleted(number=0)
    life.run_once()
    life.somebody_is_restored(number=0)
    life.somebody_comes(person=person("d"))
    life.run_once()
    life.two_are_merged(one=-1, other=0)
    life.run_twice()


def writes_in_dry_runs(original: Any) -> Any:
    return lambda step, *arguments: original(replace_run(step, dry_run=False), *arguments)


def replace_run(step: Any, **facts: Any) -> Any:
    return replace(step, run=replace(step.run, **facts))


def counts_nobody(original: Any) -> Any:
    def counted(*arguments: Any, **options: Any) -> int:
        try:
            return int(original(*arguments, **options))
        except RunError:
            return 0

    return counted


def reads_nobody(original: Any) -> Any:
    def pages(session_: Any, query: Any, **options: Any) -> Iterator[Page]:
        try:
            yield from original(session_, query, **options)
        except RunError:
            yield Page(pa.table({field: pa.array([], pa.string()) for field in query.fields}), 0, 0)

    return pages


def everybody_has_left(original: Any) -> Any:
    """Delete, commit, then append: what is read marks itself as there again."""

    def extracted(*arguments: Any, **options: Any) -> Any:
        with connect() as connection:
            connection.execute(
                "UPDATE contact_store.contacts SET not_syncing_since = now() WHERE external_id IS NOT NULL"
            )
        return original(*arguments, **options)

    return extracted


IN_LIVES = [
    Defect(
        "the settings that were saved first are used",
        Invariant.LIFE_AS_SPECIFIED,
        statement("load_newest_settings", "DESC", "ASC"),
        a_short_life,
        "Life.run_once: assert comparable(found) == comparable(after)",
    ),
    Defect(
        "a list view's filter is not used (2.3)",
        Invariant.LIFE_AS_SPECIFIED,
        instead(client, "read_filter", lambda _: lambda *_: Filter()),
        a_short_life,
        "Life.run_once: assert ",
    ),
    Defect(
        "contacts that left the source are deleted (2.6)",
        Invariant.LIFE_AS_SPECIFIED,
        statement(
            "mark_stopped",
            "UPDATE contact_store.{table} SET not_syncing_since = now()",
            "DELETE FROM contact_store.{table}",
        ),
        a_short_life,
        "Life.run_once: assert comparable(found) == comparable(after)",
    ),
    Defect(
        "a merged contact stays linked to who is gone (4.11)",
        Invariant.LIFE_AS_SPECIFIED,
        instead(match.Matching, "_follow_merges", without),
        a_short_life,
        "Life.run_once: assert comparable(found) == comparable(after)",
    ),
    Defect(
        "handles that people added are given up (4.10)",
        Invariant.PERSONS_EDITS,
        instead(match.Matching, "find_owners", takes_persons_handles_away),
        a_short_life,
        "Life.run_once: assert comparable(found) == comparable(after)",
    ),
    Defect(
        "custom fields of people's own are overwritten (3.4)",
        Invariant.PERSONS_EDITS,
        statement("update_records", FIELDS_KEPT, "part_rows.custom_set"),
        a_short_life,
        "Life.look: assert kept == ",
    ),
    Defect(
        "what cannot be read counts as empty",
        Invariant.FAILED_RUNS,
        every(instead(client, "count_records", counts_nobody), instead(client, "read_by_rest", reads_nobody)),
        a_short_life,
        'Life.run_fails: assert run().run.state == "failed"',
    ),
    Defect(
        "everybody counts as gone until they are read",
        Invariant.FAILED_RUNS,
        instead(flow, "sync_accounts", everybody_has_left),
        a_short_life,
        "Life.run_fails: assert {name: after[name]",
    ),
    Defect(
        "a dry run writes",
        Invariant.DRY_RUNS,
        instead(flow, "_finish_part", writes_in_dry_runs),
        a_short_life,
        "Life.run_dry: assert {name: after[name]",
    ),
    Defect(
        "contacts are written anew each time (4.12)",
        Invariant.REPEATED_RUNS,
        instead(plan, "_accounts", rewrites_everything),
        a_short_life,
        "Life.run_twice: assert ",
    ),
]


# ---------------------------------------------------------------------------------------------------------- deaths


def carry_out_with_a_defect(attempt: Attempt, environment: dict[str, str], told: Path) -> None:
    """`dying.carry_out` in a process that has the seeded defect too."""
    from tests.proof.seeded.catalogue import DEFECTS

    (defect,) = [defect for defect in DEFECTS if defect.what == environment[SEEDED_DEFECT]]
    defect.plant(pytest.MonkeyPatch())
    dying.carry_out(attempt, environment, told)


def at(task: str, kind: str, what: str) -> Callable[[list[Point]], list[Point]]:
    """The first such point."""
    return lambda points: [
        point for point in points if (point.task, point.kind) == (task, kind) and point.what.startswith(what)
    ][:1]


def death(where: Callable[[list[Point]], list[Point]], how: str = KILLED) -> Scene:
    """A run dies there and is tried again."""

    def scene(
        two_nights: str,
        postgres: DatabaseServer,
        mailbox: Mailbox,
        score: Score,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        mailbox.messages.clear()
        in_processes_too(monkeypatch)
        monkeypatch.setattr(prove_crashes, "chosen", lambda points, _: with_an_empty_staging_place(where(points)))
        prove_crashes.test_a_run_that_dies_anywhere_and_is_tried_again_ends_as_if_nothing_had_happened(
            two_nights, postgres, mailbox, score, tmp_path, monkeypatch, how
        )
        assert score.tried[how] == 1, "there is no such point"

    return scene


def with_an_empty_staging_place(points: list[Point]) -> list[Point]:
    """What the undisturbed run staged would be taken for what the other one did."""
    shutil.rmtree(os.environ["CONTACT_SYNC_STAGING"].removeprefix("file://"))
    return points


def in_processes_too(patch: pytest.MonkeyPatch) -> None:
    if SEEDED_DEFECT in os.environ:
        patch.setattr(dying, "carry_out", carry_out_with_a_defect)


def a_death_for_good(
    two_nights: str,
    postgres: DatabaseServer,
    mailbox: Mailbox,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_processes_too(monkeypatch)
    monkeypatch.setattr(prove_crashes, "chosen", lambda points, _: at("match_contacts", "task", "begins")(points))
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


WHILE_APPLYING = death(at("load_contacts", "statement", "-- Records the outcome counts"))
WHEN_APPLIED = death(at("load_contacts", "statement", "-- Merges facts of a step"))
BEFORE_A_FILE = death(at("transform_contacts", "file", "records.parquet"), DISK_FULL)
BEFORE_THE_MAIL = death(at("report_errors", "mail", "before"))
AFTER_THE_MAIL = death(at("report_errors", "mail", "after"))
AT_THE_END = death(lambda points: points[-1:])
for scene, name in {
    WHILE_APPLYING: "a death while the contacts are applied",
    WHEN_APPLIED: "a death when the contacts are applied",
    BEFORE_A_FILE: "the disk is full",
    BEFORE_THE_MAIL: "a death before the mail",
    AFTER_THE_MAIL: "a death after the mail",
    AT_THE_END: "a death when all is done",
}.items():
    scene.__name__ = name


def forgets_what_was_applied(original: Any) -> Any:
    return lambda *arguments: replace(original(*arguments), contacts_applied_at=None)


def says_nothing_of_a_full_disk(original: Any) -> Any:
    def write(*arguments: Any) -> None:
        with suppress(OSError):
            original(*arguments)

    return write


def marks_first(original: Any) -> Any:
    def send(self: Any, mail: Any, message_key: str) -> Any:
        mail.on_accepted()
        return original(self, mail, message_key)

    return send


NUMBERS = count()


def new_message_id(original: Any) -> Any:
    return lambda mail, sender, recipients, key: original(
        mail, sender, recipients, f"{key}{os.getpid()}{next(NUMBERS)}"
    )


LIKE_THE_UNDISTURBED = "ends_as_if_nothing_had_happened: assert dump(store) == undisturbed"
ONE_MAIL = "look_at_mails: assert len(mailbox.messages) == 1"
IN_DEATHS = [
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
        BEFORE_A_FILE,
        "ends_as_if_nothing_had_happened: assert point in gap",
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
        instead(operator.ErrorReportOperator, "_send", marks_first),
        BEFORE_THE_MAIL,
        ONE_MAIL,
    ),
    Defect(
        "a report is never marked as sent (8.1)",
        Invariant.NO_SECOND_MAIL,
        instead(conclude, "mark_report_sent", without),
        AFTER_THE_MAIL,
        ONE_MAIL,
    ),
    Defect(
        "nobody asks whether the report was sent (8.1)",
        Invariant.NO_SECOND_MAIL,
        instead(conclude.RunReport, "is_needed", lambda _: property(lambda self: self.report.is_needed)),
        AT_THE_END,
        ONE_MAIL,
    ),
    Defect(
        "a copy of a mail has an id of its own (8.1)",
        Invariant.NO_SECOND_MAIL,
        instead(operator, "build_message", new_message_id),
        AFTER_THE_MAIL,
        'look_at_mails: assert len({message["Message-ID"]',
    ),
]


# ------------------------------------------------------------------------------------------------------ Salesforce


def second_night(way: str) -> Callable[..., Any]:
    """The fixture of the proof, for one of Salesforce's interfaces."""
    return contextmanager(
        lambda organisation, store, postgres, patch: prove_salesforce_faults.second_night(
            way, organisation, store, postgres, patch
        )
    )


def fault(name: str, kind: str, way: str, lasting: str = "once") -> Scene:
    """A fault at the calls of one kind."""

    def scene(
        organisation: Simulator,
        store: Store,
        staging: Staging,
        postgres: DatabaseServer,
        score: Score,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        table = "ONCE" if lasting == "once" else "FOR_EVER"
        codes = getattr(prove_salesforce_faults, table)[name]
        worth = prove_salesforce_faults.calls_worth_disturbing
        monkeypatch.setattr(prove_salesforce_faults, table, {name: codes})
        monkeypatch.setattr(
            prove_salesforce_faults,
            "calls_worth_disturbing",
            lambda organisation: {number: each for number, each in worth(organisation).items() if each == kind},
        )
        with second_night(way)(organisation, store, postgres, monkeypatch) as template:
            prove_salesforce_faults.test_a_fault_at_any_call_changes_nothing_in_the_end(
                template, organisation, postgres, score, monkeypatch, lasting
            )
        assert score.tried["faults"], "there is no such call"

    scene.__name__ = f"{name} {lasting} at {kind} by {way}"
    return scene


def change(name: str) -> Scene:
    """What an administrator changes between two runs, and while one reads."""

    def scene(
        organisation: Simulator,
        store: Store,
        staging: Staging,
        postgres: DatabaseServer,
        score: Score,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        with second_night("rest")(organisation, store, postgres, monkeypatch) as template:
            prove_salesforce_faults.test_what_is_changed_in_salesforce_stops_a_run_or_is_left_out(
                template, organisation, postgres, score, monkeypatch, name
            )

    scene.__name__ = name
    return scene


def the_source_grows_too_large(
    organisation: Simulator,
    store: Store,
    staging: Staging,
    postgres: DatabaseServer,
    score: Score,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with second_night("rest")(organisation, store, postgres, monkeypatch) as template:
        prove_salesforce_faults.test_a_source_that_has_grown_too_large_changes_nothing(
            template, organisation, postgres, score, monkeypatch
        )


def nobody_counts(original: Any) -> Any:
    return lambda pages: pages


def each_once(original: Any) -> Any:
    def snapshot(*arguments: Any) -> pa.Table:
        records = original(*arguments)
        return records.filter(pa.array(~records["Id"].to_pandas().duplicated().to_numpy()))

    return snapshot


def takes_what_comes(original: Any) -> Any:
    def read_page(response: Any, fields: Any) -> Any:
        response.headers.pop("Sforce-NumberOfRecords", None)
        return original(response, fields)

    return read_page


def ends_quietly(original: Any) -> Any:
    """When there was a page, and the next cannot be had."""

    def read(*arguments: Any, **options: Any) -> Iterator[Page]:
        pages = original(*arguments, **options)
        yield next(pages)
        with suppress(CursorLost):
            yield from pages

    return read


def gives_up_quietly(original: Any) -> Any:
    def read(*arguments: Any, **options: Any) -> Iterator[Page]:
        with suppress(RunError):
            yield from original(*arguments, **options)

    return read


def takes_the_whole_object(original: Any) -> Any:
    def read_filter(*arguments: Any) -> Filter:
        try:
            found: Filter = original(*arguments)
        except RunError:
            found = Filter()
        return found

    return read_filter


def never_logs_in_again(original: Any) -> Any:
    def log_in_again(self: Any, expired: Any) -> None:
        self._logins_left = 0
        original(self, expired)

    return log_in_again


UNCOUNTED: Plant = instead(client, "balanced", nobody_counts)
FAULTY = "test_a_fault_at_any_call_changes_nothing_in_the_end: assert "
UNDISTURBED, RIGHT_CODE = FAULTY + "tables(store) == undisturbed", FAULTY + "found and found <= codes"
IN_SALESFORCE = [
    Defect(
        "a duplicate page is taken in place of the one that is missing (6.4)",
        Invariant.RECOVERS,
        every(UNCOUNTED, instead(flow, "_snapshot", each_once)),
        fault("duplicate_page", "bulk_results", "bulk"),
        UNDISTURBED,
    ),
    Defect(
        "a page with a wrong count is taken (6.4)",
        Invariant.RECOVERS,
        every(UNCOUNTED, instead(bulk, "_read_page", takes_what_comes)),
        fault("drop_rows", "bulk_results", "bulk"),
        UNDISTURBED,
    ),
    Defect(
        "pages behind an expired session are lost (6.4)",
        Invariant.RECOVERS,
        every(UNCOUNTED, instead(client, "read_by_rest", ends_quietly)),
        fault("session_expired", "query_more", "rest"),
        UNDISTURBED,
    ),
    Defect(
        "a dead locator ends the reading quietly (6.4)",
        Invariant.RECOVERS,
        every(UNCOUNTED, instead(client, "read_by_bulk", ends_quietly)),
        fault("dead_locator", "bulk_results", "bulk"),
        UNDISTURBED,
    ),
    Defect(
        "an expired session is not renewed",
        Invariant.RECOVERS,
        instead(session.Session, "_log_in_again", never_logs_in_again),
        fault("session_expired", "query_more", "rest"),
        RIGHT_CODE,
    ),
    Defect(
        "what was read is enough when Salesforce fails",
        Invariant.FAILS_WHOLE,
        every(UNCOUNTED, instead(client, "read_by_rest", gives_up_quietly)),
        fault("server_error", "query_more", "rest", "for ever"),
        UNDISTURBED,
    ),
    Defect(
        "contacts count as gone until they are read",
        Invariant.FAILS_WHOLE,
        instead(flow, "extract_contacts", everybody_has_left),
        fault("server_error", "query_more", "rest", "for ever"),
        FAULTY + "tables(store) == before",
    ),
    Defect(
        "the API limit counts as an outage (7)",
        Invariant.RIGHT_CODE,
        instead(faults, "_LIMITS", lambda _: frozenset()),
        fault("request_limit", "query_more", "rest", "for ever"),
        RIGHT_CODE,
    ),
    Defect(
        "without its list view the whole object is read (2.4)",
        Invariant.CHANGES_NOTICED,
        instead(client, "read_filter", takes_the_whole_object),
        change("the list view is deleted"),
        'test_what_is_changed_in_salesforce_stops_a_run_or_is_left_out: assert moment, "a change',
    ),
    Defect(
        "a field that is gone is not reported (3.3)",
        Invariant.CHANGES_NOTICED,
        instead(flow, "_field_errors", lambda original: lambda missing: original([])),
        change("a mapped field is deleted"),
        'test_what_is_changed_in_salesforce_stops_a_run_or_is_left_out: assert moment, "a change',
    ),
    Defect(
        "nobody looks how large the source is (1.5)",
        Invariant.TOO_LARGE,
        instead(extract._Reader, "_refuse_too_many", without),
        the_source_grows_too_large,
        "test_a_source_that_has_grown_too_large_changes_nothing: assert sync(",
    ),
]

DEFECTS = [*IN_LIVES, *IN_DEATHS, *IN_SALESFORCE]
