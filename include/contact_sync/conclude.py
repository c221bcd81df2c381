"""Ends a run: closes it, gathers what it has to tell and whom to tell it (rule 8). The steps before it are in `flow`.

What is said, and how, is `report`'s business; the mail is sent by the DAG's last task or not at all.
"""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import psycopg

from include.contact_sync.columns import Part
from include.contact_sync.errors import RunError
from include.contact_sync.report.csv_file import render_csv
from include.contact_sync.report.model import Report, RunFacts, build_report
from include.contact_sync.report.render import render_html, render_text, subject
from include.contact_sync.staging import RunStaging, Staging
from include.contact_sync.store import error_book, runs
from include.contact_sync.store.connection import connect
from include.contact_sync.store.migrations import migrate
from include.contact_sync.store.runs import Run
from include.contact_sync.transform import ERRORS_SCHEMA

log = logging.getLogger(__name__)

CONTACT_STEPS = ("extract_contacts", "transform_contacts", "match_contacts", "load_contacts")
STEPS = ("validate_settings", "sync_accounts", *CONTACT_STEPS)
_FAILURE = "_failed"


@dataclass(frozen=True)
class RunReport:
    """What a run has to tell, and to whom."""

    run: Run
    report: Report
    recipients: list[str]

    @property
    def is_needed(self) -> bool:
        """Whether there is something to tell that was not sent before."""
        return self.report.is_needed and self.run.report_sent_at is None

    def mail(self, tries: int) -> dict[str, Any]:
        """The mail by the names that `MailToSend` gives its parts.

        Args:
            tries: Airflow's `max_tries` of the task that sends it. It grows when a person clears the task, so what was
                handed over under the same number was so by an earlier try, which Airflow repeats by itself.
        """
        run = self.run
        return {
            "to": self.recipients,
            "subject": subject(self.report),
            "html": render_html(self.report),
            "text": render_text(self.report),
            "csv": render_csv(self.report),
            "key": f"{run.dag_run_id}/{run.id}/{run.ended_at}",  # a run that goes on after it failed ends anew
            "may_be_out": run.report_handed_over_in == tries,
            "on_handing_over": lambda: mark_report_handed_over(run, tries),
            "on_refused": lambda: mark_report_refused(run, tries),
            "on_accepted": lambda: mark_report_sent(run),
        }


def conclude_run(run_id: int, log_url: Callable[[str], str] | None = None) -> RunReport:
    """Close the run and gather its report (rules 8.1 and 8.2). Repeating it gives the same report.

    The run succeeded if every part that the toggles ask for got through its last step.

    Args:
        log_url: where the log of a step can be read.

    Raises:
        RunRefused: what a dry run planned is not staged any more.
    """
    with connect() as connection:
        migrate(connection)  # a release that came while the run was at work; its failure must be told all the same
        run = runs.load_run(connection, run_id)
        unfinished = _first_unfinished_step(run)
        if unfinished and run.state == "running":
            _record_accounts_sync_failed(connection, run, unfinished)
        runs.close_run(connection, run_id, "failed" if unfinished else "succeeded")
        run = runs.load_run(connection, run_id)
        staging = Staging.from_environment().run(run_id)
        errors = _errors_of_run(run, staging)
        _log_errors(run, errors)
        told_by = unfinished or "report_errors"  # that is where the codes are listed with the first ids
        report = build_report(_run_facts(run, log_url(told_by) if log_url else None), errors)
        concluded = RunReport(run, report, _recipients(run))
    if not concluded.is_needed:
        remove_staged_data(run)
    return concluded


def mark_report_handed_over(run: Run, tries: int) -> None:
    """Remember that the mail server is given the run's report. Raises RunRefused where another try was quicker."""
    with connect() as connection:
        runs.mark_report_handed_over(connection, run.id, tries)


def mark_report_refused(run: Run, tries: int) -> None:
    """Remember that the mail server did not take the run's report."""
    with connect() as connection:
        runs.mark_report_refused(connection, run.id, tries)


def mark_report_sent(run: Run) -> None:
    """Remember that the mail server took the run's report, so that it is never sent twice."""
    with connect() as connection:
        runs.mark_report_sent(connection, run.id)
    remove_staged_data(run)


def remove_staged_data(run: Run) -> None:
    """Where the settings keep none: what a run staged goes when it has succeeded and all was told of it.

    What stays nevertheless, such as that of a run that failed, is removed by the next run.
    """
    if run.state == "succeeded" and run.settings_as_saved.get("staged_data_days") == 0:
        with suppress(OSError):
            Staging.from_environment().run(run.id).remove()


def _last_steps(run: Run) -> list[str]:
    """The steps that a run must have got through to have succeeded."""
    asked = [part for part in Part if run.settings_as_saved.get(part.value, {}).get("enabled", True)]
    return ["validate_settings", *({"accounts": "sync_accounts", "contacts": "load_contacts"}[part] for part in asked)]


def _first_unfinished_step(run: Run) -> str | None:
    """The step at which a run stopped; None where it got through."""
    if all(step in run.steps for step in _last_steps(run)):
        return None
    asked = _last_steps(run)
    order = [step for step in STEPS if step in asked or (step in CONTACT_STEPS and "load_contacts" in asked)]
    return next(step for step in order if step not in run.steps)


def _record_accounts_sync_failed(connection: psycopg.Connection, run: Run, unfinished: str) -> None:
    """Rule 2.5: contacts are not synced where the accounts part failed."""
    if unfinished == "sync_accounts" and "load_contacts" in _last_steps(run):
        record_run_error(connection, run, "contacts", RunError("accounts_sync_failed"))


def record_run_error(
    connection: psycopg.Connection, run: Run, part: Literal["run", "accounts", "contacts"], error: RunError
) -> None:
    """Record what stopped a part, in the run's own record and, but for a dry run, which writes nothing else, as an error."""
    failure = {"part": part, "code": error.code, "detail": error.detail or None}
    runs.record_step(connection, run.id, f"{part}{_FAILURE}", failure)
    if not run.dry_run:
        error_book.record_run_error(connection, run.id, part, error)


def _errors_of_run(run: Run, staging: RunStaging) -> pd.DataFrame:
    """The run's errors with their status; for collisions also the accounts that rule 8.3 looks at."""
    errors = error_book.errors_of_run(run.id).to_pandas()
    if run.dry_run:
        planned = [_planned_errors(run, part, staging) for part in Part]
        errors = pd.concat([errors, *planned, _failures_of_dry_run(run)], ignore_index=True)
    if staging.exists("contacts/plan/errors"):
        advice = staging.read("contacts/plan/errors", ["external_id", "account", "holder_accounts"]).to_pandas()
        is_taken = errors["code"].str.endswith("_taken") & (errors["part"] == "contacts")
        key = errors["external_id"].where(is_taken)
        advice = advice.rename(columns={"external_id": "_key"})
        errors = errors.assign(_key=key).merge(advice, how="left", on="_key", validate="m:1").drop(columns="_key")
    return errors


def _planned_errors(run: Run, part: Part, staging: RunStaging) -> pd.DataFrame:
    """What a dry run would have recorded: what is new, what is open already, what it would have resolved."""
    keys = ["part", "code", "external_id", "salesforce_field"]
    names = [f"{part}/plan/errors", f"{part}/clean/warnings", f"{part}/field_errors"]
    was_planned = (run.accounts if part is Part.ACCOUNTS else run.contacts) is not None
    found = [
        staging.read(name, ERRORS_SCHEMA.names).to_pandas() for name in names if was_planned or staging.exists(name)
    ]
    planned = pd.concat([ERRORS_SCHEMA.empty_table().to_pandas(), *found]).assign(part=part.value).drop_duplicates(keys)
    known = error_book.open_record_errors(part.value).to_pandas()
    statuses = planned.merge(known[keys].assign(status="still_open"), how="left", on=keys, validate="1:1")["status"]
    planned = planned.assign(status=statuses.fillna("new").to_numpy())
    if not was_planned:
        return planned
    if run.window is not None and part is Part.CONTACTS:  # it closes only errors of what it read (rule 1.3)
        read = staging.read("contacts/clean/records", ["external_id"]).to_pandas()
        known = known.merge(read, how="inner", on="external_id", validate="m:1")
    gone = known.merge(planned[keys].assign(still=True), how="left", on=keys, validate="1:1")["still"].isna().to_numpy()
    return pd.concat([planned, known.loc[gone].assign(status="resolved")])


def _failures_of_dry_run(run: Run) -> pd.DataFrame:
    rows = [facts for step, facts in run.steps.items() if step.endswith(_FAILURE)]
    failures = pd.DataFrame(rows, columns=["part", "code", "detail"], dtype="str")
    return failures.assign(level="run", status="new", external_id=None, salesforce_field=None, value=None, holders="[]")


def _log_errors(run: Run, errors: pd.DataFrame) -> None:
    """For every error code its count and the first few Salesforce ids; no personal data (rule 8.4)."""
    for code, found in errors.loc[errors["status"] != "resolved"].groupby("code"):
        ids = found["external_id"].dropna().sort_values().head(5).tolist()
        log.warning("Run %d: %d %s%s", run.id, len(found), code, f", first {', '.join(ids)}" if ids else "")


def _run_facts(run: Run, log_url: str | None) -> RunFacts:
    chosen = run.settings_as_saved
    return RunFacts(
        run_id=run.id,
        dag_run_id=run.dag_run_id,
        trigger=run.trigger,
        triggered_by=run.triggered_by,
        dry_run=run.dry_run,
        window=run.window,
        started_at=run.started_at,
        ended_at=run.ended_at or run.started_at,
        state=run.state,
        accounts=run.accounts,
        contacts=run.contacts,
        log_url=log_url,
        salesforce_url=run.steps.get("validate_settings", {}).get("salesforce_url"),
        settings_version=run.settings_version,
        parts=tuple(part.value for part in Part if chosen.get(part.value, {}).get("enabled", True)),
    )


def _recipients(run: Run) -> list[str]:
    """Rule 8.1; where the settings themselves are at fault, their owners as far as they can be read."""
    try:
        return run.settings.recipients(run.triggered_by if run.trigger == "manual" else None, run.notify)
    except RunError:
        owners = run.settings_as_saved.get("owners") or []
        return [address for address in [*owners, run.notify] if isinstance(address, str) and "@" in address]


def summary(concluded: RunReport) -> dict[str, Any]:
    """A run in JSON: state, outcome counts, errors by code, seconds and memory per step."""
    run = concluded.run
    return {
        "run_id": run.id,
        "state": run.state,
        "dry_run": run.dry_run,
        "settings_version": run.settings_version,
        "accounts": run.accounts,
        "contacts": run.contacts,
        "errors": {section.code: section.open for section in concluded.report.sections},
        "steps": run.steps,
    }
