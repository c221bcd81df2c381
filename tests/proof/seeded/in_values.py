"""Defects of how values are read and written, looked for with a few of the values that break importers."""

import re
from collections.abc import Callable
from functools import cache
from types import SimpleNamespace
from typing import Any

import pyarrow.compute as pc
import pyarrow.csv
import pytest

from include.contact_sync import phones, transform
from include.contact_sync.salesforce import bulk, pages, rest
from include.contact_sync.staging import Staging
from include.salesforce_simulator.server import Simulator
from tests.conftest import Store
from tests.proof import prove_hostile_values as hostile
from tests.proof.conftest import Score
from tests.proof.seeded.defect import Defect, Invariant, Scene, instead

# ---------------------------------------------------------------------------------------------------------- scenes

FEW_TEXTS = [
    ("words that mean nothing", "NA"),
    ("looks like a number", "0012"),
    ("combining and look-alike", "e\u0301"),
    ("white space", "  both ends  "),
    ("line breaks", "a\r\nb"),
]


@cache
def values_by(api: str, proof: Callable[..., None]) -> Scene:
    """The proof, by one of Salesforce's interfaces, with so few values that each defect still meets one."""

    def scene(
        organisation: Simulator, store: Store, staging: Staging, score: Score, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(hostile, "ALL_TEXTS", FEW_TEXTS)
        hostile.read_by(api, monkeypatch)
        proof(store, organisation, score, monkeypatch, api)

    scene.__name__ = f"{proof.__name__.removeprefix('test_')} by {api}"
    return scene


def phones_as_typed(
    organisation: Simulator, store: Store, staging: Staging, score: Score, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two countries, with and without their code."""
    monkeypatch.setattr(hostile, "COUNTRIES", ("US", "GB"))
    monkeypatch.setattr(hostile, "ABROAD", {"E.164": hostile.ABROAD["E.164"]})
    hostile.test_a_phone_number_of_twenty_countries_is_one_handle_however_it_is_typed(
        store, organisation, score, "rest"
    )


TEXT_BY_REST, TEXT_BY_BULK = (values_by(api, hostile.test_text_arrives_as_it_was_sent) for api in hostile.APIS)
NUL_BY_REST, NUL_BY_BULK = (
    values_by(api, hostile.test_a_nul_character_is_removed_and_nothing_else) for api in hostile.APIS
)
LONG = values_by("bulk", hostile.test_32_000_characters_survive_in_every_field_or_are_reported)
IDS = values_by("rest", hostile.test_ids_that_differ_only_in_case_are_different_records)
ADDRESSES = values_by("rest", hostile.test_every_email_and_domain_becomes_a_handle_or_is_reported)


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


def parsing(text_of: Callable[[str], str], region_of: Callable[[str], str]) -> Callable[[Any], Any]:
    """The library for phone numbers, asked for something else."""

    def defect(library: Any) -> Any:
        chosen = {name: getattr(library, name) for name in dir(library)}
        parse = library.parse
        return SimpleNamespace(**chosen | {"parse": lambda text, region: parse(text_of(text), region_of(region))})

    return defect


def without_extension(text: str) -> str:
    return re.split(r" x| ext|;ext", text)[0]


TEXT = Invariant.TEXT_SURVIVES
COMPARED = "compare: assert found[external_id] == values"
NUL = "test_a_nul_character_is_removed_and_nothing_else: assert sync("
AS_A_HANDLE = "test_every_email_and_domain_becomes_a_handle_or_is_reported: assert handles.get("
AGAIN = "however_it_is_typed.<locals>.again: assert "
DEFECTS = [
    Defect(
        "NA and null mean nothing (3.7)",
        TEXT,
        instead(bulk.pyarrow.csv, "ConvertOptions", detects_words_for_null),
        TEXT_BY_BULK,
        COMPARED,
    ),
    Defect(
        "line breaks are made Unix's (3.7)",
        TEXT,
        instead(bulk, "read_csv", with_unix_line_breaks),
        TEXT_BY_BULK,
        COMPARED,
    ),
    Defect("white space is stripped as it arrives (3.7)", TEXT, instead(rest, "_text", strips), TEXT_BY_REST, COMPARED),
    Defect("white space is trimmed (3.7)", TEXT, instead(transform, "_text", trims), TEXT_BY_REST, COMPARED),
    Defect("0012 becomes 12 (3.7)", TEXT, instead(transform, "_plain_text", reads_numbers), TEXT_BY_REST, COMPARED),
    Defect(
        "accents are composed (3.7)", TEXT, instead(transform, "_text", in_one_form_of_unicode), TEXT_BY_REST, COMPARED
    ),
    Defect(
        "text is cut at 255 characters (3.7)",
        TEXT,
        instead(transform, "_text", cut_at_255),
        LONG,
        "test_32_000_characters_survive_in_every_field_or_are_reported: assert found == expected",
    ),
    Defect("a NUL stays in JSON (3.7)", Invariant.NUL, instead(rest, "_text", keeps_nul_in_json), NUL_BY_REST, NUL),
    Defect("a NUL stays in CSV (3.7)", Invariant.NUL, instead(bulk, "read_csv", keeps_nul_in_csv), NUL_BY_BULK, NUL),
    Defect("text ends at a NUL (3.7)", Invariant.NUL, instead(rest, "_text", cuts_off_at_nul), NUL_BY_REST, NUL),
    Defect(
        "ids are compared without letter case (2.7)",
        Invariant.IDS,
        instead(pages, "to_18_each", fifteen_characters),
        IDS,
        "test_ids_that_differ_only_in_case_are_different_records: assert sync(settings).run.state",
    ),
    Defect(
        "e-mails are read by a strict pattern (3.6)",
        Invariant.EMAILS,
        instead(transform, "_EMAIL", strict_about_emails),
        ADDRESSES,
        AS_A_HANDLE,
    ),
    Defect(
        "whatever has an @ is an e-mail (3.6)",
        Invariant.EMAILS,
        instead(transform, "_EMAIL", lenient_about_emails),
        ADDRESSES,
        AS_A_HANDLE,
    ),
    Defect(
        "an extension is forgotten (3.6)",
        Invariant.PHONES,
        instead(phones, "library", parsing(without_extension, str)),
        phones_as_typed,
        AGAIN + "sync(settings).run.contacts ==",
    ),
    Defect(
        "numbers are read as those of one country (3.6)",
        Invariant.PHONES,
        instead(phones, "library", parsing(str, lambda _: "US")),
        phones_as_typed,
        AGAIN + "(handles_by_record(store), reported(store)) ==",
    ),
]
