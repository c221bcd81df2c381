"""Defects that show when people edit, or others start runs, while a run is at work."""

import threading
from functools import cache

from include.contact_sync import load
from include.contact_sync.store import runs
from tests.conftest import Store
from tests.proof import prove_concurrent_edits
from tests.proof.conftest import Score
from tests.proof.meanwhile import LONG, Somebody
from tests.proof.prove_concurrent_edits import EDITS, MEETINGS, Nights
from tests.proof.seeded.defect import Defect, Invariant, Scene, always, instead, statement, without


@cache
def edit_at(meeting: str, what: str) -> Scene:
    """Somebody makes an edit when a run can be met there."""

    def scene(nights: Nights, score: Score) -> None:
        (edit,) = [edit for edit in EDITS if edit.what == what]
        met = MEETINGS[meeting]
        try:
            nights.judge(edit, met.among(nights.moments()), score, holds=met.holds)
        finally:
            for thread in threading.enumerate():
                if isinstance(thread, Somebody):
                    thread.join(LONG)

    scene.__name__ = f"somebody {what}, {meeting}"
    return scene


def runs_start_at_once(store: Store, score: Score) -> None:
    prove_concurrent_edits.test_of_runs_started_at_once_one_works_and_the_others_say_which(store, score)


PLANNED, LOCKED = "contacts: when the plan is made", "contacts: when the tables are locked"
BEFORE_RELEASE = "contacts: before handles are released"
HOLDING = "contacts: while the run waits for somebody's transaction"
EDITS_UNSEEN = statement("fingerprint_contacts", "AS fingerprint", "IS NULL AS fingerprint")
"""The fingerprint is the same, whatever is there."""
SAME = "Nights.judge: assert same"

DEFECTS = [
    Defect(
        "who edited meanwhile is not looked at (6.2)",
        Invariant.NO_LOST_EDIT,
        EDITS_UNSEEN,
        edit_at(PLANNED, "unlinks a contact"),
        SAME,
    ),
    Defect(
        "a plan is applied to whatever is there (6.2)",
        Invariant.NO_FAILED_RUN,
        EDITS_UNSEEN,
        edit_at(PLANNED, "adds a contact with a handle that the run gives to another"),
        "StoreRefused: ",
    ),
    Defect(
        "the tables are not locked (6.2)",
        Invariant.NO_LOST_EDIT,
        instead(load, "_lock_tables", without),
        edit_at(BEFORE_RELEASE, "unlinks a contact"),
        SAME,
    ),
    Defect(
        "a table is waited for while another is held (6.2)",
        Invariant.NO_DEADLOCK,
        statement("lock_table_now", " NOWAIT", ""),
        edit_at(HOLDING, "merges two contacts"),
        "StoreRefused: PostgreSQL did not take the contacts: DeadlockDetected",
    ),
    Defect(
        "whoever starts takes over (6.3)",
        Invariant.ONE_RUN,
        statement("close_dead_run", "AND alive_until < now()", ""),
        runs_start_at_once,
        "test_of_runs_started_at_once_one_works_and_the_others_say_which: assert len(refused) == 5",
    ),
    Defect(
        "a run that is refused does not say who works (6.3)",
        Invariant.ONE_RUN,
        instead(runs, "_describe_active_run", always("Another run")),
        runs_start_at_once,
        "test_of_runs_started_at_once_one_works_and_the_others_say_which: assert all(",
    ),
]
