"""Rule 3.6: telephone numbers as people type them."""

import phonenumbers
import pytest

from include.contact_sync import phones
from include.contact_sync.phones import read_phone, read_phones

READABLE = """
US | (212) 842-5500              | +12128425500
US | 212.842.5500                | +12128425500
US | +1 212 842 5500             | +12128425500
US | 1-212-842-5500              | +12128425500
US | 212-842-5500 x12            | +12128425500;ext=12
US | +1 212 842 5500 ext. 0012   | +12128425500;ext=0012
US | tel:+1-212-842-5500;ext=7   | +12128425500;ext=7
US | ２１２ ８４２ ５５００          | +12128425500
US | 011 44 131 555 0123         |
US | +44 131 496 0123            | +441314960123
US | 1-800-FLOWERS               | +18003569377
GB | 0131 496 0123               | +441314960123
GB | +44 (0)131 496 0123         | +441314960123
GB | 07400 123456                | +447400123456
DE | 030 901820                  | +4930901820
DE | 0049 30 901820              | +4930901820
DE | +49 30 901820-17            | +493090182017
DE | 0171 5550199                | +491715550199
FR | 01 42 68 53 00              | +33142685300
FR | +33 (0)1 42 68 53 00        | +33142685300
IT | 06 6988 5318                | +390669885318
IT | +39 312 345 6789            | +393123456789
ES | 912 345 678                 | +34912345678
NL | 020-551 2345                | +31205512345
BE | 02 501 02 11                | +3225010211
CH | 044 668 18 00               | +41446681800
AT | 01 58858-0                  | +431588580
SE | 08-123 456 78               | +46812345678
NO | 21 02 00 00                 | +4721020000
DK | 33 92 34 00                 | +4533923400
PL | 22 123 45 67                | +48221234567
BR | (11) 98765-4321             | +5511987654321
MX | 55 1234 5678                | +525512345678
IN | 098765 43210                | +919876543210
JP | 03-1234-5678                | +81312345678
CN | 010-6529 8888               | +861065298888
AU | (02) 9374 4000              | +61293744000
NZ | 09-375 5999                 | +6493755999
IL | 03-555-1234                 | +97235551234
EG | ٠٢ ٢٥٧٤ ٥٠٠٠                | +20225745000
ZA | 011 555 1234                | +27115551234
"""

UNREADABLE = """
US | call me
US | 12
US | 555-0199-
US | 0131 496 0123
US | +999 123 456 789
US | +44
US | (000) 000-0000
GB | (212) 842-5500
DE | 1
FR | 01 42 68 53
US | +
US | ;ext=5
"""


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


@pytest.mark.parametrize(("region", "typed", "handle"), [row for row in cells(READABLE) if row[2]])
def test_rule_3_6_a_number_is_stored_as_e164_with_its_extension(region: str, typed: str, handle: str) -> None:
    assert read_phone(typed, region) == handle
    assert read_phone(f"  {typed}\t", region) == handle
    assert read_phone(handle, "US") == handle, "what was stored reads as itself"


@pytest.mark.parametrize(("region", "typed"), cells(UNREADABLE))
def test_rule_3_6_what_is_no_number_of_the_region_cannot_be_read(region: str, typed: str) -> None:
    assert read_phone(typed, region) is None


def test_rule_3_6_the_default_region_says_how_a_number_without_country_code_is_read() -> None:
    assert read_phone("020 7946 0018", "GB") == "+442079460018"
    assert read_phone("020 7946 0018", "DE") != "+442079460018"
    assert read_phone("+44 20 7946 0018", "DE") == "+442079460018"


@pytest.mark.parametrize("row", cells(READABLE) + cells(UNREADABLE), ids=str)
def test_the_reference_library_gives_the_same_answers(row: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fast = read_phone(row[1], row[0])
    monkeypatch.setattr(phones, "library", phonenumbers)
    assert read_phone(row[1], row[0]) == fast


def a_long_list(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[str | None]]:
    """Texts and what they say, of which half is read by another process."""
    readable = [row for row in cells(READABLE) if row[2]]
    rows = [row for row in readable + cells(UNREADABLE) if row[0] == "US"]
    monkeypatch.setattr(phones, "MANY_TEXTS", len(rows))
    return [row[1] for row in rows], [[*row, ""][2] or None for row in rows]


def test_a_long_list_is_read_by_two_processes_in_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    texts, handles = a_long_list(monkeypatch)
    here = []
    monkeypatch.setattr(
        phones, "_read_here", lambda found, _region: here.extend(found) or [read_phone(t, "US") for t in found]
    )
    assert read_phones(texts, "US") == handles
    assert here == texts[: len(texts) // 2]


@pytest.mark.parametrize("program", ["/no/such/program", "/bin/false"])
def test_where_no_other_process_can_be_had_all_are_read_here(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    texts, handles = a_long_list(monkeypatch)
    monkeypatch.setattr(phones, "_THIS_FILE", (program,))
    assert read_phones(texts, "US") == handles


def test_another_library_or_release_of_it_has_other_numbering_plans(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [phones.numbering_plans()]
    monkeypatch.setattr(phones, "version", lambda _name: "1000.0")
    told.append(phones.numbering_plans())
    monkeypatch.setattr(phones, "library", pytest)
    told.append(phones.numbering_plans())
    assert len(set(told)) == 3
