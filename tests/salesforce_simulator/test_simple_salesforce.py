"""An outside client, simple-salesforce and the Airflow provider's hook as they are, works against the simulator."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from airflow.providers.salesforce.hooks.salesforce import SalesforceHook
from simple_salesforce import Salesforce, SalesforceAuthenticationFailed, SalesforceMalformedRequest

from include.salesforce_simulator.generate import ACTIVE_CUSTOMERS_VIEW
from include.salesforce_simulator.server import Simulator


@pytest.fixture
def trusted(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", sim.ca_file)
    return sim


@pytest.fixture
def client(trusted: Simulator) -> Iterator[Salesforce]:
    with requests.Session() as session:
        yield log_in(trusted, session)


def log_in(sim: Simulator, session: requests.Session, kind: str = "password", **changes: Any) -> Salesforce:
    connection = sim.connection(kind)
    names = {"private_key": "privatekey"}
    extra = {names.get(name, name): value for name, value in connection["extra"].items()}
    arguments = {"username": connection.get("login"), "password": connection.get("password"), **extra, **changes}
    return Salesforce(session=session, **arguments)


@pytest.mark.parametrize("kind", ["password", "client_credentials", "jwt", "oauth_password"])
def test_every_kind_of_login_works(trusted: Simulator, kind: str) -> None:
    with requests.Session() as session:
        client = log_in(trusted, session, kind)
        assert f"https://{client.sf_instance}" == trusted.url
        assert client.query("SELECT count() FROM Contact")["totalSize"] == 1988


@pytest.mark.parametrize("kind", ["password", "client_credentials", "jwt", "oauth_password"])
def test_the_hook_of_the_airflow_provider_connects(
    trusted: Simulator, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_SALESFORCE_SIMULATED", json.dumps(trusted.connection(kind)))
    with requests.Session() as session:
        hook = SalesforceHook("salesforce_simulated", session=session)
        assert hook.get_conn().limits()["DailyApiRequests"]["Max"] == 100_000


def test_a_session_of_another_login_can_be_used(client: Salesforce, trusted: Simulator) -> None:
    with requests.Session() as session:
        second = Salesforce(session_id=client.session_id, instance_url=trusted.url, session=session)
        assert len(second.Contact.describe()["fields"]) > 60


def test_a_wrong_password_is_told(trusted: Simulator) -> None:
    with requests.Session() as session, pytest.raises(SalesforceAuthenticationFailed, match="INVALID_LOGIN"):
        log_in(trusted, session, password="wrong")


def test_a_lost_session_is_replaced(client: Salesforce, trusted: Simulator) -> None:
    trusted.control.expire_sessions()
    assert client.query("SELECT count() FROM Account")["totalSize"] == 300
    assert trusted.control.calls()["by_kind"]["soap_login"] == 2


def test_queries_and_their_pages_can_be_read(client: Salesforce, trusted: Simulator) -> None:
    trusted.control.change_options(page_size=300)
    seen = {record["Id"] for record in client.query_all_iter("SELECT Id, Account.Name FROM Contact")}
    assert len(seen) == 1988
    assert client.query_all("SELECT Id FROM Contact", include_deleted=True)["totalSize"] == 2000
    with pytest.raises(SalesforceMalformedRequest) as refused:
        client.query("SELECT Nope FROM Contact")
    assert refused.value.content[0]["errorCode"] == "INVALID_FIELD"


def test_describe_limits_and_usage_can_be_read(client: Salesforce) -> None:
    assert {one["name"] for one in client.describe()["sobjects"]} >= {"Contact", "Account"}
    assert client.Account.describe()["label"] == "Account"
    assert client.limits()["DailyApiRequests"]["Remaining"] < 100_000
    assert client.api_usage["api-usage"].total == 100_000
    assert client.is_sandbox() is False


def test_one_record_and_changed_ones_can_be_read(client: Salesforce, trusted: Simulator) -> None:
    [made] = trusted.control.create(sobject="Contact", records=[{"LastName": "Single"}], at="2026-08-01T12:00:30+00:00")
    assert client.Contact.get(made)["LastName"] == "Single"
    window = ("2026-08-01T11:59:00%2B00:00", "2026-08-01T12:02:00%2B00:00")
    query = f"sobjects/Contact/updated/?start={window[0]}&end={window[1]}"
    assert client.restful(query)["ids"] == [made]


def test_list_views_can_be_read(client: Salesforce) -> None:
    listed = client.restful("sobjects/Contact/listviews")
    assert ACTIVE_CUSTOMERS_VIEW in {view["id"] for view in listed["listviews"]}
    described = client.restful(f"sobjects/Contact/listviews/{ACTIVE_CUSTOMERS_VIEW}/describe")
    assert client.query(described["query"])["totalSize"] > 100


def test_a_bulk_query_can_be_read(client: Salesforce, trusted: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("simple_salesforce.bulk2.sleep", lambda seconds: None)
    pages = list(client.bulk2.Contact.query("SELECT Id, LastName, Description FROM Contact", max_records=900))
    rows = [row for page in pages for row in csv.DictReader(io.StringIO(page, newline=""))]
    assert (len(pages), len({row["Id"] for row in rows})) == (3, 1988)
    expected = {one["Id"]: one["LastName"] for one in trusted.control.records(sobject="Contact")}
    assert {row["Id"]: row["LastName"] for row in rows} == expected
