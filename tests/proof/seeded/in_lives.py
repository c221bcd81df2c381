"""Defects of whole runs, looked for in a short life: Salesforce, people and settings change, runs happen and fail."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from include.contact_sync import flow, match, plan
from include.contact_sync.errors import RunError
from include.contact_sync.salesforce import client
from include.contact_sync.salesforce.pages import Page
from include.contact_sync.salesforce.soql import Filter
from include.contact_sync.staging import Staging
from include.contact_sync.store.connection import connect
from include.salesforce_simulator.server import Simulator
from tests.conftest import Store
from tests.proof import prove_a_life
from tests.proof.conftest import Score
from tests.proof.seeded.defect import Defect, Invariant, every, instead, statement, without
from tests.proof.seeded.in_matching import rewrites_everything, takes_persons_handles_away
from tests.proof.seeded.in_the_store import FIELDS_KEPT


def person(letter: str, phone: str | None = None) -> dict[str, str | None]:
    nothing: dict[str, str | None] = dict.fromkeys(prove_a_life.KINDS)
    return nothing | {"Email": f"{letter}@x0.co", "Phone": phone}


def a_short_life(organisation: Simulator, store: Store, staging: Staging, score: Score) -> None:
    """Every kind of run, and something of what happens between them."""
    life = prove_a_life.life(prove_a_life.Place(organisation, store, score))()
    life.begin(people=[person("a", "(212) 200-0000"), person("b"), person("A")])
    life.run_once()
    life.a_person_writes_a_description(number=0)
    life.a_person_adds_a_handle(number=1, handle=("twitter", "b_0"))
    life.somebody_changes(number=1, person=person("c"))
    life.run_once()
    life.somebody_changes(number=0, person=person("d"))
    life.run_fails(fault="server_error")
    life.run_dry()
    life.run_twice()
    life.choose_settings(mapping=prove_a_life.MAPPINGS[1], is_view=True)
    life.somebody_enters_or_leaves_the_view(number=1, tier="Silver")
    life.somebody_changes(number=1, person=person("e"))
    life.run_once()
    life.a_field_is_hidden_or_shown(name="Email")
    life.run_once()
    life.a_field_is_hidden_or_shown(name="Email")
    life.somebody_is_deleted(number=0)
    life.run_once()
    life.somebody_is_restored(number=0)
    life.somebody_comes(person=person("d"))
    life.run_once()
    life.two_are_merged(one=-1, other=0)
    life.run_twice()


def writes_in_dry_runs(original: Any) -> Any:
    return lambda step, *arguments: original(replace_run(step, dry_run=False), *arguments)


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
    """Delete, commit, then append: what is read marks itself as there again."""

    def extracted(*arguments: Any, **options: Any) -> Any:
        with connect() as connection:
            connection.execute(
                "UPDATE contact_store.contacts SET not_syncing_since = now() WHERE external_id IS NOT NULL"
            )
        return original(*arguments, **options)

    return extracted


DEFECTS = [
    Defect(
        "the settings that were saved first are used",
        Invariant.LIFE_AS_SPECIFIED,
        statement("load_newest_settings", "DESC", "ASC"),
        a_short_life,
        "Life.run_once: assert comparable(found) == comparable(after)",
    ),
    Defect(
        "a list view's filter is not used (2.3)",
        Invariant.LIFE_AS_SPECIFIED,
        instead(client, "read_filter", lambda _: lambda *_: Filter()),
        a_short_life,
        "Life.run_once: assert ",
    ),
    Defect(
        "contacts that left the source are deleted (2.6)",
        Invariant.LIFE_AS_SPECIFIED,
        statement(
            "mark_stopped",
            "UPDATE contact_store.{table} SET not_syncing_since = now()",
            "DELETE FROM contact_store.{table}",
        ),
        a_short_life,
        "Life.run_once: assert comparable(found) == comparable(after)",
    ),
    Defect(
        "a merged contact stays linked to who is gone (4.11)",
        Invariant.LIFE_AS_SPECIFIED,
        instead(match.Matching, "_follow_merges", without),
        a_short_life,
        "Life.run_once: assert comparable(found) == comparable(after)",
    ),
    Defect(
        "handles that people added are given up (4.10)",
        Invariant.PERSONS_EDITS,
        instead(match.Matching, "find_owners", takes_persons_handles_away),
        a_short_life,
        "Life.run_once: assert comparable(found) == comparable(after)",
    ),
    Defect(
        "custom fields of people's own are overwritten (3.4)",
        Invariant.PERSONS_EDITS,
        statement("update_records", FIELDS_KEPT, "part_rows.custom_set"),
        a_short_life,
        "Life.look: assert kept == ",
    ),
    Defect(
        "what cannot be read counts as empty",
        Invariant.FAILED_RUNS,
        every(instead(client, "count_records", counts_nobody), instead(client, "read_by_rest", reads_nobody)),
        a_short_life,
        'Life.run_fails: assert run().run.state == "failed"',
    ),
    Defect(
        "everybody counts as gone until they are read",
        Invariant.FAILED_RUNS,
        instead(flow, "sync_accounts", everybody_has_left),
        a_short_life,
        "Life.run_fails: assert {name: after[name]",
    ),
    Defect(
        "a dry run writes",
        Invariant.DRY_RUNS,
        instead(flow, "_finish_part", writes_in_dry_runs),
        a_short_life,
        "Life.run_dry: assert {name: after[name]",
    ),
    Defect(
        "contacts are written anew each time (4.12)",
        Invariant.REPEATED_RUNS,
        instead(plan, "_accounts", rewrites_everything),
        a_short_life,
        "Life.run_twice: assert ",
    ),
]
