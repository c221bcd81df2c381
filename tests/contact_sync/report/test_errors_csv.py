"""The attached file: all errors, readable by a spreadsheet and harmless to it."""

import csv
import io
import time

import pytest

from include.contact_sync.errors import CATALOGUE
from include.contact_sync.report import csv_file
from include.contact_sync.report.csv_file import HEADINGS, make_safe, render_csv
from include.contact_sync.report.model import Report, build_report
from tests.contact_sync.report.report_samples import contact_id, error, errors_frame, report_of, run_facts

SIGNS = "=+-@＝＋－＠﹢﹣﹦﹫−"


def read_back(report: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(render_csv(report).decode("utf-8-sig"), newline=""), strict=True))


def test_rule_7_each_error_says_what_happened_to_which_record_and_what_to_do() -> None:
    holders = [
        {"contact_id": 17, "external_id": contact_id(2), "source": "email", "handle": "ann@example.com"},
        {"contact_id": 18, "external_id": None, "source": "email", "handle": "ann@example.com"},
    ]
    cells = {"salesforce_field": "Email", "value": "Ann@example.com", "opened_run": 9, "closed_run": None}
    row = read_back(report_of(error("email_taken", contact_id(1), status="still_open", holders=holders, **cells)))[0]
    assert row == {
        "Status": "still open",
        "Code": "email_taken",
        "What happened": CATALOGUE["email_taken"].shown_as,
        "How to resolve": CATALOGUE["email_taken"].how_to_resolve,
        "Salesforce record": contact_id(1),
        "Link": f"https://acme.my.salesforce.com/lightning/r/Contact/{contact_id(1)}/view",
        "Field": "Email",
        "Value": "Ann@example.com",
        "Holders": f"email ann@example.com: contact 17, linked to {contact_id(2)}\n"
        "email ann@example.com: contact 18, not linked to Salesforce",
        "Run": "12",
        "Opened in run": "9",
        "Resolved in run": "",
    }


def test_rule_7_a_resolved_error_says_which_run_closed_it() -> None:
    row = read_back(report_of(error("no_handle", contact_id(1), status="resolved", opened_run=9, closed_run=12)))[0]
    assert (row["Status"], row["Opened in run"], row["Resolved in run"]) == ("resolved", "9", "12")


def test_a_run_errors_detail_stands_behind_what_happened() -> None:
    row = read_back(report_of(error("list_view_not_found", detail="list view 00B")))[0]
    assert row["What happened"] == "Salesforce list view not found: list view 00B"
    assert row["Salesforce record"] == row["Link"] == row["Opened in run"] == ""


def test_rule_8_1_every_error_is_there_open_ones_first_then_by_code_and_salesforce_id() -> None:
    rows = [error("no_handle", contact_id(number)) for number in reversed(range(30))]
    rows += [
        error("email_taken", contact_id(50), status="resolved"),
        error("phone_taken", contact_id(40), status="still_open"),
    ]
    order = [(row["Status"], row["Salesforce record"]) for row in read_back(report_of(*rows))]
    first = [("new", contact_id(number)) for number in range(30)]
    assert order == [*first, ("still open", contact_id(40)), ("resolved", contact_id(50))]


def test_the_file_opens_with_a_byte_order_mark_and_has_its_heading_even_without_an_error() -> None:
    content = render_csv(report_of())
    assert content.startswith(b"\xef\xbb\xbf")
    assert content.decode("utf-8-sig") == ",".join(f'"{heading}"' for heading in HEADINGS) + "\r\n"


@pytest.mark.parametrize("sign", SIGNS)
@pytest.mark.parametrize(
    "before", ["", " ", "\t", "\r", "\n", "\u00a0", "\u3000", "\u200b", "\ufeff", "\u202e", "\0", " \0 \t"]
)
def test_a_cell_that_looks_like_a_formula_gets_an_apostrophe(sign: str, before: str) -> None:
    assert make_safe(f"{before}{sign}1+1").startswith("'")


@pytest.mark.parametrize("text", ["\tx", "\rx", "\nx"])
def test_a_cell_that_starts_with_a_tab_or_line_break_gets_an_apostrophe(text: str) -> None:
    assert make_safe(text) == f"'{text}"


def test_a_phone_number_with_its_country_code_is_safe_and_still_readable() -> None:
    row = read_back(report_of(error("phone_taken", contact_id(1), salesforce_field="Phone", value="+49 30 1234")))[0]
    assert row["Value"] == "'+49 30 1234"


@pytest.mark.parametrize("separator", [";", "\t", "\n", "\r\n"])
def test_a_formula_behind_another_list_separator_is_guarded_too(separator: str) -> None:
    assert make_safe(f"x{separator} =cmd|'/c calc'!A1").startswith(f"x{separator} '=")


@pytest.mark.parametrize(
    "text", ["", "Ann", "a=b", "0012", "1E5", "ann@example.com", "Levy - Ann", "x; y", "o'hara", '"q"', "محمد", "😀"]
)
def test_any_other_cell_is_left_as_it_is(text: str) -> None:
    assert make_safe(text) == text


def test_every_column_is_guarded_in_the_file() -> None:
    bad = "=1+1"
    holders = [{"contact_id": 1, "external_id": bad, "source": None, "handle": bad}]
    row = read_back(report_of(error("email_taken", bad, salesforce_field=bad, value=bad, detail=bad, holders=holders)))[
        0
    ]
    assert not [heading for heading, cell in row.items() if cell.startswith(tuple(SIGNS))]


@pytest.mark.parametrize(
    "value", ['say "hi", ok', "first\r\nsecond\nthird\rfourth", "مرحبا", "👩‍👩‍👧", "a,b;c", "'quoted'", "back\\slash"]
)
def test_rule_3_7_any_text_comes_back_as_it_was(value: str) -> None:
    row = read_back(report_of(error("invalid_value", contact_id(1), salesforce_field="Description", value=value)))[0]
    assert row["Value"] == value


def test_nul_characters_are_removed() -> None:
    assert b"\0" not in render_csv(report_of(error("invalid_value", contact_id(1), value="a\0b")))


def test_a_cell_too_long_for_a_spreadsheet_is_cut_and_says_so() -> None:
    safe = make_safe("x" * 131_072)
    assert len(safe) < 32_767
    assert safe.endswith("… (131,072 characters in all)")


@pytest.mark.parametrize("text", ["\t" * 32_000, ";" * 32_000, " " * 32_000, "\n " * 16_000])
def test_a_cell_of_blanks_or_separators_takes_no_long_time(text: str) -> None:
    start = time.perf_counter()
    make_safe(text)
    assert time.perf_counter() - start < 0.5


def test_a_file_that_would_be_too_long_says_how_many_errors_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_file, "MOST_ROWS", 3)
    rows = read_back(report_of(*(error("no_handle", contact_id(number)) for number in range(10))))
    assert [row["Salesforce record"] for row in rows] == [contact_id(0), contact_id(1), contact_id(2), ""]
    assert rows[-1]["Status"] == "7 more errors are not in this file"


def test_fifty_thousand_errors_take_a_few_seconds_at_most() -> None:
    holder = [{"contact_id": 1, "external_id": contact_id(1), "source": "phone", "handle": "+12128425500"}]
    frame = errors_frame(error("phone_taken", contact_id(1), salesforce_field="Phone", value="+1 212", holders=holder))
    many = frame.loc[frame.index.repeat(50_000)].reset_index(drop=True)
    start = time.perf_counter()
    content = render_csv(build_report(run_facts(), many))
    assert time.perf_counter() - start < 10, "about one second where the machine is idle"
    assert content.count(b"\r\n") == 50_001
