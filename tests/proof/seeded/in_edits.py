"""Defects that show when people edit, or others start runs, while a run is at work."""

import threading
from functools import cache
from typing import Any

import pytest

from include.contact_sync import load
from include.contact_sync.store import runs
from tests.conftest import Store
from tests.contact_sync.specification import World
from tests.proof import prove_concurrent_edits
from tests.proof.conftest import Score
from tests.proof.seeded.defect import Defect, Invariant, Scene, always, instead, statement, without
from tests.proof.seeded.in_the_store import FIELDS_KEPT


@cache
def edit_at(moment: str, what: str) -> Scene:
    """Somebody makes one kind of edit at that moment of a load."""

    def scene(store: Store, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
        every_edit = prove_concurrent_edits.edits

        def chosen(world: World, draw: Any) -> list[prove_concurrent_edits.Edit]:
            return [edit for edit in every_edit(world, draw) if edit.what == what]

        monkeypatch.setattr(prove_concurrent_edits, "edits", chosen)
        try:
            prove_concurrent_edits.test_an_edit_is_neither_lost_nor_able_to_break_the_run(
                store, score, monkeypatch, moment, "row by row"
            )
            assert score.tried["edits"], "there is no such edit"
        finally:
            for thread in threading.enumerate():
                if isinstance(thread, prove_concurrent_edits.Person):
                    thread.join(prove_concurrent_edits.LONG)

    scene.__name__ = f"somebody {what} {moment}"
    return scene


def runs_start_at_once(store: Store, score: Score) -> None:
    prove_concurrent_edits.test_of_runs_started_at_once_one_works_and_the_others_say_which(store, score)


BETWEEN, HOLDING = "between plan and apply", prove_concurrent_edits.HOLDING
EDITS_UNSEEN = statement("fingerprint_contacts", "AS fingerprint", "IS NULL AS fingerprint")
"""The fingerprint is the same, whatever is there."""

DEFECTS = [
    Defect(
        "who edited meanwhile is not looked at (6.2)",
        Invariant.NO_LOST_EDIT,
        EDITS_UNSEEN,
        edit_at(BETWEEN, "unlinks a contact"),
        "judge: assert ",
    ),
    Defect(
        "a plan is applied to whatever is there (6.2)",
        Invariant.NO_FAILED_RUN,
        EDITS_UNSEEN,
        edit_at(BETWEEN, "adds a contact with a handle"),
        "StoreRefused: ",
    ),
    Defect(
        "the tables are not locked (6.2)",
        Invariant.NO_LOST_EDIT,
        instead(load, "_lock_tables", without),
        edit_at("when the tables are locked", "unlinks a contact"),
        "judge: assert ",
    ),
    Defect(
        "custom fields that are not mapped are lost",
        Invariant.NO_LOST_EDIT,
        statement("update_records", FIELDS_KEPT, "part_rows.custom_set"),
        edit_at(BETWEEN, "edits values that are not mapped"),
        "look_at_values: assert ",
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
