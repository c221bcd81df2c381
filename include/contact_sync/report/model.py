"""What a run's report says (rules 7 and 8): which errors, in which order, and what to advise.

Pure: frames and facts in, frozen dataclasses out; no clock, no I/O, no Airflow. What is said about a code comes
from the catalogue in `errors`. The wording around it and the layout are `render`'s, the complete list of errors is
`csv_file`'s.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd

from include.contact_sync.errors import CATALOGUE, Level

RECORDS_SHOWN = 20
"""At most this many records of one kind stand in the mail (rule 8.1); the attached file holds them all."""

PATTERN_NEEDS = 3
"""From this many collisions inside single accounts on they are a pattern worth advice (rule 8.3)."""

STATUSES = ("new", "still_open", "resolved")
TAKEN_CODES = ("email_taken", "phone_taken", "handle_taken")
COLUMNS = (
    "code",
    "level",
    "part",
    "status",
    "external_id",
    "salesforce_field",
    "value",
    "detail",
    "holders",
)
PARTS = ("accounts", "contacts")
_SOBJECTS = {"accounts": "Account", "contacts": "Contact"}
_ARTICLES = {"account": "an", "contact": "a"}
_CODE_ORDER = {code: place for place, code in enumerate(CATALOGUE)}

Counts = Mapping[str, int]
"""Outcome counts of a part: read, created, linked, updated, unchanged, error."""


@dataclass(frozen=True)
class RunFacts:
    """What happened in a run, apart from its errors.

    `accounts` and `contacts` are None where that part was not synced; `parts` names those that the toggles ask for
    (rule 1.4). `salesforce_url` is None where no session was had; `log_url` leads to the task log.
    """

    run_id: int
    dag_run_id: str | None
    trigger: str
    triggered_by: str | None
    dry_run: bool
    window: tuple[datetime, datetime] | None
    started_at: datetime
    ended_at: datetime
    state: str
    accounts: Counts | None
    contacts: Counts | None
    log_url: str | None
    salesforce_url: str | None
    settings_version: int | None
    parts: tuple[str, ...] = PARTS

    @property
    def failed(self) -> bool:
        return self.state == "failed"

    def counts(self, part: str) -> Counts | None:
        return self.accounts if part == "accounts" else self.contacts


@dataclass(frozen=True)
class Holder:
    """Who owns a handle (or domain) that a source record claims; without `record_id` where this run creates it."""

    noun: str
    record_id: int | None
    external_id: str | None
    link: str | None
    source: str | None
    handle: str | None

    @property
    def who(self) -> str:
        return (
            f"{_ARTICLES[self.noun]} {self.noun} that this run creates"
            if self.record_id is None
            else f"{self.noun} {self.record_id}"
        )

    @property
    def what(self) -> str:
        return " ".join(filter(None, [self.source, self.handle]))


@dataclass(frozen=True)
class ErrorRecord:
    """One error of one source record, or of the whole run (then without `external_id`)."""

    status: str
    external_id: str | None
    link: str | None
    salesforce_field: str | None
    value: str | None
    detail: str | None
    holders: tuple[Holder, ...]

    @property
    def says_something(self) -> bool:
        """Whether there is more to it than its code; not so for a run error without a detail."""
        return any([self.external_id, self.salesforce_field, self.value, self.detail])


@dataclass(frozen=True)
class ErrorKind:
    """All errors of one code: how many, the first records among the open ones, and what to do."""

    code: str
    level: Level
    stops: bool
    retried: bool
    shown_as: str
    how_to_resolve: str
    new: int
    still_open: int
    resolved: int
    records: tuple[ErrorRecord, ...]
    advice: tuple[str, ...]

    @property
    def open(self) -> int:
        return self.new + self.still_open

    @property
    def stopped_the_run(self) -> bool:
        return self.level is Level.RUN and self.stops and self.open > 0


@dataclass(frozen=True)
class Report:
    """What is told about a run. `errors` is the complete frame, for the attached file; a repr never shows it."""

    facts: RunFacts
    kinds: tuple[ErrorKind, ...]
    errors: pd.DataFrame = field(repr=False, compare=False)

    @property
    def sections(self) -> tuple[ErrorKind, ...]:
        """The kinds with an open error; those only resolved have counts, and no section."""
        return tuple(kind for kind in self.kinds if kind.open)

    @property
    def new(self) -> int:
        return sum(kind.new for kind in self.kinds)

    @property
    def still_open(self) -> int:
        return sum(kind.still_open for kind in self.kinds)

    @property
    def resolved(self) -> int:
        return sum(kind.resolved for kind in self.kinds)

    @property
    def open(self) -> int:
        return self.new + self.still_open

    @property
    def not_synced(self) -> tuple[str, ...]:
        """The parts that the toggles ask for and a failed run did not bring in."""
        return tuple(part for part in self.facts.parts if self.facts.failed and self.facts.counts(part) is None)

    @property
    def is_needed(self) -> bool:
        """Whether anybody is written to (rule 8.1): an error is open or was resolved, the run failed, or only planned."""
        return self.facts.failed or self.facts.dry_run or bool(self.kinds)


@dataclass(frozen=True)
class Advice:
    """A pattern in the *taken* errors of one mapped field, and what to do about it (rule 8.3)."""

    code: str
    salesforce_field: str
    inside_one_account: int
    collisions: int

    @property
    def text(self) -> str:
        name = self.salesforce_field
        count = f"{self.inside_one_account} of the {self.collisions}"
        return (
            f"{count} contacts whose {name} was taken share it with a contact of their own account, as colleagues "
            "behind one switchboard number do. "
            f"Map another Salesforce field as the handle, or map {name} to a custom field."
        )


def build_report(facts: RunFacts, errors: pd.DataFrame) -> Report:
    """Put together what is told about a run.

    `errors` has one row per error that is new, still open or resolved in this run, with the columns `COLUMNS`:
    `status` is one of `STATUSES`; `part` is "run", "accounts" or "contacts"; `holders` is JSON text (or a list) of
    objects {"contact_id" or "account_id", "external_id", "source", "handle"}.

    Two optional columns feed the advice of rule 8.3, both about the contacts' *taken* errors: `account`, the
    18-character Salesforce id of the source contact's account (null where it has none); `holder_accounts`, JSON text
    (or a list) of the Salesforce account ids of its holders, null for a holder whose account is unknown. The optional
    columns `opened_run` and `closed_run` go into the attached file.

    Raises:
        ValueError: a column is missing, or a status is unknown.
    """
    _check(errors)
    advice = advise(errors)
    counts = errors.groupby(["code", "status"], observed=True).size()
    shown = _first_records(errors)
    kinds = [_kind(code, counts, shown, advice, facts.salesforce_url) for code in errors["code"].unique()]
    return Report(facts=facts, kinds=tuple(sorted(kinds, key=_place)), errors=errors)


def advise(errors: pd.DataFrame) -> tuple[Advice, ...]:
    """The mapped fields whose collisions lie mostly inside single accounts (rule 8.3), by code and field.

    A collision lies inside a single account when every holder it names belongs to the source contact's own account.
    Takes the columns `code`, `status`, `salesforce_field`, `account` and `holder_accounts`; without the last two
    there is nothing to advise on.
    """
    if not {"account", "holder_accounts"} <= set(errors.columns):
        return ()
    is_taken = errors["code"].isin(TAKEN_CODES) & (errors["status"] != "resolved") & errors["salesforce_field"].notna()
    taken = errors.loc[is_taken, ["code", "salesforce_field", "account", "holder_accounts"]]
    inside = [
        _lies_inside(account, holders)
        for account, holders in zip(taken["account"], taken["holder_accounts"], strict=True)
    ]
    groups = taken.assign(inside=pd.Series(inside, index=taken.index, dtype=bool)).groupby(["code", "salesforce_field"])
    totals = groups["inside"].agg(["sum", "size"])
    return tuple(
        Advice(str(code), str(name), int(inside), int(total))
        for (code, name), inside, total in zip(totals.index, totals["sum"], totals["size"], strict=True)
        if inside >= PATTERN_NEEDS and 2 * inside > total
    )


def record_link(salesforce_url: str | None, part: str, external_id: str | None) -> str | None:
    """Where a person opens the record in Salesforce; None for what has no page there."""
    if not salesforce_url or not external_id or part not in _SOBJECTS:
        return None
    if urlsplit(salesforce_url).scheme != "https":
        return None
    record = external_id if external_id.isascii() and external_id.isalnum() else quote(external_id, safe="")
    return f"{salesforce_url.rstrip('/')}/lightning/r/{_SOBJECTS[part]}/{record}/view"


def read_holders(holders: object, part: str, salesforce_url: str | None) -> tuple[Holder, ...]:
    """The holders of one error, from the JSON text (or list) of its `holders` column."""
    noun = "account" if part == "accounts" else "contact"
    return tuple(
        Holder(
            noun=noun,
            record_id=holder.get(f"{noun}_id"),
            external_id=holder.get("external_id"),
            link=record_link(salesforce_url, part, holder.get("external_id")),
            source=holder.get("source"),
            handle=holder.get("handle"),
        )
        for holder in _read_list(holders)
    )


def text_or_none(value: object) -> str | None:
    """A cell of a text column; whatever stands for "nothing" there (None, NaN, NA, the empty text) is None."""
    return value if isinstance(value, str) and value else None


def _check(errors: pd.DataFrame) -> None:
    if missing := [column for column in COLUMNS if column not in errors.columns]:
        raise ValueError(f"the errors lack the columns {missing}; there are {list(errors.columns)}")
    if unknown := sorted(set(errors["status"].unique()) - set(STATUSES)):
        raise ValueError(f"unknown statuses {unknown}; an error is one of {list(STATUSES)}")


def _first_records(errors: pd.DataFrame) -> pd.DataFrame:
    """The open errors that are shown: of each code the new ones first, then the lowest Salesforce id."""
    still_open = errors[errors["status"] != "resolved"]
    order = ["code", "status", "external_id", "salesforce_field"]  # "new" sorts before "still_open"
    return still_open.sort_values(order, kind="stable").groupby("code", observed=True).head(RECORDS_SHOWN)


def _kind(
    code: str, counts: "pd.Series[int]", shown: pd.DataFrame, advice: tuple[Advice, ...], salesforce_url: str | None
) -> ErrorKind:
    entry = CATALOGUE[code]
    rows = shown.loc[shown["code"] == code, list(COLUMNS)]
    new, still_open, resolved = (int(counts.get((code, status), 0)) for status in STATUSES)
    return ErrorKind(
        code=code,
        level=entry.level,
        stops=entry.stops,
        retried=entry.retried,
        shown_as=entry.shown_as,
        how_to_resolve=entry.how_to_resolve,
        new=new,
        still_open=still_open,
        resolved=resolved,
        records=tuple(_record(row, salesforce_url) for row in rows.to_dict("records")),
        advice=tuple(each.text for each in advice if each.code == code),
    )


def _record(row: Mapping[Any, Any], salesforce_url: str | None) -> ErrorRecord:
    external_id = text_or_none(row["external_id"])
    return ErrorRecord(
        status=row["status"],
        external_id=external_id,
        link=record_link(salesforce_url, row["part"], external_id),
        salesforce_field=text_or_none(row["salesforce_field"]),
        value=text_or_none(row["value"]),
        detail=text_or_none(row["detail"]),
        holders=read_holders(row["holders"], row["part"], salesforce_url),
    )


def _place(kind: ErrorKind) -> tuple[bool, bool, int, int]:
    """Run errors first (those that stopped the run before the others), then the kind with the most open errors."""
    is_run = kind.level is Level.RUN
    return (not is_run, is_run and not kind.stops, -kind.open, _CODE_ORDER[kind.code])


def _lies_inside(account: object, holder_accounts: object) -> bool:
    if isinstance(holder_accounts, str) and str(account) not in holder_accounts:
        return False  # that is so of nearly all, and quicker than to take the list apart
    accounts = _read_list(holder_accounts)
    return text_or_none(account) is not None and bool(accounts) and all(each == account for each in accounts)


def _read_list(cell: object) -> list[Any]:
    """A list that a frame holds as JSON text, as a list, or (nothing) as a null."""
    if isinstance(cell, str):
        return list(json.loads(cell)) if cell else []
    return list(cell) if isinstance(cell, (list, tuple)) else []
