"""What a plan becomes in PostgreSQL."""

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from threading import Event
from typing import Any

import pyarrow as pa
import pytest

from include.contact_sync import load as load_module
from include.contact_sync.columns import Part, resolve_columns
from include.contact_sync.errors import RunError, RunRefused, StoreRefused
from include.contact_sync.settings import parse_settings
from include.contact_sync.store import error_book, runs
from include.contact_sync.store.connection import connect
from include.contact_sync.transform import transform
from tests.conftest import Store
from tests.contact_sync.agreement import comparable
from tests.contact_sync.applying import (
    close_run,
    fill_store,
    open_run,
    plan_and_apply,
    read_store,
    run_world,
)
from tests.contact_sync.specification import sync
from tests.contact_sync.worlds import batch_of_worlds, salesforce_id, together

SETTINGS = parse_settings(
    {
        "owners": ["owner@example.com"],
        "accounts": {
            "custom_fields": {"industry": {"type": "string"}},
            "mapping": [
                {"salesforce_field": "Name", "field": "name"},
                {"salesforce_field": "Website", "field": "domain"},
                {"salesforce_field": "Industry", "field": "custom_fields.industry"},
            ],
        },
        "contacts": {
            "custom_fields": {
                "tier": {"type": "enum", "values": ["gold", "silver"]},
                "score": {"type": "number"},
                "vip": {"type": "boolean"},
            },
            "mapping": [
                {"salesforce_field": "Name", "field": "name"},
                {"salesforce_field": "Email", "field": "email"},
                {"salesforce_field": "Phone", "field": "phone"},
                {"salesforce_field": "Description", "field": "description"},
                {"salesforce_field": "Home", "field": "url"},
                {"salesforce_field": "Blog", "field": "url"},
                {"salesforce_field": "Tier__c", "field": "custom_fields.tier"},
                {"salesforce_field": "Score__c", "field": "custom_fields.score"},
                {"salesforce_field": "Vip__c", "field": "custom_fields.vip"},
            ],
        },
    }
)
ANN, BOB, EVE = salesforce_id(1), salesforce_id(2), salesforce_id(3)


def snapshot(part: Part, rows: list[dict[str, str | None]]) -> pa.Table:
    chosen = SETTINGS.accounts if part is Part.ACCOUNTS else SETTINGS.contacts
    names = [
        "Id",
        *(["AccountId"] if part is Part.CONTACTS else []),
        *(line.salesforce_field for line in chosen.mapping),
    ]
    return pa.table({name: pa.array([row.get(name) for row in rows], pa.string()) for name in names})


def load(
    part: Part, rows: list[dict[str, str | None]], *, missing: tuple[str, ...] = (), **options: Any
) -> dict[str, int]:
    """One run over `rows`."""
    run_id = open_run(SETTINGS)
    columns = resolve_columns(part, SETTINGS, {"Score__c": "double", "Vip__c": "boolean"}, missing)
    source = snapshot(part, rows)
    counts = plan_and_apply(run_id, transform(source.drop_columns(list(missing)), columns), columns, **options)
    close_run(run_id)
    return counts


def ann(**changes: str | None) -> dict[str, str | None]:
    return {
        "Id": ANN,
        "Name": 'Ann "NA" O\'Hara\r\n\N{WAVING HAND SIGN}',
        "Email": "Ann@Example.com",
        "Phone": "(212) 842-5500",
        "Home": "https://ann.example",
        "Blog": 'a\\b,{"c"}',
        "Tier__c": "gold",
        "Score__c": "5.0",
        "Vip__c": "true",
    } | changes


def contacts(store: Store) -> list[tuple]:
    return store.execute(
        "SELECT external_id, name, description, links, custom_fields FROM contact_store.contacts ORDER BY external_id"
    )


def handles(store: Store) -> list[tuple]:
    return store.execute(
        "SELECT external_id, source, handle, origin, salesforce_field FROM contact_store.contact_handles "
        "JOIN contact_store.contacts ON contacts.id = contact_id ORDER BY 1, 2, 3"
    )


def row_versions(store: Store) -> list[tuple]:
    tables = ("contacts", "contact_handles", "accounts", "account_domains")
    return [
        row
        for table in tables
        for row in store.execute(f"SELECT '{table}', ctid::text, xmin::text FROM contact_store.{table} ORDER BY 2")
    ]


def test_rule_3_7_a_created_contact_has_every_value_exactly(store: Store) -> None:
    assert load(Part.CONTACTS, [ann()])["created"] == 1
    assert contacts(store) == [
        (
            ANN,
            'Ann "NA" O\'Hara\r\n\N{WAVING HAND SIGN}',
            None,
            ["https://ann.example", 'a\\b,{"c"}'],
            {"tier": "gold", "score": 5, "vip": True},
        )
    ]
    assert handles(store) == [
        (ANN, "email", "ann@example.com", "salesforce", "Email"),
        (ANN, "phone", "+12128425500", "salesforce", "Phone"),
    ]


def test_rule_4_12_a_second_run_rewrites_no_row(store: Store) -> None:
    rows = [ann(), {"Id": BOB, "Email": "bob@example.com", "Name": "null"}, {"Id": EVE, "Name": "no handle"}]
    assert load(Part.CONTACTS, rows) == {"read": 3, "created": 2, "linked": 0, "updated": 0, "unchanged": 0, "error": 1}
    before = row_versions(store)
    assert load(Part.CONTACTS, rows) == {"read": 3, "created": 0, "linked": 0, "updated": 0, "unchanged": 2, "error": 1}
    assert row_versions(store) == before


def test_rule_3_4_mapped_fields_mirror_salesforce_and_all_others_are_left_alone(store: Store) -> None:
    load(Part.CONTACTS, [ann()])
    store.execute(
        'UPDATE contact_store.contacts SET custom_fields = custom_fields || \'{"note": [1, null], "tier": "silver"}\', name = \'edited\''
    )
    assert load(Part.CONTACTS, [ann(Score__c=None, Home=None, Blog=None)])["updated"] == 1
    (row,) = contacts(store)
    assert row[1] == 'Ann "NA" O\'Hara\r\n\N{WAVING HAND SIGN}'
    assert row[3:] == ([], {"tier": "gold", "vip": True, "note": [1, None]})


def test_rule_3_5_a_value_that_does_not_fit_keeps_what_is_stored_and_warns(store: Store) -> None:
    load(Part.CONTACTS, [ann()])
    assert load(Part.CONTACTS, [ann(Tier__c="bronze", Score__c="n/a", Name="Ann")])["updated"] == 1
    assert contacts(store)[0][1::3] == ("Ann", {"tier": "gold", "score": 5, "vip": True})
    assert store.execute(
        "SELECT code, external_id, salesforce_field, value FROM contact_store.sync_errors ORDER BY 3"
    ) == [
        ("invalid_value", ANN, "Score__c", "n/a"),
        ("invalid_value", ANN, "Tier__c", "bronze"),
    ]


def test_rule_3_3_a_missing_field_leaves_values_handles_and_links_as_they_are(store: Store) -> None:
    load(Part.CONTACTS, [ann()])
    assert load(Part.CONTACTS, [ann()], missing=("Email", "Tier__c", "Blog"))["unchanged"] == 1
    assert handles(store)[0][2] == "ann@example.com"


def test_rule_4_7_two_contacts_swap_their_emails(store: Store) -> None:
    load(Part.CONTACTS, [ann(Phone=None), {"Id": BOB, "Email": "bob@example.com"}])
    assert (
        load(Part.CONTACTS, [ann(Email="bob@example.com", Phone=None), {"Id": BOB, "Email": "ann@example.com"}])[
            "updated"
        ]
        == 2
    )
    assert [row[:3] for row in handles(store)] == [(ANN, "email", "bob@example.com"), (BOB, "email", "ann@example.com")]


def test_rule_4_2_an_unlinked_contact_is_found_by_handle_updated_and_linked(store: Store) -> None:
    store.execute("INSERT INTO contact_store.contacts (id, name) OVERRIDING SYSTEM VALUE VALUES (7, 'by hand')")
    store.execute(
        "INSERT INTO contact_store.contact_handles (contact_id, source, handle) VALUES (7, 'phone', '+12128425500'), (7, 'twitter', 'ann')"
    )
    assert load(Part.CONTACTS, [ann()])["linked"] == 1
    assert [row[1:] for row in handles(store)] == [
        ("email", "ann@example.com", "salesforce", "Email"),
        ("phone", "+12128425500", "salesforce", "Phone"),
        ("twitter", "ann", "person", None),
    ]
    (change,) = store.execute(
        "SELECT record_id, outcome, rule, matched_source, matched_handle, old_values, new_values FROM contact_store.sync_changes"
    )
    assert change[:5] == (7, "linked", "4.2", "phone", "+12128425500")
    assert change[5] == {"name": "by hand", "links": []}
    assert change[6]["external_id"] == ANN
    assert {entry["handle"] for entry in change[6]["handles"]} == {"ann@example.com", "+12128425500"}


def test_rule_4_13_a_taken_error_names_the_holder_and_its_contact(store: Store) -> None:
    load(Part.CONTACTS, [ann(), {"Id": BOB, "Email": "ANN@example.com "}])
    ((contact_id,),) = store.execute("SELECT id FROM contact_store.contacts")
    ((code, field, value, holders),) = store.execute(
        "SELECT code, salesforce_field, value, holders FROM contact_store.sync_errors"
    )
    assert (code, field, value) == ("email_taken", "Email", "ann@example.com")
    assert holders == [{"contact_id": contact_id, "external_id": ANN, "source": "email", "handle": "ann@example.com"}]


def test_rule_2_6_who_leaves_the_source_stays_and_says_since_when_and_comes_back(store: Store) -> None:
    load(Part.CONTACTS, [ann(), {"Id": BOB, "Email": "bob@example.com"}])
    load(Part.CONTACTS, [ann()])
    assert store.execute("SELECT external_id FROM contact_store.contacts WHERE not_syncing_since IS NOT NULL") == [
        (BOB,)
    ]
    assert load(Part.CONTACTS, [ann()])["unchanged"] == 1
    assert load(Part.CONTACTS, [ann(), {"Id": BOB, "Email": "bob@example.com"}])["updated"] == 1
    assert store.execute("SELECT count(*) FROM contact_store.contacts WHERE not_syncing_since IS NOT NULL") == [(0,)]


def test_rule_1_3_a_backfill_says_nothing_about_what_it_did_not_read(store: Store) -> None:
    load(Part.CONTACTS, [ann(), {"Id": BOB, "Email": "bob@example.com"}, {"Id": EVE}])
    load(Part.CONTACTS, [ann()], whole_source=False)
    assert store.execute("SELECT count(*) FROM contact_store.contacts WHERE not_syncing_since IS NOT NULL") == [(0,)]
    assert store.execute("SELECT external_id FROM contact_store.sync_errors WHERE closed_run IS NULL") == [(EVE,)]


def test_rule_4_11_the_link_moves_to_the_record_that_salesforce_merged_into(store: Store) -> None:
    load(Part.CONTACTS, [ann(), {"Id": BOB, "Name": "nobody yet"}])
    ((contact_id,),) = store.execute("SELECT id FROM contact_store.contacts")
    merges = pa.table({"loser": [ANN, EVE], "winner": [EVE, BOB]})
    assert load(Part.CONTACTS, [{"Id": BOB, "Email": "ann@example.com"}], merges=merges)["updated"] == 1
    assert store.execute("SELECT id, external_id FROM contact_store.contacts") == [(contact_id, BOB)]
    assert store.execute("SELECT rule FROM contact_store.sync_changes WHERE outcome = 'updated'") == [("4.11",)]


def test_rule_5_accounts_link_by_domain_and_contacts_belong_to_the_linked_account(store: Store) -> None:
    acme, other = "001000000000001AAA", "001000000000002AAA"
    store.execute(
        "INSERT INTO contact_store.accounts (id, name) OVERRIDING SYSTEM VALUE VALUES (5, 'Acme by hand'), (6, 'Set by a person')"
    )
    store.execute("INSERT INTO contact_store.account_domains (account_id, domain) VALUES (5, 'acme.com')")
    rows = [
        {"Id": acme, "Name": "Acme", "Website": "https://www.ACME.com/about", "Industry": "Toys"},
        {"Id": other, "Name": "No domain"},
        {"Id": "001000000000003AAA", "Name": "Taken", "Website": "acme.com"},
    ]
    assert load(Part.ACCOUNTS, rows) == {"read": 3, "created": 1, "linked": 1, "updated": 0, "unchanged": 0, "error": 1}
    assert store.execute("SELECT code, level, holders FROM contact_store.sync_errors") == [
        ("domain_taken", "account", [{"account_id": 5, "external_id": acme, "source": "domain", "handle": "acme.com"}])
    ]
    load(Part.CONTACTS, [ann(AccountId=acme), {"Id": BOB, "Email": "bob@example.com", "AccountId": None}])
    store.execute("UPDATE contact_store.contacts SET account_id = 6 WHERE external_id = %s", [BOB])
    load(Part.CONTACTS, [ann(AccountId=None), {"Id": BOB, "Email": "bob@example.com", "AccountId": None}])
    assert store.execute("SELECT external_id, account_id FROM contact_store.contacts ORDER BY 1") == [
        (ANN, None),
        (BOB, 6),
    ]


def test_rule_6_2_an_edit_between_planning_and_applying_is_judged_again_and_not_lost(store: Store) -> None:
    run_id = open_run(SETTINGS)
    columns = resolve_columns(Part.CONTACTS, SETTINGS, {}, [])
    clean = transform(snapshot(Part.CONTACTS, [ann()]), columns)

    def take_the_handle() -> None:
        store.execute(
            "INSERT INTO contact_store.contacts (id, name, external_id) OVERRIDING SYSTEM VALUE VALUES (9, 'quick', %s)",
            [EVE],
        )
        store.execute(
            "INSERT INTO contact_store.contact_handles (contact_id, source, handle) VALUES (9, 'email', 'ann@example.com')"
        )

    assert plan_and_apply(run_id, clean, columns, between=take_the_handle)["error"] == 1
    assert store.execute("SELECT code FROM contact_store.sync_errors") == [("email_taken",)]
    assert [row[1] for row in contacts(store)] == ["quick"]


def test_rule_6_1_a_load_that_fails_leaves_nothing_behind(store: Store) -> None:
    store.execute("ALTER TABLE contact_store.sync_changes ADD CHECK (outcome <> 'created')")
    with pytest.raises(StoreRefused, match="CheckViolation"):
        load(Part.CONTACTS, [ann()])
    assert contacts(store) == []
    assert store.execute("SELECT count(*) FROM contact_store.sync_errors") == [(0,)]
    store.execute("INSERT INTO contact_store.contacts (name) VALUES ('a person goes on')")


def test_rule_6_3_a_run_that_was_taken_over_applies_nothing(store: Store) -> None:
    run_id = open_run(SETTINGS)
    columns = resolve_columns(Part.CONTACTS, SETTINGS, {}, [])
    clean = transform(snapshot(Part.CONTACTS, [ann()]), columns)
    close_run(run_id)
    with pytest.raises(RunRefused):
        plan_and_apply(run_id, clean, columns)
    assert contacts(store) == []


@pytest.mark.parametrize("number", range(6))
def test_section_4_what_is_written_is_what_the_specification_says(store: Store, number: int) -> None:
    batch = batch_of_worlds(300 + number, 40)
    world = together(batch)
    fill_store(store, world)
    counts = run_world(world)
    specified = [sync(each) for each in batch]
    assert counts == counts_of(outcome for results, _ in specified for outcome, _, _ in results.values())
    expected = [contact for _, end in specified for contact in end]
    assert comparable(read_store(store, world)) == comparable(expected)
    before = row_versions(store)
    run_world(world)
    assert row_versions(store) == before


def counts_of(outcomes: Iterable[str]) -> dict[str, int]:
    found = Counter(outcomes)
    return {"read": found.total()} | {
        outcome: found[outcome] for outcome in ("created", "linked", "updated", "unchanged", "error")
    }


def test_an_error_of_the_run_is_closed_by_the_next_run_that_gets_through(store: Store) -> None:
    run_id = open_run(SETTINGS)
    with connect() as connection:
        error_book.record_run_error(connection, run_id, "contacts", RunError("list_view_not_found"))
        runs.close_run(connection, run_id, "failed")
    load(Part.CONTACTS, [ann()])
    assert store.execute("SELECT code, closed_run IS NOT NULL FROM contact_store.sync_errors") == [
        ("list_view_not_found", True)
    ]


def test_who_holds_the_errors_and_then_wants_contacts_is_waited_for_before_anything_is_locked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL sees no circle between two sessions of the load and one of somebody else's."""
    world = together(batch_of_worlds(3, 20))
    fill_store(store, world)
    reads, lock_tables, read_errors = Event(), load_module._lock_tables, error_book.open_record_errors

    def read(part: Any) -> pa.Table:
        reads.set()
        return read_errors(part)

    def lock(connection: Any, part: Part) -> None:
        steps.append("locked")
        lock_tables(connection, part)

    monkeypatch.setattr(error_book, "open_record_errors", read)
    monkeypatch.setattr(load_module, "_lock_tables", lock)
    steps: list[str] = []
    with store.connect() as person, ThreadPoolExecutor(1) as others:
        person.execute("SET lock_timeout = '10s'")
        person.execute("LOCK TABLE contact_store.sync_errors IN ACCESS EXCLUSIVE MODE")
        run = others.submit(run_world, world)
        assert reads.wait(20)
        person.execute("UPDATE contact_store.contacts SET description = description")
        steps.append("edited")
        person.commit()
        run.result(20)
    assert steps == ["edited", "locked"]


def test_rule_6_5_a_contact_says_when_it_was_last_synced(store: Store) -> None:
    load(Part.CONTACTS, [ann(), {"Id": BOB, "Email": "bob@example.com"}])
    load(Part.CONTACTS, [ann(), {"Id": BOB}])
    rows = store.execute(
        "SELECT external_id, last_synced_at, open_error FROM contact_store.contacts_last_synced JOIN contact_store.contacts ON id = contact_id ORDER BY 1"
    )
    ((ended,),) = store.execute("SELECT max(ended_at) FROM contact_store.sync_runs")
    assert rows == [(ANN, ended, None), (BOB, None, "no_handle")]
    assert ended <= datetime.now(UTC)


def test_a_large_load_puts_every_key_on_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "MANY_HANDLES", 1)
    before = keys(store)
    assert load(Part.CONTACTS, [ann(), {"Id": BOB, "Email": "bob@example.com"}])["created"] == 2
    assert keys(store) == before
    assert load(Part.CONTACTS, [ann(), {"Id": BOB, "Email": "bob@example.com"}])["unchanged"] == 2


def test_a_large_load_leaves_keys_alone_that_others_lean_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_module, "MANY_HANDLES", 1)
    store.execute("CREATE TABLE public.theirs (external_id text REFERENCES contact_store.contacts (external_id))")
    before = keys(store)
    assert load(Part.CONTACTS, [ann()])["created"] == 1
    assert keys(store) == before


def test_a_large_load_leaves_the_keys_of_published_tables_alone(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its key PostgreSQL refuses to delete from a table that is published."""
    load(Part.CONTACTS, [ann()])
    monkeypatch.setattr(load_module, "MANY_HANDLES", 0)
    store.execute("CREATE PUBLICATION theirs FOR ALL TABLES")
    assert load(Part.CONTACTS, [ann(Email="new@example.com")])["updated"] == 1


def keys(store: Store) -> list[tuple]:
    return store.execute(
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'contact_store'::regnamespace UNION ALL "
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'contact_store' ORDER BY 1, 2, 3"
    )


def test_rule_2_6_a_merged_record_whose_winner_is_skipped_no_longer_syncs(store: Store) -> None:
    load(Part.CONTACTS, [ann(), {"Id": EVE, "Email": "eve@example.com"}])
    merges = pa.table({"loser": [ANN], "winner": [BOB]})
    rows = [{"Id": BOB, "Email": "eve@example.com"}, {"Id": EVE, "Email": "eve@example.com"}]
    assert load(Part.CONTACTS, rows, merges=merges)["error"] == 1
    stopped = "SELECT external_id FROM contact_store.contacts WHERE not_syncing_since IS NOT NULL"
    assert store.execute(stopped) == [(ANN,)]
    rows[0]["Email"] = "ann@example.com"
    assert load(Part.CONTACTS, rows, merges=merges)["updated"] == 1
    assert store.execute(stopped) == []


def test_rule_1_3_a_backfill_does_not_say_that_the_whole_source_is_small_enough_again(store: Store) -> None:
    run_id = open_run(SETTINGS)
    with connect() as connection:
        error_book.record_run_error(connection, run_id, "contacts", RunError("too_many_contacts"))
        runs.close_run(connection, run_id, "failed")
    load(Part.CONTACTS, [], whole_source=False)
    still_open = "SELECT code FROM contact_store.sync_errors WHERE closed_run IS NULL"
    assert store.execute(still_open) == [("too_many_contacts",)]
    load(Part.CONTACTS, [])
    assert store.execute(still_open) == []


@pytest.mark.parametrize("number", range(6))
def test_a_load_in_many_portions_writes_what_one_in_a_single_portion_writes(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    world = together(batch_of_worlds(number, 6))
    found = []
    for rows in (load_module.ROWS_PER_PORTION, 2):
        monkeypatch.setattr(load_module, "ROWS_PER_PORTION", rows)
        monkeypatch.setattr(load_module, "ROWS_PER_COPY", rows - 1)
        fill_store(store, world)
        run_world(world)
        entries = store.execute(
            "SELECT external_id, outcome, rule, matched_source, matched_handle, old_values, new_values"
            " FROM contact_store.sync_changes ORDER BY run_id DESC, external_id"
        )
        found.append((sorted(map(repr, read_store(store, world))), entries))
        store.execute("TRUNCATE contact_store.sync_changes")
    assert found[0] == found[1]
    assert found[0][1]
