"""A run's facts and errors for the report's tests, written down as short as a test needs them."""

import json
from datetime import UTC, datetime
from typing import Any

import pandas as pd

from include.contact_sync.errors import CATALOGUE
from include.contact_sync.report.model import COLUMNS, Report, RunFacts, build_report

COUNTS = {"read": 10, "created": 1, "linked": 2, "updated": 3, "unchanged": 0, "error": 4}


def contact_id(number: int) -> str:
    return f"0035g00000C{number:04d}AAA"


def account_id(number: int) -> str:
    return f"0015g00000A{number:04d}AAA"


def error(code: str, record: str | None = None, **cells: Any) -> dict[str, Any]:
    """One row of the errors frame; lists become the JSON text that the store holds."""
    level = CATALOGUE[code].level.value
    part = "accounts" if level == "account" else "contacts"
    row = {"code": code, "level": level, "part": part, "status": "new", "external_id": record, "holders": [], **cells}
    return {column: json.dumps(cell) if isinstance(cell, list) else cell for column, cell in row.items()}


def errors_frame(*rows: dict[str, Any]) -> pd.DataFrame:
    frame = pd.DataFrame(list(rows))
    return frame.reindex(columns=[*COLUMNS, *(column for column in frame.columns if column not in COLUMNS)])


def run_facts(**changes: Any) -> RunFacts:
    facts: dict[str, Any] = {
        "run_id": 12,
        "dag_run_id": "manual__1",
        "trigger": "manual",
        "triggered_by": "ann",
        "dry_run": False,
        "window": None,
        "started_at": datetime(2026, 11, 23, 2, 0, tzinfo=UTC),
        "ended_at": datetime(2026, 11, 23, 2, 3, 12, tzinfo=UTC),
        "state": "succeeded",
        "accounts": COUNTS,
        "contacts": {**COUNTS, "read": 123456},
        "log_url": "http://airflow.example/dags/x?a=1&b=2",
        "salesforce_url": "https://acme.my.salesforce.com/",
        "settings_version": 3,
    }
    return RunFacts(**facts | changes)


def report_of(*rows: dict[str, Any], **changes: Any) -> Report:
    """The report of these errors; keyword arguments change the run's facts."""
    return build_report(run_facts(**changes), errors_frame(*rows))
