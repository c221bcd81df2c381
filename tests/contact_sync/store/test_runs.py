"""Runs: one at a time, with a lease, safe to retry."""

import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import pytest

from include.contact_sync.errors import AnotherRunIsActive, RunError, RunRefused
from include.contact_sync.settings import Settings
from include.contact_sync.store import runs
from include.contact_sync.store.runs import Run
from include.contact_sync.store.settings_versions import save_settings
from tests.conftest import Store

StartRun = Callable[..., Run]
COUNTS = {"read": 3, "created": 1, "linked": 0, "updated": 0, "unchanged": 1, "error": 1}


def let_lease_pass(store: Store) -> None:
    store.execute(
        "UPDATE contact_store.sync_runs SET alive_until = now() - interval '1 second' WHERE state = 'running'"
    )


def state_of(store: Store, run: Run) -> str:
    ((state,),) = store.execute("SELECT state FROM contact_store.sync_runs WHERE id = %s", [run.id])
    return state


def apply_contacts(connection: psycopg.Connection, run: Run) -> None:
    with connection.transaction(), connection.cursor() as cursor:
        runs.begin_apply(cursor, run.id)
        runs.mark_applied(cursor, run.id, "contacts", COUNTS)


def test_a_run_keeps_everything_it_was_opened_with(
    connection: psycopg.Connection, start_run: StartRun, settings: Settings
) -> None:
    version = save_settings(connection, settings, "ann")
    window = (datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 2, tzinfo=UTC))
    opened = start_run(
        "backfill__1",
        trigger="backfill",
        triggered_by="ann",
        notify="x@example.com",
        settings_version=version,
        dry_run=True,
        window=window,
    )
    run = runs.load_run(connection, opened.id)
    assert run == opened
    assert (run.dag_run_id, run.trigger, run.triggered_by, run.notify) == (
        "backfill__1",
        "backfill",
        "ann",
        "x@example.com",
    )
    assert (run.settings_version, run.settings, run.dry_run, run.window) == (version, settings, True, window)
    assert (run.state, run.ended_at, run.accounts, run.contacts, run.steps) == ("running", None, None, None, {})
    assert run.alive_until - run.started_at == runs.ALIVE_FOR


def test_a_run_can_be_opened_with_settings_that_are_not_valid_and_says_so_when_they_are_used(
    connection: psycopg.Connection, start_run: StartRun
) -> None:
    run = start_run(settings={"owners": []})
    with pytest.raises(RunError, match="owners: must have an entry") as refused:
        _ = run.settings
    assert refused.value.code == "settings_invalid"


def test_rule_6_3_a_second_run_is_refused_and_told_which_one_is_active(start_run: StartRun) -> None:
    first = start_run("scheduled__1")
    with pytest.raises(AnotherRunIsActive, match=rf"Run {first.id} \(scheduled__1, since .*one run at a time"):
        start_run("manual__2", trigger="manual")


def test_rule_6_3_of_two_that_start_at_once_one_gets_the_store(store: Store, start_run: StartRun) -> None:
    results: list[Run | Exception] = []
    together = threading.Barrier(2)

    def start(name: str) -> None:
        own = store.connect()
        together.wait()
        try:
            results.append(start_run(name, on=own))
        except AnotherRunIsActive as refused:
            results.append(refused)

    starters = [threading.Thread(target=start, args=(f"manual__{number}",)) for number in range(2)]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert sorted(type(result).__name__ for result in results) == ["AnotherRunIsActive", "Run"]


def test_rule_6_3_the_store_itself_refuses_two_running_runs(store: Store, start_run: StartRun) -> None:
    start_run()
    with pytest.raises(psycopg.errors.UniqueViolation, match="sync_runs_one_at_a_time"):
        store.execute(
            "INSERT INTO contact_store.sync_runs (trigger, settings, alive_until) VALUES ('manual', '{}', now())"
        )


def test_a_retried_task_goes_on_with_its_run(store: Store, start_run: StartRun) -> None:
    first = start_run("manual__1")
    let_lease_pass(store)
    again = start_run("manual__1")
    assert again.id == first.id
    assert again.alive_until > first.started_at


def test_runs_without_a_dag_run_are_never_taken_for_each_other(start_run: StartRun) -> None:
    start_run(None)
    with pytest.raises(AnotherRunIsActive, match="started without Airflow"):
        start_run(None)


def test_a_cleared_first_task_of_a_failed_dag_run_opens_a_new_run(
    connection: psycopg.Connection, start_run: StartRun
) -> None:
    first = start_run("manual__1")
    runs.close_run(connection, first.id, "failed")
    second = start_run("manual__1")
    assert second.id > first.id
    newest = runs.run_of_dag_run(connection, "manual__1")
    assert newest is not None
    assert newest.id == second.id
    assert runs.run_of_dag_run(connection, "manual__2") is None


def test_a_run_that_died_is_closed_as_failed_and_never_goes_on(
    store: Store, connection: psycopg.Connection, start_run: StartRun, caplog: pytest.LogCaptureFixture
) -> None:
    dead = start_run("scheduled__1")
    let_lease_pass(store)
    with caplog.at_level(logging.WARNING):
        taker = start_run("scheduled__2")
    assert f"Run {dead.id} gave no sign of life" in caplog.text
    assert (state_of(store, dead), state_of(store, taker)) == ("failed", "running")
    with pytest.raises(RunRefused, match=f"taken over by run {taker.id}"):
        runs.resume_run(connection, dead.id)
    with pytest.raises(RunRefused, match="not running any more"):
        runs.keep_alive(connection, dead.id)
    with pytest.raises(RunRefused, match="not running any more"):
        apply_contacts(connection, dead)
    runs.close_run(connection, taker.id, "succeeded")
    with pytest.raises(RunRefused, match=f"taken over by run {taker.id}"):
        runs.resume_run(connection, dead.id)


def test_a_run_taken_over_while_it_applies_is_rolled_back(
    store: Store, connection: psycopg.Connection, start_run: StartRun
) -> None:
    slow = start_run("scheduled__1")

    def apply_slowly() -> None:
        with connection.transaction(), connection.cursor() as cursor:
            runs.begin_apply(cursor, slow.id)
            cursor.execute("INSERT INTO contact_store.contacts (name) VALUES ('late')")
            let_lease_pass(store)
            start_run("scheduled__2", on=store.connect())
            runs.mark_applied(cursor, slow.id, "contacts", COUNTS)

    with pytest.raises(RunRefused, match="not running any more"):
        apply_slowly()
    assert store.execute("SELECT * FROM contact_store.contacts") == []


def test_applies_wait_for_each_other(store: Store, start_run: StartRun) -> None:
    run = start_run()
    first, second = store.connect(), store.connect()
    runs.begin_apply(first.cursor(), run.id)
    second.execute("SET lock_timeout = '50ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        runs.begin_apply(second.cursor(), run.id)
    second.rollback()
    first.commit()
    runs.begin_apply(second.cursor(), run.id)


def test_a_lease_is_renewed_while_a_load_is_under_way(store: Store, start_run: StartRun) -> None:
    run = start_run()
    loading, watching = store.connect(), store.connect()
    with loading.transaction(), loading.cursor() as cursor:
        runs.begin_apply(cursor, run.id)
        cursor.execute(
            "INSERT INTO contact_store.sync_changes"
            " (run_id, part, record_id, external_id, outcome, rule, old_values, new_values)"
            " VALUES (%s, 'contacts', 1, '003000000000001AAA', 'created', '4.2', '{}', '{}')",
            [run.id],
        )
        watching.execute("SET lock_timeout = '1s'")
        watching.commit()
        runs.keep_alive(watching, run.id)
    assert runs.load_run(watching, run.id).alive_until > run.alive_until


@pytest.mark.parametrize("renew", [runs.keep_alive, runs.resume_run])
def test_a_sign_of_life_renews_the_lease(
    store: Store, connection: psycopg.Connection, start_run: StartRun, renew: Callable[..., object]
) -> None:
    run = start_run()
    let_lease_pass(store)
    renew(connection, run.id)
    assert runs.load_run(connection, run.id).alive_until > run.alive_until
    with pytest.raises(AnotherRunIsActive):
        start_run("scheduled__2")


def test_a_failed_run_goes_on_when_its_task_was_cleared_and_is_reported_anew(
    connection: psycopg.Connection, start_run: StartRun
) -> None:
    run = start_run()
    for note in (runs.mark_report_sent, lambda *run: runs.mark_report_handed_over(*run, 3)):
        runs.close_run(connection, run.id, "failed")
        note(connection, run.id)
        resumed = runs.resume_run(connection, run.id)
        assert (resumed.state, resumed.ended_at) == ("running", None)
        assert (resumed.report_sent_at, resumed.report_handed_over_in) == (None, None)


def test_a_failed_run_does_not_go_on_while_another_one_works(
    connection: psycopg.Connection, start_run: StartRun
) -> None:
    failed = start_run("scheduled__1")
    runs.close_run(connection, failed.id, "failed")
    start_run("scheduled__2")
    with pytest.raises(AnotherRunIsActive, match="scheduled__2"):
        runs.resume_run(connection, failed.id)


def test_a_failed_run_does_not_go_on_after_a_later_one_was_applied(
    connection: psycopg.Connection, start_run: StartRun
) -> None:
    failed = start_run("scheduled__1")
    runs.close_run(connection, failed.id, "failed")
    later = start_run("scheduled__2")
    apply_contacts(connection, later)
    runs.close_run(connection, later.id, "succeeded")
    with pytest.raises(RunRefused, match=f"Run {later.id}, which is later than run {failed.id}"):
        runs.resume_run(connection, failed.id)


def test_a_failed_run_goes_on_after_a_later_one_that_applied_nothing(
    connection: psycopg.Connection, start_run: StartRun
) -> None:
    failed = start_run("scheduled__1")
    runs.close_run(connection, failed.id, "failed")
    rehearsal = start_run("manual__2", dry_run=True)
    runs.record_counts(connection, rehearsal.id, "contacts", COUNTS)
    runs.close_run(connection, rehearsal.id, "succeeded")
    assert runs.resume_run(connection, failed.id).state == "running"


def test_a_succeeded_run_stays_as_it_is(connection: psycopg.Connection, start_run: StartRun) -> None:
    run = start_run()
    apply_contacts(connection, run)
    runs.close_run(connection, run.id, "succeeded")
    closed = runs.load_run(connection, run.id)
    assert runs.resume_run(connection, run.id) == closed
    runs.close_run(connection, run.id, "failed")
    assert runs.load_run(connection, run.id) == closed
    assert closed.contacts == COUNTS
    assert closed.contacts_applied_at is not None
    assert closed.accounts_applied_at is None


def test_counts_of_a_dry_run_are_kept_without_saying_that_they_were_applied(
    connection: psycopg.Connection, start_run: StartRun
) -> None:
    run = start_run(dry_run=True)
    runs.record_counts(connection, run.id, "accounts", COUNTS)
    runs.record_counts(connection, run.id, "contacts", COUNTS)
    kept = runs.load_run(connection, run.id)
    assert (kept.accounts, kept.contacts) == (COUNTS, COUNTS)
    assert (kept.accounts_applied_at, kept.contacts_applied_at) == (None, None)


def test_accounts_are_marked_applied_in_the_transaction_of_their_load(
    connection: psycopg.Connection, start_run: StartRun
) -> None:
    run = start_run()
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        runs.mark_applied(cursor, run.id, "accounts", COUNTS)
    assert runs.load_run(connection, run.id).accounts is None
    with connection.transaction(), connection.cursor() as cursor:
        runs.mark_applied(cursor, run.id, "accounts", COUNTS)
    assert runs.load_run(connection, run.id).accounts == COUNTS


def test_facts_of_a_step_are_merged(connection: psycopg.Connection, start_run: StartRun) -> None:
    run = start_run()
    runs.record_step(connection, run.id, "extract_contacts", {"seconds": 1.5})
    runs.record_step(connection, run.id, "match", {"seconds": 2})
    runs.record_step(connection, run.id, "extract_contacts", {"peak_mb": 80, "counts": {"read": 3}})
    assert runs.load_run(connection, run.id).steps == {
        "extract_contacts": {"seconds": 1.5, "peak_mb": 80, "counts": {"read": 3}},
        "match": {"seconds": 2},
    }


def test_what_is_known_of_a_report(connection: psycopg.Connection, start_run: StartRun) -> None:
    run = start_run()
    assert (run.report_handed_over_in, run.report_sent_at) == (None, None)
    for tries in (3, 5):
        runs.mark_report_handed_over(connection, run.id, tries)
        run = runs.load_run(connection, run.id)
        assert (run.report_handed_over_in, run.report_sent_at) == (tries, None)
        with pytest.raises(RunRefused, match="by another try"):
            runs.mark_report_handed_over(connection, run.id, tries)
    runs.mark_report_refused(connection, run.id, 3)  # an earlier try that lives on
    assert runs.load_run(connection, run.id).report_handed_over_in == 5
    runs.mark_report_refused(connection, run.id, 5)
    assert runs.load_run(connection, run.id).report_handed_over_in is None
    runs.mark_report_sent(connection, run.id)
    run = runs.load_run(connection, run.id)
    assert run.report_handed_over_in is None
    assert run.report_sent_at is not None
    with pytest.raises(RunRefused, match="by another try"):
        runs.mark_report_handed_over(connection, run.id, 5)


def test_a_run_that_does_not_exist_is_refused(connection: psycopg.Connection) -> None:
    for ask in (runs.load_run, runs.resume_run, runs.keep_alive):
        with pytest.raises(RunRefused, match="7"):
            ask(connection, 7)
