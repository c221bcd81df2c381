"""Values that break importers: each survives the way from Salesforce to the store byte for byte, or is reported."""

import csv
import io
from dataclasses import replace
from email.message import EmailMessage
from typing import Any

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat

from include.contact_sync.phones import read_phone
from include.contact_sync.salesforce import client
from include.contact_sync.settings import Settings
from include.salesforce_simulator.ids import lengthen
from include.salesforce_simulator.server import Simulator
from tests.conftest import Store
from tests.proof.conftest import Score
from tests.proof.invariants import broken
from tests.proof.one_run import send_report, sync
from tests.whole_runs import IN_HASTE, Mailbox, lines, settings_with

pytestmark = pytest.mark.usefixtures("staging")

TEXTS = {
    "words that mean nothing": [
        "NA",
        "N/A",
        "#N/A",
        "null",
        "NULL",
        "None",
        "nan",
        "NaN",
        "nil",
        "-",
        "undefined",
        "<NA>",
    ],
    "looks like a number": [
        "0012",
        "1E5",
        "1e400",
        "00",
        "-0",
        "1.0",
        "+1",
        "0x1F",
        "1_000",
        "٣",
        "Infinity",
        "1,000.50",
    ],
    "looks like a boolean or a date": ["TRUE", "false", "t", "yes", "2026-02-30", "0000-00-00", "12/31/99"],
    "emoji": ["🦄", "👩‍👩‍👧‍👦", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "a🚀b", "\N{VARIATION SELECTOR-16}"],
    "combining and look-alike": ["e\u0301", "é", "Å", "Å", "ﬁ", "Ａ", "ẞß", "İıIi", "Ωσς", "\u200bzero\u200b"],
    "right to left": ["بن علي", "אברהם", "\u202egnp.exe\u202c", "a\u200fb", "\u2067x\u2069"],
    "white space": [
        "  both ends  ",
        "\ttab\t",
        " ",
        "a  b",
        "\u00a0",
        "a\u0085b",
        "\u2028",
        "\u2029",
        "\ufeffbom",
        "\u3000",
    ],
    "line breaks": ["a\r\nb", "a\nb", "a\rb", "\n", "\r\n", "12 Main St\r\nc/o Ann, 2nd; floor\r\n"],
    "quotes and delimiters": ['"', '""', '"a', "'", "''", ",", ";", "|", 'a,"b",c', "`", '","', '"\n"', "a\\", "\\"],
    "PostgreSQL's and others' escapes": [
        "\\N",
        "\\.",
        "\\\\",
        "$$",
        "$1",
        "%s",
        "%(name)s",
        "{}",
        "{0}",
        "E'\\n'",
        ":x",
    ],
    "JSON and arrays": ["[]", "{}", '{"a": 1}', '["x"]', "\\u0000", "\\u0041", '\\"', "{a,b}", "]", "}"],
    "attacks": [
        "Robert'); DROP TABLE contact_store.contacts;--",
        "<script>alert(1)</script>",
        "<b>Bold</b>",
        "&amp;",
        "${jndi:ldap://x}",
        "{{ 7*7 }}",
        "../../etc/passwd",
    ],
    "formulas": ["=cmd|'/c calc'!A1", "+1+1", "-1+1", "@SUM(A1:A9)", "\t=1+1", "＝1+1"],
    "control characters": ["a\x01b", "\x1f", "\x7f", "a\x0bb", "\x0c", "\x1b[31m", "\x1a"],
    "edges of Unicode": ["\U0010ffff", "\ue000", "\uffff", "\ufffd", "\ud7ff"],
    "long": ["x" * 255, "ü" * 255, "🦄" * 120],
}
TARGETS = {
    "LastName": "name",
    "Description": "description",
    "Title": "custom_fields.a title",
    "MailingStreet": 'custom_fields.street "quoted"',
    "Department": "custom_fields.Ünïcode 🦄",
    "LinkedIn__c": "url",
    "Blog__c": "url",
}


def settings() -> Settings:
    custom_fields: dict[str, Any] = {
        target.removeprefix("custom_fields."): {"type": "string"}
        for target in TARGETS.values()
        if target.startswith("custom_fields.")
    }
    mapping = lines(Email="email", **TARGETS)
    return settings_with(contacts={"mapping": mapping, "custom_fields": custom_fields})


@pytest.mark.parametrize("way", ["rest", "bulk"])
def test_text_arrives_as_it_was_sent(
    store: Store, organisation: Simulator, score: Score, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Rule 3.7, by both of Salesforce's interfaces, created and then updated."""
    if way == "bulk":
        monkeypatch.setattr(client, "Pace", lambda: replace(IN_HASTE, rest_rows=0, page_rows=40))
    control = organisation.control
    control.add_field(sobject="Contact", name="Blog__c", type="string", length=255)
    (acme,) = control.create(sobject="Account", records=[{"Name": "Acme"}])
    texts = [(kind, text) for kind, found in TEXTS.items() for text in found]
    records = [
        {"AccountId": acme, "Email": f"{at}@example.org"} | dict.fromkeys(TARGETS, text)
        for at, (_, text) in enumerate(texts)
    ]
    long = "Ω" * 31_998 + "\r\n"
    records.append({"AccountId": acme, "Email": "long@example.org", "LastName": "long", "Description": long})
    ids = control.create(sobject="Contact", records=records)
    assert sync(settings()).run.contacts == {"read": len(ids), "created": len(ids)} | dict.fromkeys(
        ("linked", "updated", "unchanged", "error"), 0
    )
    compare(
        store, organisation, score, dict(zip(ids, [*(kind for kind, _ in texts), "32,000 characters"], strict=True))
    )
    turned = {identifier: records[at - 1] for at, identifier in enumerate(ids)}
    for identifier, record in turned.items():
        control.update(sobject="Contact", ids=[identifier], values={**dict.fromkeys(TARGETS), **without_keys(record)})
    assert sync(settings()).run.contacts["updated"] > len(ids) - 5
    compare(store, organisation, score, dict.fromkeys(ids, "as an update"))
    assert sync(settings()).run.contacts["unchanged"] == len(ids)
    assert broken(store) == {}
    score.expect([*TEXTS, "32,000 characters", "as an update"])


def without_keys(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in {"AccountId", "Email"}}


def compare(store: Store, organisation: Simulator, score: Score, kinds: dict[str, str]) -> None:
    """What Salesforce holds against what the store holds."""
    sent = {record["Id"]: record for record in organisation.control.records(sobject="Contact")}
    rows = store.execute("SELECT external_id, name, description, links, custom_fields FROM contact_store.contacts")
    assert {row[0] for row in rows} == set(sent)
    for external_id, name, description, links, custom_fields in rows:
        record = {field: sent[external_id][field] or None for field in TARGETS}
        expected = {TARGETS[field].removeprefix("custom_fields."): record[field] for field in TARGETS}
        expected["url"] = list(dict.fromkeys(record[field] for field in ("LinkedIn__c", "Blog__c") if record[field]))
        found = {"name": name, "description": description, "url": links} | custom_fields
        assert found == {target: value for target, value in expected.items() if value is not None or target in found}
        score.tried["values compared"] += len(record)
        score.met[kinds[external_id]] += 1


@pytest.mark.parametrize("way", ["rest", "bulk"])
def test_a_nul_character_is_removed_and_nothing_else(
    store: Store, organisation: Simulator, score: Score, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """Rule 3.7: PostgreSQL cannot hold it."""
    if way == "bulk":
        monkeypatch.setattr(client, "Pace", lambda: replace(IN_HASTE, rest_rows=0))
    control = organisation.control
    (acme,) = control.create(sobject="Account", records=[{"Name": "Acme"}])
    record = {"LastName": "Z\x00oe\x00", "Description": "\x00", "Email": "zo\x00e@example.org", "AccountId": acme}
    control.create(sobject="Contact", records=[record])
    sync(settings())
    assert store.execute("SELECT name, description FROM contact_store.contacts") == [("Zoe", None)]
    assert store.execute("SELECT handle FROM contact_store.contact_handles") == [("zoe@example.org",)]
    score.tried["values with a NUL"] += 3


def test_ids_that_differ_only_in_case_are_different_people(store: Store, organisation: Simulator, score: Score) -> None:
    """Rule 2.7, also where Salesforce gives a list view's id in its short form."""
    control = organisation.control
    (acme,) = control.create(sobject="Account", records=[{"Name": "Acme"}])
    look_alikes = {"003HsAAAAAAaBcD": "a", "003HsAAAAAAAbCd": "b", "003HsAAAAAAabcd": "c"}
    look_alikes = {lengthen(identifier): letter for identifier, letter in look_alikes.items()}
    records = [
        {"Id": identifier, "LastName": letter, "Email": f"{letter}@example.org", "AccountId": acme, "Tier__c": "Gold"}
        for identifier, letter in look_alikes.items()
    ]
    control.create(sobject="Contact", records=records)
    control.change_options(list_view_id_length=15)
    view = control.create_list_view(label="Gold", where="Tier__c = 'Gold'")
    for identifier in (view, view[:15]):
        chosen = {"mapping": lines(Name="name", Email="email"), "source": {"list_view": identifier}}
        concluded = sync(settings_with(contacts=chosen))
        assert concluded.run.state == "succeeded"
        found = store.execute("SELECT external_id, name FROM contact_store.contacts ORDER BY 2")
        assert dict(found) == look_alikes
        score.tried["contacts found by their id"] += len(found)


EMAILS = {
    "a+tag@example.org": "a+tag@example.org",
    "A+Tag@Example.ORG": None,
    " padded@example.org\t": "padded@example.org",
    "b.levy@expressl&t.net": "b.levy@expressl&t.net",
    "用户@例え.jp": "用户@例え.jp",
    "ünï@exämple.de": "ünï@exämple.de",
    "o'neil@example.org": "o'neil@example.org",
    "=cmd@example.org": "=cmd@example.org",
    '"quoted"@example.org': '"quoted"@example.org',
    "\u00a0nbsp@example.org": "nbsp@example.org",
    "x@sub.domain.co.uk": "x@sub.domain.co.uk",
    "İ@example.org": "i@example.org",
    "<script>@example.org": "<script>@example.org",
    "two@@example.org": "",
    "no-at.example.org": "",
    "with space@example.org": "",
    "dotless@localhost": "",
    "@example.org": "",
    "x@.org": "",
    "x@example.": "",
    "<script>alert(1)</script>": "",
    "null": "",
    "x" * 70 + "@e.org": "x" * 70 + "@e.org",
}
"""What becomes of each: a handle, "" where it cannot be read, None where the one before has it already."""


def test_every_email_becomes_a_handle_or_is_reported(
    store: Store, organisation: Simulator, mailbox: Mailbox, score: Score
) -> None:
    """Rules 3.6, 7 and 8.1; the mail and its attachment cannot be made to run or break anything."""
    control = organisation.control
    (acme,) = control.create(sobject="Account", records=[{"Name": "Acme"}])
    records = [
        {"LastName": "=1+1<b>\u202e", "Email": email, "Twitter__c": f"t{at}", "AccountId": acme}
        for at, email in enumerate(EMAILS)
    ]
    ids = control.create(sobject="Contact", records=records)
    concluded = sync(settings_with(contacts={"mapping": lines(Name="name", Email="email", Twitter__c="twitter")}))
    handles = dict(
        store.execute(
            "SELECT external_id, handle FROM contact_store.contact_handles JOIN contact_store.contacts ON id = contact_id"
            " WHERE source = 'email'"
        )
    )
    errors = {
        row[0]: row[1:] for row in store.execute("SELECT external_id, code, value FROM contact_store.sync_errors")
    }
    for identifier, (email, handle) in zip(ids, EMAILS.items(), strict=True):
        if handle:
            assert handles.get(identifier) == handle
            score.met["became a handle"] += 1
        elif handle is None:
            assert errors.get(identifier) == ("email_taken", email.lower())
            score.met["was taken"] += 1
        else:
            assert errors.get(identifier) == ("invalid_handle", email)
            score.met["could not be read and was reported"] += 1
        score.tried["e-mail addresses"] += 1
    send_report(concluded)
    (message,) = mailbox.messages
    look_at(message, errors)
    assert broken(store) == {}


def look_at(message: EmailMessage, errors: dict[str, tuple]) -> None:
    html = message.get_body(("html",))
    assert html is not None and "<script>" not in html.get_content()
    assert "\n" not in str(message["Subject"])
    (attached,) = message.iter_attachments()
    rows = list(csv.reader(io.StringIO(attached.get_payload(decode=True).decode("utf-8-sig"))))
    assert len(rows) == len(errors) + 1
    assert not [cell for row in rows for cell in row if cell[:1] in {"=", "+", "-", "@", "\t", "\r"}]


COUNTRIES = [
    "US",
    "GB",
    "DE",
    "FR",
    "IT",
    "ES",
    "NL",
    "PL",
    "SE",
    "CH",
    "IN",
    "JP",
    "CN",
    "KR",
    "BR",
    "MX",
    "ZA",
    "NG",
    "AU",
    "IL",
]


@pytest.mark.parametrize("region", COUNTRIES)
def test_a_phone_number_of_twenty_countries_is_one_handle_however_it_is_typed(score: Score, region: str) -> None:
    """Rule 3.6."""
    for kind in (phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE):
        number = phonenumbers.example_number_for_type(region, kind)
        e164 = phonenumbers.format_number(number, PhoneNumberFormat.E164)
        national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
        international = phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)
        typed = [e164, national, international, f" {international} ", international.replace(" ", "."), f"tel:{e164}"]
        for text in typed:
            assert read_phone(text, region) == e164, text
            score.met["with or without the country's code"] += 1
        abroad = next(other for other in COUNTRIES if other != region)
        assert read_phone(international, abroad) == e164
        score.met["with the country's code, read abroad"] += 1
        for extension in (" x12", " ext. 12", ";ext=12"):
            assert read_phone(international + extension, region) == f"{e164};ext=12"
            score.met["with an extension"] += 1
        score.tried["numbers"] += 1
    for nonsense in ("call me", "0", "12", "+999 123", "n/a", "++", "x12", "٣", "1" * 40):
        assert read_phone(nonsense, region) is None
        score.met["nonsense"] += 1
