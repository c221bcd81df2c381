"""CSV pages of Bulk API 2.0 as Arrow text (rule 3.7)."""

import csv
import io

import pyarrow as pa
import pytest

from include.contact_sync.salesforce.bulk import read_csv
from include.contact_sync.salesforce.faults import Damaged

FIELDS = ("Id", "LastName", "Account.Name")
ID = "003000000000001AAA"


def page(*rows: str, header: str = '"Id","LastName","Account.Name"') -> bytes:
    return "".join(f"{line}\n" for line in (header, *rows)).encode()


@pytest.mark.parametrize(
    "value",
    [
        "NA", "N/A", "null", "NULL", "None", "nan", "#N/A", "-", "0012", "1E5", "-1E5", "TRUE", "true", "1.50", "2024-01-01",
        "  blanks at both ends ", "\t", " ", "a,b;c|d", 'he said "hi"', '"', '""', "a\r\nb", "a\nb", "a\rb", "\n", "\r\n\r\n",
        "😀👩‍👩‍👧‍👦", "e\u0301 combining", "שלום עולם", "\u202eright to left", "\ufeffmark", "=1+1", "<b>x</b>", "x" * 32_000, "'", "\\", "\\n", "\x01\x7f",
    ],
)  # fmt: skip
def test_rule_3_7_text_arrives_exactly_as_it_was_sent(value: str) -> None:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [FIELDS, (ID, value, value), (ID, "x", "y")]
    )
    table = read_csv(written.getvalue().encode(), FIELDS)
    assert table.to_pylist()[0] == {"Id": ID, "LastName": value, "Account.Name": value}
    assert table.num_rows == 2


@pytest.mark.parametrize("megabytes", [1, 3, 12])
def test_a_record_may_be_larger_than_what_is_parsed_at_once(megabytes: int) -> None:
    long = 'line\n""quoted""' * (megabytes * 65_536)
    rows = [f'"{ID}","{number}","x"' for number in range(50_000)]
    table = read_csv(page(*rows, f'"{ID}","{long}","y"', *rows), FIELDS)
    assert table.num_rows == 100_001
    assert table["LastName"][50_000].as_py() == long.replace('""', '"')
    assert table["LastName"].to_pylist()[50_001:] == [str(number) for number in range(50_000)]


def test_an_empty_value_is_null_whether_it_is_quoted_or_not() -> None:
    table = read_csv(page(f'"{ID}","",'), FIELDS)
    assert table.to_pylist() == [{"Id": ID, "LastName": None, "Account.Name": None}]


def test_rule_3_7_nul_characters_are_removed() -> None:
    table = read_csv(page(f'"{ID}","a\0b","\0"'), FIELDS)
    assert table.to_pylist() == [{"Id": ID, "LastName": "ab", "Account.Name": None}]


def test_every_column_is_text_also_where_every_value_looks_like_a_number() -> None:
    table = read_csv(page(f'"{ID}","1","2"'), FIELDS)
    assert set(table.schema.types) == {pa.string()}


def test_a_page_without_records_has_all_columns() -> None:
    table = read_csv(page(), FIELDS)
    assert (table.num_rows, table.column_names, set(table.schema.types)) == (0, list(FIELDS), {pa.string()})


def test_lines_may_end_in_both_ways_and_the_last_need_not_end() -> None:
    content = page(f'"{ID}","a\nb","c"')
    assert read_csv(content.rstrip(b"\n"), FIELDS).num_rows == 1
    assert read_csv(content.replace(b"\n", b"\r\n"), FIELDS)["LastName"].to_pylist() == ["a\r\nb"]


def test_names_in_the_header_may_differ_in_case_and_follow_a_byte_order_mark() -> None:
    content = b"\xef\xbb\xbf" + page(f'"{ID}","a","b"', header="ID,lastname,ACCOUNT.NAME")
    assert read_csv(content, FIELDS).column_names == list(FIELDS)


def test_rule_2_7_ids_of_15_characters_become_18() -> None:
    table = read_csv(
        page('"70130000001tcyI","70130000001tcyI",""', header="Id,AccountId,LastName"), ("Id", "AccountId", "LastName")
    )
    assert table.to_pylist() == [{"Id": "70130000001tcyIAAQ", "AccountId": "70130000001tcyIAAQ", "LastName": None}]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"<html><body>Maintenance</body></html>\n",
        page(f'"{ID}","a","b"')[:-3],
        page(f'"{ID}","a","b')[:-1],
        page(f'"{ID}","a\n'),
        page(f'"{ID}","a"'),
        page(f'"{ID}","a","b","c"'),
        page('"","a","b"'),
        page('"short","a","b"'),
        page(f'"{ID}","a","b"', header='"Id","Account.Name","LastName"'),
        page(f'"{ID}","a","b"', header='"Id","LastName"'),
        page(f'"{ID}","a","b"').replace(b'"a"', b'"\xff\xfe"'),
    ],
)
def test_a_page_that_is_cut_off_or_is_something_else_is_damaged(content: bytes) -> None:
    with pytest.raises(Damaged):
        read_csv(content, FIELDS)


def test_every_cut_of_a_page_is_noticed_or_loses_whole_records() -> None:
    """Whole records that are missing are noticed by the count in the page's header."""
    content = page(*(f'"{ID}","a ""q"" {number}\n\n","x"' for number in range(3)))
    for length in range(len(content)):
        try:
            table = read_csv(content[:length], FIELDS)
        except Damaged:
            continue
        assert table["LastName"].to_pylist() == [f'a "q" {number}\n\n' for number in range(table.num_rows)]
