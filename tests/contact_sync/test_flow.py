"""Whole runs without Airflow: every code of the catalogue end to end, and what happens from one run to the next."""

import csv
import io
import itertools
import json
import os
import re
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import phonenumbers
import psycopg
import pytest

from include.contact_sync import flow, load, reread
from include.contact_sync.columns import Columns, Part
from include.contact_sync.conclude import RunReport, conclude_run, summary
from include.contact_sync.errors import CATALOGUE, AnotherRunIsActive, RunRefused, StoreUnavailable
from include.contact_sync.flow import RunRequest, run_all_steps
from include.contact_sync.match import StoredRecords
from include.contact_sync.memory import forget_peak, peak_mb
from include.contact_sync.plan import Plan
from include.contact_sync.salesforce import client
from include.contact_sync.settings import Settings
from include.contact_sync.staging import RunStaging, StagedParts, Staging
from include.contact_sync.store import store_copy
from include.contact_sync.store.connection import connect
from include.contact_sync.transform import CleanRecords
from include.salesforce_simulator.generate import ACTIVE_CUSTOMERS_VIEW, CUSTOMER_ACCOUNTS_VIEW, MY_CONTACTS_VIEW
from include.salesforce_simulator.server import Simulator
from tests.conftest import Store
from tests.whole_runs import IN_HASTE, counts, every_value, lines, mapped, row_versions, settings_with, three_people

NUMBERS = itertools.count()
pytestmark = pytest.mark.usefixtures("staging")


def sync(settings: Settings | None = None, **request: Any) -> RunReport:
    """One whole run; with the saved settings where none are given."""
    concluded = run_all_steps(RunRequest(dag_run_id=f"run {next(NUMBERS)}", settings=settings, **request))
    assert concluded is not None
    return concluded


def open_errors(store: Store) -> Counter[str]:
    found = store.execute("SELECT code FROM contact_store.sync_errors WHERE closed_run IS NULL")
    return Counter(code for (code,) in found)


def people(store: Store) -> dict[str, tuple]:
    """By external id: name, and handles."""
    rows = store.execute(
        "SELECT external_id, name, array(SELECT handle FROM contact_store.contact_handles WHERE contact_id = contacts.id ORDER BY 1)"
        " FROM contact_store.contacts"
    )
    return {external_id: (name, handles) for external_id, name, handles in rows}


# --------------------------------------------------------------------------------------- every code of the catalogue

Arrange = Callable[[Simulator, Store], Settings | None]


def contact(organisation: Simulator, **values: Any) -> str:
    """One more contact, of an account that is synced."""
    acme = organisation.control.records(sobject="Account")[0]["Id"]
    return organisation.control.create(sobject="Contact", records=[{"LastName": "Zoe", "AccountId": acme, **values}])[0]


def with_field(name: str, target: str, **custom_fields: Any) -> Settings:
    mapping = [*lines(Name="name", Email="email"), *lines(**{name: target})]
    return settings_with(contacts={"mapping": mapping, "custom_fields": custom_fields})


def no_handle(organisation: Simulator, store: Store) -> Settings:
    contact(organisation)
    return settings_with()


def email_taken(organisation: Simulator, store: Store) -> Settings:
    contact(organisation, Email=" Ann@Example.org")
    return settings_with()


def phone_taken(organisation: Simulator, store: Store) -> Settings:
    contact(organisation, Phone="+1 212 842 5500")
    contact(organisation, Phone="(212) 842-5500")
    return with_field("Phone", "phone")


def handle_taken(organisation: Simulator, store: Store) -> Settings:
    contact(organisation, Twitter__c="@zoe")
    contact(organisation, Twitter__c="ZOE")
    return with_field("Twitter__c", "twitter")


def domain_taken(organisation: Simulator, store: Store) -> Settings:
    organisation.control.create(sobject="Account", records=[{"Name": "Acme again", "Website": "ACME.example/about"}])
    return settings_with()


def invalid_handle(organisation: Simulator, store: Store) -> Settings:
    contact(organisation, Email="zoe at example.org", Phone="+1 212 842 5500")
    return with_field("Phone", "phone")


def invalid_value(organisation: Simulator, store: Store) -> Settings:
    contact(organisation, Email="zoe@example.org", Level_Text__c="n/a")
    return with_field("Level_Text__c", "custom_fields.level", level={"type": "number"})


def accounts_sync_failed(organisation: Simulator, store: Store) -> Settings:
    return settings_with(accounts={"source": {"list_view": deleted_view(organisation, "Account")}})


def deleted_view(organisation: Simulator, sobject: str) -> str:
    view = organisation.control.create_list_view(label="Gone", sobject=sobject)
    organisation.control.delete_list_view(id=view)
    return view


def field_not_found(organisation: Simulator, store: Store) -> Settings:
    organisation.control.hide_field(sobject="Contact", name="Title")
    return with_field("Title", "custom_fields.title", title={"type": "string"})


def list_view_not_found(organisation: Simulator, store: Store) -> Settings:
    return settings_with(contacts={"source": {"list_view": deleted_view(organisation, "Contact")}})


def list_view_not_usable(organisation: Simulator, store: Store) -> Settings:
    view = organisation.control.create_list_view(label="Gold", where="Tier__c = 'Gold'")
    organisation.control.hide_field(sobject="Contact", name="Tier__c")
    return settings_with(contacts={"source": {"list_view": view}})


def contact_id_mapped(organisation: Simulator, store: Store) -> Settings:
    organisation.control.add_field(sobject="Contact", name="Another_Id__c", type="id", length=18)
    return with_field("Another_Id__c", "custom_fields.id", id={"type": "string"})


def too_many_contacts(organisation: Simulator, store: Store) -> Settings:
    return settings_with(maximum_contacts=2)


def login_failed(organisation: Simulator, store: Store) -> Settings:
    organisation.control.change_user(active=False)
    return settings_with()


def api_disabled(organisation: Simulator, store: Store) -> Settings:
    organisation.control.change_user(api_enabled=False)
    return settings_with()


def app_blocked(organisation: Simulator, store: Store) -> Settings:
    organisation.control.change_app(blocked=True)
    return settings_with()


def api_limit(organisation: Simulator, store: Store) -> Settings:
    organisation.control.change_options(daily_calls=3)
    return settings_with()


def salesforce_unavailable(organisation: Simulator, store: Store) -> Settings:
    organisation.control.add_fault(do="unavailable", path="FROM.Contact", times=0)
    return settings_with()


def not_balanced(organisation: Simulator, store: Store) -> Settings:
    nobody = '{"totalSize": 3, "done": true, "records": []}'
    organisation.control.add_fault(do="answer", path="Name.*FROM.Contact", times=0, values={"body": nobody})
    return settings_with()


def settings_invalid(organisation: Simulator, store: Store) -> None:
    saved = settings_with().as_json | {"colour": "blue"}
    store.execute("INSERT INTO contact_store.sync_settings (settings, saved_by) VALUES (%s, 'x')", [json.dumps(saved)])


ARRANGEMENTS: tuple[Arrange, ...] = (
    no_handle, email_taken, phone_taken, handle_taken, domain_taken, invalid_handle, invalid_value,
    accounts_sync_failed, field_not_found, list_view_not_found, list_view_not_usable, contact_id_mapped,
    too_many_contacts, login_failed, api_disabled, app_blocked, api_limit, salesforce_unavailable, not_balanced,
    settings_invalid,
)  # fmt: skip


def code_of(arrange: Arrange) -> str:
    return arrange.__name__


def test_rule_7_every_code_of_the_catalogue_is_arranged_for() -> None:
    assert sorted(map(code_of, ARRANGEMENTS)) == sorted(CATALOGUE)


@pytest.mark.parametrize("arrange", ARRANGEMENTS, ids=code_of)
def test_rule_7_each_code_is_recorded_reported_and_stops_what_it_says(
    arrange: Arrange, organisation: Simulator, store: Store
) -> None:
    """Rules 1.5, 2.4, 2.5, 3.2, 8.2."""
    three_people(organisation, bob="bob@example.org")
    code = code_of(arrange)
    concluded = sync(arrange(organisation, store))
    assert open_errors(store)[code] == 1
    assert code in summary(concluded)["errors"]
    assert concluded.is_needed
    assert CATALOGUE[code].how_to_resolve in concluded.mail(tries=3)["text"].replace("\n", " ")
    stops = CATALOGUE[code].stops and CATALOGUE[code].level == "run"
    assert concluded.run.state == ("failed" if stops else "succeeded")
    assert (store.execute("SELECT count(*) FROM contact_store.contacts") == [(0,)]) == stops


# ----------------------------------------------------------------------------------------------- independent counts


def domain_of(website: str) -> str:
    return website.lower().split("//")[-1].removeprefix("www.").split("/")[0]


def phone_of(text: str) -> str | None:
    try:
        number = phonenumbers.parse(text, "US")
    except phonenumbers.NumberParseException:
        return None
    written = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    extension = f";ext={number.extension}" if number.extension else ""
    return written + extension if phonenumbers.is_valid_number(number) else None


def email_of(text: str) -> str | None:
    return text.lower().strip() if re.fullmatch(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+", text.strip()) else None


def count_by_hand(organisation: Simulator) -> tuple[Counter[str], Counter[str], Counter[str]]:
    """What a first run must come to: outcomes of accounts, outcomes of contacts, errors. Straight from the rules."""
    accounts, contacts, errors = Counter[str](), Counter[str](), Counter[str]()
    linked, taken = set(), set()
    for account in sorted(organisation.control.records(sobject="Account"), key=lambda record: record["Id"]):
        domain = domain_of(account["Website"]) if account["Website"] else None
        collides = domain is not None and domain in taken
        accounts["error" if collides else "created"] += 1
        errors["domain_taken"] += collides
        if not collides:
            linked.add(account["Id"])
            taken |= {domain} - {None}
    owned: set[tuple[str, str]] = set()
    readers = [("email", "Email", email_of), ("phone", "Phone", phone_of), ("phone", "MobilePhone", phone_of)]
    readers += [("twitter", "Twitter__c", lambda text: text.strip().lstrip("@").lower())]
    for record in sorted(organisation.control.records(sobject="Contact"), key=lambda record: record["Id"]):
        if record["AccountId"] not in linked:
            continue
        handles = [(kind, read(record[name])) for kind, name, read in readers if record[name]]
        errors["invalid_handle"] += sum(handle is None for _, handle in handles)
        level = record["Level_Text__c"]
        errors["invalid_value"] += bool(level) and not level.isdigit()
        readable = [(kind, handle) for kind, handle in handles if handle]
        collisions = [kind for kind, handle in readable if (kind, handle) in owned]
        code = {"email": "email_taken", "phone": "phone_taken"}.get(collisions[0], "handle_taken") if collisions else ""
        code = code if readable else "no_handle"
        contacts["error" if code else "created"] += 1
        errors[code] += bool(code)
        owned |= set() if code else set(readable)
    return accounts, contacts, +errors


def test_the_demo_comes_to_what_was_counted_by_hand_and_a_second_run_changes_nothing(
    demo: Simulator, store: Store
) -> None:
    """Rules 4.12, 6.4 and 7."""
    accounts, contacts, errors = count_by_hand(demo)
    first = sync(mapped())
    assert first.run.accounts == counts(read=accounts.total(), **accounts)
    assert first.run.contacts == counts(read=contacts.total(), **contacts)
    assert open_errors(store) == errors
    assert min(errors.values()) >= 3
    before = row_versions(store)
    second = sync(mapped())
    assert second.run.accounts == counts(read=accounts.total(), unchanged=accounts["created"], error=accounts["error"])
    assert second.run.contacts == counts(read=contacts.total(), unchanged=contacts["created"], error=contacts["error"])
    assert row_versions(store) == before
    assert (second.report.new, second.report.still_open, second.report.resolved) == (0, errors.total(), 0)


def test_rule_3_6_what_rest_brought_is_unchanged_when_bulk_brings_it(
    demo: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom_fields = {name: {"type": "string"} for name in ("score", "news", "renewal", "born", "interests", "label")}
    custom_fields |= {"number": {"type": "number"}, "moment": {"type": "datetime"}, "yes": {"type": "boolean"}}
    mapping = lines(Name="name", Email="email", Phone="phone", Description="description", LinkedIn__c="url")
    for name, targets in {
        "Score__c": ("score", "number"),
        "Newsletter__c": ("news", "yes"),
        "Renewal__c": ("renewal", "moment"),
        "Birthdate": ("born",),
        "Interests__c": ("interests",),
        "Account.Name": ("label",),
    }.items():
        mapping += [{"salesforce_field": name, "field": f"custom_fields.{target}"} for target in targets]
    settings = settings_with(contacts={"custom_fields": custom_fields, "mapping": mapping})
    first = sync(settings)
    monkeypatch.setattr(client, "Pace", lambda: replace(IN_HASTE, rest_rows=0))
    second = sync(settings)
    assert (first.run.steps["extract_contacts"]["how"], second.run.steps["extract_contacts"]["how"]) == ("rest", "bulk")
    assert second.run.contacts == first.run.contacts | {"created": 0, "unchanged": first.run.contacts["created"]}


def test_rule_3_1_custom_fields_with_the_longest_names_are_told_apart(organisation: Simulator, store: Store) -> None:
    """PostgreSQL cuts the name of a column after 63 bytes; that of a custom field may have 100 characters."""
    three_people(organisation)
    names = ["é" * 99 + end for end in "ab"]
    mapping = lines(Email="email", LastName=f"custom_fields.{names[0]}", Title=f"custom_fields.{names[1]}")
    settings = settings_with(
        contacts={"mapping": mapping, "custom_fields": {name: {"type": "string"} for name in names}}
    )
    assert sync(settings).run.contacts == counts(read=3, created=2, error=1)
    assert store.execute("SELECT custom_fields FROM contact_store.contacts ORDER BY id") == [
        ({names[0]: "Ann"},),
        ({names[0]: "Eve"},),
    ]
    assert sync(settings).run.contacts == counts(read=3, unchanged=2, error=1)


def test_rule_8_3_colleagues_behind_one_switchboard_get_advice(organisation: Simulator, store: Store) -> None:
    three_people(organisation)
    for number in range(5):
        contact(organisation, Email=f"colleague{number}@example.org", Phone="+1 212 842 5500")
    text = sync(with_field("Phone", "phone")).mail(tries=3)["text"]
    assert "4 of the 4 contacts whose Phone was taken" in " ".join(text.split())
    assert "map Phone to a custom field" in " ".join(text.split())


# ------------------------------------------------------------------------------------------------- from run to run


def test_an_error_is_new_then_still_open_then_resolved(organisation: Simulator, store: Store) -> None:
    _, (_, bob, _) = three_people(organisation)
    found = []
    for number in range(3):
        if number == 2:
            organisation.control.update(sobject="Contact", ids=[bob], values={"Email": "bob@example.org"})
        report = sync(settings_with()).report
        found.append((report.new, report.still_open, report.resolved))
    assert found == [(1, 0, 0), (0, 1, 0), (0, 0, 1)]
    assert store.execute(
        "SELECT code, external_id, opened_run, last_run, closed_run FROM contact_store.sync_errors"
    ) == [("email_taken", bob, 1, 1, 3)]
    assert people(store)[bob] == ("Bob", ["bob@example.org"])


@pytest.mark.parametrize("arrange", [login_failed, salesforce_unavailable, list_view_not_found], ids=code_of)
def test_what_stopped_a_run_is_resolved_by_the_next_that_gets_through(
    arrange: Arrange, organisation: Simulator, store: Store
) -> None:
    three_people(organisation, bob="bob@example.org")
    failed = sync(arrange(organisation, store))
    assert failed.run.state == "failed"
    organisation.control.change_user(active=True)
    organisation.control.clear_faults()
    concluded = sync(settings_with())
    assert (concluded.run.state, concluded.report.resolved) == ("succeeded", 1)
    assert open_errors(store) == {}


def test_rule_3_3_a_hidden_field_leaves_what_it_gave_and_everything_else_syncs(
    organisation: Simulator, store: Store
) -> None:
    _, (ann, bob, _) = three_people(organisation, bob="bob@example.org")
    settings = with_field("Title", "custom_fields.title", title={"type": "string"})
    organisation.control.update(sobject="Contact", ids=[ann], values={"Title": "Chief"})
    sync(settings)
    titles = "SELECT custom_fields ->> 'title' FROM contact_store.contacts WHERE external_id = %s"
    for name in ("Title", "Email"):
        organisation.control.hide_field(sobject="Contact", name=name)
    organisation.control.update(
        sobject="Contact", ids=[ann], values={"LastName": "Anna", "Title": "Queen", "Email": "anna@example.org"}
    )
    hidden = sync(settings)
    assert (hidden.run.state, hidden.run.contacts) == ("succeeded", counts(read=3, updated=1, unchanged=2))
    assert people(store)[ann] == ("Anna", ["ann@example.org"])
    assert people(store)[bob] == ("Bob", ["bob@example.org"])
    assert store.execute(titles, [ann]) == [("Chief",)]
    assert store.execute("SELECT salesforce_field FROM contact_store.sync_errors ORDER BY 1") == [
        ("Email",),
        ("Title",),
    ]
    for name in ("Title", "Email"):
        organisation.control.show_field(sobject="Contact", name=name)
    shown = sync(settings)
    assert people(store)[ann] == ("Anna", ["anna@example.org"])
    assert store.execute(titles, [ann]) == [("Queen",)]
    assert (shown.report.resolved, open_errors(store)) == (2, {})


def test_rule_2_6_who_leaves_the_list_view_stays_and_is_synced_again_when_it_returns(
    organisation: Simulator, store: Store
) -> None:
    _, ids = three_people(organisation, bob="bob@example.org")
    _, bob, eve = ids
    organisation.control.update(sobject="Contact", ids=ids, values={"Tier__c": "Gold"})
    view = organisation.control.create_list_view(label="Gold", where="Tier__c = 'Gold'")
    settings = settings_with(contacts={"source": {"list_view": view}})
    sync(settings)
    stopped = "SELECT external_id FROM contact_store.contacts WHERE not_syncing_since IS NOT NULL ORDER BY 1"
    organisation.control.update(sobject="Contact", ids=[bob], values={"Tier__c": "Bronze", "LastName": "Robert"})
    organisation.control.delete(sobject="Contact", ids=[eve])
    assert sync(settings).run.contacts == counts(read=1, unchanged=1)
    assert store.execute(stopped) == [(bob,), (eve,)]
    assert people(store)[bob] == ("Bob", ["bob@example.org"])
    organisation.control.update(sobject="Contact", ids=[bob], values={"Tier__c": "Gold"})
    organisation.control.undelete(sobject="Contact", ids=[eve])
    assert sync(settings).run.contacts == counts(read=3, updated=2, unchanged=1)
    assert store.execute(stopped) == []
    assert people(store)[bob] == ("Robert", ["bob@example.org"])


def test_rule_2_6_an_error_of_a_contact_that_leaves_the_source_is_closed(organisation: Simulator, store: Store) -> None:
    _, (_, bob, _) = three_people(organisation)
    sync(settings_with())
    organisation.control.delete(sobject="Contact", ids=[bob])
    assert sync(settings_with()).report.resolved == 1
    assert open_errors(store) == {}


def test_rule_4_11_after_a_merge_in_salesforce_the_contact_follows_to_the_winner(
    organisation: Simulator, store: Store
) -> None:
    _, (ann, bob, _) = three_people(organisation)
    sync(settings_with())
    assert open_errors(store) == {"email_taken": 1}
    ((contact_id,),) = store.execute("SELECT id FROM contact_store.contacts WHERE external_id = %s", [ann])
    organisation.control.merge(sobject="Contact", winner=bob, losers=[ann])
    concluded = sync(settings_with())
    assert concluded.run.contacts == counts(read=2, updated=1, unchanged=1)
    assert store.execute("SELECT external_id, name FROM contact_store.contacts WHERE id = %s", [contact_id]) == [
        (bob, "Bob")
    ]
    assert open_errors(store) == {}
    assert sync(settings_with()).run.contacts == counts(read=2, unchanged=2)


def test_rules_4_11_and_5_after_a_merge_of_accounts_the_contacts_stay_with_the_winner(
    organisation: Simulator, store: Store
) -> None:
    acme, _ = three_people(organisation, bob="bob@example.org")
    sync(settings_with())
    (other,) = organisation.control.create(
        sobject="Account", records=[{"Name": "Acme Holding", "Website": "acme.example"}]
    )
    organisation.control.merge(sobject="Account", winner=other, losers=[acme])
    sync(settings_with())
    assert store.execute("SELECT id, external_id, name FROM contact_store.accounts") == [(1, other, "Acme Holding")]


# --------------------------------------------------------------------------------------------------------- sources


def test_rules_2_1_and_2_2_contacts_of_accounts_that_are_not_synced_do_not_sync(demo: Simulator, store: Store) -> None:
    customers = {a["Id"] for a in demo.control.records(sobject="Account") if a["Type"] == "Customer"}
    concluded = sync(mapped(accounts={"source": {"list_view": CUSTOMER_ACCOUNTS_VIEW}, "mapping": lines(Name="name")}))
    expected = [c for c in demo.control.records(sobject="Contact") if c["AccountId"] in customers]
    assert concluded.run.accounts == counts(read=len(customers), created=len(customers))
    assert concluded.run.contacts["read"] == len(expected)
    wrong = "SELECT count(*) FROM contact_store.contacts WHERE account_id IS NULL"
    assert store.execute(wrong) == [(0,)]


@pytest.mark.parametrize("accounts_are_on", [True, False])
def test_rules_1_4_2_1_and_2_3_contacts_of_a_list_view_sync_with_and_without_accounts(
    accounts_are_on: bool, demo: Simulator, store: Store
) -> None:
    types = {account["Id"]: account["Type"] for account in demo.control.records(sobject="Account")}
    expected = {
        record["Id"]
        for record in demo.control.records(sobject="Contact")
        if types.get(record["AccountId"]) == "Customer" and record["Tier__c"] in {"Gold", "Silver"}
    }
    source = {"source": {"list_view": ACTIVE_CUSTOMERS_VIEW}, "mapping": lines(Name="name", Email="email")}
    concluded = sync(
        settings_with(accounts={"enabled": accounts_are_on, "mapping": lines(Name="name")}, contacts=source)
    )
    assert concluded.run.contacts["read"] == len(expected)
    assert set(people(store)) <= expected
    assert (concluded.run.accounts is None) == (not accounts_are_on)
    ((with_account,),) = store.execute("SELECT count(account_id) FROM contact_store.contacts")
    assert with_account == (len(people(store)) if accounts_are_on else 0)


def test_rule_2_3_mine_means_the_connected_user(demo: Simulator, store: Store) -> None:
    me = demo.organisation.integration_user.id
    mine = [record for record in demo.control.records(sobject="Contact") if record["OwnerId"] == me]
    concluded = sync(settings_with(contacts={"source": {"list_view": MY_CONTACTS_VIEW}}))
    assert concluded.run.contacts["read"] == len(mine) > 100


def test_rules_1_1_and_1_2_nothing_but_contacts_and_accounts_is_read_and_nothing_is_written(
    organisation: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_people(organisation)
    before = [organisation.control.records(sobject=name, deleted=True) for name in ("Contact", "Account")]
    organisation.control.forget_calls()
    sync(settings_with())
    monkeypatch.setattr(client, "Pace", lambda: replace(IN_HASTE, rest_rows=0))
    sync(settings_with())
    assert [organisation.control.records(sobject=name, deleted=True) for name in ("Contact", "Account")] == before
    log = organisation.control.calls()["log"]
    assert "Lead" not in json.dumps(log)
    asked = {(call["method"], call["kind"]) for call in log if call["method"] != "GET"}
    assert {kind for _, kind in asked} <= {"token", "bulk_create", "bulk_delete", "bulk_abort"}, "only jobs are made"


# ----------------------------------------------------------------------------------------------- windows and limits

MAY_1, MAY_2, MAY_3 = (datetime(2026, 5, day, tzinfo=UTC) for day in (1, 2, 3))


@pytest.fixture
def in_may(organisation: Simulator) -> tuple[str, str, str]:
    """A contact without a handle that changed on the 1st, one on the 2nd, one on the 3rd of May."""
    control = organisation.control
    (acme,) = control.create(sobject="Account", records=[{"Name": "Acme"}], at=MAY_1.isoformat())
    ids = [
        control.create(sobject="Contact", records=[{"LastName": f"{day:%d}", "AccountId": acme}], at=day.isoformat())[0]
        for day in (MAY_1, MAY_2, MAY_3)
    ]
    return ids[0], ids[1], ids[2]


def test_rule_1_3_a_backfill_reads_what_changed_in_its_window_and_is_silent_about_the_rest(
    in_may: tuple[str, str, str], organisation: Simulator, store: Store
) -> None:
    """Rule 2.6: it says of nobody that it left the source."""
    assert sync(settings_with()).run.contacts == counts(read=3, error=3)
    organisation.control.update(
        sobject="Contact", ids=[in_may[1]], values={"Email": "b@example.org"}, at=MAY_2.isoformat()
    )
    limited = settings_with(maximum_contacts=1)
    concluded = sync(limited, trigger="backfill", window=(MAY_2, MAY_3))
    assert concluded.run.contacts == counts(read=1, created=1)
    assert concluded.run.accounts == counts(read=1, unchanged=1)
    assert (concluded.report.new, concluded.report.still_open, concluded.report.resolved) == (0, 0, 1)
    assert open_errors(store) == {"no_handle": 2}
    quiet = sync(settings_with(), trigger="backfill", window=(MAY_3, datetime(2026, 5, 4, tzinfo=UTC)))
    assert quiet.run.contacts == counts(read=1, error=1)
    assert store.execute("SELECT count(*) FROM contact_store.contacts WHERE not_syncing_since IS NOT NULL") == [(0,)]


def test_rule_1_3_a_dry_run_over_a_window_tells_which_errors_the_run_will_resolve(
    in_may: tuple[str, str, str], organisation: Simulator, store: Store
) -> None:
    """Of contacts those in the window, of accounts all."""
    control = organisation.control
    twins = [{"Name": name, "Website": "https://www.twin.example"} for name in ("One", "Other")]
    other = control.create(sobject="Account", records=twins, at=MAY_1.isoformat())[1]
    sync(settings_with())
    assert open_errors(store) == {"no_handle": 3, "domain_taken": 1}
    for contact_id, day in zip(in_may[:2], (MAY_1, MAY_2), strict=True):
        email = {"Email": f"{day:%d}@example.org"}
        control.update(sobject="Contact", ids=[contact_id], values=email, at=day.isoformat())
    control.update(sobject="Account", ids=[other], values={"Website": "other.example"}, at=MAY_1.isoformat())
    planned, done = (
        sync(settings_with(), trigger="backfill", window=(MAY_2, MAY_3), dry_run=dry) for dry in (True, False)
    )
    assert (planned.report.new, planned.report.still_open, planned.report.resolved) == (0, 0, 2)
    assert told(planned) == told(done)


def test_rule_1_5_the_limit_is_counted_after_the_accounts_and_changes_no_contact(
    organisation: Simulator, store: Store
) -> None:
    three_people(organisation, bob="bob@example.org")
    organisation.control.create(sobject="Contact", records=[{"LastName": "Private", "Email": "p@example.org"}])
    assert sync(settings_with(maximum_contacts=3)).run.state == "succeeded"
    contact(organisation, Email="zoe@example.org")
    before = row_versions(store)
    assert sync(settings_with(maximum_contacts=3)).run.state == "failed"
    assert row_versions(store) == before
    assert open_errors(store) == {"too_many_contacts": 1}


# ------------------------------------------------------------------------------------------- dry runs, and two runs


def told(concluded: RunReport) -> list[tuple]:
    """What the attached list says of each error. Who is created by the run has no number of its own in a dry run."""
    rows = csv.DictReader(io.StringIO(concluded.mail(tries=3)["csv"].decode("utf-8-sig")))
    same = [name for name in rows.fieldnames or () if "run" not in name.lower()]
    holder = re.compile(r"(?:an? )?(account|contact)(?: that this run creates| [0-9]+), linked to")
    return sorted(tuple(holder.sub(r"\1 linked to", row[name]) for name in same) for row in rows)


def test_a_dry_run_counts_and_reports_what_the_real_run_then_does(demo: Simulator, store: Store) -> None:
    before = every_value(store, but="sync_runs")
    planned = sync(mapped(), dry_run=True)
    assert every_value(store, but="sync_runs") == before
    done = sync(mapped())
    assert (planned.run.accounts, planned.run.contacts) == (done.run.accounts, done.run.contacts)
    assert summary(planned)["errors"] == summary(done)["errors"]
    assert told(planned) == told(done)
    assert len(told(done)) == 40


def test_a_dry_run_after_a_run_plans_what_changed_since(organisation: Simulator, store: Store) -> None:
    _, (ann, bob, _) = three_people(organisation)
    sync(settings_with())
    organisation.control.update(sobject="Contact", ids=[bob], values={"Email": "bob@example.org"})
    organisation.control.update(sobject="Contact", ids=[ann], values={"LastName": "Anna"})
    organisation.control.hide_field(sobject="Account", name="Website")
    before = every_value(store, but="sync_runs")
    planned = sync(settings_with(), dry_run=True)
    assert planned.run.contacts == counts(read=3, created=1, updated=1, unchanged=1)
    assert summary(planned)["errors"] == {"field_not_found": 1}
    assert every_value(store, but="sync_runs") == before


def test_rule_6_3_a_second_run_is_refused_while_the_first_is_at_work_and_the_first_ends_well(
    organisation: Simulator, store: Store
) -> None:
    three_people(organisation, bob="bob@example.org")
    organisation.control.add_fault(do="slow", path="/sobjects/Contact/describe", values={"seconds": 2})
    states = []
    first = threading.Thread(target=lambda: states.append(sync(settings_with()).run.state))
    first.start()
    while not store.execute("SELECT 1 FROM contact_store.sync_runs"):
        time.sleep(0.02)
    with pytest.raises(AnotherRunIsActive, match="one run at a time"):
        sync(settings_with())
    first.join()
    assert states == ["succeeded"]
    assert sync(settings_with()).run.contacts == counts(read=3, unchanged=3)


def test_rule_6_2_what_a_person_edits_while_a_run_is_under_way_is_not_lost(
    organisation: Simulator, store: Store
) -> None:
    _, (ann, _, _) = three_people(organisation, bob="bob@example.org")
    sync(settings_with())
    organisation.control.update(sobject="Contact", ids=[ann], values={"LastName": "Anna"})
    organisation.control.add_fault(do="slow", path="/sobjects/Contact/describe", values={"seconds": 1})
    running = threading.Thread(target=lambda: sync(settings_with()))
    running.start()
    store.execute(
        'UPDATE contact_store.contacts SET custom_fields = \'{"note": "kept"}\' WHERE external_id = %s', [ann]
    )
    store.execute(
        "INSERT INTO contact_store.contact_handles (contact_id, source, handle) VALUES (1, 'facebook', 'ann')"
    )
    running.join()
    assert people(store)[ann] == ("Anna", ["ann", "ann@example.org"])
    assert store.execute("SELECT custom_fields FROM contact_store.contacts WHERE external_id = %s", [ann]) == [
        ({"note": "kept"},)
    ]


@pytest.mark.parametrize("moment", ["after the store was read", "before its tables are locked"])
def test_rule_6_2_an_edit_at_the_last_moment_is_seen_before_anything_is_written(
    organisation: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    _, (ann, _, _) = three_people(organisation, bob="bob@example.org")
    sync(settings_with())
    organisation.control.update(sobject="Contact", ids=[ann], values={"Email": "new@example.org"})
    edits = iter(
        [
            "INSERT INTO contact_store.contacts (name) VALUES ('Zoe')",
            "INSERT INTO contact_store.contact_handles (contact_id, source, handle)"
            " SELECT max(id), 'email', 'new@example.org' FROM contact_store.contacts",
        ]
    )

    def edit(part: Part) -> None:
        for statement in edits if part is Part.CONTACTS else ():
            store.execute(statement)

    match, lock_tables = flow.match, load._lock_tables

    def match_what_was_read(clean: CleanRecords, stored: StoredRecords, columns: Columns, **more: Any) -> Plan:
        edit(columns.part)
        return match(clean, stored, columns, **more)

    def lock(connection: psycopg.Connection, part: Part) -> None:
        edit(part)
        lock_tables(connection, part)

    if moment == "after the store was read":
        monkeypatch.setattr(flow, "match", match_what_was_read)
    else:
        monkeypatch.setattr(load, "_lock_tables", lock)
    concluded = sync(settings_with())
    assert (concluded.run.state, next(edits, None)) == ("succeeded", None)
    assert open_errors(store)["email_taken"] == 1
    assert people(store)[ann] == ("Ann", ["ann@example.org"])


# ------------------------------------------------------------------------------------------------- the copy of the store


def sync_until_the_store_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first run writes everything, so that a copy of before would be of no use."""
    with monkeypatch.context() as patch:
        patch.setattr(store_copy, "SOME_NEWER", 0)
        assert not kept_copy(sync(settings_with()))
        assert kept_copy(sync(settings_with()))


def kept_copy(run: RunReport) -> bool:
    """Whether the run read the whole store, and kept that for later ones."""
    return "store_copy" in run.run.steps["match_contacts"]


def test_a_later_run_reads_only_what_is_newer_in_the_store(
    organisation: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, (ann, bob, _) = three_people(organisation, bob="bob@example.org")
    sync_until_the_store_is_copied(monkeypatch)
    organisation.control.update(sobject="Contact", ids=[bob], values={"Email": "bob@other.example"})
    store.execute("UPDATE contact_store.contacts SET name = 'somebody' WHERE external_id = %s", [ann])
    store.execute("INSERT INTO contact_store.contacts (name) VALUES ('Zoe')")
    read, whole = flow.read_stored_records, []
    monkeypatch.setattr(flow, "read_stored_records", lambda *asked: whole.append(asked[0].part) or read(*asked))
    edited = sync(settings_with())
    assert (edited.run.contacts["updated"], kept_copy(edited), whole) == (2, False, [Part.ACCOUNTS])
    assert people(store)[ann] == ("Ann", ["ann@example.org"])
    assert people(store)[bob] == ("Bob", ["bob@other.example"])
    again = sync(settings_with())
    assert (again.run.contacts["unchanged"], kept_copy(again)) == (edited.run.contacts["read"], False)


def remove_a_handle(store: Store) -> None:
    store.execute("DELETE FROM contact_store.contact_handles WHERE handle = 'bob@example.org'")


def forget_the_copy(store: Store) -> None:
    """As in a store that was set back to before that run, and ran again."""
    other = """UPDATE contact_store.sync_runs SET steps = jsonb_set(steps, '{match_contacts,store_copy}', '"other"')
        WHERE steps -> 'match_contacts' ? 'store_copy'"""
    assert store.execute(f"{other} RETURNING 1")


def damage_the_copy(store: Store) -> None:
    (file,) = Path(os.environ["CONTACT_SYNC_STAGING"].removeprefix("file://")).glob("*/contacts/store_copy/handles*")
    file.write_bytes(file.read_bytes()[:-1] + b"!")


def remove_the_copy(store: Store) -> None:
    (folder,) = Path(os.environ["CONTACT_SYNC_STAGING"].removeprefix("file://")).glob("*/contacts/store_copy")
    shutil.rmtree(folder)


@pytest.mark.parametrize("happens", [remove_a_handle, forget_the_copy, damage_the_copy, remove_the_copy])
def test_where_the_copy_of_the_store_is_of_no_use_the_whole_is_read_and_kept_again(
    organisation: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch, happens: Callable[[Store], None]
) -> None:
    _, (_, bob, _) = three_people(organisation, bob="bob@example.org")
    sync_until_the_store_is_copied(monkeypatch)
    happens(store)
    concluded = sync(settings_with())
    assert (concluded.run.state, kept_copy(concluded)) == ("succeeded", True)
    assert people(store)[bob] == ("Bob", ["bob@example.org"])
    assert not kept_copy(sync(settings_with()))


def test_a_copy_that_cannot_be_opened_or_kept_stops_no_run(
    organisation: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_people(organisation, bob="bob@example.org")
    sync_until_the_store_is_copied(monkeypatch)
    open_staged, write = RunStaging.open, RunStaging.write

    def refuse(self: RunStaging, name: str) -> StagedParts:
        if "store_copy" in name:
            raise PermissionError(name)
        return open_staged(self, name)

    def be_full(self: RunStaging, name: str, *content: Any) -> None:
        if "store_copy" in name:
            raise OSError("No space left on device")
        write(self, name, *content)

    monkeypatch.setattr(RunStaging, "open", refuse)
    assert kept_copy(sync(settings_with()))
    monkeypatch.setattr(RunStaging, "write", be_full)
    concluded = sync(settings_with())
    assert (concluded.run.state, kept_copy(concluded)) == ("succeeded", False)


def test_another_mapping_reads_the_whole_store(organisation: Simulator, store: Store) -> None:
    three_people(organisation, bob="bob@example.org")
    assert kept_copy(sync(settings_with()))
    other = settings_with(contacts={"mapping": [*lines(Name="name", Email="email", Title="description")]})
    assert kept_copy(sync(other))


def test_rule_6_5_every_contact_says_when_it_was_last_synced(organisation: Simulator, store: Store) -> None:
    _, (ann, bob, _) = three_people(organisation, bob="bob@example.org")
    sync(settings_with())
    organisation.control.update(sobject="Contact", ids=[bob], values={"Email": "ann@example.org"})
    sync(settings_with())
    query = (
        "SELECT external_id, (SELECT max(id) FROM contact_store.sync_runs WHERE ended_at = last_synced_at) "
        "FROM contact_store.contacts_last_synced JOIN contact_store.contacts ON contacts.id = contact_id"
    )
    last_synced = dict(store.execute(query))
    assert (last_synced[ann], last_synced[bob]) == (2, None)


def test_each_step_records_its_own_peak_memory_not_that_of_what_ran_before_it(
    organisation: Simulator, store: Store
) -> None:
    three_people(organisation, bob="bob@example.org")
    sync(settings_with())  # whatever is loaded once is loaded now
    forget_peak()
    hundreds = bytearray(300 * 2**20)
    hundreds[::4096] = b"x" * len(hundreds[::4096])
    del hundreds
    before = peak_mb()
    steps = sync(settings_with()).run.steps
    assert 0 < max(step["peak_mb"] for step in steps.values()) < before - 200


def test_staged_data_of_a_run_that_succeeded_is_removed_where_the_settings_keep_none(
    organisation: Simulator, store: Store, staging: Staging
) -> None:
    three_people(organisation)
    earlier = sync(settings_with(staged_data_days=1)).run.id
    assert staging.run(earlier).size() > 0
    now = sync(settings_with(staged_data_days=0)).run.id
    assert [staging.run(run_id).size() for run_id in (earlier, now)] == [0, 0]


@pytest.mark.parametrize("dry_run", [False, True])
def test_where_no_staged_data_is_kept_a_report_that_is_sent_again_says_the_same(
    organisation: Simulator, store: Store, tmp_path: Path, *, dry_run: bool
) -> None:
    acme = organisation.control.create(sobject="Account", records=[{"Name": "Acme"}])[0]
    colleague = {"AccountId": acme, "Phone": "(212) 842-5500"}
    organisation.control.create(sobject="Contact", records=[colleague | {"LastName": name} for name in "abcdefghijkl"])
    mapping = {"mapping": lines(Name="name", Phone="phone")}
    for days, folders in ((7, 1), (0, 0)):
        chosen = settings_with(staged_data_days=days, contacts=mapping)
        run_id = flow.validate_settings(RunRequest(dag_run_id=f"{days} days", settings=chosen, dry_run=dry_run))
        flow.sync_accounts(run_id)
        flow.extract_contacts_of_source(run_id)
        flow.transform_contacts(run_id)
        flow.match_contacts(run_id)
        flow.load_contacts(run_id)
        refused, accepted = conclude_run(run_id), conclude_run(run_id)
        assert accepted.is_needed
        first, second = refused.mail(tries=3), accepted.mail(tries=3)
        assert "phone_taken" in second["csv"].decode()
        assert "map Phone to a custom field" in " ".join(second["text"].split())
        assert [first[part] for part in ("text", "html", "csv")] == [second[part] for part in ("text", "html", "csv")]
        second["on_accepted"]()
        assert len(list((tmp_path / "staging").glob("run-*"))) == folders


def test_a_report_says_what_its_run_found_also_after_a_later_run(organisation: Simulator, store: Store) -> None:
    """So it is when the task that could not send it is cleared the next day."""
    three_people(organisation)
    first, second = sync(settings_with()), sync(settings_with())
    window = (datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC))
    empty = sync(settings_with(), window=window, trigger="backfill")
    told = [outline(concluded) for concluded in (first, second, empty)]
    assert [errors["csv"].count(b"email_taken") for errors in told] == [1, 1, 0]
    ann = organisation.control.records(sobject="Contact", fields=["Id", "Email"])[0]
    contact(organisation, Email=ann["Email"])
    sync(settings_with())
    assert [outline(conclude_run(concluded.run.id)) for concluded in (first, second, empty)] == told


def test_a_report_says_what_stopped_its_run_also_after_later_runs_that_it_stopped(
    organisation: Simulator, store: Store
) -> None:
    gone = settings_with(contacts={"source": {"list_view": "00B000000000001"}})
    stopped = [sync(gone) for _ in range(3)]
    told = [outline(concluded) for concluded in stopped]
    assert [errors["csv"].count(b"list_view_not_found") for errors in told] == [1, 1, 1]
    assert [outline(conclude_run(concluded.run.id)) for concluded in stopped] == told


def outline(concluded: RunReport) -> dict[str, Any]:
    mail = concluded.mail(tries=3)
    return {part: mail[part] for part in ("subject", "csv", "key")}


def test_a_dry_run_whose_plan_is_gone_reports_nothing_that_is_not_true(
    organisation: Simulator, store: Store, tmp_path: Path
) -> None:
    three_people(organisation)
    planned = sync(settings_with(staged_data_days=7), dry_run=True).run.id
    conclude_run(planned)
    sync(settings_with(staged_data_days=0))
    with pytest.raises(RunRefused, match=f"run {planned} is not there"):
        conclude_run(planned)


def test_each_report_of_a_run_has_a_key_of_its_own(
    organisation: Simulator, store: Store, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that failed is reported, goes on, and is reported anew."""
    three_people(organisation)
    run_id = flow.validate_settings(RunRequest(dag_run_id="manual__1", settings=settings_with()))
    failed, same = conclude_run(run_id), conclude_run(run_id)
    flow.sync_accounts(run_id)
    flow.extract_contacts_of_source(run_id)
    flow.transform_contacts(run_id)
    flow.match_contacts(run_id)
    flow.load_contacts(run_id)
    succeeded = conclude_run(run_id)
    assert (failed.run.state, succeeded.run.state) == ("failed", "succeeded")
    keys = [concluded.mail(tries=3)["key"] for concluded in (failed, same, succeeded)]
    assert keys[0] == keys[1] != keys[2]


def test_a_run_of_an_earlier_release_is_reported_by_this_one(
    organisation: Simulator, store: Store, staging: Staging
) -> None:
    """The new release came while the run was at work, so no first task has brought the store up to date."""
    three_people(organisation)
    run_id = flow.validate_settings(RunRequest(dag_run_id="manual__1", settings=settings_with()))
    assert store.execute("DELETE FROM contact_store.migrations WHERE name >= '0004_report_handed_over' RETURNING name")
    store.execute("ALTER TABLE contact_store.sync_runs DROP COLUMN report_handed_over_in")
    concluded = conclude_run(run_id)
    assert (concluded.run.state, concluded.is_needed) == ("failed", True)


def test_where_no_staged_data_is_kept_that_of_a_failed_run_goes_with_the_next(
    organisation: Simulator, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_people(organisation)

    def refuse(_run_id: int) -> None:
        raise RunRefused("no")

    with monkeypatch.context() as patch:
        patch.setattr(flow, "match_contacts", refuse)
        assert sync(settings_with(staged_data_days=0)).run.state == "failed"
    assert list((tmp_path / "staging").glob("run-*"))
    assert sync(settings_with(staged_data_days=0)).run.state == "succeeded"
    assert not list((tmp_path / "staging").glob("run-*"))


def test_a_contact_that_postgresql_refuses_ends_the_run_as_failed(organisation: Simulator, store: Store) -> None:
    """Rule 6.1."""
    three_people(organisation)
    store.execute("ALTER TABLE contact_store.contacts ADD CHECK (name <> 'Eve')")
    concluded = sync(settings_with())
    assert (concluded.run.state, concluded.is_needed) == ("failed", True)
    assert people(store) == {}


def test_an_organisation_without_anybody_is_synced_too(organisation: Simulator, store: Store) -> None:
    concluded = sync(mapped())
    assert (concluded.run.state, concluded.run.contacts, concluded.is_needed) == ("succeeded", counts(), False)


@pytest.mark.parametrize("arrange", [list_view_not_found, accounts_sync_failed], ids=code_of)
def test_a_dry_run_that_is_stopped_reports_why_and_writes_nothing(
    organisation: Simulator, store: Store, arrange: Arrange
) -> None:
    settings = arrange(organisation, store)
    before = every_value(store, but="sync_runs")
    planned = sync(settings, dry_run=True)
    assert planned.run.state == "failed"
    assert code_of(arrange) in summary(planned)["errors"]
    assert every_value(store, but="sync_runs") == before


@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), StoreUnavailable("gone"), psycopg.OperationalError("gone"), ValueError("a bug")]
)
def test_a_run_that_is_interrupted_or_fails_unforeseen_leaves_the_store_to_the_next(
    organisation: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    three_people(organisation)

    def fail(_run_id: int) -> None:
        raise failure

    with monkeypatch.context() as patch:
        patch.setattr(flow, "match_contacts", fail)
        with pytest.raises(type(failure)):
            sync(settings_with())
    assert store.execute("SELECT state FROM contact_store.sync_runs") == [("failed",)]
    assert sync(settings_with()).run.state == "succeeded"


@pytest.mark.parametrize("odd", ["\\u0000", "\\ud800"], ids=["NUL", "half a surrogate pair"])
@pytest.mark.parametrize(
    ("method", "path", "status", "body", "code"),
    [
        (
            "GET",
            "FROM.Contact",
            400,
            '[{"message":"bad%s thing","errorCode":"MALFORMED_QUERY"}]',
            "list_view_not_usable",
        ),
        (
            "GET",
            "/sobjects/Contact/describe",
            503,
            '[{"message":"busy%s","errorCode":"SERVER_UNAVAILABLE"}]',
            "salesforce_unavailable",
        ),
        ("GET", "FROM.Contact", 403, '[{"message":"too%s many","errorCode":"REQUEST_LIMIT_EXCEEDED"}]', "api_limit"),
        ("POST", "/services/oauth2/token", 400, '{"error":"invalid_grant","error_description":"no%s"}', "login_failed"),
    ],
)
def test_a_reason_of_salesforces_that_cannot_be_stored_is_still_an_error_with_its_code(
    organisation: Simulator, store: Store, odd: str, method: str, path: str, status: int, body: str, code: str
) -> None:
    three_people(organisation)
    values = {"status": status, "body": body.replace("%s", odd), "headers": {"Content-Type": "application/json"}}
    organisation.control.add_fault(do="answer", method=method, path=path, times=0, values=values)
    failed = sync(settings_with(accounts={"enabled": False}, contacts={"source": {"list_view": MY_CONTACTS_VIEW}}))
    assert failed.run.state == "failed"
    assert open_errors(store) == {code: 1}


def test_a_session_that_is_ended_in_the_middle_of_a_step_is_told_as_a_store_that_went_away(
    organisation: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_people(organisation)

    def be_ended(*_: object) -> str:
        with connect() as connection:
            connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        return ""

    monkeypatch.setattr(flow, "read_fingerprint", be_ended)
    with pytest.raises(StoreUnavailable, match=r"contacts_db.*went away: terminating connection"):
        sync(settings_with())


def test_a_dry_run_says_what_is_new_still_open_and_resolved_and_is_always_reported(
    organisation: Simulator, store: Store
) -> None:
    _, (_, bob, _) = three_people(organisation)
    sync(settings_with())
    assert open_errors(store) == {"email_taken": 1}
    planned = sync(settings_with(), dry_run=True).report
    assert (planned.new, planned.still_open, planned.resolved) == (0, 1, 0)
    organisation.control.update(sobject="Contact", ids=[bob], values={"Email": "bob@example.org"})
    planned = sync(settings_with(), dry_run=True).report
    assert (planned.new, planned.still_open, planned.resolved) == (0, 0, 1)
    sync(settings_with())
    planned = sync(settings_with(), dry_run=True).report
    assert (planned.new, planned.still_open, planned.resolved) == (0, 0, 0)
    assert planned.is_needed


def test_rule_6_4_staged_records_that_are_lost_stop_the_run(
    organisation: Simulator, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_people(organisation)
    sync(settings_with())
    before = every_value(store, but="sync_runs")
    monkeypatch.setattr(client, "Pace", lambda: replace(IN_HASTE, rest_rows=0, first_page_rows=1, page_rows=1))
    run_id = flow.validate_settings(RunRequest(dag_run_id="loses", settings=settings_with()))
    flow.sync_accounts(run_id)
    flow.extract_contacts_of_source(run_id)
    *_, last = sorted((tmp_path / "staging" / f"run-{run_id}" / "contacts" / "snapshot").glob("*.arrows"))
    last.unlink()
    with pytest.raises(RunRefused, match="3 contacts were read from Salesforce, 2 of them are staged"):
        flow.transform_contacts(run_id)
    assert every_value(store, but="sync_runs") == before


def test_a_run_reads_nothing_that_the_last_whole_run_has_read(
    organisation: Simulator, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reread, "MOST_DIFFERING", 1)
    organisation.control.create(sobject="Account", records=[{"Name": "Acme"}])
    ids = [contact(organisation, Phone="(212) 842-5500"), contact(organisation, Phone="(212) 842-5501")]
    chosen = settings_with(contacts={"mapping": lines(Name="name", Phone="phone")})

    def newly_read(settings: Settings = chosen, **request: Any) -> tuple[int, int]:
        run = sync(settings, **request).run
        assert run.state == "succeeded"
        return run.steps["sync_accounts"]["newly_read"], run.steps["transform_contacts"]["newly_read"]

    assert (newly_read(), newly_read()) == ((1, 2), (0, 0))
    contact(organisation, Phone="(212) 842-5502")
    assert (newly_read(), newly_read()) == ((0, 1), (0, 0))
    far_from_all = datetime(2001, 1, 1, tzinfo=UTC), datetime(2001, 1, 2, tzinfo=UTC)
    assert newly_read(trigger="backfill", window=far_from_all) == (0, 0)
    assert newly_read() == (0, 0)  # what a backfill read is too little for the night
    organisation.control.update(sobject="Contact", ids=ids[:1], values={"Phone": None})
    assert newly_read() == (0, 1)
    assert open_errors(store) == {"no_handle": 1}
    assert newly_read(settings_with(default_region="GB", contacts={"mapping": lines(Name="name", Phone="phone")})) == (
        1,
        3,
    )
    newly_read()
    before = contacts_and_handles(store)
    for damage in (torn, turned_over, Path.unlink):
        for part, file in (("clean", "handles"), ("clean", "records"), ("snapshot", "part-00001")):
            newest = max((tmp_path / "staging").glob("run-*"), key=lambda folder: int(folder.name.removeprefix("run-")))
            damage(newest / "contacts" / part / f"{file}.arrows")
            assert newly_read() == (0, 3)
    assert contacts_and_handles(store) == before


def contacts_and_handles(store: Store) -> list[Any]:
    found = every_value(store, but="sync_runs")
    return [found[table] for table in ("contacts", "contact_handles")]


def torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def turned_over(file: Path) -> None:
    """One bit is another."""
    content = file.read_bytes()
    at = len(content) // 2
    file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


@pytest.mark.parametrize("part", ["accounts", "contacts"])
def test_what_was_read_never_stands_beside_what_it_was_not_read_from(
    organisation: Simulator, store: Store, staging: Staging, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """A run is cleared from its download on, and dies before it has read the new download."""
    monkeypatch.setattr(reread, "MOST_DIFFERING", 1)
    acme, (ann, *_) = three_people(organisation)
    run_id = flow.validate_settings(RunRequest(dag_run_id="dies", settings=settings_with()))
    flow.sync_accounts(run_id)
    flow.extract_contacts_of_source(run_id)
    flow.transform_contacts(run_id)
    organisation.control.update(sobject="Contact", ids=[ann], values={"LastName": "Newer"})
    organisation.control.update(sobject="Account", ids=[acme], values={"Name": "Newer"})

    def die(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(flow, "_transform", die)
        store.execute("UPDATE contact_store.sync_runs SET accounts_applied_at = NULL")
        flow.sync_accounts(run_id) if part == "accounts" else flow.extract_contacts_of_source(run_id)
        die()
    conclude_run(run_id)
    assert sync(settings_with()).run.state == "succeeded"
    names = [name for (name,) in store.execute(f"SELECT name FROM contact_store.{part}")]
    assert "Newer" in names


def test_a_step_that_is_refused_ends_the_run(
    organisation: Simulator, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    three_people(organisation)

    def refuse(_run_id: int) -> None:
        raise RunRefused("the staged data is gone; start a new run")

    monkeypatch.setattr(flow, "match_contacts", refuse)
    assert sync(settings_with()).run.state == "failed"
