"""SOQL: made from checked names, and list views' queries taken apart (rule 2.3)."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from include.contact_sync.salesforce.soql import (
    Filter,
    NotUnderstood,
    Query,
    is_set,
    is_true,
    plain_scope,
    read_list_view_query,
    within,
)


def test_a_query_without_conditions_reads_everything() -> None:
    assert Query("Account", ("Id", "Name")).select() == "SELECT Id, Name FROM Account"


def test_a_single_condition_stands_alone_and_several_hold_all_at_once() -> None:
    assert (
        Query("Contact", conditions=(is_set("AccountId"),)).count()
        == "SELECT count() FROM Contact WHERE AccountId != null"
    )
    query = Query("Contact", ("Id", "Account.Name"), "mine", ("A = 1 OR B = 2", is_true("IsDeleted")))
    assert (
        query.select()
        == "SELECT Id, Account.Name FROM Contact USING SCOPE mine WHERE (A = 1 OR B = 2) AND (IsDeleted = true)"
    )


@pytest.mark.parametrize("name", ["Na me", "Name FROM User", "Name;", "", "1Name", "Account..Name", "Náme", "Name\n"])
def test_a_field_that_is_no_name_never_gets_into_a_query(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        Query("Contact", ("Id", name))


@pytest.mark.parametrize("part", [{"sobject": "Contact WHERE"}, {"sobject": "Contact", "scope": "mine WHERE"}])
def test_an_object_or_scope_that_is_no_name_never_gets_into_a_query(part: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="is not a name"):
        Query(**part)


def test_rule_1_3_a_window_holds_its_start_and_not_its_end_in_utc() -> None:
    start = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=1)))
    condition = within("SystemModstamp", start, datetime(2026, 3, 2, 0, 0, 0, 5000, tzinfo=UTC))
    assert condition == "SystemModstamp >= 2026-03-01T00:30:00.000Z AND SystemModstamp < 2026-03-02T00:00:00.005Z"


def test_a_moment_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        within("SystemModstamp", datetime(2026, 3, 1), datetime(2026, 3, 2, tzinfo=UTC))


@pytest.mark.parametrize(
    ("query", "scope", "condition"),
    [
        ("SELECT Name FROM Contact", None, None),
        ("SELECT Name FROM Contact ORDER BY Name ASC NULLS FIRST, Id ASC", None, None),
        (
            "SELECT Name, toLabel(LeadSource), Owner.Alias FROM Contact WHERE Title = 'CEO' ORDER BY Name",
            None,
            "Title = 'CEO'",
        ),
        ("select name from contact using scope mine where title = 'CEO' limit 5", "mine", "title = 'CEO'"),
        ("SELECT Id FROM Contact USING SCOPE everything WHERE A = 1", None, "A = 1"),
        ("SELECT Id FROM Contact WHERE Title = 'a ORDER BY b' ORDER BY Id", None, "Title = 'a ORDER BY b'"),
        (
            "SELECT Id FROM Contact WHERE Title = 'it\\'s ) LIMIT 1' AND B = 2",
            None,
            "Title = 'it\\'s ) LIMIT 1' AND B = 2",
        ),
        ("SELECT Id FROM Contact WHERE Title = 'two  spaces ( here'", None, "Title = 'two  spaces ( here'"),
        ("SELECT Id FROM Contact WHERE Title = 'ends in \\\\' LIMIT 1", None, "Title = 'ends in \\\\'"),
        (
            "SELECT Id FROM Contact\nWHERE (A = 1\n  OR B != 2)\tAND C LIKE '%x\\_%'",
            None,
            "(A = 1 OR B != 2) AND C LIKE '%x\\_%'",
        ),
        (
            "SELECT Id FROM Contact WHERE CreatedDate = LAST_N_DAYS:30 AND X > USD5000.50",
            None,
            "CreatedDate = LAST_N_DAYS:30 AND X > USD5000.50",
        ),
        ("SELECT Id FROM Contact WHERE D >= 2024-01-01T00:00:00.000+01:00", None, "D >= 2024-01-01T00:00:00.000+01:00"),
        ("SELECT Id FROM Contact WHERE M INCLUDES ('a;b','c') FOR VIEW", None, "M INCLUDES ('a;b','c')"),
        (
            "SELECT Id FROM Contact WHERE Id IN (SELECT ContactId FROM CampaignMember WHERE A = 1 LIMIT 9) ORDER BY Id",
            None,
            "Id IN (SELECT ContactId FROM CampaignMember WHERE A = 1 LIMIT 9)",
        ),
        ("SELECT Id, (SELECT Id FROM Contact WHERE A = 1) FROM Contact WHERE B = 2", None, "B = 2"),
        ("SELECT Id FROM Contact WHERE Title = '日本 😀'", None, "Title = '日本 😀'"),
    ],
)
def test_rule_2_3_a_list_view_gives_its_scope_and_filter_and_nothing_else(
    query: str, scope: str | None, condition: str | None
) -> None:
    assert read_list_view_query(query, "Contact") == Filter(scope, condition)


@pytest.mark.parametrize(
    "query",
    [
        "",
        "SELECT Id FROM Account",
        "SELECT Id FROM Contact c WHERE c.A = 1",
        "SELECT Id FROM Contact USING SCOPE",
        "SELECT Id FROM Contact USING SCOPE 'mine'",
        "SELECT Id FROM Contact WHERE",
        "SELECT Id FROM Contact WHERE ORDER BY Id",
        "SELECT Id FROM Contact WHERE (A = 1",
        "SELECT Id FROM Contact WHERE A = 1)",
        "SELECT Id FROM Contact WHERE A = 'open",
        "SELECT Id FROM Contact WHERE A = 1; DELETE",
        'SELECT Id FROM Contact WHERE A = "x"',
        "SELECT Id FROM Contact WHERE A = 1 WITH DATA CATEGORY Geography__c AT asia__c",
    ],
)
def test_a_query_of_another_form_is_refused_rather_than_guessed(query: str) -> None:
    with pytest.raises(NotUnderstood):
        read_list_view_query(query, "Contact")


def test_a_refusal_never_repeats_the_values_of_a_filter() -> None:
    with pytest.raises(NotUnderstood) as refused:
        read_list_view_query("SELECT Id FROM Contact WHERE LastName = 'Levy' ; x", "Contact")
    assert "Levy" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "scope"), [(None, None), ("", None), ("Everything", None), ("mine", "mine"), ("team", "team")]
)
def test_a_scope_over_every_record_is_no_scope(given: str | None, scope: str | None) -> None:
    assert plain_scope(given) == scope
