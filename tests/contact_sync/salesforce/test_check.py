"""What `settings check` finds out from Salesforce before a run would."""

from collections.abc import Callable
from typing import Any

import pytest

from include.contact_sync.salesforce import Salesforce
from include.contact_sync.salesforce.check import check_settings
from include.contact_sync.settings import parse_settings
from include.salesforce_simulator.server import Simulator
from tests.contact_sync.salesforce.organisation import CONTACTS, settings_with

Connect = Callable[..., Salesforce]


def faults(salesforce: Salesforce, settings: dict[str, Any]) -> list[str]:
    return [sentence.partition(":")[0] for sentence in check_settings(salesforce, parse_settings(settings))]


def test_settings_that_salesforce_agrees_with_have_no_fault(simulator: Simulator, connect: Connect) -> None:
    list_view = simulator.control.create_list_view(label="All", where="LastName != 'x'")
    assert faults(connect(), settings_with()) == []
    assert faults(connect(), settings_with({"source": {"list_view": list_view}})) == []


def test_every_fault_is_found_at_once_and_says_where(simulator: Simulator, connect: Connect) -> None:
    simulator.control.hide_field(sobject="Account", name="Website")
    simulator.control.add_field(sobject="Contact", name="Twin__c", type="id")
    settings = settings_with(
        {
            "source": {"list_view": "00B000000000001"},
            "custom_fields": {"a": {"type": "string"}},
            "mapping": [
                {"salesforce_field": "Nope__c", "field": "name"},
                {"salesforce_field": "Twin__c", "field": "email"},
                {"salesforce_field": "MailingAddress", "field": "custom_fields.a"},
            ],
        }
    )
    sentences = check_settings(connect(), parse_settings(settings))
    assert [sentence.partition(":")[0] for sentence in sentences] == [
        "field_not_found",
        "field_not_found",
        "contact_id_mapped",
        "settings_invalid",
        "list_view_not_found",
    ]
    assert "Account: Website" in sentences[0]
    assert "Contact: Nope__c" in sentences[1]
    assert "Contact: Twin__c" in sentences[2]
    assert "MailingAddress is of type address" in sentences[3]
    assert "00B000000000001EAA" in sentences[4]


def test_a_part_that_is_off_is_not_asked_about(simulator: Simulator, connect: Connect) -> None:
    simulator.control.hide_field(sobject="Account", name="Website")
    list_view = simulator.control.create_list_view(label="All")
    assert faults(connect(), settings_with({"source": {"list_view": list_view}}, {"enabled": False})) == []


def test_a_list_view_on_a_hidden_field_is_found_out(simulator: Simulator, connect: Connect) -> None:
    list_view = simulator.control.create_list_view(label="Gold", where="Tier__c = 'Gold'")
    simulator.control.hide_field(sobject="Contact", name="Tier__c")
    assert faults(connect(), settings_with({"source": {"list_view": list_view}})) == ["list_view_not_usable"]


def test_a_list_view_without_soql_is_found_out(simulator: Simulator, connect: Connect) -> None:
    list_view = simulator.control.create_list_view(label="Odd", soql_compatible=False)
    assert faults(connect(), settings_with({"source": {"list_view": list_view}})) == ["list_view_not_usable"]


def test_rule_1_5_a_list_view_that_is_too_large_is_found_out(simulator: Simulator, connect: Connect) -> None:
    list_view = simulator.control.create_list_view(label="All")
    settings = settings_with({"source": {"list_view": list_view}}, maximum_contacts=CONTACTS - 1)
    assert faults(connect(), settings) == ["too_many_contacts"]


def test_a_hidden_account_id_is_found_out(simulator: Simulator, connect: Connect) -> None:
    simulator.control.hide_field(sobject="Contact", name="AccountId")
    assert faults(connect(), settings_with()) == ["settings_invalid"]


@pytest.mark.parametrize("path", ["describe", r"query\?", "listviews"])
def test_what_would_hide_every_other_fault_ends_the_check(simulator: Simulator, connect: Connect, path: str) -> None:
    list_view = simulator.control.create_list_view(label="All")
    simulator.control.add_fault(do="request_limit", path=path, times=0)
    assert faults(connect(), settings_with({"source": {"list_view": list_view}})) == ["api_limit"]


def test_a_user_without_api_permission_is_found_out_once(simulator: Simulator, connect: Connect) -> None:
    simulator.control.change_user(api_enabled=False)
    assert faults(connect(), settings_with()) == ["api_disabled"]
