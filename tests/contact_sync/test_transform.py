"""Rule 3: what a raw value becomes. Each table of what can be read is followed by its malformed twin.

In the tables a `·` is a space that counts and `\\n` a line break; an empty right column means: as it stands.
"""

import json
import string
import time
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from include.contact_sync import transform as transform_module
from include.contact_sync.columns import Columns, Part, resolve_columns
from include.contact_sync.errors import RunRefused
from include.contact_sync.settings import parse_settings
from include.contact_sync.transform import LONGEST_HANDLE, CleanRecords, transform
from tests.whole_runs import lines

CUSTOM_FIELDS = {
    "string": {"type": "string"},
    "number": {"type": "number"},
    "boolean": {"type": "boolean"},
    "datetime": {"type": "datetime"},
    "enum": {"type": "enum", "values": ["Gold", "silver medal", "1"]},
}


def columns_for(
    target: str, describe_type: str = "string", part: Part = Part.CONTACTS, region: str = "US", **more: str
) -> Columns:
    """One Salesforce field, `Field`, feeds `target`."""
    chosen = {"custom_fields": CUSTOM_FIELDS, "mapping": lines(Field=target, **more)}
    parsed = parse_settings(
        {
            "owners": ["owner@example.com"],
            "default_region": region,
            "accounts": chosen if part is Part.ACCOUNTS else {"mapping": []},
            "contacts": chosen if part is Part.CONTACTS else {"mapping": []},
        }
    )
    return resolve_columns(part, parsed, {"Field": describe_type}, [])


def clean(columns: Columns, *raw: str | None, **more: list[str | None]) -> CleanRecords:
    """Records with these raw values, in the order of their ids."""
    ids = [f"003{number:012d}AAA" for number in range(len(raw))]
    snapshot = {"Id": ids, "AccountId": [None] * len(raw), "Field": list(raw), **more}
    rows = pa.table({name: pa.array(values, pa.string()) for name, values in snapshot.items()})
    return transform(rows, columns)


def value_of(target: str, raw: str | None, describe_type: str = "string", part: Part = Part.CONTACTS) -> str | None:
    """What a field of ours gets, as it is staged; no warning may be given."""
    columns = columns_for(target, describe_type, part)
    found = clean(columns, raw)
    assert found.warnings.num_rows == 0
    return found.records[columns.fields[0].name][0].as_py()


def handles_of(target: str, raw: str | None, part: Part = Part.CONTACTS, region: str = "US") -> list[str]:
    found = clean(columns_for(target, part=part, region=region), raw)
    assert found.warnings.num_rows == 0
    return found.handles["handle"].to_pylist()


def warning(found: CleanRecords) -> tuple[str, str, str, str]:
    (row,) = found.warnings.to_pylist()
    assert (row["external_id"], row["holders"], row["detail"]) == ("003000000000000AAA", "[]", None)
    return row["code"], row["level"], row["salesforce_field"], row["value"]


def cells(table: str) -> list[tuple[str, str]]:
    pairs = [line.partition("|") for line in table.strip("\n").splitlines()]
    return [(shown(left), shown(right) or shown(left)) for left, _, right in pairs]


def shown(cell: str) -> str:
    return cell.strip().replace("·", " ").replace("\\n", "\n")


def column(table: str) -> list[str]:
    return [left for left, _ in cells(table)]


# ------------------------------------------------------------------------------------------------------------ numbers

NUMBERS = """
5               |
-5              |
0               |
5.0             | 5
5.50            | 5.5
0.10            | 0.1
-0.0            | 0
+7              | 7
0012            | 12
.5              | 0.5
5.              | 5
1.0E7           | 10000000
1.5e-3          | 0.0015
1E5             | 100000
123456789012345678 |
12345678901234567.89 |
·12·            | 12
"""

NO_NUMBERS = """
n/a
1,000
1.000,5
1 000
--5
1e
e5
0x10
NaN
Infinity
12 or 13
١٢
1_000
1E9999
½
$5
"""


@pytest.mark.parametrize(("raw", "number"), cells(NUMBERS))
def test_rule_3_6_a_number_is_its_shortest_decimal(raw: str, number: str) -> None:
    assert value_of("custom_fields.number", raw) == number


@pytest.mark.parametrize("raw", ["1.7976931348623157E308", "-4.9E-324"])
def test_rule_3_6_the_largest_and_the_smallest_double_are_written_out(raw: str) -> None:
    written = value_of("custom_fields.number", raw)
    assert written is not None
    assert Decimal(written) == Decimal(raw)
    assert "E" not in written


@pytest.mark.parametrize("raw", column(NO_NUMBERS))
def test_rule_3_5_what_is_no_number_is_a_warning_and_absent(raw: str) -> None:
    found = clean(columns_for("custom_fields.number"), raw)
    assert warning(found) == ("invalid_value", "warning", "Field", raw)
    assert found.records["custom_fields.number"].to_pylist() == [None]
    assert found.unreadable.to_pylist() == [
        {"record": 0, "column": "custom_fields.number", "salesforce_field": "Field"}
    ]


@pytest.mark.parametrize("describe_type", ["double", "currency", "percent", "int"])
@pytest.mark.parametrize(("raw", "text"), cells("5.0|5\n1.0E7|10000000\n12.50|12.5\n3|3"))
def test_rule_3_6_a_number_that_feeds_a_text_has_one_form_whichever_api_delivered_it(
    describe_type: str, raw: str, text: str
) -> None:
    assert value_of("description", raw, describe_type) == text
    assert value_of("custom_fields.string", raw, describe_type) == f'"{text}"'
    assert value_of("description", raw, "string") == raw, "rule 3.7: a text that looks like a number is a text"


@pytest.mark.parametrize(("describe_type", "raw"), [("double", "n/a"), ("datetime", "tomorrow")])
def test_rule_3_7_a_text_where_a_number_or_a_datetime_belongs_is_kept_exactly(describe_type: str, raw: str) -> None:
    assert value_of("description", raw, describe_type) == raw


def test_rule_3_6_a_number_that_feeds_a_handle_has_the_same_form() -> None:
    found = clean(columns_for("custom_handle", "double"), "12.0", "1.2E1")
    assert found.handles["handle"].to_pylist() == ["12", "12"]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
@settings(max_examples=60)
def test_rule_3_6_every_way_to_write_a_number_comes_to_the_same(number: Any) -> None:
    forms = {str(number), f"{number:f}", f"{number:E}", f"{number:.9f}"}
    found = clean(columns_for("custom_fields.number"), *forms)
    assert len(set(found.records["custom_fields.number"].to_pylist())) == 1


# ------------------------------------------------------------------------------------------- booleans, enums, datetimes


@pytest.mark.parametrize(("raw", "value"), cells("true|\nfalse|\nTRUE|true\nFalse|false\n·true·|true"))
def test_rule_3_6_a_boolean_is_true_or_false(raw: str, value: str) -> None:
    assert value_of("custom_fields.boolean", raw) == value


@pytest.mark.parametrize("raw", column("yes\n1\n0\ntrue false\nt\nwahr"))
def test_rule_3_5_what_is_neither_true_nor_false_is_a_warning(raw: str) -> None:
    assert warning(clean(columns_for("custom_fields.boolean"), raw))[0] == "invalid_value"


def test_rule_3_6_a_boolean_that_feeds_a_text_is_written_in_small_letters() -> None:
    assert value_of("description", "TRUE", "boolean") == "true"
    assert value_of("description", "TRUE", "string") == "TRUE"


@pytest.mark.parametrize("raw", ["Gold", "silver medal", "1"])
def test_rule_3_1_an_enum_takes_its_values(raw: str) -> None:
    assert value_of("custom_fields.enum", raw) == f'"{raw}"'


def test_rule_3_6_a_number_that_feeds_an_enum_has_the_same_form() -> None:
    assert value_of("custom_fields.enum", "1.0", "double") == '"1"'
    assert warning(clean(columns_for("custom_fields.enum"), "1.0"))[0] == "invalid_value"


@pytest.mark.parametrize("raw", ["gold", "Gold ", "Silver", "Gold;silver medal", "2"])
def test_rule_3_5_an_enum_takes_nothing_else(raw: str) -> None:
    assert warning(clean(columns_for("custom_fields.enum"), raw)) == ("invalid_value", "warning", "Field", raw)


DATETIMES = """
2026-05-06T07:08:09.000+0000   | 2026-05-06T07:08:09Z
2026-05-06T07:08:09.000Z       | 2026-05-06T07:08:09Z
2026-05-06T07:08:09Z           |
2026-05-06T07:08:09+00:00      | 2026-05-06T07:08:09Z
2026-05-06T07:08:09.120Z       | 2026-05-06T07:08:09.12Z
2026-05-06T01:00:00+02:00      | 2026-05-05T23:00:00Z
2026-05-06T22:00:00-0500       | 2026-05-07T03:00:00Z
2026-05-06 07:08:09            | 2026-05-06T07:08:09Z
2026-05-06T07:08               | 2026-05-06T07:08:00Z
2026-05-06                     | 2026-05-06T00:00:00Z
0987-01-02                     | 0987-01-02T00:00:00Z
1700-02-28T00:00:00.000Z       | 1700-02-28T00:00:00Z
4000-12-31T23:59:59.000+0000   | 4000-12-31T23:59:59Z
·2026-05-06·                   | 2026-05-06T00:00:00Z
"""

NO_DATETIMES = """
tomorrow
2026-02-30
2026-13-01
2026-5-6
06.05.2026
05/06/2026
2026-05-06T25:00:00Z
2026-05-06T07:08:61Z
1778051289
0001-01-01T00:00:00+02:00
20260506
2026-W19-3
"""


@pytest.mark.parametrize(("raw", "moment"), cells(DATETIMES))
def test_rule_3_6_a_datetime_is_iso_8601_in_utc(raw: str, moment: str) -> None:
    assert value_of("custom_fields.datetime", raw) == f'"{moment}"'


@pytest.mark.parametrize("raw", column(NO_DATETIMES))
def test_rule_3_5_what_is_no_datetime_is_a_warning(raw: str) -> None:
    assert warning(clean(columns_for("custom_fields.datetime"), raw)) == ("invalid_value", "warning", "Field", raw)


@pytest.mark.parametrize(("raw", "moment"), cells("\n".join(DATETIMES.strip("\n").splitlines()[:7])))
def test_rule_3_6_a_datetime_that_feeds_a_text_has_the_same_form(raw: str, moment: str) -> None:
    assert value_of("description", raw, "datetime") == moment
    assert value_of("description", raw, "string") == raw


def test_rule_3_6_a_datetime_without_a_zone_is_utc_wherever_the_sync_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        assert value_of("custom_fields.datetime", "2026-05-06T07:08:09") == '"2026-05-06T07:08:09Z"'
        assert value_of("custom_fields.datetime", "2026-05-06T07:08:09+02:00") == '"2026-05-06T05:08:09Z"'
    time.tzset()


def test_rule_3_6_a_date_that_feeds_a_text_stays_a_date() -> None:
    assert value_of("description", "2026-05-06", "date") == "2026-05-06"


# ------------------------------------------------------------------------------------------------------------ handles

EMAILS = """
ann@example.org               |
Ann@Example.ORG               | ann@example.org
··ann@example.org·            | ann@example.org
b.levy@expressl&t.net         |
o'hara+news@sub.example.co.uk |
ünïcode@exämple.org           |
ÜNÏCODE@EXÄMPLE.ORG           | ünïcode@exämple.org
"a"b@example.org              |
1@2.3                         |
"""

NO_EMAILS = """
ann
ann@
@example.org
ann@nowhere
ann@@example.org
a@b@example.org
ann smith@example.org
ann@exam ple.org
ann@example..org
ann@.example.org
ann@example.org.
ann@example.org, bob@example.org
ann(at)example.org
"""


@pytest.mark.parametrize(("raw", "handle"), cells(EMAILS))
def test_rule_3_6_an_email_is_trimmed_and_lower_cased(raw: str, handle: str) -> None:
    assert handles_of("email", raw) == [handle]


@pytest.mark.parametrize("raw", column(NO_EMAILS))
def test_rule_3_6_what_is_no_email_is_a_warning_and_counts_as_absent(raw: str) -> None:
    found = clean(columns_for("email"), raw)
    assert warning(found) == ("invalid_handle", "warning", "Field", raw)
    assert found.handles.num_rows == 0
    assert found.unreadable.to_pylist() == [{"record": 0, "column": "email", "salesforce_field": "Field"}]


SPACES = ["\u00a0", "\u2003", "\u3000", "\u2028", "\t", "\r\n", "\x0b", "\x1c", "\x85", "\u202f"]


@pytest.mark.parametrize("space", SPACES, ids=quote)
def test_rule_3_6_every_kind_of_space_is_white_space(space: str) -> None:
    assert handles_of("email", f"{space}ann@example.org{space}") == ["ann@example.org"]
    assert handles_of("custom_handle", f"{space}K 1{space}") == ["K 1"]
    assert warning(clean(columns_for("email"), f"ann{space}b@example.org"))[0] == "invalid_handle"
    for target in ("email", "phone", "twitter", "facebook", "custom_handle"):
        assert handles_of(target, space) == [], "a handle of nothing but space is none, and no mistake either"


def test_rule_3_6_a_phone_is_read_in_the_default_region_and_its_extension_is_part_of_it() -> None:
    assert handles_of("phone", " (212) 842-5500 ext. 12 ") == ["+12128425500;ext=12"]
    assert handles_of("phone", "030 901820", region="DE") == ["+4930901820"]
    assert warning(clean(columns_for("phone"), "030 901820")) == ("invalid_handle", "warning", "Field", "030 901820")


@pytest.mark.parametrize(
    ("raw", "handle"), cells("@Ann|ann\nANN_1|ann_1\nXaver|xaver\n··@ann··|ann\n@@ann|ann\n@·ann|ann")
)
def test_rule_3_6_a_twitter_name_has_no_at_sign_and_small_letters(raw: str, handle: str) -> None:
    assert handles_of("twitter", raw) == [handle]


@pytest.mark.parametrize("raw", ["@", " @ ", "@@", "@ "])
def test_rule_3_6_a_bare_at_sign_cannot_be_read(raw: str) -> None:
    found = clean(columns_for("twitter"), raw)
    assert warning(found) == ("invalid_handle", "warning", "Field", raw)
    assert found.handles.num_rows == 0


@pytest.mark.parametrize("target", ["facebook", "custom_handle"])
def test_rule_3_6_facebook_and_custom_handles_are_only_trimmed(target: str) -> None:
    assert handles_of(target, "  Ann B. @ NA \u00a0") == ["Ann B. @ NA"]


DOMAINS = """
acme.com                          |
ACME.com                          | acme.com
www.acme.com                      | acme.com
https://www.Acme.com/about?x=1#y  | acme.com
http://acme.com:8080/             | acme.com
acme.com.                         | acme.com
https://user:pw@acme.com/x        | acme.com
shop.acme.com                     |
müller.example                    |
MÜLLER.example                    | müller.example
acme.com/a@b                      | acme.com
www.www.com                       | www.com
·https://acme.com·                | acme.com
"""

NO_DOMAINS = """
localhost
acme
https://
http:///path
acme dot com
.com
acme..com
-acme.com
mail:ann
"""


@pytest.mark.parametrize(("raw", "domain"), cells(DOMAINS))
def test_rule_5_scheme_www_path_and_letter_case_of_a_domain_do_not_count(raw: str, domain: str) -> None:
    assert handles_of("domain", raw, Part.ACCOUNTS) == [domain]


@pytest.mark.parametrize("raw", column(NO_DOMAINS))
def test_rule_5_what_is_no_domain_is_a_warning(raw: str) -> None:
    assert warning(clean(columns_for("domain", part=Part.ACCOUNTS), raw)) == ("invalid_handle", "warning", "Field", raw)


@pytest.mark.parametrize("target", ["email", "custom_handle", "facebook", "twitter"])
def test_rule_3_6_a_text_that_is_too_long_is_no_handle(target: str) -> None:
    longest = "a" * (LONGEST_HANDLE - 6) + "@x.org"
    assert handles_of(target, longest) == [longest]
    assert warning(clean(columns_for(target), f"a{longest}"))[0] == "invalid_handle"
    assert warning(clean(columns_for(target), "😀" * 32_000))[0] == "invalid_handle"


def test_rule_5_a_domain_has_at_most_253_characters() -> None:
    longest = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 57, "com"])
    assert handles_of("domain", longest, Part.ACCOUNTS) == [longest]
    too_long = longest.replace(".com", ".info")
    assert warning(clean(columns_for("domain", part=Part.ACCOUNTS), too_long))[0] == "invalid_handle"


def test_rule_3_3_a_missing_field_gives_nothing_and_those_after_it_in_the_mapping_still_do() -> None:
    chosen = {"mapping": lines(Gone="email", Field="email")}
    parsed = parse_settings({"owners": ["owner@example.com"], "accounts": {"mapping": []}, "contacts": chosen})
    found = clean(resolve_columns(Part.CONTACTS, parsed, {}, ["Gone"]), "ann@x.org")
    assert found.handles.to_pylist() == [
        {"record": 0, "source": "email", "handle": "ann@x.org", "salesforce_field": "Field"}
    ]


def test_rule_4_10_of_several_fields_with_the_same_handle_the_first_in_the_mapping_is_remembered() -> None:
    columns = columns_for("phone", Second="phone", Third="email")
    found = clean(columns, "212 842 5500", "n/a", Second=["+12128425500", "2128425500"], Third=["A@x.org", None])
    assert found.handles.to_pylist() == [
        {"record": 0, "source": "email", "handle": "a@x.org", "salesforce_field": "Third"},
        {"record": 0, "source": "phone", "handle": "+12128425500", "salesforce_field": "Field"},
        {"record": 1, "source": "phone", "handle": "+12128425500", "salesforce_field": "Second"},
    ]
    assert found.warnings["value"].to_pylist() == ["n/a"]


# --------------------------------------------------------------------------------------------------------------- text

EXACT = [
    "NA", "N/A", "null", "None", "nan", "NaN", "0012", "1E5", "1.0", "TRUE", "true", "-0", "#N/A", "", " ", "  blanks  ",
    "😀👩‍👩‍👧", "e\u0301", "é", "שלום \u202bעולם\u202c", "بن علي", 'say "hi", ok', "O'Hara", "a\r\nb", "a\rb\n", "tab\there",
    "back\\slash \\N \\t", "=1+1", "<script>alert(1)</script>", "{{ 7*7 }}", "%s %d", "'; DROP TABLE contacts;--", "\x01\x1f\x7f",
    "\u2028\u2029\ufeff", "x" * 32_000, "😀" * 16_000, "{\"json\": [1]}",
]  # fmt: skip


@pytest.mark.parametrize("text", EXACT, ids=lambda text: quote(text[:20]))
def test_rule_3_7_text_is_kept_exactly(text: str) -> None:
    assert value_of("description", text) == text
    assert json.loads(value_of("custom_fields.string", text) or "") == text
    assert json.loads(value_of("url", text) or "") == [text]


@given(st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=80)
def test_rule_3_7_any_text_is_kept_exactly(text: str) -> None:
    found = clean(columns_for("description"), text)
    assert found.records["description"].to_pylist() == [text]


def test_rule_4_12_a_text_is_written_as_postgresql_writes_jsonb_so_that_the_next_run_finds_it_unchanged() -> None:
    columns = columns_for("custom_fields.string")
    found = clean(columns, 'é "b"', "plain é", None, "line\nbreak")
    assert found.records["custom_fields.string"].to_pylist() == ['"é \\"b\\""', '"plain é"', None, '"line\\nbreak"']


def test_rule_3_4_an_empty_value_is_mirrored_too() -> None:
    assert value_of("description", None) is None
    assert value_of("custom_fields.number", None) is None
    assert value_of("url", None) == "[]"
    assert handles_of("email", None) == []


def test_rule_3_1_web_links_of_several_fields_are_one_list_each_once() -> None:
    columns = columns_for("url", Second="url", Third="url")
    found = clean(columns, "b", None, None, "d", Second=["a", None, "c", "d"], Third=["b", None, "c", None])
    assert [json.loads(text) for text in found.records["links"].to_pylist()] == [["b", "a"], [], ["c"], ["d"]]


# -------------------------------------------------------------------------------------------------- frames as a whole

ALL_TARGETS = ("email", "description", "url", *(f"custom_fields.{name}" for name in CUSTOM_FIELDS))
EVERYTHING = columns_for("phone", **{f"F{number}": target for number, target in enumerate(ALL_TARGETS)})


def test_an_empty_snapshot_takes_the_same_path() -> None:
    names = ["Id", "AccountId", "Field", *(f"F{number}" for number in range(len(ALL_TARGETS)))]
    empty = transform(pa.table({name: pa.array([], pa.string()) for name in names}), EVERYTHING)
    full = clean(EVERYTHING, "1", **{name: ["x"] for name in names[3:]})
    assert [getattr(empty, name).num_rows for name in ("records", "handles", "unreadable", "warnings")] == [0] * 4
    for name in ("records", "handles", "unreadable", "warnings"):
        assert getattr(empty, name).schema == getattr(full, name).schema


def test_the_order_of_the_snapshot_does_not_matter_and_records_are_ordered_by_case_sensitive_id() -> None:
    """Rules 2.7 and 4.6."""
    ids = ["003000000000abCAAQ", "003000000000abcAAA", "003000000000ABcAAM"]
    columns = columns_for("email")

    def snapshot(order: list[int]) -> pa.Table:
        rows = [(ids[at], None, f"{at}@x.org") for at in order]
        return pa.table(
            {name: [row[at] for row in rows] for at, name in enumerate(("Id", "AccountId", "Field"))},
            schema=pa.schema([(name, pa.string()) for name in ("Id", "AccountId", "Field")]),
        )

    first, other = transform(snapshot([0, 1, 2]), columns), transform(snapshot([2, 0, 1]), columns)
    assert first == other
    assert first.records["external_id"].to_pylist() == sorted(ids)


def test_a_snapshot_in_many_chunks_reads_like_one() -> None:
    letters = list(string.ascii_lowercase)
    table = pa.table(
        {
            "Id": pa.array([f"003{number:012d}AAA" for number in range(26)], pa.string()),
            "AccountId": pa.nulls(26, pa.string()),
            "Field": pa.array([f"{letter}@x.org" for letter in letters], pa.string()),
        }
    )
    chunked = pa.concat_tables([table.slice(at, 3) for at in range(0, 26, 3)])
    assert transform(chunked, columns_for("email")) == transform(table, columns_for("email"))


def test_a_field_with_more_text_than_arrow_takes_in_one_piece_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(transform_module, "MOST_TEXT", 100)
    with pytest.raises(RunRefused, match="Field holds more than 2 GB of text in all"):
        value_of("description", "x" * 200)
