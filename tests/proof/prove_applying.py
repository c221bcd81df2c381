"""What a plan becomes in PostgreSQL: the specification's store and entries, with every invariant, and nothing the second time."""

from collections import Counter

import pytest

from include.contact_sync import load
from tests.conftest import Store
from tests.contact_sync.agreement import comparable
from tests.contact_sync.applying import fill_store, read_store, run_world
from tests.contact_sync.entries import read_entries, specified_entries
from tests.contact_sync.specification import sync
from tests.contact_sync.worlds import batch_of_worlds, together
from tests.proof.conftest import Score
from tests.proof.invariants import INVARIANTS, broken

BATCHES = 30
IN_A_BATCH = 100

FINGERPRINT = """
    SELECT 'contacts', ctid::text, xmin::text FROM contact_store.contacts
    UNION ALL SELECT 'handles', ctid::text, xmin::text FROM contact_store.contact_handles
    UNION ALL SELECT 'accounts', ctid::text, xmin::text FROM contact_store.accounts
    UNION ALL SELECT 'domains', ctid::text, xmin::text FROM contact_store.account_domains
    ORDER BY 1, 2"""


@pytest.mark.parametrize("keys", ["row by row", "with the keys taken off"])
def test_what_is_written_is_what_the_specification_says(
    store: Store, score: Score, monkeypatch: pytest.MonkeyPatch, keys: str
) -> None:
    """Rules 4, 6.4 and 6.5, and rule 4.12 by the version of every row."""
    if keys == "with the keys taken off":
        monkeypatch.setattr(load, "MANY_HANDLES", 0)
    for number in range(BATCHES):
        batch = batch_of_worlds(500 + number, IN_A_BATCH)
        world = together(batch)
        fill_store(store, world)
        counts = run_world(world)
        specified = [sync(each) for each in batch]
        outcomes = Counter(outcome for results, _ in specified for outcome, _, _ in results.values())
        assert counts == {"read": outcomes.total()} | {
            outcome: outcomes[outcome] for outcome in counts if outcome != "read"
        }
        assert comparable(read_store(store, world)) == comparable([contact for _, end in specified for contact in end])
        assert broken(store, world) == {}
        told = [specified_entries(each, *answer) for each, answer in zip(batch, specified, strict=True)]
        entries = {key: entry for of_a_world in told for key, entry in of_a_world.items()}
        assert read_entries(store) == entries
        before = store.execute(FINGERPRINT)
        again = run_world(world)
        assert store.execute(FINGERPRINT) == before
        assert (again["unchanged"], again["error"]) == (outcomes.total() - outcomes["error"], outcomes["error"])
        assert broken(store, world) == {}
        score.tried["worlds, each applied twice in PostgreSQL"] += IN_A_BATCH
        score.tried["invariants asked of the store"] += 2 * len(INVARIANTS)
        score.tried["row versions compared"] += len(before)
        score.tried["entries compared"] += len(entries)
        score.met.update(counts)
        score.met.update(f"{entry.outcome} by rule {entry.rule}" for entry in entries.values())
    score.expect(["created", "linked", "updated", "unchanged", "error"])
    score.expect(f"{outcome} by rule {rule}" for rule in ("4.2", "5") for outcome in ("created", "linked"))
    score.expect(f"updated by rule {rule}" for rule in ("4.1", "4.11", "5"))
