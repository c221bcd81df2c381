"""What a running simulator knows beside the organisation: sessions, jobs, cursors, counts, the fault script.

`rest` answers from it, `control` changes it. `start_again` brings everything back to how it began, so that a test
can use a simulator that another test has played with.
"""

import secrets
import threading
from collections import Counter, deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from include.salesforce_simulator.access import Sessions
from include.salesforce_simulator.answers import Refusal
from include.salesforce_simulator.bulk import Jobs
from include.salesforce_simulator.evaluate import Answer
from include.salesforce_simulator.faults import Script
from include.salesforce_simulator.options import Options
from include.salesforce_simulator.organisation import Organisation

_REMEMBERED_CALLS = 5000
_DAY = timedelta(hours=24)


@dataclass(frozen=True)
class Cursor:
    """An open REST query; it belongs to the session that opened it."""

    answer: Answer
    token: str
    page_size: int
    kept_pages: dict[tuple[int, int], str]


@dataclass(frozen=True)
class CallRecord:
    """One call that was answered."""

    kind: str
    method: str
    path: str
    status: int
    bytes: int


class Calls:
    """Counts of calls and bytes, and the last calls themselves."""

    def __init__(self) -> None:
        self.by_kind: Counter[str] = Counter()
        self.bytes = 0
        self.log: deque[CallRecord] = deque(maxlen=_REMEMBERED_CALLS)
        self._lock = threading.Lock()

    def add(self, record: CallRecord) -> None:
        """Count a call."""
        with self._lock:
            self.by_kind[record.kind] += 1
            self.bytes += record.bytes
            self.log.append(record)


class State:
    """The running simulator."""

    def __init__(self, organisation: Organisation, options: Options) -> None:
        self.lock = threading.RLock()
        self.script = Script()
        self.control_token = secrets.token_urlsafe(24)
        self._beginning = organisation.copy()
        self._first_options = options
        self._begin(organisation)

    def _begin(self, organisation: Organisation) -> None:
        self.organisation = organisation
        self.options = self._first_options
        self.sessions = Sessions(organisation, self.options.session_seconds)
        self.jobs = Jobs(organisation)
        self.calls = Calls()
        self._cursors: dict[str, Cursor] = {}
        self._kept_pages: dict[tuple[object, ...], dict[tuple[int, int], str]] = {}
        self._metered: deque[datetime] = deque()

    def start_again(self) -> None:
        """Back to the beginning: records, users, options, clock, counts; nobody is logged in."""
        self.script.clear()
        self._begin(self._beginning.copy())

    def change_options(self, **changes: object) -> None:
        """Change how the organisation answers."""
        self.options = self.options.changed(**changes)
        self.sessions.seconds = self.options.session_seconds

    def open_cursor(self, cursor: Cursor) -> str:
        """Keep a query for its next pages; returns the locator without the row."""
        letters = secrets.token_hex(8)[:12].upper()
        identifier = f"{self.options.locator_form}{letters}"[:15].ljust(15, "0") + "AAA"
        self._cursors[identifier] = cursor
        return identifier

    def kept_pages(self, query: tuple[object, ...]) -> dict[tuple[int, int], str]:
        """Where the rendered records of a query's pages are kept, by their first row and the one after the last."""
        return self._kept_pages.setdefault(query, {}) if self.options.keep_pages else {}

    def cursor(self, identifier: str, token: str) -> Cursor:
        """An open query, for the session that opened it."""
        cursor = self._cursors.get(identifier)
        if cursor is None or cursor.token != token:
            raise Refusal(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        return cursor

    def meter(self) -> int:
        """Count a call against the daily limit; returns the calls of the last 24 hours."""
        now = self.organisation.clock.now()
        with self.lock:
            while self._metered and self._metered[0] <= now - _DAY:
                self._metered.popleft()
            if len(self._metered) >= self.options.daily_calls:
                raise Refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
            self._metered.append(now)
            return len(self._metered)

    @property
    def calls_today(self) -> int:
        """API calls of the last 24 hours."""
        return len(self._metered)
