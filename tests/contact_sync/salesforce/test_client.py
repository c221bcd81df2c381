"""What the rest of the product asks of Salesforce beside the records."""

from collections.abc import Callable

import pytest

from include.contact_sync.salesforce import Salesforce
from include.contact_sync.salesforce.list_views import ListView
from include.salesforce_simulator.server import Simulator

Connect = Callable[..., Salesforce]


def test_a_records_address_has_the_long_id(simulator: Simulator, connect: Connect) -> None:
    with connect() as salesforce:
        assert salesforce.url == simulator.url
        assert (
            salesforce.record_url("Contact", "003000000000001")
            == f"{simulator.url}/lightning/r/Contact/003000000000001AAA/view"
        )


def test_describe_names_the_fields_that_the_user_may_read_with_their_types(
    simulator: Simulator, connect: Connect
) -> None:
    simulator.control.hide_field(sobject="Contact", name="Phone")
    fields = connect().describe("Contact")
    assert (fields["Id"], fields["Email"], fields["MailingAddress"], fields["Score__c"]) == (
        "id",
        "email",
        "address",
        "double",
    )
    assert "Phone" not in fields


def test_the_list_views_that_a_sync_can_use_are_offered(simulator: Simulator, connect: Connect) -> None:
    good = simulator.control.create_list_view(label="Good ones")
    simulator.control.create_list_view(label="Odd", soql_compatible=False)
    hidden = simulator.control.create_list_view(label="Hidden")
    simulator.control.unshare_list_view(id=hidden)
    assert connect().list_views("Contact") == [ListView(good, "Good ones", "Good_ones")]


def test_list_views_on_several_pages_are_all_offered(simulator: Simulator, connect: Connect) -> None:
    view = '{"id":"00B00000000000%d","label":"L%d","developerName":"D%d","soqlCompatible":true}'
    for number, following in ((1, '"/services/data/v66.0/sobjects/Contact/listviews?page=2"'), (2, "null")):
        entry = view % (number, number, number)
        body = f'{{"done":true,"listviews":[{entry}],"nextRecordsUrl":{following}}}'
        path = r"listviews\?page=2" if number == 2 else "listviews$"
        simulator.control.add_fault(do="answer", path=path, values={"body": body})
    offered = connect().list_views("Contact")
    assert [view.label for view in offered] == ["L1", "L2"]
    assert {len(view.id) for view in offered} == {18}


@pytest.mark.parametrize("sobject", ["Contact", "Account"])
def test_an_organisation_without_list_views_offers_none(connect: Connect, sobject: str) -> None:
    assert connect().list_views(sobject) == []
