"""What becomes of single values (rule 3): tables of what Salesforce sends and what the store gets."""

import json
from typing import Any

import pyarrow as pa
import pytest

from include.contact_sync.columns import Columns, HandleColumn, Part, ValueColumn
from include.contact_sync.settings import CustomFieldType
from include.contact_sync.transform import CleanRecords, transform

ID = "003000000000001AAA"


def read(columns: Columns, *rows: dict[str, str | None]) -> CleanRecords:
    names = {name for column in columns.fields for name in column.salesforce_fields}
    names |= {column.salesforce_field for column in columns.handles if not column.missing}
    snapshot: dict[str, Any] = {
        "Id": [f"{ID[:13]}{at:02d}AAA" for at in range(len(rows))],
        "AccountId": [None] * len(rows),
    }
    snapshot |= {name: [row.get(name) for row in rows] for name in sorted(names)}
    return transform(pa.table({name: pa.array(column, pa.string()) for name, column in snapshot.items()}), columns)


def value(
    raw: str | None, *, type: str = "string", custom: CustomFieldType | None = None, allowed: tuple[str, ...] = ()
) -> Any:
    """What one field becomes; `warned` where it could not be read."""
    name = "custom_fields.x" if custom else "name"
    clean = read(Columns(Part.CONTACTS, (), (ValueColumn(name, ("X",), (type,), custom, allowed),)), {"X": raw})
    (found,) = clean.records[name].to_pylist()
    if clean.warnings.num_rows:
        (warning,) = clean.warnings.to_pylist()
        assert (warning["code"], warning["level"], warning["salesforce_field"], warning["value"]) == (
            "invalid_value",
            "warning",
            "X",
            raw,
        )
        assert clean.unreadable.to_pylist() == [{"record": 0, "column": name, "salesforce_field": "X"}]
        assert found is None
        return "warned"
    return found


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("5.0", "5"),
        ("5", "5"),
        ("1.0E7", "10000000"),
        ("1.5e-3", "0.0015"),
        ("1E+2", "100"),
        ("0.10", "0.1"),
        ("-0.0", "0"),
        ("-0", "0"),
        ("-1.50", "-1.5"),
        ("007", "7"),
        (".5", "0.5"),
        ("5.", "5"),
        ("+5", "5"),
        ("100", "100"),
        ("1200.00", "1200"),
        ("0", "0"),
        ("12345678901234567890.12345", "12345678901234567890.12345"),
        ("1E400", "1" + "0" * 400),
        ("1E401", "1E401"),
        ("1E-400", "0." + "0" * 399 + "1"),
        ("1E-401", "1E-401"),
        ("not a number", "not a number"),
        (None, None),
    ],
)
@pytest.mark.parametrize("type", ["double", "currency", "percent", "int", "long"])
def test_rule_3_6_a_number_that_feeds_a_text_has_one_form(raw: str | None, text: str | None, type: str) -> None:
    assert value(raw, type=type) == text


@pytest.mark.parametrize("type", ["string", "phone", "textarea", "url", "picklist", "date", "email", "reference"])
def test_rule_3_7_other_types_are_kept_exactly(type: str) -> None:
    for text in ("5.0", "0012", " x ", "TRUE", "2026-06-01", "2026-06-01T00:00:00.000+0000"):
        assert value(text, type=type) == text


def test_rule_3_6_a_boolean_that_feeds_a_text_has_one_form() -> None:
    assert [value(raw, type="boolean") for raw in ("true", "TRUE", "False", None)] == ["true", "true", "false", None]


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("2026-06-01T08:00:00.000+0000", "2026-06-01T08:00:00Z"),
        ("2026-06-01T08:00:00.000Z", "2026-06-01T08:00:00Z"),
        ("2026-06-01T08:00:00Z", "2026-06-01T08:00:00Z"),
        ("2026-06-01T08:00:00+00:00", "2026-06-01T08:00:00Z"),
        ("2026-06-01T08:00:00.120+0000", "2026-06-01T08:00:00.12Z"),
        ("2026-06-01T08:00:00.000001Z", "2026-06-01T08:00:00.000001Z"),
        ("2026-06-01T01:00:00+0200", "2026-05-31T23:00:00Z"),
        ("2026-06-01T23:00:00-02:00", "2026-06-02T01:00:00Z"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00Z"),
        ("0999-01-01T00:00:00.5Z", "0999-01-01T00:00:00.5Z"),
        ("soon", "soon"),
        (None, None),
    ],
)
def test_rule_3_6_a_datetime_that_feeds_a_text_is_in_utc(raw: str | None, text: str | None) -> None:
    assert value(raw, type="datetime") == text


@pytest.mark.parametrize("type", ["datetime", "string"])
@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        ("2026-06-01T08:00:00.000+0000", '"2026-06-01T08:00:00Z"'),
        ("2026-06-01T08:00:00", '"2026-06-01T08:00:00Z"'),
        ("2026-06-01T08:00", '"2026-06-01T08:00:00Z"'),
        ("2026-06-01 08:00", '"2026-06-01T08:00:00Z"'),
        (" 2026-06-01 ", '"2026-06-01T00:00:00Z"'),
        ("2026-02-30", "warned"),
        ("2026-06-01T25:00:00Z", "warned"),
        ("0001-01-01T00:00:00+14:00", "warned"),
        ("9999-12-31T23:00:00-02:00", "warned"),
        ("06/01/2026", "warned"),
        ("20260601", "warned"),
        ("soon", "warned"),
        (None, None),
    ],
)
def test_rule_3_5_a_custom_datetime(raw: str | None, stored: str | None, type: str) -> None:
    assert value(raw, type=type, custom=CustomFieldType.DATETIME) == stored


@pytest.mark.parametrize("type", ["double", "string"])
@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        ("5.0", "5"),
        (" 5 ", "5"),
        ("-1.50", "-1.5"),
        ("1E3", "1000"),
        ("0012", "12"),
        ("n/a", "warned"),
        ("1,000", "warned"),
        ("NaN", "warned"),
        ("Infinity", "warned"),
        ("1E401", "warned"),
        ("1E-401", "warned"),
        ("0x10", "warned"),
        ("٣", "warned"),
        ("--1", "warned"),
        (".", "warned"),
        ("1_0", "warned"),
        (None, None),
    ],
)
def test_rule_3_5_a_custom_number(raw: str | None, stored: str | None, type: str) -> None:
    assert value(raw, type=type, custom=CustomFieldType.NUMBER) == stored


def test_rule_3_5_a_custom_boolean() -> None:
    found = {
        raw: value(raw, custom=CustomFieldType.BOOLEAN) for raw in ("true", " TRUE ", "False", "yes", "1", "t", None)
    }
    assert list(found.values()) == ["true", "true", "false", "warned", "warned", "warned", None]


def test_rule_3_5_a_custom_enum_takes_what_it_names() -> None:
    enum = CustomFieldType.ENUM
    found = [value(raw, custom=enum, allowed=("Gold", 'a"b')) for raw in ("Gold", 'a"b', "gold", "Gold ", "Tin", None)]
    assert found == ['"Gold"', '"a\\"b"', "warned", "warned", "warned", None]


def test_rule_3_6_a_custom_enum_of_numbers_is_compared_in_their_one_form() -> None:
    assert value("5.0", type="double", custom=CustomFieldType.ENUM, allowed=("5",)) == '"5"'


@pytest.mark.parametrize("text", ["x", 'a"b', "a\\b", "a\r\nb", "\x01\x1f", "\x7f\u2028", "ü🦄", "", " ", "[]", "null"])
def test_rule_3_7_a_custom_text_is_json_of_exactly_that_text(text: str) -> None:
    assert json.loads(value(text, custom=CustomFieldType.STRING)) == text


def test_rule_3_1_links_are_each_once_in_the_order_of_the_mapping() -> None:
    fields = ("A", "B", "C")
    columns = Columns(Part.CONTACTS, (), (ValueColumn("links", fields, ("url",) * 3),))
    rows = [
        {"A": "a", "B": "b", "C": "c"},
        {"A": "a", "B": None, "C": "a"},
        {"A": None, "B": "b", "C": "b"},
        {"A": None, "B": None, "C": None},
        {"A": None, "B": 'x"y', "C": None},
    ]
    links = [json.loads(text) for text in read(columns, *rows).records["links"].to_pylist()]
    assert links == [["a", "b", "c"], ["a"], ["b"], [], ['x"y']]


HANDLES = {
    "email": {
        " A@X.Co ": "a@x.co",
        "a+b@x.co": "a+b@x.co",
        "b.levy@expressl&t.net": "b.levy@expressl&t.net",
        "\u00a0a@x.co": "a@x.co",
        "a@b@x.co": None,
        "@x.co": None,
        "a@x": None,
        "a@.co": None,
        "a@x.": None,
        "a@x..co": None,
        "a b@x.co": None,
        "a\u2003b@x.co": None,
        "a@x .co": None,
        "x" * 495 + "@x.co": None,
        "x" * 494 + "@x.co": "x" * 494 + "@x.co",
    },
    "phone": {
        "(212) 842-5500": "+12128425500",
        "+49 30 901820": "+4930901820",
        "212-842-5500 x12": "+12128425500;ext=12",
        "call me": None,
        "123": None,
    },
    "twitter": {"@Ann": "ann", " ANN ": "ann", "@@ann": "ann", "@ ann": "ann", "@": None, "a_b": "a_b"},
    "facebook": {" Ann.Lee ": "Ann.Lee", "@x": "@x"},
    "custom": {" Ann ": "Ann", "0012": "0012"},
    "domain": {
        "https://www.ACME.com/about": "acme.com",
        "http://acme.com": "acme.com",
        "ACME.com.": "acme.com",
        " acme.com ": "acme.com",
        "acme.com:8080": "acme.com",
        "user:secret@acme.com/x": "acme.com",
        "ftp://acme.com?x=1": "acme.com",
        "acme.com#top": "acme.com",
        "www.acme.co.uk": "acme.co.uk",
        "wwwacme.com": "wwwacme.com",
        "bücher.de": "bücher.de",
        "a" * 63 + ".com": "a" * 63 + ".com",
        "a" * 64 + ".com": None,
        "acme": None,
        "acme inc.": None,
        "-acme.com": None,
        "http://": None,
        ".com": None,
        "a..b": None,
        ("a" * 62 + ".") * 4 + "com": None,
    },
}


@pytest.mark.parametrize(
    ("source", "raw", "handle"),
    [(source, raw, handle) for source, found in HANDLES.items() for raw, handle in found.items()],
)
def test_rule_3_6_a_handle_is_read_or_warned_about(source: str, raw: str, handle: str | None) -> None:
    clean = read(Columns(Part.CONTACTS, (HandleColumn("H", source),), ()), {"H": raw}, {"H": None}, {"H": "  "})
    assert clean.handles.to_pylist() == (
        [{"record": 0, "source": source, "handle": handle, "salesforce_field": "H"}] if handle else []
    )
    warned = [(row["code"], row["value"], row["level"]) for row in clean.warnings.to_pylist()]
    assert warned == ([] if handle else [("invalid_handle", raw, "warning")])
    assert clean.unreadable.num_rows == len(warned)


def test_rule_3_6_a_number_field_can_feed_a_handle() -> None:
    columns = Columns(Part.CONTACTS, (HandleColumn("H", "custom", "double"),), ())
    assert read(columns, {"H": "5.0"}).handles["handle"].to_pylist() == ["5"]


def test_rule_3_6_the_default_region_reads_numbers_without_a_country_code() -> None:
    columns = Columns(Part.CONTACTS, (HandleColumn("H", "phone"),), (), default_region="DE")
    assert read(columns, {"H": "030 901820"}).handles["handle"].to_pylist() == ["+4930901820"]


def test_rules_4_2_and_4_10_handles_are_in_order_and_the_first_field_is_remembered() -> None:
    handles = (
        HandleColumn("P", "phone"),
        HandleColumn("Gone", "email", missing=True),
        HandleColumn("E", "email"),
        HandleColumn("F", "email"),
        HandleColumn("P", "custom"),
    )
    clean = read(
        Columns(Part.CONTACTS, handles, ()),
        {"P": "212 842 5500", "E": "a@x.co", "F": "A@x.co"},
        {"P": None, "E": None, "F": "b@x.co"},
    )
    assert [tuple(row.values()) for row in clean.handles.to_pylist()] == [
        (0, "email", "a@x.co", "E"),
        (1, "email", "b@x.co", "F"),
        (0, "phone", "+12128425500", "P"),
        (0, "custom", "212 842 5500", "P"),
    ]


def test_rule_4_6_records_are_in_the_order_of_their_ids_and_an_empty_snapshot_takes_the_same_path() -> None:
    columns = Columns(Part.CONTACTS, (HandleColumn("H", "email"),), (ValueColumn("name", ("N",), ("string",)),))
    snapshot = pa.table(
        {"Id": ["b", "a", "A"], "AccountId": ["1", "2", "3"], "N": ["nb", "na", "nA"], "H": ["b@x.co", None, "A@x.co"]}
    )
    clean = transform(snapshot, columns)
    assert clean.records.to_pylist() == [
        {"external_id": "A", "account": "3", "name": "nA"},
        {"external_id": "a", "account": "2", "name": "na"},
        {"external_id": "b", "account": "1", "name": "nb"},
    ]
    assert clean.handles["record"].to_pylist() == [0, 2]
    empty = transform(snapshot.slice(0, 0), columns)
    for name in ("records", "handles", "unreadable", "warnings"):
        assert getattr(empty, name).schema == getattr(clean, name).schema
        assert getattr(empty, name).num_rows == 0


def test_accounts_have_no_account_of_their_own() -> None:
    clean = transform(pa.table({"Id": ["x"]}), Columns(Part.ACCOUNTS, (), ()))
    assert clean.records.column_names == ["external_id"]
