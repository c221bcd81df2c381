"""A run works on so many rows at once, to spare memory; how many makes no difference to what it writes (rule 4.6)."""

import pytest

from include.contact_sync import load, plan
from tests.conftest import Store
from tests.contact_sync.applying import fill_store, run_world
from tests.contact_sync.specification import World
from tests.contact_sync.worlds import batch_of_worlds, together
from tests.proof.conftest import Score
from tests.proof.nights import dump

PORTIONS = [(plan, "RECORDS_AT_ONCE"), (load, "ROWS_PER_PORTION"), (load, "ROWS_PER_COPY")]
"""Where there are such limits."""


def test_portions_of_any_size_write_the_same(store: Store, score: Score, monkeypatch: pytest.MonkeyPatch) -> None:
    """Contacts, handles, entries and errors."""
    for number in range(4):
        world = together(batch_of_worlds(600 + number, 40))
        at_once = what_is_written(store, world)
        score.met["rows written at once"] += sum(map(len, at_once.values()))
        for rows in (1, 7, 100):
            with monkeypatch.context() as patch:
                for owner, name in PORTIONS:
                    patch.setattr(owner, name, rows)
                assert what_is_written(store, world) == at_once
            score.tried["worlds applied in portions"] += 40
            score.met[f"portions of {rows} rows"] += 1


def what_is_written(store: Store, world: World) -> dict[str, list[tuple]]:
    fill_store(store, world)
    store.execute("TRUNCATE contact_store.sync_changes")
    run_world(world)
    return dump(store)
