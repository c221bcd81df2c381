"""A run dies at every point, is tried again as Airflow would, and the store is that of a run that was never disturbed."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from include.contact_sync import flow
from include.contact_sync.errors import RunRefused
from include.contact_sync.salesforce import client
from include.contact_sync.staging import Staging
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.proof.conftest import Score
from tests.proof.dying import CUT_OFF, DISK_FULL, FAILED_FOR_GOOD, KILLED, TASKS, Attempt, Point, attempt_in_a_process
from tests.proof.invariants import broken
from tests.proof.nights import MAPPING, dump, fresh, keep_as_template, prepare
from tests.whole_runs import IN_HASTE, Mailbox, settings_with

DAG_RUN = "scheduled__2026-06-02"


@pytest.fixture
def two_nights(organisation: Simulator, store: Store, staging: Staging, postgres: DatabaseServer) -> Iterator[str]:
    """The template of the store to which the second night comes."""
    prepare(organisation, store, settings_with(contacts={"mapping": MAPPING}))
    yield from keep_as_template(postgres, store)


EACH = int(os.environ.get("POINTS", "1"))
"""Every so many points; all of them where nothing is said."""


def chosen(points: list[Point], how: str) -> list[Point]:
    """The points where this can happen."""
    kinds = {KILLED: None, CUT_OFF: {"statement", "copy", "commit"}, DISK_FULL: {"file"}}[how]
    return [point for point in points if kinds is None or point.kind in kinds][::EACH]


@pytest.mark.parametrize("how", [KILLED, CUT_OFF, DISK_FULL])
def test_a_run_that_dies_anywhere_and_is_tried_again_ends_as_if_nothing_had_happened(
    two_nights: str,
    postgres: DatabaseServer,
    mailbox: Mailbox,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """Rules 6.1 and 8.1; the retry is Airflow's: the task that died, then those after it."""
    for store in fresh(postgres, two_nights, monkeypatch):
        code, points = attempt_in_a_process(Attempt(DAG_RUN), tmp_path / "points")
        assert code == 0, (tmp_path / "points.log").read_text()
        undisturbed = dump(store)
        assert broken(store) == {}
    assert len(mailbox.messages) == 1
    score.tried["points of an undisturbed run"] += len(points)
    gap = after_the_mail(points)
    for point in chosen(points, how):
        mailbox.messages.clear()
        for store in fresh(postgres, two_nights, monkeypatch):
            code, reached = attempt_in_a_process(Attempt(DAG_RUN, dies_at=point.number, how=how), tmp_path / "points")
            if code == FAILED_FOR_GOOD:
                assert point in gap, (point, (tmp_path / "points.log").read_text()[-6000:])
                store.execute(
                    "UPDATE contact_store.sync_runs SET report_sent_at = now() WHERE id = (SELECT max(id) FROM contact_store.sync_runs)"
                )
            elif code != 0:
                again = Attempt(DAG_RUN, first_task=TASKS.index(reached[-1].task))
                code, _ = attempt_in_a_process(again, tmp_path / "points")
                assert code == 0, (point, (tmp_path / "points.log").read_text()[-6000:])
            assert dump(store) == undisturbed, point
            assert broken(store) == {}
            look_at_mails(mailbox, point, point in gap, score)
        score.tried[f"{how}"] += 1
        score.met[f"in {point.task}"] += 1
        score.met[f"at a {point.kind}"] += 1


def after_the_mail(points: list[Point]) -> list[Point]:
    """From when the mail server took the report until the store knows."""
    taken = next(point.number for point in points if point.kind == "mail" and point.what.startswith("after"))
    known = max(point.number for point in points if (point.kind, point.what) == ("commit", "after"))
    return [point for point in points if taken <= point.number < known]


def look_at_mails(mailbox: Mailbox, point: Point, in_the_gap: bool, score: Score) -> None:
    """One mail; in the gap, where nobody can know, a second one may be sent, which says that it is the same."""
    assert len(mailbox.messages) == 1 or (in_the_gap and len(mailbox.messages) == 2), point
    assert len({message["Message-ID"] for message in mailbox.messages}) == 1
    score.met["runs that sent one mail"] += len(mailbox.messages) == 1
    score.met["died between sending and knowing: sent twice, with the same Message-ID"] += len(mailbox.messages) == 2


def test_a_run_that_died_for_good_is_taken_over_by_the_next(
    two_nights: str,
    postgres: DatabaseServer,
    mailbox: Mailbox,
    score: Score,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rule 6.3: the contacts are those of an undisturbed night, whatever the dead run had got done."""
    tables = ("contacts", "handles", "accounts", "domains")
    for store in fresh(postgres, two_nights, monkeypatch):
        _, points = attempt_in_a_process(Attempt(DAG_RUN), tmp_path / "points")
        undisturbed = dump(store)
    for point in chosen(points, KILLED)[::12]:
        for store in fresh(postgres, two_nights, monkeypatch):
            attempt_in_a_process(Attempt(DAG_RUN, dies_at=point.number), tmp_path / "points")
            store.execute(
                "UPDATE contact_store.sync_runs SET alive_until = now() - interval '1 s' WHERE state = 'running'"
            )
            code, _ = attempt_in_a_process(Attempt("scheduled__2026-06-03"), tmp_path / "points")
            assert code == 0, (tmp_path / "points.log").read_text()[-6000:]
            found = dump(store)
            assert {name: found[name] for name in tables} == {name: undisturbed[name] for name in tables}, point
            assert broken(store) == {}
        score.tried["next runs after a death"] += 1
        score.met[f"died in {point.task}"] += 1


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
    parts = sorted((tmp_path / "staging" / f"run-{run_id}" / "contacts" / "snapshot").glob("*.parquet"))
    assert len(parts) > 1
    parts[-1].unlink()
    with pytest.raises(RunRefused, match="are staged"):
        flow.transform_contacts(run_id)
    assert dump(store)["contacts"] == before
    score.tried["lost files"] += 1
