"""A backfill is limited to a window: it takes who was stamped in it, and is silent about everybody else (rule 1.3).

Around the two borders people come, change, are corrected and leave to the second; the three dates of a record go their
own ways. Whole days are then run one after the other, by each API and from each source, on machines and with windows of
other time zones. Whom a run took is looked up in what it left behind; what became of everything is as in a life.
"""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from include.contact_sync.conclude import conclude_run
from include.contact_sync.settings import Settings
from include.contact_sync.staging import Staging
from include.contact_sync.store.connection import connect
from include.contact_sync.store.runs import Run
from include.contact_sync.store.settings_versions import load_settings
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.proof.conftest import Score
from tests.proof.prove_a_life import MAPPINGS, PEOPLE, Life, Place
from tests.whole_runs import row_versions

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
START = datetime(2026, 5, 2, tzinfo=UTC)
END = START + DAY
LONG_AGO = START - 30 * DAY
Window = tuple[datetime, datetime]
WINDOWS: dict[str, Window] = {
    "the day before": (START - DAY, START),
    "the day": (START, END),
    "the day after": (END, END + DAY),
    "a day on which nothing happened": (END + 10 * DAY, END + 11 * DAY),
}
BORDERS = {
    "a second before its start": START - SECOND,
    "at its start": START,
    "in its last second": END - SECOND,
    "at its end": END,
}
PLACES = [
    ("REST", "list view", "UTC"),
    ("REST", "synced accounts", "Asia/Kolkata"),
    ("Bulk", "list view", "America/New_York"),
    ("Bulk", "synced accounts", "Pacific/Auckland"),
]
"""The API, the source, and the time zone of the machine and of whoever names the window."""


@contextmanager
def in_zone(zone: str) -> Generator[None]:
    """The machine's clock shows the time of this zone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        yield
    time.tzset()


# ------------------------------------------------------------------------------------------ who is there, and when


def dates(stamped: datetime, modified: datetime | None = None, created: datetime | None = None) -> dict[str, str]:
    """What Salesforce says of when a record came, when somebody changed it, and when anything did."""
    moments = {
        "SystemModstamp": stamped,
        "LastModifiedDate": modified or stamped,
        "CreatedDate": created or modified or stamped,
    }
    return {name: moment.isoformat() for name, moment in moments.items()}


@dataclass
class Neighbours:
    """Who lives around the borders of a window. `ids`: by what each is there for, and by where."""

    life: Life
    account: str
    ids: dict[tuple[str, str], str] = field(default_factory=dict)

    def come(self, *people: tuple[str, str, str | None, dict[str, str]]) -> None:
        """What each is there for, where, the e-mail address, and the dates."""
        records = [
            {"LastName": f"{role} {where}", "Email": email, "Tier__c": "Gold", "AccountId": self.account} | moments
            for role, where, email, moments in people
        ]
        self.life.salesforce("create", "contacts are created around a border", records=records)
        named = {record["LastName"]: record["Id"] for record in self.life.here()}
        self.ids |= {(role, where): named[f"{role} {where}"] for role, where, *_ in people}

    def change(self, role: str, where: str, **values: str | None) -> None:
        """On the border itself; the store is looked at when all have changed and somebody comes."""
        self.life.control.update(
            sobject="Contact", ids=[self.ids[role, where]], values=values, at=BORDERS[where].isoformat()
        )


def address(role: str, where: str) -> str:
    return f"{role}.{where}@x0.co".replace(" ", "-")


def on_the_evening_before(life: Life) -> Neighbours:
    """Who is synced, or in error, before anything happens; a whole run has read them."""
    life.an_account_comes("a0.com")  # has that domain in common with another
    life.an_account_comes("leaving0.com")
    neighbours = Neighbours(life, next(one["Id"] for one in life.here("Account") if one["Website"] == "a0.com"))
    known = dates(LONG_AGO)
    neighbours.come(
        *(("known", where, address("known", where), known) for where in BORDERS),
        *(("leaver", where, address("leaver", where), known) for where in BORDERS),
        *(("corrected", where, None, known) for where in BORDERS),
        ("wrong for ever", "long ago", None, known),
    )
    life.run_once()
    return neighbours


def around_the_borders(neighbours: Neighbours) -> None:
    """Everything that a window must tell apart; each who is stamped in it has something to be written, or is in error."""
    for where in BORDERS:
        neighbours.change("known", where, Email=address("changed", where))
        neighbours.change("corrected", where, Email=address("corrected", where))
        neighbours.change("leaver", where, Tier__c="Silver", AccountId=None)
    neighbours.come(
        *(("newcomer", where, address("newcomer", where), dates(at)) for where, at in BORDERS.items()),
        *(("wrong", where, None, dates(at)) for where, at in BORDERS.items()),
        ("by the system", "stamped in it", address("by", "in"), dates(END - SECOND, START - SECOND, LONG_AGO)),
        ("by the system", "stamped after it", address("by", "after"), dates(END, END - SECOND, START)),
        # who gives this address up is in the day after
        ("heir", "stamped in it", address("known", "at its end"), dates(START)),
    )


def accounts_change_outside_the_window(life: Life) -> None:
    """One comes and one is corrected long ago, one leaves today."""
    twin = life.here("Account")[-2]
    life.salesforce(
        "update",
        "an account is edited",
        "Account",
        ids=[twin["Id"]],
        values={"Website": "c0.com"},
        at=LONG_AGO.isoformat(),
    )
    life.salesforce(
        "create", "an account is created", "Account", records=[{"Name": "Old", "Website": "d0.com"} | dates(LONG_AGO)]
    )
    leaving = next(one["Id"] for one in life.here("Account") if one["Website"] == "leaving0.com")
    life.salesforce("delete", "an account is deleted with its contacts", "Account", ids=[leaving])


def stamped_in(life: Life, window: Window) -> set[str]:
    """Who is to be read: Gold are those in the source, whichever it is."""
    return {
        record["Id"]
        for record in life.here()
        if record["Tier__c"] == "Gold" and window[0] <= datetime.fromisoformat(record["SystemModstamp"]) < window[1]
    }


# ----------------------------------------------------------------------------------------------------- what is proven

MET = """
    SELECT external_id FROM contact_store.sync_changes WHERE part = 'contacts' AND run_id = %(run)s
    UNION SELECT external_id FROM contact_store.sync_errors WHERE part = 'contacts' AND last_run = %(run)s"""
CLOSED = "SELECT external_id FROM contact_store.sync_errors WHERE part = 'contacts' AND closed_run = %(run)s"
GONE = "SELECT external_id FROM contact_store.contacts WHERE not_syncing_since IS NOT NULL"


def ids(store: Store, query: str, run_id: int = 0) -> set[str | None]:
    return {name for (name,) in store.execute(query, {"run": run_id})}


def run_over(life: Life, window: Window, **request: Any) -> Run:
    """A backfill that gets through, and whether it is what the rules say of one."""
    expected, gone = stamped_in(life, window), ids(life.store, GONE)
    done = life.sync(trigger="backfill", window=window, **request)
    assert done.state == "succeeded"
    takes_who_was_stamped_in_the_window(life, done, expected)
    is_silent_about_the_rest(life, done, expected, gone)
    reads_accounts_whole(life, done)
    life.judge(done, window)
    tell_of_the_borders(life, window)
    life.score.tried["runs over a window"] += 1
    return done


def takes_who_was_stamped_in_the_window(life: Life, done: Run, expected: set[str]) -> None:
    assert done.contacts is not None
    others = ids(life.store, MET, done.id) - expected
    assert (done.contacts["read"], others) == (len(expected), set())


def is_silent_about_the_rest(life: Life, done: Run, expected: set[str], gone: set[str | None]) -> None:
    """Rule 2.6: who was gone may be back."""
    closed = ids(life.store, CLOSED, done.id)
    assert closed <= expected, "it closed errors of what it did not read"
    assert ids(life.store, GONE) <= gone, "it said of somebody that he stopped syncing"
    met = life.score.met
    met["an error of a contact in the window closes"] += len(closed)
    still_open = "SELECT count(*) FROM contact_store.sync_errors WHERE level = 'contact' AND closed_run IS NULL AND last_run <> %(run)s"
    met["an error of a contact outside the window stays"] += life.store.execute(still_open, {"run": done.id})[0][0]
    left = {record["Id"] for record in life.here() if record["Tier__c"] == "Silver"}
    met["who left the source, and a run over a window does not say so"] += len(
        left & life.chronicle.linked("contacts").keys() - ids(life.store, GONE)
    )


def tell_of_the_borders(life: Life, window: Window) -> None:
    start, end = window
    for record in life.here():
        stamped, modified = (datetime.fromisoformat(record[name]) for name in ("SystemModstamp", "LastModifiedDate"))
        if record["Tier__c"] == "Gold":
            life.score.met["stamped at the start of a window: read"] += stamped == start
            life.score.met["stamped in the last second of a window: read"] += stamped == end - SECOND
            life.score.met["stamped at the end of a window: not read"] += stamped == end
            life.score.met["modified before a window and stamped in it: read"] += modified < start <= stamped < end
            life.score.met["modified in a window and stamped after it: not read"] += start <= modified < end <= stamped


def reads_accounts_whole(life: Life, done: Run) -> None:
    assert done.accounts is not None
    assert done.accounts["read"] == len(life.here("Account"))


def is_told_before_it_is_done(life: Life, window: Window) -> None:
    """A dry run over a window says what the run then does, of errors too."""
    planned = told(life.sync(trigger="backfill", window=window, dry_run=True))
    life.look()
    assert planned == told(run_over(life, window))
    life.score.met["a dry run over a window said what the run then did"] += 1


def changes_nothing_when_it_is_run_again(life: Life, window: Window) -> None:
    """Rule 4.12."""
    before = row_versions(life.store)
    run_over(life, window)
    assert row_versions(life.store) == before
    life.score.met["a window that is run again changes nothing"] += 1


def told(run: Run) -> Any:
    """The outcome counts of both parts, and how many errors are new, still open and resolved."""
    report = conclude_run(run.id).report
    return run.accounts, run.contacts, (report.new, report.still_open, report.resolved)


def is_refused_when_it_is_too_large(life: Life, window: Window) -> None:
    """Rule 1.5: the accounts are synced; no contact is changed."""
    too_few = len(stamped_in(life, window)) - 1
    failed = life.sync(trigger="backfill", window=window, settings=limited(too_few))
    assert failed.state == "failed"
    life.chronicle.gets_past_the_login(failed.id)
    life.apply(failed, life.read_accounts())
    life.chronicle.stops(failed.id, "contacts", "too_many_contacts")
    life.look()
    life.score.met["a window that holds one contact more than the limit is refused"] += 1


def limited(maximum: int) -> Settings:
    with connect() as connection:
        return load_settings(connection).settings.model_copy(update={"maximum_contacts": maximum})


@pytest.mark.parametrize(("pace", "source", "zone"), PLACES)
def test_a_run_over_a_window_takes_who_was_stamped_in_it_and_is_silent_about_the_rest(
    organisation: Simulator,
    store: Store,
    staging: Staging,
    postgres: DatabaseServer,
    score: Score,
    tmp_path: Path,
    pace: str,
    source: str,
    zone: str,
) -> None:
    score.expect(EXPECTED)
    life = Life(Place(organisation, store, postgres, score, tmp_path))
    life.begin(PEOPLE)
    life.the_api_is_chosen(pace)
    life.settings_are_chosen(MAPPINGS[0], source, maps_values=False)
    with in_zone(zone):
        neighbours = on_the_evening_before(life)
        around_the_borders(neighbours)
        before, day, after, nothing = (
            (start.astimezone(ZoneInfo(zone)), end.astimezone(ZoneInfo(zone))) for start, end in WINDOWS.values()
        )
        accounts_change_outside_the_window(life)
        run_over(life, day)
        changes_nothing_when_it_is_run_again(life, day)
        is_told_before_it_is_done(life, before)
        is_refused_when_it_is_too_large(life, after)
        run_over(life, after, settings=limited(len(stamped_in(life, after))))
        score.met["a window that holds as many as the limit is synced, though the source holds more"] += 1
        run_over(life, nothing)
        life.run_twice()


EXPECTED = """
stamped at the start of a window: read
stamped in the last second of a window: read
stamped at the end of a window: not read
modified before a window and stamped in it: read
modified in a window and stamped after it: not read
a window that holds one contact more than the limit is refused
a window that holds as many as the limit is synced, though the source holds more
an error of a contact in the window closes
an error of a contact outside the window stays
who left the source, and a run over a window does not say so
a dry run over a window said what the run then did
a window that is run again changes nothing
""".strip().splitlines()
