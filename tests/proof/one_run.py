"""One whole run without Airflow, and its mail, as the tasks of the DAG would do it."""

import itertools
from typing import Any

from include.contact_sync.conclude import RunReport
from include.contact_sync.flow import RunRequest, run_all_steps
from include.contact_sync.report.operator import ErrorReportOperator, MailToSend
from include.contact_sync.settings import Settings

NUMBERS = itertools.count(1)


def sync(settings: Settings | None = None, **request: Any) -> RunReport:
    """Every step; with the saved settings where none are given."""
    request = {"dag_run_id": f"run {next(NUMBERS)}"} | request
    concluded = run_all_steps(RunRequest(settings=settings, **request))
    assert concluded is not None
    return concluded


def send_report(concluded: RunReport) -> None:
    """The last task: one mail, unless there is nothing to report or it was sent before."""

    def load_report(_: dict[str, Any]) -> MailToSend | None:
        if not concluded.is_needed:
            return None
        return MailToSend(**concluded.mail(tries=3))

    ErrorReportOperator(task_id="report_errors", load_report=load_report).execute({"run_id": concluded.run.dag_run_id})
