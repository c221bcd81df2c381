"""List views: their three addresses, the traps in them, and that scope and filter are really evaluated."""

import pytest

from include.salesforce_simulator.generate import ACTIVE_CUSTOMERS_VIEW, CUSTOMER_ACCOUNTS_VIEW, MY_CONTACTS_VIEW
from tests.salesforce_simulator.conftest import Api, create_contacts

VIEWS = "/sobjects/Contact/listviews"


def described(api: Api, view: str, sobject: str = "Contact") -> dict[str, object]:
    answer = api.get(f"/sobjects/{sobject}/listviews/{view}/describe")
    assert answer.ok, answer.text
    return dict(answer.json())


def test_the_list_names_the_views_with_18_characters(api: Api) -> None:
    listed = api.get(VIEWS).json()
    assert (listed["done"], listed["size"], listed["sobjectType"], listed["nextRecordsUrl"]) == (
        True,
        2,
        "Contact",
        None,
    )
    assert listed["listviews"][0] == {
        "describeUrl": f"/services/data/v66.0{VIEWS}/{ACTIVE_CUSTOMERS_VIEW}/describe",
        "developerName": "Active_Customers",
        "id": ACTIVE_CUSTOMERS_VIEW,
        "label": "Active Customers",
        "resultsUrl": f"/services/data/v66.0{VIEWS}/{ACTIVE_CUSTOMERS_VIEW}/results",
        "soqlCompatible": True,
        "url": f"/services/data/v66.0{VIEWS}/{ACTIVE_CUSTOMERS_VIEW}",
    }
    assert [view["id"] for view in api.get("/sobjects/Account/listviews").json()["listviews"]] == [
        CUSTOMER_ACCOUNTS_VIEW
    ]


def test_the_list_comes_in_pages(api: Api) -> None:
    first = api.get(VIEWS, limit=1).json()
    second = api.session.get(api.sim.url + first["nextRecordsUrl"], timeout=20).json()
    assert (first["done"], second["done"]) == (False, True)
    assert [page["listviews"][0]["id"] for page in (first, second)] == [ACTIVE_CUSTOMERS_VIEW, MY_CONTACTS_VIEW]


def test_one_view_is_one_element_of_the_list(api: Api) -> None:
    assert api.get(f"{VIEWS}/{MY_CONTACTS_VIEW[:15]}").json() == api.get(VIEWS).json()["listviews"][1]


def test_the_describe_has_15_characters_labels_parents_and_an_order(api: Api) -> None:
    view = described(api, ACTIVE_CUSTOMERS_VIEW)
    assert view["id"] == ACTIVE_CUSTOMERS_VIEW[:15]
    assert view["query"] == (
        "SELECT Name, Account.Name, toLabel(Tier__c), Phone, Email, Owner.Alias, Id, CreatedDate, LastModifiedDate, SystemModstamp FROM "
        "Contact WHERE Account.Type = 'Customer' AND Tier__c IN ('Gold', 'Silver') ORDER BY Name ASC NULLS FIRST, Id ASC NULLS FIRST"
    )
    assert view["scope"] is None
    assert view["whereCondition"] == {
        "conjunction": "and",
        "conditions": [
            {"field": "Account.Type", "operator": "equals", "values": ["'Customer'"]},
            {"field": "Tier__c", "operator": "in", "values": ["'Gold'", "'Silver'"]},
        ],
    }
    assert [column["fieldNameOrPath"] for column in view["columns"] if column["hidden"]] == [  # type: ignore[attr-defined]
        "Id",
        "CreatedDate",
        "LastModifiedDate",
        "SystemModstamp",
    ]


def test_the_described_query_finds_what_its_filter_says(api: Api) -> None:
    query = str(described(api, ACTIVE_CUSTOMERS_VIEW)["query"])
    customers = {one["Id"] for one in api.sim.control.records(sobject="Account") if one["Type"] == "Customer"}
    expected = {
        one["Id"]
        for one in api.sim.control.records(sobject="Contact")
        if one["AccountId"] in customers and one["Tier__c"] in {"Gold", "Silver"}
    }
    found = api.query(query)
    assert {record["Id"] for record in found["records"]} == expected
    assert len(expected) > 100


def test_mine_means_the_connected_user(api: Api) -> None:
    view = described(api, MY_CONTACTS_VIEW)
    assert view["scope"] == "mine"
    assert "FROM Contact USING SCOPE mine ORDER BY" in str(view["query"])
    me = api.sim.organisation.integration_user.id
    expected = {one["Id"] for one in api.sim.control.records(sobject="Contact") if one["OwnerId"] == me}
    assert {record["Id"] for record in api.query(str(view["query"]))["records"]} == expected
    api.sim.control.change_app(run_as="amara@demo.example")
    api.log_in()
    assert expected.isdisjoint(record["Id"] for record in api.query(str(view["query"]))["records"])


@pytest.mark.parametrize("case", ["lower", "upper"])
def test_the_query_may_come_in_another_case_but_its_texts_do_not(api: Api, case: str) -> None:
    view = api.sim.control.create_list_view(label="Quotes", where="LastName LIKE 'O\\'Br%' AND Email != null")
    expected = api.query(str(described(api, view)["query"]))["totalSize"]
    api.sim.control.change_options(list_view_query_case=case)
    query = str(described(api, view)["query"])
    assert getattr(str, case)("select name") in query
    assert "'O\\'Br%'" in query
    assert api.query(query)["totalSize"] == expected > 0


def test_groups_and_negations_are_described_as_trees(api: Api) -> None:
    view = api.sim.control.create_list_view(label="Tree", where="NOT (Score__c > 5 OR Renewal__c = LAST_N_DAYS:3)")
    assert described(api, view)["whereCondition"] == {
        "condition": {
            "conjunction": "or",
            "conditions": [
                {"field": "Score__c", "operator": "greaterThan", "values": ["5"]},
                {"field": "Renewal__c", "operator": "equals", "values": ["LAST_N_DAYS:3"]},
            ],
        }
    }


def test_results_are_25_rows_of_texts_unless_more_are_asked_for(api: Api) -> None:
    [made] = create_contacts(api.sim, {"LastName": "  AAA", "Newsletter__c": True})
    view = api.sim.control.create_list_view(label="All", columns=["Name", "Newsletter__c", "Title"])
    shown = api.get(f"{VIEWS}/{view}/results").json()
    assert (shown["size"], len(shown["records"]), shown["done"], shown["id"]) == (25, 25, False, view[:15])
    row = next(one for one in shown["records"] if {"fieldNameOrPath": "Id", "value": made} in one["columns"])
    values = {column["fieldNameOrPath"]: column["value"] for column in row["columns"]}
    assert (values["Newsletter__c"], values["Title"]) == ("true", None)
    assert values["CreatedDate"].split()[4] == "GMT"
    assert api.get(f"{VIEWS}/{view}/results", limit=2000).json()["size"] == 1989
    for parameters, code in (
        ({"limit": 2001}, "NUMBER_OUTSIDE_VALID_RANGE"),
        ({"limit": "x"}, "INVALID_QUERY_FILTER_OPERATOR"),
    ):
        assert api.get(f"{VIEWS}/{view}/results", **parameters).json()[0]["errorCode"] == code


def test_a_view_that_soql_cannot_express_has_no_query(api: Api) -> None:
    view = api.sim.control.create_list_view(label="By territory", soql_compatible=False)
    assert api.get(f"{VIEWS}/{view}").json()["soqlCompatible"] is False
    assert described(api, view)["query"] is None
    assert api.get(f"{VIEWS}/{view}/results").status_code == 400


def test_a_view_on_a_hidden_field_is_described_but_its_query_refused(api: Api) -> None:
    api.sim.control.hide_field(sobject="Contact", name="Tier__c")
    status, code, message = api.refusal(str(described(api, ACTIVE_CUSTOMERS_VIEW)["query"]))
    assert (status, code) == (400, "INVALID_FIELD")
    assert "No such column 'Tier__c'" in message


def test_a_deleted_and_an_unshared_view_look_the_same(api: Api) -> None:
    control = api.sim.control
    control.delete_list_view(id=ACTIVE_CUSTOMERS_VIEW)
    control.unshare_list_view(id=MY_CONTACTS_VIEW[:15])
    answers = [api.get(f"{VIEWS}/{view}/describe") for view in (ACTIVE_CUSTOMERS_VIEW, MY_CONTACTS_VIEW, "nonsense")]
    assert [(one.status_code, one.json()[0]["errorCode"]) for one in answers] == [(404, "NOT_FOUND")] * 3
    assert api.get(VIEWS).json()["listviews"] == []
    assert api.values("SELECT Id FROM ListView WHERE SobjectType = 'Contact'") == []
    control.share_list_view(id=MY_CONTACTS_VIEW)
    assert api.values("SELECT Id FROM ListView WHERE SobjectType = 'Contact'") == [MY_CONTACTS_VIEW]


def test_a_view_can_be_changed(api: Api) -> None:
    api.sim.control.update_list_view(id=MY_CONTACTS_VIEW, scope="everything", where="Email = null")
    assert "WHERE Email = null" in str(described(api, MY_CONTACTS_VIEW)["query"])
