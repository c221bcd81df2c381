"""
# Salesforce contacts sync

Brings the contacts and accounts of a Salesforce organisation into the contact store in PostgreSQL, links each one
exactly once, and says by e-mail what could not be synced and how to fix it. Runs every night at 02:00 UTC, and
whenever somebody triggers it. What it does with a contact is written in the README.

## Steps
1. `validate_settings` brings the store's tables up to date, opens the run, checks the newest settings and the login.
   While another run works on the same store it waits, a minute at a time, without holding a worker.
2. `sync_accounts` reads, matches and loads the accounts, in one transaction. Skipped where accounts are switched off.
3. `extract_contacts` downloads the source contacts (from synced accounts, or a list view) to the staging place.
4. `transform_contacts` reads the values through the field mapping.
5. `match_contacts` finds each one's contact: by external id first, then by handle.
6. `load_contacts` applies all outcomes in one transaction, or none.
7. `report_errors` sends one e-mail: to the person who triggered the run, or to the owners named in the settings. A run
   with nothing to report sends none. It runs whatever happened before.
8. `publish_contacts` publishes the asset `contact_store_contacts`, so that other DAGs can start on it. Where an earlier
   step failed it cannot run, and that fails the DAG run although the report was sent.

## Parameters
- `dry_run`: plan and report, change no contact and no account.
- `notify`: one more address that gets the e-mail.

A backfill is limited to the contacts that changed in Salesforce in its data interval.

## What a retry does
Any step can be repeated at any point: what it staged is written again, what was applied is found applied, a report
is not sent twice. Only what may pass by itself (Salesforce, the store or the mail server not answering, the API limit)
is tried again by Airflow. Where a try ended while the mail server had the report, nobody can tell whether it is out:
`report_errors` fails and gives the e-mail's Message-ID. If it has arrived, mark the task as success; if not, clear it,
and the report is sent.

## When it failed
Read the e-mail, or the log of the red task: its error says what happened and what to do. Then trigger a new run; to
go on with this one, clear the red task. A later run that was already applied makes a cleared one refuse.
"""

from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import Asset, Param, TriggerRule, chain, dag, task
from airflow.sdk.exceptions import AirflowFailException, AirflowRescheduleException, AirflowSkipException
from airflow.timetables.interval import CronDataIntervalTimetable

from include.contact_sync.errors import AnotherRunIsActive, RetryableError, RunError, RunRefused
from include.contact_sync.report.operator import ErrorReportOperator, MailToSend

CONTACTS = Asset(name="contact_store_contacts", uri="contact-store://contacts")
WAIT_FOR_ANOTHER_RUN = timedelta(minutes=1)


@contextmanager
def said_to_airflow() -> Generator[None, None, None]:
    """What may pass by itself is tried again; everything else fails for good, with its own words."""
    try:
        yield
    except AnotherRunIsActive as active:
        print(f"{active}; waiting for it")
        raise AirflowRescheduleException(datetime.now(UTC) + WAIT_FOR_ANOTHER_RUN) from active
    except RetryableError:
        raise
    except (RunError, RunRefused) as error:
        raise AirflowFailException(str(error)) from error


@dag(
    dag_id="salesforce_contacts_sync",
    schedule=CronDataIntervalTimetable("0 2 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    params={
        "dry_run": Param(False, type="boolean", title="Dry run", description="Plan and report, change nothing"),
        "notify": Param(
            None,
            type=["null", "string"],
            format="email",
            title="Also notify",
            description="One more address that gets the e-mail",
        ),
    },
    default_args={
        "owner": "contact-sync",
        "retries": 3,
        "retry_delay": timedelta(minutes=1),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=10),
        "execution_timeout": timedelta(hours=6),
    },
    tags=["salesforce", "contacts"],
    doc_md=__doc__,
)
def salesforce_contacts_sync() -> None:
    @task
    def validate_settings(dag_run: Any = None, params: Any = None, **context: Any) -> int:
        from include.contact_sync import flow

        if unknown := params.keys() - {"dry_run", "notify"}:  # a misspelled dry_run must not become a run that writes
            raise AirflowFailException(f"There is no parameter {', '.join(sorted(unknown))}; see the DAG's document")
        run_type = dag_run.run_type.value
        is_backfill = run_type == "backfill"
        request = flow.RunRequest(
            trigger="backfill" if is_backfill else "schedule" if run_type == "scheduled" else "manual",
            dag_run_id=dag_run.run_id,
            triggered_by=dag_run.triggering_user_name,
            notify=params["notify"],
            dry_run=params["dry_run"],
            window=(context["data_interval_start"], context["data_interval_end"]) if is_backfill else None,
        )
        with said_to_airflow():
            return flow.validate_settings(request)

    @task(multiple_outputs=False)
    def sync_accounts(dag_run: Any = None) -> dict[str, Any]:
        from include.contact_sync import flow
        from include.contact_sync.columns import Part

        with said_to_airflow():
            run_id = flow.find_run(dag_run.run_id)
            if not flow.is_enabled(run_id, Part.ACCOUNTS):
                raise AirflowSkipException("Accounts are switched off in the settings")
            return flow.sync_accounts(run_id)

    @task(multiple_outputs=False, trigger_rule=TriggerRule.NONE_FAILED)
    def extract_contacts(dag_run: Any = None) -> dict[str, Any]:
        from include.contact_sync import flow
        from include.contact_sync.columns import Part

        with said_to_airflow():
            run_id = flow.find_run(dag_run.run_id)
            if not flow.is_enabled(run_id, Part.CONTACTS):
                raise AirflowSkipException("Contacts are switched off in the settings")
            return flow.extract_contacts_of_source(run_id)

    @task(multiple_outputs=False)
    def transform_contacts(dag_run: Any = None) -> dict[str, Any]:
        from include.contact_sync import flow

        with said_to_airflow():
            return flow.transform_contacts(flow.find_run(dag_run.run_id))

    @task(multiple_outputs=False)
    def match_contacts(dag_run: Any = None) -> dict[str, Any]:
        from include.contact_sync import flow

        with said_to_airflow():
            return flow.match_contacts(flow.find_run(dag_run.run_id))

    @task(multiple_outputs=False)
    def load_contacts(dag_run: Any = None) -> dict[str, Any]:
        from include.contact_sync import flow

        with said_to_airflow():
            return flow.load_contacts(flow.find_run(dag_run.run_id))

    def load_report(context: Any) -> MailToSend | None:
        from include.contact_sync import conclude, flow

        run_id = flow.find_run(context["dag_run"].run_id, must_exist=False)
        if run_id is None:
            print("No run was opened: the log of validate_settings says why")
            return None
        task_instance = context["ti"]
        own_log = str(task_instance.log_url)
        with said_to_airflow():
            concluded = conclude.conclude_run(
                run_id, lambda step: own_log.replace(f"/{task_instance.task_id}", f"/{step}")
            )
        if not concluded.is_needed:
            return None
        return MailToSend(**concluded.mail(tries=task_instance.max_tries))

    report_errors = ErrorReportOperator(
        task_id="report_errors", load_report=load_report, trigger_rule=TriggerRule.ALL_DONE
    )

    @task(outlets=[CONTACTS])
    def publish_contacts(dag_run: Any = None, params: Any = None, outlet_events: Any = None) -> None:
        from include.contact_sync import flow

        if params["dry_run"]:
            raise AirflowSkipException("A dry run has changed nothing")
        outlet_events[CONTACTS].extra = flow.outcome_counts(flow.find_run(dag_run.run_id))

    chain(
        validate_settings(),
        sync_accounts(),
        extract_contacts(),
        transform_contacts(),
        match_contacts(),
        loaded := load_contacts(),
        report_errors,
        published := publish_contacts(),
    )
    loaded >> published


salesforce_contacts_sync()
