"""The complete list of a run's errors as a CSV file that a person opens in a spreadsheet (rules 7 and 8.4).

The file holds what people typed into Salesforce, so every cell is made harmless before it is written: a spreadsheet
takes a cell that starts with `=`, `+`, `-` or `@` for a formula. Which errors there are, and what is said about a
code, is `model`'s and the catalogue's.
"""

import csv
import io
import re
from collections.abc import Iterator
from itertools import repeat

import pandas as pd

from include.contact_sync.errors import CATALOGUE
from include.contact_sync.report.model import Holder, Report, read_holders, record_link, text_or_none

HEADINGS = (
    "Status",
    "Code",
    "What happened",
    "How to resolve",
    "Salesforce record",
    "Link",
    "Field",
    "Value",
    "Holders",
    "Run",
    "Opened in run",
    "Resolved in run",
)
MOST_ROWS = 100_000
"""Many more would make a mail that no server takes; the file says where it stops, the open ones come first."""

_MOST_CHARACTERS = 32_000
"""A spreadsheet's cell ends at 32,767 characters; what is longer would spill into other cells."""

_STATUS_WORDS = {"new": "new", "still_open": "still open", "resolved": "resolved"}

# Blanks, controls and invisible marks, behind which a formula would still be found. The signs come in full width,
# small, superscript and mathematical forms as well; some programs fold these into the plain ones.
_BLANK = r"[\s\x00-\x1f\x7f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]"
_SIGN = r"[=+\-@\uff1d\uff0b\uff0d\uff20\ufe62\ufe63\ufe66\ufe6b\u2212\u207a\u207b\u207c\u208a\u208b\u208c]"
_FORMULA_AT_START = re.compile(rf"[\t\r\n]|{_BLANK}*+{_SIGN}")
# Where a spreadsheet's list separator is not the comma, these end a cell in the middle of a value. The blanks are
# part of the match with or without a sign behind them, so that a long run of them is read only once.
_AFTER_SEPARATOR = re.compile(rf"([;\t\r\n]{_BLANK}*+)({_SIGN})?")
# Most cells; one look decides.
_HARMLESS = re.compile(rf"(?:[A-Za-z0-9][^;\t\r\n\0]{{0,{_MOST_CHARACTERS - 1}}})?")


def render_csv(report: Report) -> bytes:
    """All errors of the report: the open ones first, new before still open, then by code and Salesforce id.

    UTF-8 with a byte order mark, by which spreadsheets know it; every cell quoted; lines end in CR LF.
    """
    errors = report.errors.assign(
        is_resolved=report.errors["status"] == "resolved",
    ).sort_values(["is_resolved", "status", "code", "external_id", "salesforce_field"], kind="stable")
    text = io.StringIO(newline="")
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(HEADINGS)
    writer.writerows(map(_safe_row, _rows(report, errors.head(MOST_ROWS))))
    left_out = len(errors) - MOST_ROWS
    if left_out > 0:
        writer.writerow([f"{left_out:,} more errors are not in this file", *repeat("", len(HEADINGS) - 1)])
    return text.getvalue().encode("utf-8-sig")


def make_safe(text: str) -> str:
    """A cell that no spreadsheet takes for a formula, that fits a spreadsheet's cell, and that holds no NUL.

    >>> make_safe("+49 30 1234"), make_safe("Ann - Levy"), make_safe("x;=HYPERLINK(A1)")
    ("'+49 30 1234", 'Ann - Levy', "x;'=HYPERLINK(A1)")
    """
    if _HARMLESS.fullmatch(text):
        return text
    text = text.replace("\0", "")
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[:_MOST_CHARACTERS]} … ({len(text):,} characters in all)"
    guarded = _AFTER_SEPARATOR.sub(_guard, text)
    return f"'{guarded}" if _FORMULA_AT_START.match(text) else guarded


def _guard(separator: re.Match[str]) -> str:
    blanks, sign = separator.groups()
    return f"{blanks}'{sign}" if sign else blanks


def _safe_row(row: tuple[str, ...]) -> list[str]:
    return [make_safe(cell) for cell in row]


def _rows(report: Report, errors: pd.DataFrame) -> Iterator[tuple[str, ...]]:
    salesforce_url = report.facts.salesforce_url
    columns = [
        "status",
        "code",
        "part",
        "external_id",
        "salesforce_field",
        "value",
        "detail",
        "holders",
    ]
    runs = zip(_run_numbers(errors, "opened_run"), _run_numbers(errors, "closed_run"), strict=True)
    for cells, (opened, closed) in zip(
        zip(*(errors[column].tolist() for column in columns), strict=True), runs, strict=True
    ):
        status, code, part, external_id, field, value, detail, holders = cells
        record = text_or_none(external_id)
        yield (
            _STATUS_WORDS[status],
            code,
            ": ".join(filter(None, [CATALOGUE[code].shown_as, text_or_none(detail)])),
            CATALOGUE[code].how_to_resolve,
            record or "",
            record_link(salesforce_url, part, record) or "",
            text_or_none(field) or "",
            text_or_none(value) or "",
            "\n".join(_describe(holder) for holder in read_holders(holders, part, salesforce_url)),
            str(report.facts.run_id),
            opened,
            closed,
        )


def _run_numbers(errors: pd.DataFrame, column: str) -> list[str]:
    """Run ids as text; empty where there is none, or where the frame lacks this optional column."""
    if column not in errors.columns:
        return [""] * len(errors)
    return errors[column].astype("Int64").astype("string").fillna("").tolist()


def _describe(holder: Holder) -> str:
    """A holder in one line, such as `email ann@example.com: contact 17, linked to 0035g00000AAAAAAAA`."""
    linked = f"linked to {holder.external_id}" if holder.external_id else "not linked to Salesforce"
    return f"{holder.what}: {holder.who}, {linked}" if holder.what else f"{holder.who}, {linked}"
