"""Defects of whole runs, looked for in a short life: Salesforce, people and settings change, runs happen and fail."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pyarrow as pa

from include.contact_sync import flow, match, plan
from include.contact_sync.errors import RunError
from include.contact_sync.salesforce import client
from include.contact_sync.salesforce.pages import Page
from include.contact_sync.salesforce.soql import Filter
from include.contact_sync.staging import Staging
from include.contact_sync.store.connection import connect
from include.salesforce_simulator.server import Simulator
from tests.conftest import DatabaseServer, Store
from tests.proof.conftest import Score
from tests.proof.prove_a_life import MAPPINGS, PEOPLE, Life, Place
from tests.proof.seeded.defect import Defect, Invariant, Scene, every, instead, statement, without
from tests.proof.seeded.in_matching import takes_persons_handles_away
from tests.proof.seeded.in_the_store import FIELDS_KEPT, again_every_night


def short_life(live: Callable[[Life], None]) -> Scene:
    """Somebody's life up to the first run, and then something of what happens between runs."""

    def scene(
        organisation: Simulator, store: Store, staging: Staging, postgres: DatabaseServer, score: Score, tmp_path: Path
    ) -> None:
        life = Life(Place(organisation, store, postgres, score, tmp_path))
        life.begin(PEOPLE)
        life.settings_are_chosen(MAPPINGS[0], "list view", maps_values=True)
        life.run_once()
        live(life)

    scene.__name__ = f"a short life: {live.__name__}"
    return scene


@short_life
def settings_change(life: Life) -> None:
    life.settings_are_chosen(MAPPINGS[1], "synced accounts", maps_values=False)
    life.run_once()


@short_life
def a_run_fails(life: Life) -> None:
    life.newcomer()
    life.run_fails_and_is_repeated("Salesforce answers no query", goes_on=False)


@short_life
def a_run_is_tried_out(life: Life) -> None:
    life.newcomer()
    life.run_dry()


@short_life
def people_edit(life: Life) -> None:
    life.a_person_works_on_a_synced_contact()


@short_life
def somebody_leaves(life: Life) -> None:
    life.newcomer()
    life.run_once()
    life.somebody_enters_or_leaves_the_view(0, "Silver")
    life.run_twice()


@short_life
def somebody_changes_and_is_as_before(life: Life) -> None:
    key = life.newcomer()
    life.edit(key, LastName="Before")
    life.run_twice()
    for name in ("Between", "Before"):
        life.edit(key, LastName=name)
        life.run_once()


@short_life
def somebody_is_deleted(life: Life) -> None:
    key = life.newcomer()
    life.run_once()
    life.settings_are_chosen(MAPPINGS[0], "list view", maps_values=False)  # so that the next run reads everything anew
    life.run_once()
    life.forget(life.contact_of(key), "a linked contact is deleted")
    created = (life.sync().contacts or {})["created"]
    assert created == 1


@short_life
def people_merge(life: Life) -> None:
    life.a_merge_is_held_up_by_a_contact_of_a_persons()


def writes_in_dry_runs(original: Any) -> Any:
    def finish(step: Any, *arguments: Any) -> Any:
        if step.run.dry_run:
            original(replace_run(step, dry_run=False), *arguments)
        return original(step, *arguments)

    return finish


def replace_run(step: Any, **facts: Any) -> Any:
    return replace(step, run=replace(step.run, **facts))


def counts_nobody(original: Any) -> Any:
    def counted(*arguments: Any, **options: Any) -> int:
        try:
            return int(original(*arguments, **options))
        except RunError:
            return 0

    return counted


def reads_nobody(original: Any) -> Any:
    def pages(session_: Any, query: Any, **options: Any) -> Iterator[Page]:
        try:
            yield from original(session_, query, **options)
        except RunError:
            yield Page(pa.table({field: pa.array([], pa.string()) for field in query.fields}), 0, 0)

    return pages


def everybody_has_left(original: Any) -> Any:
    """Who could not be read counts as gone."""

    def tried(*arguments: Any, **options: Any) -> Any:
        try:
            return original(*arguments, **options)
        except RunError:
            with connect() as connection:
                connection.execute(
                    "UPDATE contact_store.contacts SET not_syncing_since = now() WHERE external_id IS NOT NULL"
                )
            raise

    return tried


def takes_what_it_finds_for_all(original: Any) -> Any:
    def read(copy: Any, columns: Any, merges: Any, moment: Any, read_fingerprint: Any) -> Any:
        return original(copy, columns, merges, moment, lambda: replace(read_fingerprint(), records=ANY, handles=ANY))

    return read


DEFECTS = [
    Defect(
        "the settings that were saved first are used",
        Invariant.LIFE_AS_SPECIFIED,
        statement("load_newest_settings", "DESC", "ASC"),
        settings_change,
        "Life.apply: assert ",
    ),
    Defect(
        "a list view's filter is not used (2.3)",
        Invariant.LIFE_AS_SPECIFIED,
        instead(client, "read_filter", lambda _: lambda *_: Filter()),
        somebody_leaves,
        "Life.apply: assert dict(self.store.execute(entries",
    ),
    Defect(
        "contacts that left the source are deleted (2.6)",
        Invariant.LIFE_AS_SPECIFIED,
        statement(
            "mark_stopped",
            "UPDATE contact_store.{table} SET not_syncing_since = now()",
            "DELETE FROM contact_store.{table}",
        ),
        somebody_leaves,
        "Life.look: assert self.chronicle.differences(self.store) == {}",
    ),
    Defect(
        "a merged contact stays linked to who is gone (4.11)",
        Invariant.LIFE_AS_SPECIFIED,
        instead(match.Matching, "_follow_merges", without),
        people_merge,
        "Life.apply: assert dict(self.store.execute(entries",
    ),
    Defect(
        "handles that people added are given up (4.10)",
        Invariant.PERSONS_EDITS,
        instead(match.Matching, "find_owners", takes_persons_handles_away),
        people_edit,
        "Life.look: assert self.chronicle.differences(self.store) == {}",
    ),
    Defect(
        "custom fields of people's own are overwritten (3.4)",
        Invariant.PERSONS_EDITS,
        statement("update_records", FIELDS_KEPT, "part_rows.custom_set"),
        people_edit,
        "Life.look: assert self.chronicle.differences(self.store) == {}",
    ),
    Defect(
        "what is newer than the copy of the store is not read",
        Invariant.LIFE_AS_SPECIFIED,
        statement("is_newer", "age(xmin) <= (SELECT age({oldest_open}::xid))", "{oldest_open} IS NULL"),
        somebody_changes_and_is_as_before,
        "Life.apply: assert dict(self.store.execute(entries",
    ),
    Defect(
        "who was deleted is still found in the copy of the store",
        Invariant.LIFE_AS_SPECIFIED,
        instead(flow, "read_newer", takes_what_it_finds_for_all),
        somebody_is_deleted,
        "somebody_is_deleted: assert created == 1",
    ),
    Defect(
        "what cannot be read counts as empty",
        Invariant.FAILED_RUNS,
        every(instead(client, "count_records", counts_nobody), instead(client, "read_by_rest", reads_nobody)),
        a_run_fails,
        'Life.run_fails_and_is_repeated: assert failed.state == "failed"',
    ),
    Defect(
        "everybody counts as gone where reading fails",
        Invariant.FAILED_RUNS,
        instead(flow, "sync_accounts", everybody_has_left),
        a_run_fails,
        "Life.fails: assert {name: after[name] for name in kept}",
    ),
    Defect(
        "a dry run writes",
        Invariant.DRY_RUNS,
        instead(flow, "_finish_part", writes_in_dry_runs),
        a_run_is_tried_out,
        "Life.run_dry: assert row_versions(self.store) == before",
    ),
    Defect(
        "who stopped syncing is written anew each time (4.12)",
        Invariant.REPEATED_RUNS,
        instead(plan, "_stopped", again_every_night),
        somebody_leaves,
        "Life.run_twice: assert row_versions(self.store) == before",
    ),
]
