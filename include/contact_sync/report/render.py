"""The words and the two forms of a report's e-mail (rule 8.1): HTML and plain text, which say the same.

What is said about an error comes from the catalogue through `model`; here is only what stands around it. Everything
that a person typed, here or in Salesforce, is escaped in the HTML and kept to its own line in the plain text. The
subject is made of counts and fixed words, so nothing personal is in it, nor anything that could end the header.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from include.contact_sync.report.csv_file import MOST_ROWS
from include.contact_sync.report.model import ErrorKind, Report

HOLDERS_SHOWN = 5
"""At most this many holders of one record stand in the mail; the attached file holds them all."""

OUTCOMES = ("read", "created", "linked", "updated", "unchanged", "error")
STATUS_WORDS = {"new": "new", "still_open": "still open", "resolved": "resolved"}

_MOST_CHARACTERS = 160
_LINE_BREAKS = re.compile(r"\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
# Controls, and the marks that turn the direction of all the text behind them.
_UNSEEN = re.compile(r"[\x00-\x08\x0e-\x1b\x1f\x7f-\x84\x86-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Fact:
    """One line about the run: a label and what it says."""

    label: str
    text: str


def subject(report: Report) -> str:
    """The mail's subject: state and counts.

    A failed run reads `Salesforce contacts sync failed: contacts were not synced (1 error)`.
    """
    dry_run = "Dry run: " if report.facts.dry_run else ""
    if report.facts.failed:
        errors = f" ({_errors(report.open)})" if report.open else ""
        return f"{dry_run}Salesforce contacts sync failed: {_lower_first(headline(report))}{errors}"
    return f"{dry_run}Salesforce contacts sync: {_status_counts(report)}"


def render_html(report: Report) -> str:
    """The report as an HTML page that a mail program shows, on a phone too."""
    return _environment().get_template("report.html").render(_context(report))


def render_text(report: Report) -> str:
    """The report as plain text, saying what `render_html` says."""
    return _environment().get_template("report.txt").render(_context(report))


def headline(report: Report) -> str:
    """In one sentence, what became of the run."""
    if report.not_synced:
        return f"{_parts(report.not_synced)} were not synced"
    if report.facts.failed:
        return "The run failed"
    if report.facts.dry_run:
        return f"Dry run of {' and '.join(report.facts.parts)}"
    return f"{_parts(report.facts.parts)} were synced"


def shown(value: str, most: int = _MOST_CHARACTERS) -> str:
    """A value as it is shown: on one line, without invisible controls, and cut where it is very long.

    >>> shown("first\\nsecond"), shown("x" * 500, 10)
    ('first ↵ second', 'xxxxxxxxxx… (500 characters)')
    """
    if len(value) > most:
        return f"{shown(value[:most], most + 1)}… ({len(value):,} characters)"
    return _UNSEEN.sub("", _LINE_BREAKS.sub(" ↵ ", value))


def _context(report: Report) -> dict[str, object]:
    facts = report.facts
    return {
        "report": report,
        "headline": headline(report),
        "reasons": _reasons(report),
        "dry_run": _DRY_RUN if facts.dry_run else "",
        "facts": _facts(report),
        "counts_heading": "What would be synced" if facts.dry_run else "What was synced",
        "counts": _count_rows(report),
        "synced_parts": [part for part in facts.parts if facts.counts(part) is not None],
        "summary": _status_counts(report),
        "counted": _status_counts,
        "attached": _attached(report),
        "log_url": _web_address(facts.log_url),
        "holders_shown": HOLDERS_SHOWN,
        "status_words": STATUS_WORDS,
    }


_DRY_RUN = "Nothing was written: this was a dry run. The counts and errors are what a run would give."


def _reasons(report: Report) -> list[str]:
    """Why a failed run failed: each run error that stopped it, with what is known about it."""
    if not report.facts.failed:
        return []
    stopping = [kind for kind in report.sections if kind.stopped_the_run]
    return [reason for kind in stopping for reason in _kind_reasons(kind)] or ["The task log says why."]


def _kind_reasons(kind: ErrorKind) -> list[str]:
    gave_up = ". The run tried again and gave up." if kind.retried else ""
    details = [f": {shown(record.detail, 500)}" if record.detail else "" for record in kind.records]
    return [f"{kind.shown_as}{detail}{gave_up}" for detail in details]


def _facts(report: Report) -> list[Fact]:
    facts = report.facts
    lines = [
        Fact("Triggered", _triggered(report)),
        Fact("Started", f"{_time(facts.started_at)}, took {_duration(facts.ended_at - facts.started_at)}"),
    ]
    if facts.window:
        start, end = map(_time, facts.window)
        lines.append(Fact("Window", f"contacts last changed from {start} until before {end}; accounts are read whole"))
    run = f"{facts.run_id} ({shown(facts.dag_run_id)})" if facts.dag_run_id else str(facts.run_id)
    lines.append(Fact("Run", run))
    if facts.settings_version is not None:
        lines.append(Fact("Settings", f"version {facts.settings_version}"))
    return lines


def _triggered(report: Report) -> str:
    how = {"schedule": "by schedule", "manual": "by hand", "backfill": "as a backfill"}[report.facts.trigger]
    return f"{how} ({shown(report.facts.triggered_by)})" if report.facts.triggered_by else how


def _count_rows(report: Report) -> list[Mapping[str, str]]:
    """One row per outcome, with a number for each part that was synced."""
    synced = {part: counts for part in report.facts.parts if (counts := report.facts.counts(part)) is not None}
    if not synced:
        return []
    return [
        {"outcome": outcome, **{part: f"{counts.get(outcome, 0):,}" for part, counts in synced.items()}}
        for outcome in OUTCOMES
    ]


def _status_counts(counted: Report | ErrorKind) -> str:
    """Such as `12 errors open (3 new, 9 still open), 2 resolved`."""
    resolved = f"{counted.resolved:,} resolved"
    if not counted.open:
        return f"no error open, {resolved}" if counted.resolved else "no error open"
    still_open = f"{_errors(counted.open)} open ({counted.new:,} new, {counted.still_open:,} still open)"
    return f"{still_open}, {resolved}" if counted.resolved else still_open


def _attached(report: Report) -> str:
    every = (
        "All errors, the resolved ones too, are"
        if len(report.errors) <= MOST_ROWS
        else f"The first {MOST_ROWS:,} errors are"
    )
    return f"{every} in the attached file."


def _errors(number: int) -> str:
    return "1 error" if number == 1 else f"{number:,} errors"


def _parts(parts: tuple[str, ...]) -> str:
    return " and ".join(parts).capitalize()


def _lower_first(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _duration(lasted: timedelta) -> str:
    """Such as `2 h 5 min`, `3 min 12 s` or `4 s`."""
    minutes, seconds = divmod(round(lasted.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def _web_address(url: str | None) -> str | None:
    return url if url and urlsplit(url).scheme in {"http", "https"} else None


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=select_autoescape(enabled_extensions=("html",), default=False, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(shown=shown, number=lambda count: f"{count:,}")
    return environment
