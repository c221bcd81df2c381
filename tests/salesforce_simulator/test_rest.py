"""The REST API: versions, query pages, describe, records, changes and limits."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from include.salesforce_simulator import schema
from tests.salesforce_simulator.conftest import Api, create_contacts

DESCRIBE_KEYS = """
aggregatable aiPredictionField autoNumber byteLength calculated calculatedFormula cascadeDelete caseSensitive compoundFieldName
controllerName createable custom defaultValue defaultValueFormula defaultedOnCreate dependentPicklist deprecatedAndHidden digits
displayLocationInDecimal encrypted externalId extraTypeInfo filterable filteredLookupInfo formulaTreatNullNumberAsZero groupable
highScaleNumber htmlFormatted idLookup inlineHelpText label length mask maskType name nameField namePointing nillable permissionable
picklistValues polymorphicForeignKey precision queryByDistance referenceTargetField referenceTo relationshipName relationshipOrder
restrictedDelete restrictedPicklist scale searchPrefilterable soapType sortable type unique updateable writeRequiresMasterRead
"""
STANDARD_CONTACT_FIELDS = 59


def test_the_versions_59_to_68_are_there(api: Api) -> None:
    listed = api.session.get(f"{api.sim.url}/services/data/", timeout=20).json()
    assert [one["version"] for one in listed] == [f"{number}.0" for number in range(59, 69)]
    assert all(api.call("GET", "/limits", version=one["version"]).ok for one in listed)
    assert api.get("/").json()["query"] == "/services/data/v66.0/query"


def test_the_content_type_is_named_in_salesforces_letters(api: Api) -> None:
    assert "Content-Type" in list(api.get("/limits").headers)


@pytest.mark.parametrize(
    ("version", "status", "code"),
    [("30.0", 410, "GONE"), ("58.0", 410, "GONE"), ("99.0", 404, "NOT_FOUND"), ("x", 404, "NOT_FOUND")],
)
def test_another_version_is_refused(api: Api, version: str, status: int, code: str) -> None:
    answer = api.call("GET", "/limits", version=version)
    assert (answer.status_code, answer.json()[0]["errorCode"]) == (status, code)


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/sobjects/Nothing/describe", "/sobjects/Nothing/listviews", "/sobjects/Contact/003000000000000"],
)
def test_what_is_not_there_is_not_found(api: Api, path: str) -> None:
    answer = api.get(path)
    assert (answer.status_code, answer.json()) == (
        404,
        [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}],
    )


def test_describe_shows_the_recorded_fields_with_every_key(api: Api) -> None:
    described = api.get("/sobjects/contact/describe").json()
    fields = {field["name"]: field for field in described["fields"]}
    assert all(sorted(field) == sorted(DESCRIBE_KEYS.split()) for field in fields.values())
    assert sum(not field["custom"] for field in fields.values()) == STANDARD_CONTACT_FIELDS
    assert (described["name"], described["keyPrefix"], described["urls"]["listviews"]) == (
        "Contact",
        "003",
        "/services/data/v66.0/sobjects/Contact/listviews",
    )


def test_the_email_field_is_described_as_recorded(api: Api) -> None:
    email = next(field for field in api.get("/sobjects/Contact/describe").json()["fields"] if field["name"] == "Email")
    expected = {
        "byteLength": 240,
        "type": "email",
        "length": 80,
        "idLookup": True,
        "filterable": True,
        "soapType": "xsd:string",
        "label": "Email",
    }
    assert email | expected == email
    assert (email["aggregatable"], email["groupable"], email["nillable"], email["unique"]) == (True, True, True, False)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "Id",
            {
                "type": "id",
                "soapType": "tns:ID",
                "nillable": False,
                "updateable": False,
                "idLookup": True,
                "defaultedOnCreate": True,
            },
        ),
        ("IsDeleted", {"type": "boolean", "aggregatable": False, "nillable": False}),
        (
            "Description",
            {"type": "textarea", "filterable": False, "sortable": False, "groupable": False, "length": 32000},
        ),
        ("MailingAddress", {"type": "address", "soapType": "urn:address", "sortable": False, "queryByDistance": True}),
        ("AccountId", {"type": "reference", "referenceTo": ["Account"], "relationshipName": "Account"}),
        ("SystemModstamp", {"type": "datetime", "groupable": False, "updateable": False, "nillable": False}),
        ("Account_Label__c", {"calculated": True, "custom": True, "createable": False, "updateable": False}),
        ("Score__c", {"type": "double", "soapType": "xsd:double"}),
    ],
)
def test_a_field_is_described_as_the_platform_does(api: Api, name: str, expected: dict[str, object]) -> None:
    field = next(one for one in api.get("/sobjects/Contact/describe").json()["fields"] if one["name"] == name)
    assert field | expected == field


def test_describe_hides_what_the_user_may_not_read_and_what_was_deleted_alike(api: Api) -> None:
    api.sim.control.hide_field(sobject="Contact", name="Title")
    api.sim.control.delete_field(sobject="Contact", name="Twitter__c")
    api.sim.control.add_field(sobject="Contact", name="Shoe_Size__c", type="double", length=0)
    names = {field["name"] for field in api.get("/sobjects/Contact/describe").json()["fields"]}
    assert names.isdisjoint({"Title", "Twitter__c"})
    assert "Shoe_Size__c" in names
    for name in ("Title", "Twitter__c"):
        assert api.refusal(f"SELECT {name} FROM Contact")[:2] == (400, "INVALID_FIELD")
    assert api.values("SELECT Shoe_Size__c FROM Contact LIMIT 1") == [None]
    api.sim.control.show_field(sobject="Contact", name="Title")
    assert api.query("SELECT Title FROM Contact LIMIT 1")["totalSize"] == 1


def test_all_objects_are_listed(api: Api) -> None:
    names = [one["name"] for one in api.get("/sobjects").json()["sobjects"]]
    assert names == ["Contact", "Account", "User", "Organization", "ListView"]


def test_a_count_has_no_records(api: Api) -> None:
    assert api.query("SELECT count() FROM Contact") == {"totalSize": 1988, "done": True, "records": []}


def test_values_have_the_forms_of_rest_json(api: Api, account: str) -> None:
    values = {
        "LastName": "NA",
        "FirstName": "שרה 🦄",
        "AccountId": account,
        "Score__c": 5,
        "Newsletter__c": True,
        "Renewal__c": "2018-12-10T17:50:19+00:00",
        "Birthdate": "1990-02-03",
        "MailingCity": "Lima",
        "MailingStreet": 'One "quoted"\r\nStreet',
        "Title": "",
    }
    [made] = create_contacts(api.sim, values)
    [record] = api.query(
        "SELECT Id, Name, Score__c, Newsletter__c, Renewal__c, Birthdate, Title, MailingAddress, Account.Name, Account.Owner.Alias, "
        f"ReportsTo.Name, Account_Label__c, toLabel(Tier__c) FROM Contact WHERE Id = '{made}'"
    )["records"]
    assert record["attributes"] == {"type": "Contact", "url": f"/services/data/v66.0/sobjects/Contact/{made}"}
    assert (record["Name"], record["Score__c"], record["Newsletter__c"]) == ("שרה 🦄 NA", 5.0, True)
    assert (record["Renewal__c"], record["Birthdate"], record["Title"]) == (
        "2018-12-10T17:50:19.000+0000",
        "1990-02-03",
        None,
    )
    assert record["MailingAddress"] == {
        "city": "Lima",
        "country": None,
        "geocodeAccuracy": None,
        "latitude": None,
        "longitude": None,
        "postalCode": None,
        "state": None,
        "street": 'One "quoted"\r\nStreet',
    }
    assert record["Account"]["Name"] == "Test Works"
    assert record["Account"]["Owner"]["Alias"] == "integ"
    assert record["Account"]["attributes"]["url"].endswith(account)
    assert (record["ReportsTo"], record["Tier__c"]) == (None, None)
    assert record["Account_Label__c"] == "Test Works – Peru"


def test_pages_follow_each_other_and_lose_nobody_whatever_their_size(api: Api) -> None:
    api.sim.control.change_options(page_size=300)
    page = api.query("SELECT Id FROM Contact")
    assert re.fullmatch(r"/services/data/v66.0/query/01g\w{15}-300", page["nextRecordsUrl"])
    sizes, seen = [len(page["records"])], {record["Id"] for record in page["records"]}
    while not page["done"]:
        page = api.session.get(api.sim.url + page["nextRecordsUrl"], timeout=20).json()
        sizes.append(len(page["records"]))
        seen |= {record["Id"] for record in page["records"]}
    assert "nextRecordsUrl" not in page
    assert len(seen) == sum(sizes) == page["totalSize"] == 1988
    assert len(set(sizes)) > 2


def test_the_batch_size_asked_for_lowers_the_page_to_200_at_least(api: Api) -> None:
    def rows(wanted: str) -> int:
        answer = api.call(
            "GET", "/query", params={"q": "SELECT Id FROM Contact"}, headers={"Sforce-Query-Options": wanted}
        )
        return len(answer.json()["records"])

    assert [rows("batchSize=500"), rows("batchSize=1"), rows("batchSize=5000"), rows("nonsense")] == [
        500,
        200,
        1988,
        1988,
    ]


def test_a_locator_belongs_to_the_session_that_opened_it(api: Api) -> None:
    api.sim.control.change_options(page_size=1000)
    following = api.query("SELECT Id FROM Contact")["nextRecordsUrl"].removeprefix("/services/data/v66.0")
    api.log_in()
    answer = api.get(following)
    assert (answer.status_code, answer.json()) == (
        400,
        [{"message": "invalid query locator", "errorCode": "INVALID_QUERY_LOCATOR"}],
    )


@pytest.mark.parametrize("locator", ["01g000000000000AAA-200", "nonsense", "01g000000000000AAA-x"])
def test_an_unknown_locator_is_refused(api: Api, locator: str) -> None:
    assert api.get(f"/query/{locator}").json()[0]["errorCode"] == "INVALID_QUERY_LOCATOR"


def test_a_locator_past_the_end_is_refused(api: Api) -> None:
    api.sim.control.change_options(page_size=1000)
    following = api.query("SELECT Id FROM Contact")["nextRecordsUrl"].removeprefix("/services/data/v66.0")
    assert api.get(following.replace("-1000", "-1988")).status_code == 400


def test_a_cursor_keeps_seeing_the_moment_at_which_it_was_opened(api: Api) -> None:
    api.sim.control.change_options(page_size=1000)
    page = api.query("SELECT Id, Title FROM Contact ORDER BY Id")
    last = api.values("SELECT Id FROM Contact ORDER BY Id DESC LIMIT 1")
    api.sim.control.delete(sobject="Contact", ids=last)
    while not page["done"]:
        page = api.session.get(api.sim.url + page["nextRecordsUrl"], timeout=20).json()
    assert page["records"][-1]["Id"] == last[0]


def test_a_query_without_text_or_with_an_unreadable_one_is_refused(api: Api) -> None:
    assert api.get("/query").json()[0]["errorCode"] == "MALFORMED_QUERY"
    assert (
        api.refusal("SELECT Id FROM Contact WHERE SystemModstamp > 2020-01-01T00:00:00 00:00")[1] == "MALFORMED_QUERY"
    )


def test_an_address_or_headers_too_long_are_refused_in_html(api: Api) -> None:
    long = api.get("/query", q="SELECT Id FROM Contact WHERE LastName = '" + "x" * 16_500 + "'")
    assert (long.status_code, long.text) == (414, "<h1>Bad Message 414</h1><pre>reason: URI Too Long</pre>")
    headers = api.call("GET", "/limits", headers={"X-Long": "x" * 16_500})
    assert (headers.status_code, "Bad Message 431" in headers.text) == (431, True)


def test_one_record_shows_all_its_fields_or_those_asked_for(api: Api) -> None:
    [made] = create_contacts(api.sim, {"FirstName": "Uma"})
    whole = api.get(f"/sobjects/Contact/{made[:15]}").json()
    assert set(schema.CONTACT.fields) <= set(whole)
    assert api.get(f"/sobjects/Contact/{made}", fields="FirstName").json()["FirstName"] == "Uma"
    assert api.get(f"/sobjects/User/{api.sim.organisation.integration_user.id}").json()["Alias"] == "integ"
    api.sim.control.delete(sobject="Contact", ids=[made])
    gone = api.get(f"/sobjects/Contact/{made}")
    assert (gone.status_code, gone.json()) == (
        404,
        [{"message": "entity is deleted", "errorCode": "ENTITY_IS_DELETED", "fields": []}],
    )


def test_updated_lists_changes_of_a_window_and_cuts_off_seconds(api: Api) -> None:
    moment = datetime(2026, 8, 1, 12, 0, 30, tzinfo=UTC)
    [inside, outside] = (
        api.sim.control.create(sobject="Contact", records=[{"LastName": "T"}], at=one.isoformat())[0]
        for one in (moment, moment + timedelta(hours=2))
    )
    answer = api.get(
        "/sobjects/Contact/updated/", start="2026-08-01T12:00:45+00:00", end="2026-08-01T12:05:30+00:00"
    ).json()
    assert inside in answer["ids"]
    assert outside not in answer["ids"]
    assert answer["latestDateCovered"] == "2026-08-01T12:05:00.000+0000"


def test_deleted_lists_deletes_of_a_window_hard_ones_too(api: Api) -> None:
    soft, hard = create_contacts(api.sim, {}, {})
    api.sim.control.delete(sobject="Contact", ids=[soft])
    api.sim.control.hard_delete(sobject="Contact", ids=[hard])
    now = datetime.fromisoformat(api.sim.control.now())
    window = {"start": (now - timedelta(minutes=5)).isoformat(), "end": (now + timedelta(minutes=5)).isoformat()}
    answer = api.get("/sobjects/Contact/deleted/", **window).json()
    assert {one["id"] for one in answer["deletedRecords"]} == {soft, hard}
    early = {**window, "start": (now - timedelta(days=20)).isoformat()}
    assert api.get("/sobjects/Contact/deleted/", **early).json()[0]["errorCode"] == "INVALID_REPLICATION_DATE"


@pytest.mark.parametrize(
    "window",
    [
        {},
        {"start": "yesterday", "end": "2026-08-01T12:05:30+00:00"},
        {"start": "2026-08-01T12:00:00+00:00", "end": "2026-08-01T12:00:30+00:00"},
        {"start": "2026-06-01T12:00:00+00:00", "end": "2026-08-01T12:00:00+00:00"},
        {"start": "2026-08-01T12:00:00", "end": "2026-08-01T12:05:00"},
    ],
)
def test_a_window_that_cannot_be_used_is_refused(api: Api, window: dict[str, str]) -> None:
    assert api.get("/sobjects/Contact/updated/", **window).json()[0]["errorCode"] == "INVALID_REPLICATION_DATE"


def test_every_answer_says_how_many_calls_were_used_and_limits_says_what_is_left(api: Api) -> None:
    assert api.get("/limits").headers["Sforce-Limit-Info"] == "api-usage=1/100000"
    assert api.get("/limits").json()["DailyApiRequests"] == {"Max": 100_000, "Remaining": 99_998}
    for form, text in (
        ("bursts", "api-usage=3/100000; api-bursts=1/750"),
        ("per_app", "per-app-api-usage=4/100000(appName=contacts-sync)"),
    ):
        api.sim.control.change_options(limit_info=form)
        assert text in api.get("/limits").headers["Sforce-Limit-Info"]


def test_the_daily_limit_ends_calls_until_they_are_24_hours_old(api: Api) -> None:
    api.sim.control.change_options(daily_calls=2, session_seconds=200_000)
    api.log_in()
    assert [api.get("/limits").status_code for _ in range(3)] == [200, 200, 403]
    answer = api.get("/limits")
    assert answer.json() == [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]
    api.sim.control.advance_clock(seconds=86_401)
    assert api.get("/limits").ok


def test_an_answer_is_compressed_when_that_is_wanted_and_accepted(api: Api) -> None:
    api.sim.control.change_options(gzip=True)
    assert api.get("/limits").headers["Content-Encoding"] == "gzip"
    plain = api.call("GET", "/limits", headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.json()


def test_kept_pages_are_what_would_have_been_rendered_until_something_changes(api: Api) -> None:
    query = "SELECT Id, Title, Account.Name FROM Contact ORDER BY Id"
    rendered = api.query(query)["records"]
    api.sim.control.change_options(keep_pages=True)
    assert api.query(query)["records"] == api.query(query)["records"] == rendered
    api.sim.control.update(sobject="Contact", ids=[rendered[0]["Id"]], values={"Title": "Changed"})
    assert api.query(query)["records"][0]["Title"] == "Changed"
