"""Which errors a report names, in which order, and what it advises."""

import pandas as pd
import pytest

from include.contact_sync.errors import CATALOGUE
from include.contact_sync.report.model import COLUMNS, build_report, record_link
from tests.contact_sync.report.report_samples import account_id, contact_id, error, errors_frame, report_of, run_facts


def test_rule_8_1_a_run_with_nothing_to_report_needs_no_mail() -> None:
    report = report_of()
    assert not report.is_needed
    assert report.kinds == ()


@pytest.mark.parametrize("status", ["new", "still_open", "resolved"])
def test_rule_8_1_an_error_open_or_resolved_in_the_run_needs_a_mail(status: str) -> None:
    assert report_of(error("no_handle", contact_id(1), status=status)).is_needed


def test_rule_8_2_a_failed_run_needs_a_mail_even_without_an_error() -> None:
    assert report_of(state="failed").is_needed


def test_rule_8_1_errors_are_counted_by_kind_as_new_still_open_and_resolved() -> None:
    report = report_of(
        error("email_taken", contact_id(1)),
        error("email_taken", contact_id(2), status="still_open"),
        error("email_taken", contact_id(3), status="still_open"),
        error("email_taken", contact_id(4), status="resolved"),
        error("no_handle", contact_id(5), status="resolved"),
    )
    counts = {kind.code: (kind.new, kind.still_open, kind.resolved) for kind in report.kinds}
    assert counts == {"email_taken": (1, 2, 1), "no_handle": (0, 0, 1)}
    assert (report.new, report.still_open, report.resolved, report.open) == (1, 2, 2, 3)


def test_a_kind_that_was_only_resolved_has_counts_and_no_section() -> None:
    report = report_of(error("no_handle", contact_id(1), status="resolved"), error("email_taken", contact_id(2)))
    assert [kind.code for kind in report.sections] == ["email_taken"]


def test_run_errors_come_first_those_that_stopped_the_run_before_the_others_then_the_kind_with_most() -> None:
    report = report_of(
        error("no_handle", contact_id(1)),
        *(error("phone_taken", contact_id(number)) for number in range(2, 5)),
        *(error("field_not_found", salesforce_field=name) for name in ("A__c", "B__c", "C__c", "D__c")),
        error("list_view_not_found", detail="Account list view 00B"),
        error("accounts_sync_failed"),
    )
    assert [kind.code for kind in report.sections] == [
        "accounts_sync_failed",
        "list_view_not_found",
        "field_not_found",
        "phone_taken",
        "no_handle",
    ]


def test_rule_7_every_code_of_the_catalogue_is_shown_in_its_words() -> None:
    report = report_of(*(error(code, contact_id(1)) for code in CATALOGUE))
    said = {kind.code: (kind.shown_as, kind.how_to_resolve) for kind in report.sections}
    assert said == {code: (entry.shown_as, entry.how_to_resolve) for code, entry in CATALOGUE.items()}


def test_rule_8_1_the_first_20_open_records_are_shown_new_ones_first_then_the_lowest_salesforce_id() -> None:
    rows = [
        error("no_handle", contact_id(number), status="new" if number % 3 == 0 else "still_open")
        for number in reversed(range(30))
    ]
    kind = report_of(*rows, error("no_handle", contact_id(99), status="resolved")).sections[0]
    shown = [record.external_id for record in kind.records]
    assert shown == [contact_id(n) for n in range(0, 30, 3)] + [
        contact_id(n) for n in (1, 2, 4, 5, 7, 8, 10, 11, 13, 14)
    ]
    assert kind.open == 30


def test_rule_7_a_taken_error_names_record_link_field_value_and_every_holder() -> None:
    report = report_of(
        error(
            "email_taken",
            contact_id(1),
            salesforce_field="Email",
            value="ann@example.com",
            holders=[
                {"contact_id": 17, "external_id": contact_id(2), "source": "email", "handle": "ann@example.com"},
                {"contact_id": 18, "external_id": None, "source": "phone", "handle": "+12128425500"},
                {"contact_id": None, "external_id": contact_id(3), "source": "email", "handle": "ann@example.com"},
            ],
        )
    )
    record = report.sections[0].records[0]
    page = "https://acme.my.salesforce.com/lightning/r/Contact"
    assert (record.external_id, record.link) == (contact_id(1), f"{page}/{contact_id(1)}/view")
    assert (record.salesforce_field, record.value) == ("Email", "ann@example.com")
    assert [(holder.who, holder.external_id, holder.link) for holder in record.holders] == [
        ("contact 17", contact_id(2), f"{page}/{contact_id(2)}/view"),
        ("contact 18", None, None),
        ("a contact that this run creates", contact_id(3), f"{page}/{contact_id(3)}/view"),
    ]


def test_rule_5_an_account_error_links_to_the_account_and_names_the_holding_account() -> None:
    holder = {"account_id": 4, "external_id": account_id(2), "source": "domain", "handle": "acme.example"}
    record = report_of(error("domain_taken", account_id(1), holders=[holder])).sections[0].records[0]
    assert record.link == f"https://acme.my.salesforce.com/lightning/r/Account/{account_id(1)}/view"
    assert record.holders[0].who == "account 4"
    assert record.holders[0].link == f"https://acme.my.salesforce.com/lightning/r/Account/{account_id(2)}/view"


@pytest.mark.parametrize(
    ("salesforce_url", "part", "external_id"),
    [
        (None, "contacts", contact_id(1)),
        ("javascript:alert(1)", "contacts", contact_id(1)),
        ("https://acme.my.salesforce.com", "run", contact_id(1)),
        ("https://acme.my.salesforce.com", "contacts", None),
    ],
)
def test_there_is_no_link_without_a_page_to_lead_to(
    salesforce_url: str | None, part: str, external_id: str | None
) -> None:
    assert record_link(salesforce_url, part, external_id) is None


def test_an_id_cannot_lead_a_link_elsewhere() -> None:
    link = record_link("https://acme.my.salesforce.com", "contacts", '../"?x#')
    assert link == "https://acme.my.salesforce.com/lightning/r/Contact/..%2F%22%3Fx%23/view"


def test_holders_may_come_as_a_list_as_json_text_or_not_at_all() -> None:
    rows = [error("email_taken", contact_id(number)) for number in range(3)]
    frame = errors_frame(*rows)
    frame["holders"] = pd.Series([[{"contact_id": 1}], '[{"contact_id": 1}]', None], dtype=object)
    records = build_report(run_facts(), frame).sections[0].records
    assert [[holder.who for holder in record.holders] for record in records] == [["contact 1"], ["contact 1"], []]


def test_a_frame_without_a_needed_column_is_refused() -> None:
    frame = errors_frame(error("no_handle", contact_id(1))).drop(columns="holders")
    with pytest.raises(ValueError, match="lack the columns \\['holders'\\]; there are"):
        build_report(run_facts(), frame)


def test_an_unknown_status_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown statuses \\['closed'\\]"):
        report_of(error("no_handle", contact_id(1), status="closed"))


def test_the_frame_that_was_given_is_left_as_it_was() -> None:
    frame = errors_frame(*(error("no_handle", contact_id(number)) for number in (2, 1)))
    before = frame.copy(deep=True)
    build_report(run_facts(), frame)
    pd.testing.assert_frame_equal(frame, before)


def test_rule_8_4_a_reports_repr_does_not_print_the_complete_list() -> None:
    report = report_of(*(error("no_handle", contact_id(number)) for number in range(25)))
    assert contact_id(24) not in repr(report)


def test_an_empty_frame_from_the_store_takes_the_same_path() -> None:
    assert not build_report(run_facts(), pd.DataFrame({column: pd.Series(dtype="str") for column in COLUMNS})).is_needed


def taken(number: int, field: str, account: int | None, *holder_accounts: int | None, **cells: object) -> dict:
    holders = [None if each is None else account_id(each) for each in holder_accounts]
    return error(
        "phone_taken",
        contact_id(number),
        salesforce_field=field,
        account=None if account is None else account_id(account),
        holder_accounts=holders,
        **cells,
    )


def advice_of(*rows: dict) -> tuple[str, ...]:
    return report_of(*rows).sections[0].advice


def test_rule_8_3_a_switchboard_number_inside_accounts_brings_advice_for_that_field() -> None:
    advice = advice_of(
        taken(1, "Phone", 1, 1),
        taken(2, "Phone", 1, 1, 1),
        taken(3, "Phone", 2, 2, status="still_open"),
        taken(4, "Phone", 2, 3),
        taken(5, "MobilePhone", 2, 3),
    )
    assert len(advice) == 1
    assert advice[0].startswith(
        "3 of the 4 contacts whose Phone was taken share it with a contact of their own account"
    )
    assert "Map another Salesforce field as the handle, or map Phone to a custom field." in advice[0]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([taken(n, "Phone", 1, 1) for n in range(2)], id="two are no pattern"),
        pytest.param(
            [taken(n, "Phone", 1, 1) for n in range(3)] + [taken(n, "Phone", 1, 2) for n in range(3, 6)],
            id="half is not most",
        ),
        pytest.param([taken(n, "Phone", None, None) for n in range(5)], id="no account is not the same account"),
        pytest.param([taken(n, "Phone", 1, 1, None) for n in range(5)], id="a holder whose account is unknown"),
        pytest.param([taken(n, "Phone", 1, 1, 2) for n in range(5)], id="a holder of another account"),
        pytest.param([taken(n, "Phone", 1) for n in range(5)], id="no holder"),
        pytest.param(
            [error("phone_taken", contact_id(n), salesforce_field="Phone") for n in range(5)], id="no columns"
        ),
    ],
)
def test_rule_8_3_without_a_pattern_nothing_is_advised(rows: list[dict]) -> None:
    assert advice_of(*rows) == ()


def test_rule_8_3_resolved_collisions_do_not_count() -> None:
    resolved = [taken(number, "Phone", 1, 1, status="resolved") for number in range(5)]
    assert advice_of(*resolved, taken(9, "Phone", 1, 2)) == ()
