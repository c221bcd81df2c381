"""SOQL: what is found, and what is refused. The five contacts of the table below are everything there is.

name      e-mail          phone  tier    score  newsletter  renewal               birthdate   interests        account
Ada       ada@x.org       1      Gold    1      true        2026-01-01T00:00:00Z  1990-01-01  Product;Events   Alpha
ada       ADA@Y.org       -      Silver  2.5    false       2026-06-15T12:00:00Z  -           Events           Alpha
Börje     -               2      -       -      false       -                     2026-06-15  -                Beta
O'Neil    100%@z.org      3      Gold    -4     true        2026-06-16T00:00:00Z  -           Research         -
Under_sc  under@z.org     4      Bronze  1e9    false       2025-12-31T23:59:59Z  2025-02-28  Product          (deleted) Gone
"""

from datetime import UTC, date, datetime

import pytest

from include.salesforce_simulator import evaluate, schema, soql
from include.salesforce_simulator.answers import Refusal
from include.salesforce_simulator.generate import generate_organisation
from include.salesforce_simulator.organisation import Organisation

NAMES = ["Ada", "ada", "Börje", "O'Neil", "Under_sc"]


@pytest.fixture(scope="module")
def organisation() -> Organisation:
    made = generate_organisation(seed=1, contacts=0, accounts=0)
    alpha, beta, gone = (
        made.create("Account", {"Name": name, "Type": kind})
        for name, kind in (("Alpha", "Customer"), ("Beta", None), ("Gone", "Customer"))
    )
    columns = (
        "LastName",
        "Email",
        "Phone",
        "Tier__c",
        "Score__c",
        "Newsletter__c",
        "Renewal__c",
        "Birthdate",
        "Interests__c",
        "AccountId",
    )
    rows = [
        ("Ada", "ada@x.org", "1", "Gold", 1, True, "2026-01-01T00:00:00Z", "1990-01-01", "Product;Events", alpha),
        ("ada", "ADA@Y.org", None, "Silver", 2.5, False, "2026-06-15T12:00:00Z", None, "Events", alpha),
        ("Börje", None, "2", None, None, False, None, "2026-06-15", None, beta),
        ("O'Neil", "100%@z.org", "3", "Gold", -4, True, "2026-06-16T00:00:00Z", None, "Research", None),
        ("Under_sc", "under@z.org", "4", "Bronze", 1e9, False, "2025-12-31T23:59:59Z", "2025-02-28", "Product", gone),
    ]
    for row in rows:
        made.create("Contact", {**dict(zip(columns, row, strict=True)), "Description": "text"})
    made.table("Account").edit(made.find("Account", gone), {"IsDeleted": True})
    made.clock.set(datetime(2026, 6, 15, 8, tzinfo=UTC))
    return made


def found(organisation: Organisation, where: str) -> list[str]:
    text = f"SELECT LastName FROM Contact WHERE {where} ORDER BY Id"
    answer = evaluate.answer_query(organisation, organisation.integration_user, soql.read_query(text))
    return answer.selected[0].values.to_pylist()


def refused(organisation: Organisation, text: str) -> Refusal:
    with pytest.raises(Refusal) as caught:
        evaluate.answer_query(organisation, organisation.integration_user, soql.read_query(text))
    return caught.value


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("LastName = 'ADA'", "Ada ada"),
        ("lastname != 'ada'", "Börje O'Neil Under_sc"),
        ("LastName = 'O\\'Neil'", "O'Neil"),
        ("LastName < 'b'", "Ada ada"),
        ("LastName >= 'o'", "O'Neil Under_sc"),
        ("Email = null", "Börje"),
        ("Email != null", "Ada ada O'Neil Under_sc"),
        ("Email = ''", "Börje"),
        ("Email != 'ada@x.org'", "ada Börje O'Neil Under_sc"),
        ("NOT Email = 'ada@x.org'", "ada Börje O'Neil Under_sc"),
        ("Email LIKE 'ada@%'", "Ada ada"),
        ("Email LIKE '100\\%@_.org'", "O'Neil"),
        ("LastName LIKE 'under\\_sc'", "Under_sc"),
        ("LastName LIKE 'B_rje'", "Börje"),
        ("(NOT Email LIKE 'ada%')", "Börje O'Neil Under_sc"),
        ("Phone IN ('1', '3', null)", "Ada ada O'Neil"),
        ("Tier__c IN ('GOLD','silver')", "Ada ada O'Neil"),
        ("Tier__c NOT IN ('Gold')", "ada Börje Under_sc"),
        ("Score__c > 1", "ada Under_sc"),
        ("Score__c >= 1.0", "Ada ada Under_sc"),
        ("Score__c < 0", "O'Neil"),
        ("Score__c != 1", "ada Börje O'Neil Under_sc"),
        ("Score__c IN (1, 1e9)", "Ada Under_sc"),
        ("Newsletter__c = TRUE", "Ada O'Neil"),
        ("Newsletter__c = false AND Phone != null", "Börje Under_sc"),
        ("Tier__c = 'Gold' OR Phone = '2'", "Ada Börje O'Neil"),
        ("(Tier__c = 'Gold' AND Score__c < 0) OR LastName = 'börje'", "Börje O'Neil"),
        ("Interests__c INCLUDES ('Product')", "Ada Under_sc"),
        ("Interests__c INCLUDES ('Product;Events', 'research')", "Ada O'Neil"),
        ("Interests__c EXCLUDES ('Events')", "Börje O'Neil Under_sc"),
        ("Renewal__c = 2026-06-15T12:00:00Z", "ada"),
        ("Renewal__c = 2026-06-15T14:00:00.000+02:00", "ada"),
        ("Renewal__c < 2026-01-01T00:00:00.500Z", "Ada Under_sc"),
        ("Renewal__c >= 2026-06-15T12:00:00+00:00", "ada O'Neil"),
        ("Renewal__c = TODAY", "ada"),
        ("Renewal__c != TODAY", "Ada Börje O'Neil Under_sc"),
        ("Renewal__c > TODAY", "O'Neil"),
        ("Renewal__c >= TOMORROW", "O'Neil"),
        ("Renewal__c <= TODAY", "Ada ada Under_sc"),
        ("Renewal__c < THIS_MONTH", "Ada Under_sc"),
        ("Renewal__c = THIS_YEAR", "Ada ada O'Neil"),
        ("Renewal__c = LAST_YEAR", "Under_sc"),
        ("Renewal__c = NEXT_N_DAYS:1", "O'Neil"),
        ("Birthdate = 2026-06-15", "Börje"),
        ("Birthdate > LAST_N_YEARS:2", "Börje"),
        ("Birthdate = LAST_N_DAYS:0", "Börje"),
        ("Account.Name = 'alpha'", "Ada ada"),
        ("Account.Type != 'Customer'", "Börje O'Neil"),
        ("Contact.LastName = 'ada'", "Ada ada"),
        ("Owner.Alias = 'integ' AND AccountId = null", "O'Neil"),
        ("AccountId IN (SELECT Id FROM Account WHERE Type = 'Customer')", "Ada ada"),
        ("AccountId NOT IN (SELECT Id FROM Account WHERE Name = 'Alpha')", "Börje O'Neil Under_sc"),
    ],
)
def test_a_condition_finds(organisation: Organisation, where: str, expected: str) -> None:
    assert found(organisation, where) == expected.split()


def test_an_id_is_found_in_both_lengths_and_case_matters(organisation: Organisation) -> None:
    first = (
        evaluate.answer_query(
            organisation, organisation.integration_user, soql.read_query("SELECT Id FROM Contact LIMIT 1")
        )
        .ids[0]
        .as_py()
    )
    assert found(organisation, f"Id = '{first}'") == found(organisation, f"Id = '{first[:15]}'") == ["Ada"]
    assert found(organisation, f"Id = '{first[:15].swapcase()}'") == []


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("LastName", ["Ada", "ada", "Börje", "O'Neil", "Under_sc"]),
        ("LastName DESC, Id DESC", ["Under_sc", "O'Neil", "Börje", "ada", "Ada"]),
        ("Score__c", ["Börje", "O'Neil", "Ada", "ada", "Under_sc"]),
        ("Score__c DESC NULLS LAST", ["Under_sc", "ada", "Ada", "O'Neil", "Börje"]),
        ("Account.Name ASC NULLS LAST, LastName DESC", ["Ada", "ada", "Börje", "Under_sc", "O'Neil"]),
        ("LastName LIMIT 2 OFFSET 1", ["ada", "Börje"]),
    ],
)
def test_records_come_in_the_order_asked_for(organisation: Organisation, order: str, expected: list[str]) -> None:
    text = f"select LastName from contact order by {order}"
    answer = evaluate.answer_query(organisation, organisation.integration_user, soql.read_query(text))
    assert answer.selected[0].values.to_pylist() == expected


def test_only_what_is_not_deleted_is_found_unless_everything_is_asked_for(organisation: Organisation) -> None:
    query = soql.read_query("SELECT COUNT() FROM Account")
    user = organisation.integration_user
    assert evaluate.answer_query(organisation, user, query).total == 2
    assert evaluate.answer_query(organisation, user, query, deleted_too=True).total == 3


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT",
        "SELECT Id",
        "SELECT Id FROM Contact WHERE",
        "SELECT Id FROM Contact WHERE LastName",
        "SELECT Id FROM Contact WHERE LastName == 'x'",
        "SELECT Id FROM Contact WHERE LastName = 'x",
        "SELECT Id FROM Contact WHERE LastName = x",
        "SELECT Id FROM Contact WHERE LastName = 'a\\q'",
        "SELECT Id FROM Contact WHERE Phone = '1' AND Phone = '2' OR Phone = '3'",
        "SELECT Id FROM Contact WHERE Renewal__c = 2026-13-01T00:00:00Z",
        "SELECT Id FROM Contact WHERE Renewal__c = LAST_FISCAL_YEAR",
        "SELECT Id FROM Contact WHERE CALENDAR_YEAR(CreatedDate) = 2026",
        "SELECT Id FROM Contact c",
        "SELECT Id FROM Contact GROUP BY Id",
        "SELECT COUNT(Id) FROM Contact",
        "SELECT FORMAT(Score__c) FROM Contact",
        "SELECT FIELDS(ALL) FROM Contact LIMIT 200",
        "SELECT Id, (SELECT Id FROM Contacts) FROM Account",
        "SELECT TYPEOF Owner WHEN User THEN Id END FROM Contact",
        "SELECT Id FROM Contact WITH SECURITY_ENFORCED",
        "SELECT Id FROM Contact FOR VIEW",
        "SELECT Id FROM Contact USING SCOPE team",
        "SELECT Id FROM Contact LIMIT ten",
        "SELECT Id FROM Contact; DROP",
        "SELECT Id FROM Contact WHERE AccountId IN (SELECT Id, Name FROM Account)",
        "SELECT Id FROM Contact WHERE LastName IN (SELECT Name FROM Account)",
    ],
)
def test_what_is_not_understood_is_refused_not_answered_with_nothing(organisation: Organisation, text: str) -> None:
    assert refused(organisation, text).code == "MALFORMED_QUERY"


def test_an_unknown_field_is_refused_with_the_recorded_words(organisation: Organisation) -> None:
    refusal = refused(organisation, "SELECT Id, BadField FROM Account")
    assert (refusal.status, refusal.code) == (400, "INVALID_FIELD")
    assert refusal.message == (
        "\nSELECT Id, BadField FROM Account\n            ^\nERROR at Row:1:Column:12\nNo such column 'BadField' on entity 'Account'. If you "
        "are attempting to use a custom field, be sure to append the '__c' after the custom field name. Please reference your WSDL or "
        "the describe call for the appropriate names."
    )


def test_an_unknown_object_is_refused_with_the_recorded_words(organisation: Organisation) -> None:
    refusal = refused(organisation, "select count() from XYZZY")
    assert (refusal.status, refusal.code) == (400, "INVALID_TYPE")
    assert refusal.message == (
        "\nselect count() from XYZZY\n                    ^\nERROR at Row:1:Column:21\nsObject type 'XYZZY' is not supported. If you are "
        "attempting to use a custom object, be sure to append the '__c' after the entity name. Please reference your WSDL or the describe "
        "call for the appropriate names."
    )


@pytest.mark.parametrize(
    ("where", "code", "words"),
    [
        ("Description = 'text'", "INVALID_FIELD", "field 'Description' can not be filtered in a query call"),
        ("MailingAddress = 'x'", "INVALID_FIELD", "can not be filtered"),
        ("Manager.Name = 'x'", "INVALID_FIELD", "Didn't understand relationship 'Manager' in field path"),
        ("Account.Nothing__c = 'x'", "INVALID_FIELD", "No such column 'Nothing__c' on entity 'Account'"),
        ("LastName = 5", "INVALID_FIELD", "must be of type string and should be enclosed in quotes"),
        ("Renewal__c = '2026-01-01'", "INVALID_FIELD", "must be of type dateTime and should not be enclosed in quotes"),
        ("Renewal__c = 2026-01-01", "INVALID_FIELD", "must be of type dateTime"),
        ("Birthdate = 2026-01-01T00:00:00Z", "INVALID_FIELD", "must be of type date"),
        ("Newsletter__c = 'true'", "INVALID_FIELD", "must be of type boolean"),
        ("Score__c = '1'", "INVALID_FIELD", "must be of type double"),
        ("Score__c > null", "INVALID_FIELD", "null cannot be compared"),
        ("Id = 'short'", "INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: short"),
        ("Score__c LIKE '1'", "INVALID_QUERY_FILTER_OPERATOR", "operator like"),
        ("Tier__c INCLUDES ('Gold')", "INVALID_QUERY_FILTER_OPERATOR", "operator includes"),
        ("Newsletter__c > true", "INVALID_QUERY_FILTER_OPERATOR", "operator >"),
    ],
)
def test_a_condition_that_cannot_hold_is_refused(organisation: Organisation, where: str, code: str, words: str) -> None:
    refusal = refused(organisation, f"SELECT Id FROM Contact WHERE {where}")
    assert refusal.code == code
    assert words in refusal.message


def test_the_caret_stands_below_a_fault_on_a_later_line_and_in_a_sub_select(organisation: Organisation) -> None:
    inner = refused(organisation, "SELECT Id FROM Contact WHERE AccountId IN (SELECT Nope FROM Account)").message
    assert "ERROR at Row:1:Column:51" in inner
    assert "ERROR at Row:2:Column:7" in refused(organisation, "SELECT Id\nFROM  Nothing").message


def test_an_offset_beyond_the_limit_and_a_query_too_long_are_refused(organisation: Organisation) -> None:
    assert refused(organisation, "SELECT Id FROM Contact OFFSET 2001").code == "NUMBER_OUTSIDE_VALID_RANGE"
    assert refused(organisation, "SELECT Id FROM Contact" + " " * 100_000).code == "MALFORMED_QUERY"


@pytest.mark.parametrize(
    ("literal", "first", "after"),
    [
        ("YESTERDAY", "2026-06-14", "2026-06-15"),
        ("THIS_WEEK", "2026-06-14", "2026-06-21"),
        ("LAST_WEEK", "2026-06-07", "2026-06-14"),
        ("NEXT_WEEK", "2026-06-21", "2026-06-28"),
        ("LAST_MONTH", "2026-05-01", "2026-06-01"),
        ("NEXT_MONTH", "2026-07-01", "2026-08-01"),
        ("THIS_QUARTER", "2026-04-01", "2026-07-01"),
        ("LAST_QUARTER", "2026-01-01", "2026-04-01"),
        ("NEXT_YEAR", "2027-01-01", "2028-01-01"),
        ("LAST_90_DAYS", "2026-03-17", "2026-06-16"),
        ("NEXT_90_DAYS", "2026-06-16", "2026-09-14"),
        ("LAST_N_DAYS:7", "2026-06-08", "2026-06-16"),
        ("N_DAYS_AGO:2", "2026-06-13", "2026-06-14"),
        ("LAST_N_WEEKS:2", "2026-05-31", "2026-06-14"),
        ("NEXT_N_MONTHS:2", "2026-07-01", "2026-09-01"),
        ("N_MONTHS_AGO:6", "2025-12-01", "2026-01-01"),
        ("LAST_N_QUARTERS:2", "2025-10-01", "2026-04-01"),
        ("N_YEARS_AGO:1", "2025-01-01", "2026-01-01"),
    ],
)
def test_a_date_literal_means_these_days(literal: str, first: str, after: str) -> None:
    condition = soql.read_where(f"CreatedDate = {literal}")
    assert isinstance(condition, soql.Condition)
    assert str(condition.value) == literal
    assert evaluate.date_span(condition.value, date(2026, 6, 15)) == (
        date.fromisoformat(first),
        date.fromisoformat(after),
    )


def test_a_field_hidden_from_the_user_does_not_exist_for_them_but_does_for_others(organisation: Organisation) -> None:
    user, other = list(organisation.users.values())[:2]
    user.hidden_fields = {"Contact": {"Phone", "AccountId"}}
    try:
        assert "No such column 'Phone'" in refused(organisation, "SELECT Phone FROM Contact").message
        assert "No such column 'phone'" in refused(organisation, "SELECT Id FROM Contact WHERE phone = '1'").message
        assert "No such column 'Phone'" in refused(organisation, "SELECT Id FROM Contact ORDER BY Phone").message
        assert "relationship 'Account'" in refused(organisation, "SELECT Account.Name FROM Contact").message
        assert evaluate.answer_query(organisation, other, soql.read_query("SELECT Phone FROM Contact")).total == 5
    finally:
        user.hidden_fields = {}


def test_every_field_of_every_object_can_be_selected(organisation: Organisation) -> None:
    for described in (schema.CONTACT, schema.ACCOUNT, schema.USER, schema.ORGANIZATION, schema.LIST_VIEW):
        text = f"SELECT {', '.join(described.fields)} FROM {described.name}"
        answer = evaluate.answer_query(organisation, organisation.integration_user, soql.read_query(text))
        assert [one.name for one in answer.selected] == list(described.fields)
