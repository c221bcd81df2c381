"""What a first run must come to, counted by other means than the sync's: plain loops over the organisation's records.

It knows the demo's mapping and an empty store, where the rules come down to this: in the order of their ids, a record
whose handle an earlier one has is refused.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import phonenumbers

Record = Mapping[str, str | None]
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")


@dataclass(frozen=True)
class Expected:
    """Read and created records of a part, and its errors by code."""

    read: int
    created: int
    errors: Counter[str]


def count_accounts(accounts: Iterable[Record]) -> tuple[Expected, set[str]]:
    """What becomes of the accounts, and the ids of those that are linked."""
    owned: set[str] = set()
    linked: set[str] = set()
    errors: Counter[str] = Counter()
    records = sorted(accounts, key=lambda record: str(record["Id"]))
    for record in records:
        domain = _domain(record["Website"])
        if domain in owned:
            errors["domain_taken"] += 1
        else:
            linked.add(str(record["Id"]))
            owned |= {domain} if domain else set()
    return Expected(len(records), len(linked), errors), linked


def count_contacts(contacts: Iterable[Record], linked_accounts: set[str]) -> Expected:
    """What becomes of the contacts of linked accounts."""
    owned: set[tuple[str, str]] = set()
    created = 0
    errors: Counter[str] = Counter()
    records = sorted(
        (record for record in contacts if record["AccountId"] in linked_accounts), key=lambda r: str(r["Id"])
    )
    for record in records:
        handles = []
        for field, source, read in _HANDLES:
            value = (record[field] or "").strip()
            handle = read(value) if value else None
            errors["invalid_handle"] += bool(value) and handle is None
            handles += [(source, handle)] if handle else []
        errors["invalid_value"] += not _is_number(record["Level_Text__c"])
        taken = [source for source, handle in handles if (source, handle) in owned]
        if not handles:
            errors["no_handle"] += 1
        elif taken:
            errors[f"{taken[0]}_taken" if taken[0] in {"email", "phone"} else "handle_taken"] += 1
        else:
            created += 1
            owned.update(handles)
    return Expected(len(records), created, +errors)


def _email(value: str) -> str | None:
    return value.lower() if _EMAIL.fullmatch(value) else None


def _phone(value: str) -> str | None:
    try:
        number = phonenumbers.parse(value, "US")
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    e164 = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return f"{e164};ext={number.extension}" if number.extension else e164


def _twitter(value: str) -> str | None:
    return value.removeprefix("@").lower() or None


_HANDLES = (
    ("Email", "email", _email),
    ("Phone", "phone", _phone),
    ("MobilePhone", "phone", _phone),
    ("Twitter__c", "twitter", _twitter),
)


def _domain(website: str | None) -> str | None:
    if not website or not website.strip():
        return None
    text = website.strip().lower()
    return (urlsplit(text if "//" in text else f"//{text}").hostname or "").removeprefix("www.") or None


def _is_number(text: str | None) -> bool:
    return text is None or re.fullmatch(r"\s*\d+\s*", text) is not None
