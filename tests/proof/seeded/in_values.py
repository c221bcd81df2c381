"""Defects of how values are read, written and told, looked for with values that break importers."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest

from include.contact_sync import phones, transform
from include.contact_sync.report import csv_file, render
from include.contact_sync.salesforce import bulk, pages, rest
from include.contact_sync.staging import Staging
from include.salesforce_simulator.server import Simulator
from tests.conftest import Store
from tests.proof import prove_hostile_values
from tests.proof.conftest import Score
from tests.proof.seeded.defect import Defect, Invariant, Scene, every, instead
from tests.whole_runs import Mailbox

# ---------------------------------------------------------------------------------------------------------- scenes


def text_by(way: str) -> Scene:
    """Text that breaks importers comes by one of Salesforce's interfaces."""

    def scene(
        organisation: Simulator, store: Store, staging: Staging, score: Score, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prove_hostile_values.test_text_arrives_as_it_was_sent(store, organisation, score, monkeypatch, way)

    scene.__name__ = f"text by {way}"
    return scene


def nul_by(way: str) -> Scene:
    def scene(
        organisation: Simulator, store: Store, staging: Staging, score: Score, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        prove_hostile_values.test_a_nul_character_is_removed_and_nothing_else(
            store, organisation, score, monkeypatch, way
        )

    scene.__name__ = f"a NUL by {way}"
    return scene


def ids_that_look_alike(organisation: Simulator, store: Store, staging: Staging, score: Score) -> None:
    prove_hostile_values.test_ids_that_differ_only_in_case_are_different_people(store, organisation, score)


def emails_and_the_mail(
    organisation: Simulator, store: Store, staging: Staging, mailbox: Mailbox, score: Score
) -> None:
    prove_hostile_values.test_every_email_becomes_a_handle_or_is_reported(store, organisation, mailbox, score)


def phones_as_typed(score: Score) -> None:
    prove_hostile_values.test_a_phone_number_of_twenty_countries_is_one_handle_however_it_is_typed(score, "GB")


BY_REST, BY_BULK, NUL_BY_REST, NUL_BY_BULK = text_by("rest"), text_by("bulk"), nul_by("rest"), nul_by("bulk")


# --------------------------------------------------------------------------------------------------------- defects


def detects_words_for_null(original: Any) -> Any:
    """As Arrow and pandas read CSV where nothing is said."""

    def options(**chosen: Any) -> pyarrow.csv.ConvertOptions:
        return original(**{**chosen, "null_values": ["", "NA", "N/A", "NULL", "null", "nan", "NaN", "#N/A"]})

    return options


def trims(original: Any) -> Any:
    return lambda snapshot, name: pc.utf8_trim_whitespace(original(snapshot, name))


def strips(original: Any) -> Any:
    def text(value: Any) -> str | None:
        read: str | None = original(value)
        return read and (read.strip() or None)

    return text


def reads_numbers(original: Any) -> Any:
    return lambda raw, describe_type: original(raw, "double")


def in_one_form_of_unicode(original: Any) -> Any:
    return lambda snapshot, name: pc.utf8_normalize(original(snapshot, name), "NFC")


def with_unix_line_breaks(original: Any) -> Any:
    return lambda content, fields: original(content.replace(b"\r\n", b"\n"), fields)


def cut_at_255(original: Any) -> Any:
    return lambda snapshot, name: pc.utf8_slice_codeunits(original(snapshot, name), 0, 255)


def keeps_nul_in_json(original: Any) -> Any:
    return lambda value: value if isinstance(value, str) and value else original(value)


class KeepsNul(bytes):
    """Bytes of which nobody takes anything away."""

    def replace(self, *_: Any) -> bytes:  # type: ignore[override]
        return self


def keeps_nul_in_csv(original: Any) -> Any:
    return lambda content, fields: original(KeepsNul(content), fields)


def cuts_off_at_nul(original: Any) -> Any:
    return lambda value: original(value.partition("\0")[0] if isinstance(value, str) else value)


def fifteen_characters(original: Any) -> Any:
    """Ids are cut to the fifteen characters that people see, and made eighteen without looking at capitals."""
    return lambda ids: pc.binary_join_element_wise(pc.utf8_lower(pc.utf8_slice_codeunits(ids, 0, 15)), "AAA", "")


def strict_about_emails(original: str) -> str:
    return r"^[a-z0-9._+-]+@[a-z0-9-]+(\.[a-z0-9-]+)+$"


def lenient_about_emails(original: str) -> str:
    return "@"


def takes_bad_emails_for_none(original: Any) -> Any:
    return lambda raw, values: pa.array([False] * len(raw))


def parsing(text_of: Callable[[str], str], region_of: Callable[[str], str]) -> Callable[[Any], Any]:
    """The library for phone numbers, asked for something else."""

    def defect(library: Any) -> Any:
        chosen = {name: getattr(library, name) for name in dir(library)}
        parse = library.parse
        return SimpleNamespace(**chosen | {"parse": lambda text, region: parse(text_of(text), region_of(region))})

    return defect


def without_extension(text: str) -> str:
    return re.split(r" x| ext|;ext", text)[0]


def as_typed(original: Any) -> Any:
    return lambda text: text


def unescaped(original: Any) -> Any:
    return lambda **_: False


TEXT = Invariant.TEXT_SURVIVES
COMPARED = "compare: assert found == "
DEFECTS = [
    Defect(
        "NA and null mean nothing (3.7)",
        TEXT,
        instead(bulk.pyarrow.csv, "ConvertOptions", detects_words_for_null),
        BY_BULK,
        COMPARED,
    ),
    Defect(
        "line breaks are made Unix's (3.7)", TEXT, instead(bulk, "read_csv", with_unix_line_breaks), BY_BULK, COMPARED
    ),
    Defect("white space is stripped as it arrives (3.7)", TEXT, instead(rest, "_text", strips), BY_REST, COMPARED),
    Defect("white space is trimmed (3.7)", TEXT, instead(transform, "_text", trims), BY_REST, COMPARED),
    Defect("0012 becomes 12 (3.7)", TEXT, instead(transform, "_plain_text", reads_numbers), BY_REST, COMPARED),
    Defect("accents are composed (3.7)", TEXT, instead(transform, "_text", in_one_form_of_unicode), BY_REST, COMPARED),
    Defect("text is cut at 255 characters (3.7)", TEXT, instead(transform, "_text", cut_at_255), BY_BULK, COMPARED),
    Defect(
        "a NUL stays in JSON (3.7)",
        Invariant.NUL,
        instead(rest, "_text", keeps_nul_in_json),
        NUL_BY_REST,
        "test_a_nul_character_is_removed_and_nothing_else: assert store.execute(",
    ),
    Defect(
        "a NUL stays in CSV (3.7)",
        Invariant.NUL,
        instead(bulk, "read_csv", keeps_nul_in_csv),
        NUL_BY_BULK,
        "test_a_nul_character_is_removed_and_nothing_else: assert store.execute(",
    ),
    Defect(
        "text ends at a NUL (3.7)",
        Invariant.NUL,
        instead(rest, "_text", cuts_off_at_nul),
        NUL_BY_REST,
        "test_a_nul_character_is_removed_and_nothing_else: assert store.execute(",
    ),
    Defect(
        "ids are compared without letter case (2.7)",
        Invariant.IDS,
        instead(pages, "to_18_each", fifteen_characters),
        ids_that_look_alike,
        "test_ids_that_differ_only_in_case_are_different_people: assert concluded.run.state",
    ),
    Defect(
        "e-mails are read by a strict pattern (3.6)",
        Invariant.EMAILS,
        instead(transform, "_EMAIL", strict_about_emails),
        emails_and_the_mail,
        "test_every_email_becomes_a_handle_or_is_reported: assert ",
    ),
    Defect(
        "whatever has an @ is an e-mail (3.6)",
        Invariant.EMAILS,
        instead(transform, "_EMAIL", lenient_about_emails),
        emails_and_the_mail,
        "test_every_email_becomes_a_handle_or_is_reported: assert ",
    ),
    Defect(
        "an extension is forgotten (3.6)",
        Invariant.PHONES,
        instead(phones, "library", parsing(without_extension, str)),
        phones_as_typed,
        "however_it_is_typed: assert read_phone(international + extension, region)",
    ),
    Defect(
        "numbers are read as those of one country (3.6)",
        Invariant.PHONES,
        instead(phones, "library", parsing(str, lambda _: "US")),
        phones_as_typed,
        "however_it_is_typed: assert read_phone(text, region)",
    ),
    Defect(
        "formulas get into the attachment (8.1)",
        Invariant.HARMLESS_MAIL,
        instead(csv_file, "make_safe", as_typed),
        emails_and_the_mail,
        "look_at: assert not [cell for row in rows for cell in row",
    ),
    Defect(
        "HTML gets into the mail (8.1)",
        Invariant.HARMLESS_MAIL,
        every(
            lambda patch: render._environment.cache_clear(),
            instead(render, "select_autoescape", unescaped),
            lambda patch: patch.setattr(render, "_environment", render._environment.__wrapped__),
        ),
        emails_and_the_mail,
        'look_at: assert html is not None and "<script>" not in html.get_content()',
    ),
]
