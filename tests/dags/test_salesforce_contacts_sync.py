"""The DAG, run by Airflow on a real PostgreSQL against the simulated organisation: what its tasks make of the steps.

What a step does is told in `tests/contact_sync`. Waits between attempts are set to nothing; nothing else is changed.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from include.contact_sync.staging import Staging
from include.salesforce_simulator.server import Simulator
from tests.conftest import METADATA_DATABASE, ROOT, DatabaseServer, Store
from tests.whole_runs import (
    OWNER,
    PERSON,
    Mailbox,
    counts,
    every_value,
    mapped,
    row_versions,
    save,
    settings_with,
    three_people,
)

DAG_ID = "salesforce_contacts_sync"
CHAIN = [
    "validate_settings",
    "sync_accounts",
    "extract_contacts",
    "transform_contacts",
    "match_contacts",
    "load_contacts",
    "report_errors",
    "publish_contacts",
]
STEPS = CHAIN[:6]
COUNTS_OF_THREE = counts(read=3, created=2, error=1)


@pytest.fixture
def dag(airflow_db: None, store: Store, staging: Staging) -> Any:
    """The DAG as Airflow reads it, with a store of its own; tries again at once."""
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(dag_folder=str(ROOT / "dags"), safe_mode=False)
    assert bag.import_errors == {}
    dag = bag.dags[DAG_ID]
    for task in dag.tasks:
        task.retry_delay, task.retry_exponential_backoff = timedelta(0), 0
    return dag


@pytest.fixture
def three(organisation: Simulator, dag: Any) -> Simulator:
    """The organisation with Ann, Bob and Eve in it; settings are saved."""
    three_people(organisation)
    save(settings_with())
    return organisation


def states(dag_run: Any) -> dict[str, str]:
    found = {instance.task_id: str(instance.state) for instance in dag_run.get_task_instances()}
    return {task: found[task] for task in CHAIN}


def tries(dag_run: Any) -> dict[str, int]:
    return {instance.task_id: instance.try_number for instance in dag_run.get_task_instances()}


def clear(dag_run: Any, task: str) -> None:
    """As a person does it on the page."""
    from airflow.models.taskinstance import clear_task_instances
    from airflow.utils.session import create_session

    with create_session() as session:
        clear_task_instances([dag_run.get_task_instance(task, session=session)], session)


def repeat(dag: Any, dag_run: Any, task: str) -> None:
    """One more try of the task, as the scheduler begins it."""
    from airflow.sdk.definitions.dag import _run_task
    from airflow.utils.session import create_session

    with create_session() as session:
        instance = dag_run.get_task_instance(task, session=session)
        instance.try_number += 1
    _run_task(ti=instance, task=dag.task_dict[task])


def asset_events(postgres: DatabaseServer, dag_run: Any) -> list[Any]:
    """What the run published: the extra of each event."""
    query = "SELECT extra FROM asset_event WHERE source_run_id = %s"
    with psycopg.connect(postgres.uri(METADATA_DATABASE)) as connection:
        return [extra for (extra,) in connection.execute(query, [dag_run.run_id])]


# ---------------------------------------------------------------------------------------------------------- its form


def test_the_tasks_are_one_chain_and_the_load_also_decides_whether_the_asset_is_published(dag: Any) -> None:
    assert {task.task_id: sorted(task.downstream_task_ids) for task in dag.tasks} == {
        "validate_settings": ["sync_accounts"],
        "sync_accounts": ["extract_contacts"],
        "extract_contacts": ["transform_contacts"],
        "transform_contacts": ["match_contacts"],
        "match_contacts": ["load_contacts"],
        "load_contacts": ["publish_contacts", "report_errors"],
        "report_errors": ["publish_contacts"],
        "publish_contacts": [],
    }
    assert (dag.catchup, dag.max_active_runs, dag.timetable.summary) == (False, 1, "0 2 * * *")
    assert [asset.uri for asset in dag.task_dict["publish_contacts"].outlets] == ["contact-store://contacts/"]


def test_the_file_parses_within_a_second_and_imports_neither_pandas_nor_pyarrow() -> None:
    program = (
        "import runpy, sys, time\n"
        "import airflow.sdk, airflow.timetables.interval, airflow.providers.smtp.operators.smtp\n"
        "started = time.perf_counter()\n"
        f"runpy.run_path({str(ROOT / 'dags' / 'salesforce_contacts_sync.py')!r})\n"
        "seconds = time.perf_counter() - started\n"
        "print(seconds, [name for name in ('pandas', 'pyarrow', 'include.contact_sync.flow') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    seconds, _, heavy = done.stdout.splitlines()[-1].partition(" ")
    assert heavy == "[]"
    assert float(seconds) < 1


# ------------------------------------------------------------------------------------------------------- whole runs


def test_a_first_run_syncs_mails_and_publishes_and_a_second_rewrites_no_row(
    dag: Any, store: Store, demo: Simulator, mailbox: Mailbox, postgres: DatabaseServer
) -> None:
    """Rules 4.12, 6.4 and 8.1."""
    save(mapped(people={"dag_test": PERSON}))
    first = dag.test()
    assert (first.state, set(states(first).values())) == ("success", {"success"})
    ((accounts, contacts),) = store.execute("SELECT accounts, contacts FROM contact_store.sync_runs")
    assert accounts == counts(read=300, created=296, error=4)
    assert contacts == counts(read=1864, created=1840, error=24)
    assert store.execute("SELECT count(*) FROM contact_store.contacts") == [(1840,)]
    assert asset_events(postgres, first) == [{"run_id": 1, "accounts": accounts, "contacts": contacts}]
    assert mailbox.recipients == [[PERSON]]
    assert "1,840" in mailbox.only_text()
    rows = row_versions(store)
    mailbox.messages.clear()

    second = dag.test()
    assert second.state == "success"
    ((accounts, contacts),) = store.execute("SELECT accounts, contacts FROM contact_store.sync_runs WHERE id = 2")
    assert accounts == counts(read=300, unchanged=296, error=4)
    assert contacts == counts(read=1864, unchanged=1840, error=24)
    assert row_versions(store) == rows
    assert "still open" in mailbox.only_text()


def test_rule_8_1_a_run_with_nothing_to_report_sends_no_mail(
    dag: Any, store: Store, organisation: Simulator, mailbox: Mailbox
) -> None:
    three_people(organisation, bob="bob@example.org")
    save(settings_with())
    assert set(states(dag.test()).values()) == {"success"}
    assert mailbox.messages == []
    assert store.execute("SELECT contacts FROM contact_store.sync_runs") == [(counts(read=3, created=3),)]


def test_rule_1_4_contacts_that_are_switched_off_are_skipped(
    dag: Any, store: Store, organisation: Simulator, mailbox: Mailbox, postgres: DatabaseServer
) -> None:
    three_people(organisation)
    save(settings_with(contacts={"enabled": False}))
    dag_run = dag.test()
    assert dag_run.state == "success"
    assert states(dag_run) == {
        **dict.fromkeys(CHAIN, "success"),
        **dict.fromkeys(CHAIN[2:6], "skipped"),
        "publish_contacts": "skipped",
    }
    assert store.execute("SELECT state, accounts, contacts FROM contact_store.sync_runs") == [
        ("succeeded", counts(read=1, created=1), None)
    ]
    assert asset_events(postgres, dag_run) == []


def test_rule_1_4_accounts_that_are_switched_off_are_skipped(
    dag: Any, store: Store, organisation: Simulator, mailbox: Mailbox
) -> None:
    three_people(organisation)
    everybody = organisation.control.create_list_view(label="Everybody")
    save(settings_with(accounts={"enabled": False}, contacts={"source": {"list_view": everybody}}))
    dag_run = dag.test()
    assert dag_run.state == "success"
    assert states(dag_run) == {**dict.fromkeys(CHAIN, "success"), "sync_accounts": "skipped"}
    assert store.execute("SELECT state, accounts, contacts FROM contact_store.sync_runs") == [
        ("succeeded", None, COUNTS_OF_THREE)
    ]


def test_a_dry_run_changes_no_table_but_that_of_the_runs_and_notify_gets_the_mail_too(
    dag: Any, store: Store, organisation: Simulator, mailbox: Mailbox, postgres: DatabaseServer
) -> None:
    three_people(organisation)
    save(settings_with())
    before = every_value(store, but="sync_runs")
    dag_run = dag.test(run_conf={"dry_run": True, "notify": "else@example.com"})
    assert dag_run.state == "success"
    assert states(dag_run)["publish_contacts"] == "skipped"
    assert every_value(store, but="sync_runs") == before
    assert store.execute("SELECT state, dry_run, contacts FROM contact_store.sync_runs") == [
        ("succeeded", True, COUNTS_OF_THREE)
    ]
    assert mailbox.recipients == [[OWNER, "else@example.com"]]
    assert asset_events(postgres, dag_run) == []


def test_a_misspelled_parameter_is_refused_before_anything_is_written(
    dag: Any, store: Store, organisation: Simulator
) -> None:
    three_people(organisation)
    save(settings_with())
    before = every_value(store, but="sync_settings")
    assert dag.test(run_conf={"dryrun": True}).state == "failed"
    assert every_value(store, but="sync_settings") == before


def test_the_tasks_of_a_run_leave_receipts_of_counts_and_ids_in_xcom(
    dag: Any, organisation: Simulator, mailbox: Mailbox, store: Store
) -> None:
    three_people(organisation)
    save(settings_with())
    dag_run = dag.test()
    found = {task: dag_run.get_task_instance(task).xcom_pull(task_ids=task) for task in CHAIN}
    assert found["validate_settings"] == 1
    assert found["load_contacts"] == COUNTS_OF_THREE
    assert found["extract_contacts"]["received"] == 3


# ------------------------------------------------------------------------------------------------- what went wrong


def test_rules_2_4_and_8_2_a_list_view_that_is_gone_fails_the_run_which_says_so_by_mail(
    dag: Any, store: Store, organisation: Simulator, mailbox: Mailbox, postgres: DatabaseServer
) -> None:
    three_people(organisation)
    view = organisation.control.create_list_view(label="Everybody")
    save(settings_with(contacts={"source": {"list_view": view}}))
    assert dag.test().state == "success"
    before = row_versions(store)
    mailbox.messages.clear()
    organisation.control.delete_list_view(id=view)
    dag_run = dag.test()
    assert dag_run.state == "failed"
    assert states(dag_run) == {
        "validate_settings": "success",
        "sync_accounts": "success",
        "extract_contacts": "failed",
        **dict.fromkeys(CHAIN[3:6], "upstream_failed"),
        "report_errors": "success",
        "publish_contacts": "upstream_failed",
    }
    assert tries(dag_run)["extract_contacts"] == 1, "trying again cannot help"
    assert row_versions(store) == before
    assert store.execute("SELECT state FROM contact_store.sync_runs ORDER BY id") == [("succeeded",), ("failed",)]
    assert "Choose a new list view in the sync settings" in mailbox.only_text()
    assert asset_events(postgres, dag_run) == []


def test_rule_2_5_where_the_accounts_fail_no_contact_is_synced(
    dag: Any, store: Store, organisation: Simulator, mailbox: Mailbox
) -> None:
    three_people(organisation)
    view = organisation.control.create_list_view(label="All", sobject="Account")
    everybody = organisation.control.create_list_view(label="Everybody")
    save(settings_with(accounts={"source": {"list_view": view}}, contacts={"source": {"list_view": everybody}}))
    organisation.control.delete_list_view(id=view)
    dag_run = dag.test()
    assert dag_run.state == "failed"
    assert states(dag_run)["extract_contacts"] == "upstream_failed"
    assert store.execute("SELECT part, code FROM contact_store.sync_errors ORDER BY part") == [
        ("accounts", "list_view_not_found"),
        ("contacts", "accounts_sync_failed"),
    ]
    assert store.execute("SELECT count(*) FROM contact_store.contacts") == [(0,)]
    assert "View and fix account sync errors" in mailbox.only_text()


def test_settings_that_were_never_saved_fail_the_first_task_and_there_is_no_run_to_report(
    dag: Any, store: Store, organisation: Simulator, mailbox: Mailbox
) -> None:
    dag_run = dag.test()
    assert dag_run.state == "failed"
    assert states(dag_run)["validate_settings"] == "failed"
    assert states(dag_run)["report_errors"] == "success"
    assert mailbox.messages == []


def test_rule_6_3_while_another_run_is_active_the_first_task_waits_without_failing(
    dag: Any,
    store: Store,
    organisation: Simulator,
    mailbox: Mailbox,
    postgres: DatabaseServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    three_people(organisation)
    save(settings_with())
    store.execute(
        "INSERT INTO contact_store.sync_runs (trigger, settings, alive_until) VALUES ('manual', '{}', now() + interval '1 hour')"
    )
    # Only the wait is shortened: a minute in a test is a minute.
    said_to_airflow = dag.task_dict["validate_settings"].python_callable.__globals__
    monkeypatch.setitem(said_to_airflow, "WAIT_FOR_ANOTHER_RUN", timedelta(seconds=0.2))

    def end_the_other_run_once_this_one_waits() -> None:
        with psycopg.connect(postgres.uri(METADATA_DATABASE), autocommit=True) as metadata:
            while not metadata.execute("SELECT 1 FROM task_reschedule").fetchone():
                time.sleep(0.1)
        store.execute("UPDATE contact_store.sync_runs SET state = 'succeeded', ended_at = now() WHERE id = 1")

    ends = threading.Thread(target=end_the_other_run_once_this_one_waits, daemon=True)
    ends.start()
    dag_run = dag.test()
    ends.join()
    assert set(states(dag_run).values()) == {"success"}
    assert tries(dag_run)["validate_settings"] == 1
    assert store.execute("SELECT state, contacts FROM contact_store.sync_runs WHERE id > 1") == [
        ("succeeded", COUNTS_OF_THREE)
    ]


# ------------------------------------------------------------------------------------------- attempts that are killed


def fail_once(store: Store, table: str, event: str, each: str) -> None:
    """For every name that the query `each` finds about a row, the first attempt to write that row dies."""
    # A sequence is not rolled back with the attempt that failed, so it knows which attempt this is.
    for name in (*STEPS, "accounts", "contacts"):
        store.execute(f"CREATE SEQUENCE contact_store.attempts_{name}")
    store.execute(
        "CREATE FUNCTION contact_store.fail_once() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE name text; BEGIN "
        f"FOR name IN {each} LOOP IF nextval('contact_store.attempts_' || name) = 1 "
        "THEN RAISE EXCEPTION 'the attempt dies'; END IF; END LOOP; RETURN NEW; END $$"
    )
    store.execute(
        f"CREATE TRIGGER fail_once BEFORE {event} ON contact_store.{table} "
        "FOR EACH ROW EXECUTE FUNCTION contact_store.fail_once()"
    )


def die_once() -> Callable[..., None]:
    attempts: list[int] = []

    def die(context: Mapping[str, Any], result: Any = None) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise RuntimeError("the attempt dies")

    return die


def assert_like_an_undisturbed_run(dag_run: Any, repeated: list[str], store: Store, mailbox: Mailbox) -> None:
    assert (dag_run.state, set(states(dag_run).values())) == ("success", {"success"})
    assert tries(dag_run) == {task: 1 + repeated.count(task) for task in CHAIN}
    assert [message["Subject"] for message in mailbox.messages] == [
        "Salesforce contacts sync: 1 error open (1 new, 0 still open)"
    ]
    assert store.execute("SELECT state, accounts, contacts FROM contact_store.sync_runs") == [
        ("succeeded", counts(read=1, created=1), COUNTS_OF_THREE)
    ]
    assert store.execute(
        "SELECT accounts.name, contacts.name, handle FROM contact_store.contacts "
        "JOIN contact_store.accounts ON accounts.id = account_id "
        "JOIN contact_store.contact_handles ON contact_id = contacts.id ORDER BY 3"
    ) == [("Acme", "Ann", "ann@example.org"), ("Acme", "Eve", "eve@example.org")]
    assert store.execute("SELECT count(*) FROM contact_store.sync_changes") == [(3,)]
    assert store.execute("SELECT code FROM contact_store.sync_errors WHERE closed_run IS NULL") == [("email_taken",)]


def test_each_task_that_salesforce_did_not_answer_is_tried_again(
    dag: Any, store: Store, three: Simulator, mailbox: Mailbox
) -> None:
    places = {
        "validate_settings": "/oauth2/token",
        "sync_accounts": "/sobjects/Account/describe",
        "extract_contacts": "/sobjects/Contact/describe",
    }
    for path in places.values():
        three.control.add_fault(do="unavailable", path=path, times=2)
    assert_like_an_undisturbed_run(dag.test(), list(places), store, mailbox)
    assert store.execute("SELECT part, code, closed_run FROM contact_store.sync_errors WHERE level = 'run'") == [
        ("run", "salesforce_unavailable", 1),
        ("accounts", "salesforce_unavailable", 1),
        ("contacts", "salesforce_unavailable", 1),
    ]


def test_each_step_that_died_before_its_receipt_was_recorded_is_repeated(
    dag: Any, store: Store, three: Simulator, mailbox: Mailbox
) -> None:
    new_steps = "SELECT jsonb_object_keys(NEW.steps) EXCEPT SELECT jsonb_object_keys(OLD.steps)"
    fail_once(store, "sync_runs", "UPDATE", new_steps)
    assert_like_an_undisturbed_run(dag.test(), STEPS, store, mailbox)


def test_rule_6_1_each_load_that_died_in_the_middle_of_its_transaction_is_repeated_whole(
    dag: Any, store: Store, three: Simulator, mailbox: Mailbox
) -> None:
    fail_once(store, "sync_changes", "INSERT", "SELECT NEW.part")
    assert_like_an_undisturbed_run(dag.test(), ["sync_accounts", "load_contacts"], store, mailbox)


def test_each_task_of_whose_end_airflow_never_heard_is_repeated_without_harm(
    dag: Any, store: Store, three: Simulator, mailbox: Mailbox
) -> None:
    for task in dag.tasks:
        task._post_execute_hook = die_once()
    assert_like_an_undisturbed_run(dag.test(), CHAIN, store, mailbox)


def test_each_task_that_died_before_it_began_is_repeated(
    dag: Any, store: Store, three: Simulator, mailbox: Mailbox
) -> None:
    for task in dag.tasks:
        task._pre_execute_hook = die_once()
    assert_like_an_undisturbed_run(dag.test(), CHAIN, store, mailbox)


def test_a_report_that_the_mail_server_refused_for_now_is_sent_by_the_next_attempt(
    dag: Any, store: Store, three: Simulator, mailbox: Mailbox
) -> None:
    mailbox.refusals.append("451 try again later")
    assert_like_an_undisturbed_run(dag.test(), ["report_errors"], store, mailbox)


def test_a_report_that_may_be_out_is_sent_again_only_by_who_clears_the_task(
    dag: Any, store: Store, three: Simulator, mailbox: Mailbox
) -> None:
    """Rule 8.1: where the mail server's answer was lost, no try of Airflow's own sends a second mail."""
    mailbox.hangs_up = 1
    dag_run = dag.test()
    assert (dag_run.state, states(dag_run)["report_errors"]) == ("failed", "failed")
    assert (tries(dag_run)["report_errors"], len(mailbox.messages)) == (1, 1)
    handed_over = "SELECT report_handed_over_in, report_sent_at IS NOT NULL FROM contact_store.sync_runs"
    assert store.execute(handed_over) == [(3, False)]

    repeat(dag, dag_run, "report_errors")
    assert (states(dag_run)["report_errors"], len(mailbox.messages)) == ("failed", 1)
    clear(dag_run, "report_errors")
    repeat(dag, dag_run, "report_errors")
    assert (states(dag_run)["report_errors"], len(mailbox.messages)) == ("success", 2)
    assert len({message["Message-ID"] for message in mailbox.messages}) == 1
    assert store.execute(handed_over) == [(None, True)]


def test_a_report_that_cannot_be_sent_fails_the_run_and_the_contacts_stay_synced(
    dag: Any, store: Store, three: Simulator, mailbox: Mailbox, postgres: DatabaseServer
) -> None:
    mailbox.refusals += ["451 try again later"] * 9
    dag_run = dag.test()
    assert dag_run.state == "failed"
    assert states(dag_run)["report_errors"] == "failed"
    assert store.execute("SELECT state, contacts FROM contact_store.sync_runs") == [("succeeded", COUNTS_OF_THREE)]


# ------------------------------------------------------------------------------------------------------ who is told


def validate_in_a_run_of_type(dag: Any, run_type: str) -> None:
    """Do the first task as in a DAG run of this type; `dag.test` makes only manual ones."""
    from airflow.utils.types import DagRunType

    start, end = datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC)
    dag_run = SimpleNamespace(run_type=DagRunType(run_type), run_id=f"{run_type}__x", triggering_user_name=None)
    dag.task_dict["validate_settings"].python_callable(
        dag_run=dag_run, params={"notify": None, "dry_run": False}, data_interval_start=start, data_interval_end=end
    )


@pytest.mark.parametrize(
    ("run_type", "trigger", "has_window"), [("scheduled", "schedule", False), ("backfill", "backfill", True)]
)
def test_rule_8_1_nobody_triggered_a_scheduled_or_backfill_run_and_only_a_backfill_has_a_window(
    run_type: str,
    trigger: str,
    has_window: bool,
    dag: Any,
    store: Store,
    three: Simulator,
) -> None:
    """Rule 1.3."""
    validate_in_a_run_of_type(dag, run_type)
    ((found, triggered_by, start, end),) = store.execute(
        "SELECT trigger, triggered_by, window_start, window_end FROM contact_store.sync_runs"
    )
    assert (found, triggered_by) == (trigger, None)
    window = (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC))
    assert (start, end) == (window if has_window else (None, None))


# --------------------------------------------------------------------------------------------------- no personal data


def personal_data_of(organisation: Simulator) -> set[str]:
    """Every e-mail address, full name, telephone number and Twitter name in the organisation."""
    records = organisation.control.records(sobject="Contact")
    found: set[str] = set()
    for record in records:
        found |= {str(record[name]) for name in ("Email", "Phone", "MobilePhone", "Twitter__c") if record[name]}
        found |= {str(record["Email"]).lower()} if record["Email"] else set()
        if record["FirstName"]:
            found.add(f"{record['FirstName']} {record['LastName']}")
    return {text for text in found if len(text) > 5}


def xcoms(postgres: DatabaseServer, dag_run: Any) -> str:
    with psycopg.connect(postgres.uri(METADATA_DATABASE)) as connection:
        rows = connection.execute("SELECT value::text FROM xcom WHERE run_id = %s", [dag_run.run_id]).fetchall()
    return "\n".join(str(value) for (value,) in rows)


def test_rule_8_4_neither_log_nor_xcom_of_a_run_holds_personal_data(
    dag: Any,
    store: Store,
    demo: Simulator,
    mailbox: Mailbox,
    postgres: DatabaseServer,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    save(mapped())
    dag_run = dag.test()
    assert dag_run.state == "success"
    said = "\n".join([*capfd.readouterr(), caplog.text, xcoms(postgres, dag_run)])
    assert "1864 read, 1840 created" in said, "this is where the log goes"
    assert "8 email_taken, first 003" in said
    assert [text for text in personal_data_of(demo) if text in said] == []
    assert PERSON not in said
    assert OWNER not in said


def test_a_load_that_postgresql_refuses_does_not_quote_the_row_in_the_log(
    dag: Any, store: Store, three: Simulator, mailbox: Mailbox, capfd: pytest.CaptureFixture[str]
) -> None:
    store.execute("ALTER TABLE contact_store.contacts ADD CONSTRAINT refuses CHECK (name <> 'Ann')")
    dag.task_dict["load_contacts"].retries = 0
    assert dag.test().state == "failed"
    said = "\n".join(capfd.readouterr())
    assert "refuses" in said
    assert "ann@example.org" not in said
    assert "Failing row" not in said
