"""Extract against the simulator: what is staged, and that a fault of Salesforce either changes nothing or has its code.

Every fault is scripted in the simulator and happens over HTTP; the undisturbed reading is what the others are held to.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from include.contact_sync.errors import RetryableError, RunError
from include.contact_sync.extract import Extraction, extract_accounts, extract_contacts
from include.contact_sync.salesforce import Salesforce
from include.contact_sync.settings import parse_settings
from include.contact_sync.staging import RunStaging, Staging
from include.salesforce_simulator.server import Simulator
from tests.contact_sync.salesforce.organisation import AWKWARD, BY_REST, CONTACTS, settings_with

Connect = Callable[..., Salesforce]
# Addresses in which faults are scripted.
RESULTS, POLL, CREATE, MORE = "/results", "jobs/query/750[^/]*$", "jobs/query$", "/query/0"
WITH_ACCOUNT = sum(1 for number in range(CONTACTS) if number % 5)


@pytest.fixture
def run(staging: Staging) -> RunStaging:
    return staging.run(1)


@pytest.fixture
def everybody(simulator: Simulator) -> dict[str, Any]:
    """Settings whose contacts come from a list view that shows all."""
    return from_list_view(simulator.control.create_list_view(label="Everybody"))


def from_list_view(list_view: str, **more: Any) -> dict[str, Any]:
    return settings_with({"source": {"list_view": list_view}}, **more)


def read_contacts(
    salesforce: Salesforce,
    settings: Mapping[str, Any],
    run: RunStaging,
    linked: list[str] | None = None,
    window: tuple[datetime, datetime] | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[Extraction, pa.Table]:
    accounts = None if linked is None else pa.array(linked, pa.string())
    extraction = extract_contacts(
        salesforce, parse_settings(settings), run, progress, linked_accounts=accounts, window=window
    )
    return extraction, run.read_parts("contacts/snapshot").sort_by("Id")


def read_accounts(salesforce: Salesforce, settings: Mapping[str, Any], run: RunStaging) -> tuple[Extraction, pa.Table]:
    extraction = extract_accounts(salesforce, parse_settings(settings), run, lambda line: None)
    return extraction, run.read_parts("accounts/snapshot").sort_by("Id")


def ids_in(simulator: Simulator, sobject: str) -> list[str]:
    return sorted(record["Id"] for record in simulator.control.records(sobject=sobject))


# What is read


def test_rule_2_2_all_accounts_are_staged_with_their_mapped_fields_and_merges(
    simulator: Simulator, connect: Connect, run: RunStaging
) -> None:
    extraction, accounts = read_accounts(connect(), settings_with(), run)
    assert accounts["Id"].to_pylist() == ids_in(simulator, "Account")
    assert accounts.column_names == ["Id", "Name", "Website"]
    assert accounts["Website"].to_pylist() == [f"https://a{number}.example.org" for number in range(5)]
    assert (extraction.read, extraction.received, extraction.merges, extraction.how) == (5, 5, 1, "rest")
    assert extraction.field_types == {"Name": "string", "Website": "url"}


def test_rule_2_1_contacts_of_synced_accounts_are_those_whose_account_is_linked(
    simulator: Simulator, connect: Connect, run: RunStaging
) -> None:
    accounts = ids_in(simulator, "Account")
    extraction, contacts = read_contacts(connect(), settings_with(), run, linked=accounts[:3])
    expected = [r["Id"] for r in simulator.control.records(sobject="Contact") if r["AccountId"] in accounts[:3]]
    assert contacts["Id"].to_pylist() == sorted(expected)
    assert (extraction.received, extraction.read) == (WITH_ACCOUNT, len(expected))
    assert extraction.read + extraction.out_of_source == extraction.received


def test_no_linked_account_is_no_contact_and_an_empty_snapshot_has_all_columns(
    connect: Connect, run: RunStaging
) -> None:
    extraction, contacts = read_contacts(connect(), settings_with(), run, linked=[])
    assert (extraction.read, extraction.out_of_source) == (0, WITH_ACCOUNT)
    assert contacts.column_names[:4] == ["Id", "AccountId", "Name", "Email"]
    assert set(contacts.schema.types) == {pa.string()}


def test_contacts_of_synced_accounts_cannot_be_read_without_the_linked_accounts(
    connect: Connect, run: RunStaging
) -> None:
    with pytest.raises(ValueError, match="linked accounts"):
        read_contacts(connect(), settings_with(), run)


@pytest.mark.parametrize(("pace", "how"), [({}, "bulk"), (BY_REST, "rest")])
def test_rule_6_4_every_contact_of_a_list_view_arrives_once_by_either_api(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], pace: dict[str, int], how: str
) -> None:
    extraction, contacts = read_contacts(connect(**pace), everybody, run)
    assert contacts["Id"].to_pylist() == ids_in(simulator, "Contact")
    assert (extraction.read, extraction.received, extraction.out_of_source, extraction.how) == (
        CONTACTS,
        CONTACTS,
        0,
        how,
    )
    assert extraction.pages > 2
    assert extraction.bytes > 0


def test_the_values_are_the_same_by_either_api_but_for_how_a_datetime_ends(
    connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    _, by_bulk = read_contacts(connect(), everybody, run)
    _, by_rest = read_contacts(connect(**BY_REST), everybody, run)
    assert by_bulk.drop_columns(["Renewal__c", "Score__c"]) == by_rest.drop_columns(["Renewal__c", "Score__c"])
    assert [float(score) for score in by_bulk["Score__c"].to_pylist()] == [
        float(score) for score in by_rest["Score__c"].to_pylist()
    ]
    assert {value[:19] for table in (by_bulk, by_rest) for value in table["Renewal__c"].to_pylist()} == {
        "2026-05-06T07:08:09"
    }
    assert set(by_rest["Newsletter__c"].to_pylist()) == {"true", "false"}


@pytest.mark.parametrize("pace", [{}, BY_REST])
@pytest.mark.parametrize("options", [{}, {"bulk_nulls": "bare", "bulk_charset": False, "gzip": True}])
def test_rule_3_7_awkward_text_arrives_exactly(
    simulator: Simulator,
    connect: Connect,
    run: RunStaging,
    everybody: dict[str, Any],
    pace: dict[str, int],
    options: dict[str, Any],
) -> None:
    simulator.control.change_options(**options)
    _, contacts = read_contacts(connect(**pace), everybody, run)
    sent = {record["Id"]: record for record in simulator.control.records(sobject="Contact")}
    for contact in contacts.to_pylist():
        assert contact["Description"] == sent[contact["Id"]]["Description"]
        assert (contact["Email"], contact["Phone"]) == (sent[contact["Id"]]["Email"], sent[contact["Id"]]["Phone"])
    assert set(AWKWARD) == set(contacts["Description"].to_pylist())


@pytest.mark.parametrize("pace", [{}, BY_REST])
def test_rule_3_7_nul_characters_are_removed_by_either_api(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], pace: dict[str, int]
) -> None:
    contact = ids_in(simulator, "Contact")[0]
    simulator.control.update(sobject="Contact", ids=[contact], values={"Description": "a\0b", "Phone": "\0"})
    _, contacts = read_contacts(connect(**pace), everybody, run)
    assert contacts.to_pylist()[0]["Description"] == "ab"
    assert contacts.to_pylist()[0]["Phone"] is None


def test_a_lone_half_of_a_character_becomes_the_replacement_character(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    body = '{"totalSize":1,"done":true,"records":[{"Id":"003000000000001AAA","AccountId":null,"Name":"a\\ud83d"}]}'
    simulator.control.add_fault(do="answer", path=r"/query\?q=SELECT%20Id|/query\?q=SELECT\+Id", values={"body": body})
    settings = settings_with({**everybody["contacts"], "mapping": [{"salesforce_field": "Name", "field": "name"}]})
    _, contacts = read_contacts(connect(**BY_REST), settings, run)
    assert contacts["Name"].to_pylist() == ["a\ufffd"]


def test_rule_4_11_who_was_merged_into_whom_is_staged_beside_the_contacts(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    extraction, contacts = read_contacts(connect(), everybody, run)
    merges = run.read("contacts/merges").to_pylist()
    dead = [record for record in simulator.control.records(sobject="Contact", deleted=True) if record["MasterRecordId"]]
    assert merges == [{"loser": record["Id"], "winner": record["MasterRecordId"]} for record in dead]
    assert (extraction.merges, len(merges)) == (1, 1)
    assert merges[0]["loser"] not in contacts["Id"].to_pylist()


def test_rule_2_6_a_deleted_contact_is_no_longer_read(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    gone = ids_in(simulator, "Contact")[3]
    simulator.control.delete(sobject="Contact", ids=[gone])
    extraction, contacts = read_contacts(connect(), everybody, run)
    assert extraction.read == CONTACTS - 1
    assert gone not in contacts["Id"].to_pylist()


def test_rule_1_3_a_window_reads_what_was_stamped_from_its_start_until_before_its_end(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    start, end = datetime(2031, 3, 1, tzinfo=UTC), datetime(2031, 3, 2, tzinfo=UTC)
    before, at_start, inside, at_end = ids_in(simulator, "Contact")[:4]
    moments = {
        before: "2031-02-28T23:59:59",
        at_start: "2031-03-01T00:00:00",
        inside: "2031-03-01T23:59:59",
        at_end: "2031-03-02T00:00:00",
    }
    for contact, moment in moments.items():
        simulator.control.update(sobject="Contact", ids=[contact], values={"Title": "x"}, at=f"{moment}+00:00")
    _, contacts = read_contacts(connect(), everybody, run, window=(start, end))
    assert contacts["Id"].to_pylist() == sorted([at_start, inside])


def test_a_second_reading_replaces_what_an_earlier_one_staged(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    read_contacts(connect(), everybody, run)
    simulator.control.delete(sobject="Contact", ids=ids_in(simulator, "Contact")[2:])
    extraction, contacts = read_contacts(connect(), everybody, run)
    assert extraction.read == contacts.num_rows == 2


def test_progress_is_told_in_counts_and_without_values(
    connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    lines: list[str] = []
    read_contacts(connect(), everybody, run, progress=lines.append)
    assert f"contacts: {CONTACTS} records to read" in lines
    assert f"contacts: {CONTACTS} of {CONTACTS} records received" in lines
    assert not any("example.org" in line or "Last" in line for line in lines)


def test_progress_is_told_while_a_slow_page_is_awaited(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    simulator.control.add_fault(do="slow", path="results", values={"seconds": 0.4})
    lines: list[str] = []
    read_contacts(connect(report_seconds=0.05), everybody, run, progress=lines.append)
    assert f"contacts: 0 of {CONTACTS} records received; waiting for the next page" in lines


def test_the_bulk_job_is_deleted_when_it_was_read(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    salesforce = connect()
    extraction, _ = read_contacts(salesforce, everybody, run)
    assert simulator.state.jobs.all() == []
    api_calls = simulator.control.calls()["total"] - simulator.control.calls()["by_kind"]["token"]
    assert extraction.salesforce_calls == salesforce.calls == api_calls


# List views


@pytest.mark.parametrize("case", ["mixed", "lower", "upper"])
@pytest.mark.parametrize("length", [15, 18])
def test_rule_2_3_a_list_view_gives_its_filter_not_its_columns_or_order(
    simulator: Simulator, connect: Connect, run: RunStaging, case: str, length: int
) -> None:
    simulator.control.change_options(list_view_query_case=case)
    list_view = simulator.control.create_list_view(
        label="Managers",
        where="Title = 'Manager' AND (Score__c > 1 OR LastName = 'a ORDER BY b')",
        columns=["toLabel(Salutation)", "Owner.Alias"],
    )
    extraction, contacts = read_contacts(connect(), from_list_view(list_view[:length]), run)
    expected = [
        r["Id"] for r in simulator.control.records(sobject="Contact") if r["Title"] == "Manager" and r["Score__c"] > 1
    ]
    assert contacts["Id"].to_pylist() == sorted(expected)
    assert extraction.out_of_source == 0
    assert "Name" in contacts.column_names


def test_rule_2_3_mine_means_the_connected_user(simulator: Simulator, connect: Connect, run: RunStaging) -> None:
    mine = ids_in(simulator, "Contact")[:2]
    others = [one for one in ids_in(simulator, "Contact") if one not in mine]
    simulator.control.update(sobject="Contact", ids=others, values={"OwnerId": "005000000000009AAA"})
    list_view = simulator.control.create_list_view(label="My Contacts", scope="mine")
    _, contacts = read_contacts(connect(), from_list_view(list_view), run)
    assert contacts["Id"].to_pylist() == mine


def test_rule_2_2_accounts_can_come_from_a_list_view(simulator: Simulator, connect: Connect, run: RunStaging) -> None:
    list_view = simulator.control.create_list_view(label="Big", sobject="Account", where="NumberOfEmployees >= 3")
    extraction, _ = read_accounts(connect(), settings_with(accounts={"source": {"list_view": list_view}}), run)
    assert extraction.read == 2


@pytest.mark.parametrize("verb", ["delete_list_view", "unshare_list_view"])
def test_rule_2_4_a_list_view_that_is_gone_or_unshared_is_not_found(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], verb: str
) -> None:
    list_view = everybody["contacts"]["source"]["list_view"]
    getattr(simulator.control, verb)(id=list_view)
    with pytest.raises(RunError) as error:
        read_contacts(connect(), everybody, run)
    assert (error.value.code, error.value.detail) == ("list_view_not_found", f"Contact list view {list_view}")
    assert not run.exists("contacts/snapshot/part-00001")


def test_rule_2_4_a_list_view_that_vanishes_while_it_is_looked_up_is_not_found(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    list_view = everybody["contacts"]["source"]["list_view"]
    delete = {"verb": "delete_list_view", "arguments": {"id": list_view}}
    simulator.control.add_fault(do="control", path=f"{list_view}/describe", values=delete)
    with pytest.raises(RunError, match="list_view_not_found"):
        read_contacts(connect(), everybody, run)


def test_rule_2_4_a_list_view_that_soql_cannot_express_is_not_usable(
    simulator: Simulator, connect: Connect, run: RunStaging
) -> None:
    list_view = simulator.control.create_list_view(label="Odd", soql_compatible=False)
    with pytest.raises(RunError, match="cannot be expressed in SOQL") as error:
        read_contacts(connect(), from_list_view(list_view), run)
    assert error.value.code == "list_view_not_usable"


def test_rule_2_4_a_list_view_whose_query_cannot_be_understood_is_not_usable(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    body = '{"query":"SELECT Id FROM Contact WHERE Id = 1 WITH DATA CATEGORY a AT b","scope":null}'
    simulator.control.add_fault(do="answer", path="listviews/.*/describe", values={"body": body})
    with pytest.raises(RunError, match="WITH clause") as error:
        read_contacts(connect(), everybody, run)
    assert error.value.code == "list_view_not_usable"


def test_a_scope_that_only_the_describe_names_counts(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    body = '{"query":"SELECT Id FROM Contact","scope":"mine"}'
    simulator.control.add_fault(do="answer", path="listviews/.*/describe", values={"body": body})
    simulator.control.update(
        sobject="Contact", ids=ids_in(simulator, "Contact")[4:], values={"OwnerId": "005000000000009AAA"}
    )
    extraction, _ = read_contacts(connect(), everybody, run)
    assert extraction.read == 4


def test_rule_2_4_a_filter_on_a_hidden_field_is_not_usable_with_salesforces_reason(
    simulator: Simulator, connect: Connect, run: RunStaging
) -> None:
    list_view = simulator.control.create_list_view(label="Gold", where="Tier__c = 'Gold'")
    simulator.control.hide_field(sobject="Contact", name="Tier__c")
    with pytest.raises(RunError, match="No such column 'Tier__c' on entity 'Contact'") as error:
        read_contacts(connect(), from_list_view(list_view), run)
    assert error.value.code == "list_view_not_usable"
    assert "'Gold'" not in error.value.detail


@pytest.mark.parametrize("refuses", ["at_creation", "failed_job"])
def test_a_filter_field_that_is_hidden_in_the_middle_of_a_run_is_not_usable(
    simulator: Simulator, connect: Connect, run: RunStaging, refuses: str
) -> None:
    simulator.control.change_options(bulk_refuses_fields=refuses)
    list_view = simulator.control.create_list_view(label="All but Gold", where="Tier__c != 'Gold'")
    hide = {"verb": "hide_field", "arguments": {"sobject": "Contact", "name": "Tier__c"}}
    simulator.control.add_fault(do="control", path="jobs/query$", method="POST", values=hide)
    with pytest.raises(RunError) as error:
        read_contacts(connect(), from_list_view(list_view), run)
    assert error.value.code == "list_view_not_usable"


def test_a_filter_too_long_for_an_address_goes_by_bulk(simulator: Simulator, connect: Connect, run: RunStaging) -> None:
    many = ",".join(f"'{'y' * 70}{number}'" for number in range(300))
    list_view = simulator.control.create_list_view(label="Long", where=f"LastName IN ({many},'Last 1')")
    extraction, _ = read_contacts(connect(**BY_REST), from_list_view(list_view), run)
    assert (extraction.read, extraction.how) == (1, "bulk")


def test_an_address_that_is_too_long_all_the_same_goes_by_bulk(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    simulator.control.add_fault(do="uri_too_long", path=r"/query\?")
    extraction, _ = read_contacts(connect(**BY_REST), everybody, run)
    assert (extraction.read, extraction.how) == (CONTACTS, "bulk")


def test_a_count_that_takes_too_long_does_not_stop_a_reading_in_portions(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    simulator.control.add_fault(do="query_timeout", path=r"/query\?", times=0)
    extraction, _ = read_contacts(connect(**BY_REST), everybody, run)
    assert (extraction.read, extraction.how) == (CONTACTS, "bulk")


# How many


def test_rule_1_5_too_many_contacts_are_refused_before_they_are_read(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    with pytest.raises(RunError) as error:
        read_contacts(connect(), {**everybody, "maximum_contacts": CONTACTS - 1}, run)
    assert error.value.code == "too_many_contacts"
    assert "bulk_create" not in simulator.control.calls()["by_kind"]
    assert not run.exists("contacts/snapshot/part-00001")


def test_rule_1_5_exactly_as_many_as_allowed_are_read(
    connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    extraction, _ = read_contacts(connect(), {**everybody, "maximum_contacts": CONTACTS}, run)
    assert extraction.read == CONTACTS


def test_rule_1_5_contacts_of_other_accounts_do_not_count(
    simulator: Simulator, connect: Connect, run: RunStaging
) -> None:
    linked = ids_in(simulator, "Account")[1:2]
    mine = sum(1 for record in simulator.control.records(sobject="Contact") if record["AccountId"] in linked)
    extraction, _ = read_contacts(connect(), settings_with(maximum_contacts=mine), run, linked=linked)
    assert extraction.read == mine
    with pytest.raises(RunError, match="too_many_contacts"):
        read_contacts(connect(), settings_with(maximum_contacts=mine - 1), run, linked=linked)


def test_a_source_that_grows_beyond_the_limit_while_it_is_read_is_refused_and_its_job_removed(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    create = {"verb": "create", "arguments": {"sobject": "Contact", "records": [{"LastName": "New"}]}}
    simulator.control.add_fault(do="control", path="jobs/query$", method="POST", values=create)
    with pytest.raises(RunError, match="too_many_contacts"):
        read_contacts(connect(), {**everybody, "maximum_contacts": CONTACTS}, run)
    assert simulator.state.jobs.all() == []


# Fields


def mapping(*fields: str) -> dict[str, Any]:
    return {
        "custom_fields": {f"c{number}": {"type": "string"} for number in range(len(fields))},
        "mapping": [
            {"salesforce_field": field, "field": f"custom_fields.c{number}"} for number, field in enumerate(fields)
        ],
    }


@pytest.mark.parametrize("pace", [{}, BY_REST])
def test_fields_come_under_the_names_of_the_mapping_whatever_their_case_and_path(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], pace: dict[str, int]
) -> None:
    fields = ["email", "ACCOUNT.owner.name", "accountid", "Owner.Alias", "Account_Label__c"]
    settings = settings_with({**everybody["contacts"], **mapping(*fields)})
    extraction, contacts = read_contacts(connect(**pace), settings, run)
    assert contacts.column_names == ["Id", "AccountId", *fields]
    assert contacts["AccountId"] == contacts["accountid"]
    assert set(contacts["Owner.Alias"].to_pylist()) == {"integ"}
    without_account = contacts.filter(pa.compute.is_null(contacts["AccountId"]))
    assert set(without_account["ACCOUNT.owner.name"].to_pylist()) == {None}
    assert extraction.field_types["ACCOUNT.owner.name"] == "string"


@pytest.mark.parametrize("change", ["hide_field", "delete_field"])
def test_rule_3_3_a_field_that_is_gone_or_hidden_is_left_out_and_named(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], change: str
) -> None:
    getattr(simulator.control, change)(sobject="Contact", name="Score__c")
    simulator.control.hide_field(sobject="Account", name="Name")
    extraction, contacts = read_contacts(connect(), everybody, run)
    assert extraction.missing_fields == ["Account.Name", "Score__c"]
    assert not {"Score__c", "Account.Name"} & {*contacts.column_names, *extraction.field_types}
    assert extraction.read == CONTACTS


def test_rule_3_3_a_path_through_something_that_does_not_exist_is_missing(
    connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    settings = settings_with(
        {**everybody["contacts"], **mapping("Nope__r.Name", "Name.Name", "Account.Nope", "Account.Owner.Nope", "Email")}
    )
    extraction, contacts = read_contacts(connect(), settings, run)
    assert extraction.missing_fields == ["Nope__r.Name", "Name.Name", "Account.Nope", "Account.Owner.Nope"]
    assert contacts.column_names == ["Id", "AccountId", "Email"]


def test_rule_3_3_a_parent_that_cannot_be_described_makes_its_fields_missing(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    not_found = {"status": 404, "body": '[{"errorCode":"NOT_FOUND","message":"The requested resource does not exist"}]'}
    simulator.control.add_fault(do="answer", path="sobjects/Account/describe", values=not_found)
    extraction, _ = read_contacts(connect(), everybody, run)
    assert extraction.missing_fields == ["Account.Name"]


@pytest.mark.parametrize("pace", [{}, BY_REST])
@pytest.mark.parametrize("refuses", ["at_creation", "failed_job"])
def test_rule_3_3_a_field_that_vanishes_in_the_middle_of_a_run_is_left_out(
    simulator: Simulator,
    connect: Connect,
    run: RunStaging,
    everybody: dict[str, Any],
    pace: dict[str, int],
    refuses: str,
) -> None:
    simulator.control.change_options(bulk_refuses_fields=refuses)
    hide = {"verb": "hide_field", "arguments": {"sobject": "Contact", "name": "Score__c"}}
    path = r"/query\?q=SELECT\+Id" if pace else "jobs/query$"
    simulator.control.add_fault(do="control", path=path, values=hide)
    extraction, contacts = read_contacts(connect(**pace), everybody, run)
    assert extraction.missing_fields == ["Score__c"]
    assert contacts["Id"].to_pylist() == ids_in(simulator, "Contact")
    assert simulator.state.jobs.all() == []


def test_rule_3_3_a_field_that_stays_described_and_refused_is_left_out(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    message = "No such column 'Score__c' on entity 'Contact'."
    refusal = {"status": 400, "body": f'[{{"errorCode":"INVALID_FIELD","message":"{message}"}}]'}
    simulator.control.add_fault(do="answer", path="jobs/query$", method="POST", times=2, values=refusal)
    extraction, _ = read_contacts(connect(), everybody, run)
    assert extraction.missing_fields == ["Score__c"]
    assert extraction.read == CONTACTS


def test_a_query_refused_for_a_reason_of_its_own_is_reported_with_the_reason(
    simulator: Simulator, connect: Connect, run: RunStaging
) -> None:
    refusal = {"status": 400, "body": '[{"errorCode":"MALFORMED_QUERY","message":"unexpected token: q"}]'}
    simulator.control.add_fault(do="answer", path="jobs/query$", method="POST", values=refusal)
    with pytest.raises(RetryableError) as error:
        read_contacts(connect(), settings_with(), run, linked=[])
    assert (error.value.code, error.value.detail) == ("salesforce_unavailable", "MALFORMED_QUERY: unexpected token: q")


def test_rule_3_2_mapping_a_field_of_type_id_fails_the_run(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    simulator.control.add_field(sobject="Contact", name="Twin__c", type="id")
    with pytest.raises(RunError) as error:
        read_contacts(connect(), settings_with({**everybody["contacts"], **mapping("Email", "Twin__c")}), run)
    assert (error.value.code, error.value.detail) == ("contact_id_mapped", "Contact: Twin__c")


def test_a_compound_field_cannot_be_mapped(connect: Connect, run: RunStaging, everybody: dict[str, Any]) -> None:
    with pytest.raises(RunError, match="MailingAddress is of type address") as error:
        read_contacts(connect(), settings_with({**everybody["contacts"], **mapping("MailingAddress")}), run)
    assert error.value.code == "settings_invalid"


def test_a_user_who_may_not_see_the_account_of_a_contact_cannot_sync(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    simulator.control.hide_field(sobject="Contact", name="AccountId")
    with pytest.raises(RunError, match="may not read AccountId") as error:
        read_contacts(connect(), everybody, run)
    assert error.value.code == "settings_invalid"


@pytest.mark.parametrize(("status", "code"), [(404, "NOT_FOUND"), (403, "INSUFFICIENT_ACCESS")])
def test_a_user_who_may_not_see_contacts_cannot_sync(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], status: int, code: str
) -> None:
    refusal = {"status": status, "body": f'[{{"errorCode":"{code}","message":"no"}}]'}
    simulator.control.add_fault(do="answer", path="sobjects/Contact/describe", values=refusal)
    with pytest.raises(RunError, match="Contact cannot be read") as error:
        read_contacts(connect(), everybody, run)
    assert error.value.code == "settings_invalid"


@pytest.mark.parametrize(
    "path", ["sobjects/Contact/describe", "sobjects/Account/describe", "listviews", "queryAll", POLL, RESULTS]
)
def test_a_refusal_that_nobody_foresaw_ends_the_reading_with_its_reason(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], path: str
) -> None:
    refusal = {"status": 400, "body": '[{"errorCode":"SOMETHING_NEW","message":"no"}]'}
    simulator.control.add_fault(do="answer", path=path, times=0, values=refusal)
    with pytest.raises(RetryableError, match="SOMETHING_NEW: no") as error:
        read_contacts(connect(), everybody, run)
    assert error.value.code == "salesforce_unavailable"


# Faults from which a reading recovers

SOMEWHERE = ["sobjects/Contact/describe", CREATE, POLL, RESULTS]
TRANSIENT = [
    "session_expired", "session_expired_html", "http_420", "http_429", "server_error", "unavailable", "unavailable_html", "bad_gateway",
    "gateway_timeout", "concurrent_limit", "query_timeout", "reset",
]  # fmt: skip


@pytest.mark.parametrize("path", SOMEWHERE)
@pytest.mark.parametrize("fault", TRANSIENT)
def test_a_passing_fault_changes_nothing_wherever_it_happens(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], fault: str, path: str
) -> None:
    simulator.control.add_fault(do=fault, path=path)
    extraction, contacts = read_contacts(connect(), everybody, run)
    assert contacts["Id"].to_pylist() == ids_in(simulator, "Contact")
    assert extraction.received == CONTACTS


@pytest.mark.parametrize(
    ("fault", "values"),
    [
        ("cut_body", {"share": 0.6}),
        ("close_early", {"share": 0.6}),
        ("wrong_count", {}),
        ("drop_rows", {}),
        ("duplicate_page", {}),
        ("no_charset", {}),
        ("nul", {}),
        ("gzip", {}),
        ("dead_locator", {}),
        ("slow", {"seconds": 0.1}),
        ("answer", {"body": "<html>maintenance</html>"}),
    ],
)
@pytest.mark.parametrize("nth", [2, 4])
def test_a_damaged_page_of_a_bulk_job_is_read_again(
    simulator: Simulator,
    connect: Connect,
    run: RunStaging,
    everybody: dict[str, Any],
    fault: str,
    values: dict[str, Any],
    nth: int,
) -> None:
    simulator.control.add_fault(do=fault, path=RESULTS, nth=nth, values=values)
    extraction, contacts = read_contacts(connect(), everybody, run)
    assert contacts["Id"].to_pylist() == ids_in(simulator, "Contact")
    assert (extraction.received, extraction.pages) == (CONTACTS, 4)


@pytest.mark.parametrize("fault", [*TRANSIENT, "cut_body", "close_early", "dead_locator"])
@pytest.mark.parametrize("nth", [1, 3])
def test_a_fault_at_a_later_page_by_rest_changes_nothing(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], fault: str, nth: int
) -> None:
    """After a new login the old cursor is dead, so the reading begins again."""
    simulator.control.add_fault(do=fault, path=MORE, nth=nth)
    extraction, contacts = read_contacts(connect(**BY_REST), everybody, run)
    assert contacts["Id"].to_pylist() == ids_in(simulator, "Contact")
    assert extraction.received == CONTACTS


def test_a_session_that_expires_between_two_pages_is_renewed(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    expire = {"verb": "expire_sessions"}
    simulator.control.add_fault(do="control", path=MORE, nth=2, values=expire)
    _, contacts = read_contacts(connect(**BY_REST), everybody, run)
    assert contacts["Id"].to_pylist() == ids_in(simulator, "Contact")
    assert simulator.control.calls()["by_kind"]["token"] == 2


def test_a_session_that_expires_after_the_download_still_lets_the_job_be_deleted(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    simulator.control.add_fault(do="control", path="jobs/query/", method="DELETE", values={"verb": "expire_sessions"})
    extraction, _ = read_contacts(connect(), everybody, run)
    assert extraction.read == CONTACTS
    assert simulator.state.jobs.all() == []


def test_a_job_that_cannot_be_deleted_is_left_behind_with_a_warning(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    simulator.control.add_fault(do="unavailable_html", path="jobs/query/", method="DELETE", times=0)
    extraction, _ = read_contacts(connect(), everybody, run)
    assert extraction.read == CONTACTS
    assert "could not be deleted in Salesforce" in caplog.text


def test_a_job_that_vanishes_is_made_again(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    not_found = {"status": 404, "body": '[{"errorCode":"NOT_FOUND","message":"The requested resource does not exist"}]'}
    simulator.control.add_fault(do="answer", path=POLL, values=not_found)
    extraction, _ = read_contacts(connect(), everybody, run)
    assert extraction.read == CONTACTS
    assert simulator.control.calls()["by_kind"]["bulk_create"] == 2


def test_a_page_that_is_sent_in_place_of_another_is_noticed_by_its_ids_and_all_is_read_again(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    """Rule 6.4: the counts are right, the set of ids is not."""
    simulator.control.add_fault(do="duplicate_page", path=RESULTS, nth=3)
    lines: list[str] = []
    _, contacts = read_contacts(connect(page_rows=6), everybody, run, progress=lines.append)
    assert contacts["Id"].to_pylist() == ids_in(simulator, "Contact")
    assert any("twice; reading again from the start" in line for line in lines)


# Faults that end a reading


@pytest.mark.parametrize(
    ("fault", "path", "code", "reason"),
    [
        ("request_limit", "queryAll", "api_limit", "TotalRequests Limit exceeded."),
        ("bulk_limit", CREATE, "api_limit", "Max bulk v2 query jobs"),
        ("api_disabled", "describe", "api_disabled", "not enabled for this Organization"),
        ("session_expired", "describe", "login_failed", "refused after every new login"),
        ("session_expired_html", RESULTS, "login_failed", "refused after every new login"),
        ("http_420", RESULTS, "salesforce_unavailable", "HTTP 420"),
        ("http_429", POLL, "salesforce_unavailable", "HTTP 429"),
        ("server_error", CREATE, "salesforce_unavailable", "UNKNOWN_EXCEPTION"),
        ("unavailable_html", "listviews", "salesforce_unavailable", "HTTP 503"),
        ("concurrent_limit", "describe", "salesforce_unavailable", "ConcurrentRequests"),
        ("query_timeout", CREATE, "salesforce_unavailable", "QUERY_TIMEOUT: Your query request was running for too long."),
        ("reset", RESULTS, "salesforce_unavailable", "ConnectionError"),
        ("close_early", RESULTS, "salesforce_unavailable", "ChunkedEncodingError"),
        ("dead_locator", RESULTS, "salesforce_unavailable", "INVALID_QUERY_LOCATOR"),
        ("cut_body", RESULTS, "not_balanced", "cut off"),
        ("wrong_count", RESULTS, "not_balanced", "announced 7 records and holds 6"),
        ("drop_rows", RESULTS, "not_balanced", "announced 6 records and holds 5"),
        ("job_failed", CREATE, "salesforce_unavailable", "Retried more than fifteen times"),
        ("job_aborted", CREATE, "salesforce_unavailable", "was aborted in Salesforce"),
        ("job_aborted", POLL, "salesforce_unavailable", "was aborted in Salesforce"),
        ("job_stuck", CREATE, "salesforce_unavailable", "was still InProgress after"),
    ],
)  # fmt: skip
def test_a_fault_that_stays_ends_the_reading_with_its_code_and_reason(
    simulator: Simulator,
    connect: Connect,
    run: RunStaging,
    everybody: dict[str, Any],
    fault: str,
    path: str,
    code: str,
    reason: str,
) -> None:
    simulator.control.add_fault(do=fault, path=path, times=0)
    with pytest.raises(RunError) as error:
        read_contacts(connect(job_seconds=0.1), everybody, run)
    assert error.value.code == code
    assert reason in error.value.detail
    assert isinstance(error.value, RetryableError) == (code in {"api_limit", "salesforce_unavailable", "not_balanced"})


@pytest.mark.parametrize("fault", ["job_failed", "job_aborted", "job_stuck"])
def test_a_job_that_never_completes_is_removed(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], fault: str
) -> None:
    simulator.control.add_fault(do=fault, path=CREATE, times=0)
    with pytest.raises(RetryableError):
        read_contacts(connect(job_seconds=0.1), everybody, run)
    assert simulator.state.jobs.all() == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("QUERY_TIMEOUT: Your query request was running for too long.", "salesforce_unavailable"),
        (
            "LIMIT_EXCEEDED: Max bulk v2 query result size stored (1000000000) kb per 24 hrs has been exceeded",
            "api_limit",
        ),
        ("API_DISABLED_FOR_ORG: API is not enabled", "api_disabled"),
    ],
)
def test_a_failed_jobs_reason_is_translated(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], message: str, code: str
) -> None:
    simulator.control.add_fault(do="job_failed", path=CREATE, values={"message": message})
    with pytest.raises(RunError) as error:
        read_contacts(connect(), everybody, run)
    assert (error.value.code, error.value.detail) == (code, message)


def test_a_count_that_stays_wrong_is_read_once_more_and_no_more(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    """Rule 6.4: a part that does not balance is read once more from the start."""
    body = '{"totalSize":9,"done":true,"records":[{"Id":"003000000000001AAA","AccountId":null,"Email":null}]}'
    simulator.control.add_fault(do="answer", path=r"/query\?q=SELECT\+Id", times=0, values={"body": body})
    settings = settings_with({**everybody["contacts"], "mapping": [{"salesforce_field": "Email", "field": "email"}]})
    with pytest.raises(RetryableError) as error:
        read_contacts(connect(**BY_REST), settings, run)
    assert (error.value.code, error.value.detail) == (
        "not_balanced",
        "Salesforce announced 9 records and sent 1; read 2 times from the start",
    )


def test_pages_that_lead_in_a_circle_end_as_not_balanced(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any]
) -> None:
    record = '{"Id":"003000000000001AAA","AccountId":null,"Email":null}'
    body = f'{{"totalSize":3,"done":false,"nextRecordsUrl":"/services/data/v66.0/query/01g-2","records":[{record},{record}]}}'
    simulator.control.add_fault(do="answer", path=r"/query\?q=SELECT\+Id|01g-2", times=0, values={"body": body})
    settings = settings_with({**everybody["contacts"], "mapping": [{"salesforce_field": "Email", "field": "email"}]})
    with pytest.raises(RetryableError, match="announced 3 records and sent more") as error:
        read_contacts(connect(**BY_REST), settings, run)
    assert error.value.code == "not_balanced"


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "[]",
        '{"totalSize":1,"done":false,"records":[]}',
        '{"totalSize":1,"done":true,"records":[{"Id":"003000000000001AAA"}]}',
        '{"totalSize":1,"done":true,"records":[{"Id":null,"AccountId":null,"Email":null}]}',
        '{"totalSize":1,"done":true,"records":[{"Id":"x","AccountId":null,"Email":null}]}',
        '{"totalSize":1,"done":true,"records":[{"Id":"003000000000001AAA","AccountId":null,"Email":{"a":1}}]}',
    ],
)
def test_a_page_of_json_that_lacks_something_is_damaged(
    simulator: Simulator, connect: Connect, run: RunStaging, everybody: dict[str, Any], body: str
) -> None:
    simulator.control.add_fault(do="answer", path=r"/query\?q=SELECT\+Id", times=0, values={"body": body})
    settings = settings_with({**everybody["contacts"], "mapping": [{"salesforce_field": "Email", "field": "email"}]})
    with pytest.raises(RetryableError) as error:
        read_contacts(connect(**BY_REST), settings, run)
    assert error.value.code == "not_balanced"
