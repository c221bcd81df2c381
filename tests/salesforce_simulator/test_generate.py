"""The generated organisation: the same for the same seed, real to look at, with every fault that a sync must name."""

import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterable

import phonenumbers
import pyarrow as pa
import pytest

from include.salesforce_simulator.generate import BENCHMARK_HABITS, NEWEST, generate_organisation
from include.salesforce_simulator.organisation import Organisation
from include.salesforce_simulator.planted import BAD_EMAILS, BAD_LEVELS, BAD_PHONES, HOSTILE

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")


@pytest.fixture(scope="module")
def demo() -> Organisation:
    return generate_organisation()


@pytest.fixture(scope="module")
def contacts(demo: Organisation) -> list[dict[str, object]]:
    return demo.records("Contact").to_pylist()


def read_phone(text: str) -> str | None:
    try:
        number = phonenumbers.parse(text, "US")
    except phonenumbers.NumberParseException:
        return None
    shape = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.RFC3966)
    return shape if phonenumbers.is_valid_number(number) else None


def shared(pairs: Iterable[tuple[object, object]]) -> int:
    """How many records hold a value that another record holds first."""
    holders: dict[object, set[object]] = defaultdict(set)
    for value, identifier in pairs:
        if value:
            holders[value].add(identifier)
    return sum(len(one) - 1 for one in holders.values())


def test_the_same_seed_gives_the_same_organisation_and_another_seed_another() -> None:
    first, again, other = (generate_organisation(seed, 300, 40) for seed in (5, 5, 6))
    for sobject in ("Contact", "Account"):
        assert first.records(sobject, deleted_too=True).equals(again.records(sobject, deleted_too=True))
        assert not first.records(sobject, deleted_too=True).equals(other.records(sobject, deleted_too=True))


@pytest.mark.parametrize(("contacts", "accounts"), [(0, 0), (1, 0), (3, 1), (0, 5), (200, 20), (250, 1)])
def test_any_size_can_be_made(contacts: int, accounts: int) -> None:
    made = generate_organisation(1, contacts, accounts)
    assert (len(made.table("Contact")), len(made.table("Account"))) == (contacts, accounts)


def test_a_hundred_thousand_contacts_take_a_moment_and_are_distinct() -> None:
    start = time.monotonic()
    made = generate_organisation(3, 100_000, 10_000)
    assert time.monotonic() - start < 15
    table = made.records("Contact", deleted_too=True)
    assert len(set(table["Id"].to_pylist())) == 100_000
    addresses = Counter(address.lower() for address in table["Email"].to_pylist() if address)
    assert sum(count - 1 for count in addresses.values()) < 1000


def test_the_demo_has_2000_contacts_and_300_accounts_of_many_countries(
    demo: Organisation, contacts: list[dict[str, object]]
) -> None:
    assert (len(demo.table("Contact")), len(demo.table("Account"))) == (2000, 300)
    countries = {contact["MailingCountry"] for contact in contacts}
    assert {
        "United States",
        "United Kingdom",
        "Germany",
        "France",
        "Spain",
        "Brazil",
        "India",
        "Japan",
        "Israel",
        "Greece",
    } <= countries
    names = "".join(str(contact["LastName"]) for contact in contacts)
    for script in ("ü", "佐", "כ", "ا", "Π", "Ш", "श"):
        assert script in names
    assert sum(contact["AccountId"] is None for contact in contacts) > 20


def test_phones_are_valid_in_many_styles(contacts: list[dict[str, object]]) -> None:
    phones = [str(contact[name]) for contact in contacts for name in ("Phone", "MobilePhone") if contact[name]]
    unreadable = [phone for phone in phones if read_phone(phone) is None]
    assert set(unreadable) <= set(BAD_PHONES)
    assert len(unreadable) >= 3
    assert sum(";ext=" in (read_phone(phone) or "") for phone in phones) > 20
    assert len({re.sub(r"\d+", "9", phone) for phone in phones}) > 40
    assert sum(not phone.startswith("+") for phone in phones) > 100


def test_every_contact_error_is_planted_three_times_at_least(
    demo: Organisation, contacts: list[dict[str, object]]
) -> None:
    def bare(contact: dict[str, object]) -> bool:
        return not any(contact[name] for name in ("Email", "Phone", "MobilePhone", "Twitter__c"))

    emails = [(str(contact["Email"] or "").lower(), contact["Id"]) for contact in contacts]
    phones = [
        (read_phone(str(contact[name] or "")), contact["Id"])
        for contact in contacts
        for name in ("Phone", "MobilePhone")
    ]
    twitter = [(str(contact["Twitter__c"] or "").lstrip("@").lower(), contact["Id"]) for contact in contacts]
    sites = [
        re.sub(r"^(https?://)?(www\.)?|/.*$", "", str(one or "").lower())
        for one in demo.records("Account")["Website"].to_pylist()
    ]
    counts = {
        "no_handle": sum(map(bare, contacts)),
        "email_taken": shared(emails),
        "email_taken in another case": shared(emails)
        - shared((contact["Email"], contact["Id"]) for contact in contacts),
        "phone_taken": shared(phones),
        "handle_taken": shared(twitter),
        "domain_taken": shared((site, number) for number, site in enumerate(sites)),
        "invalid_handle": sum(
            contact["Email"] is not None and not _EMAIL.fullmatch(str(contact["Email"])) for contact in contacts
        ),
        "invalid_value": sum(contact["Level_Text__c"] in BAD_LEVELS for contact in contacts),
    }
    assert min(counts.values()) >= 3, counts
    assert sum(counts.values()) < 0.05 * len(contacts), counts
    unreadable = {
        contact["Email"] for contact in contacts if contact["Email"] and not _EMAIL.fullmatch(str(contact["Email"]))
    }
    assert unreadable == set(BAD_EMAILS)


def test_one_switchboard_number_is_shared_by_colleagues_of_one_account(contacts: list[dict[str, object]]) -> None:
    accounts = [contact["AccountId"] for contact in contacts if contact["Phone"] == "+1 212-842-5500"]
    assert (len(accounts), len(set(accounts))) == (5, 1)


def test_hostile_values_and_look_alike_ids_are_there(contacts: list[dict[str, object]]) -> None:
    held = [
        {
            name: contact[name]
            for name in ("LastName", "FirstName", "Title", "MailingStreet", "Description", "Department")
        }
        for contact in contacts
    ]
    for planted in HOSTILE:
        assert any(planted.items() <= one.items() for one in held), planted
    folded = Counter(str(contact["Id"])[:15].lower() for contact in contacts)
    assert folded.most_common(1)[0][1] == 3
    assert len({contact["Id"] for contact in contacts}) == len(contacts)


def test_some_are_deleted_and_some_merged(demo: Organisation) -> None:
    everything = demo.records("Contact", deleted_too=True)
    gone = [one for one in everything.to_pylist() if one["IsDeleted"]]
    live = set(demo.records("Contact")["Id"].to_pylist())
    masters = [one["MasterRecordId"] for one in gone if one["MasterRecordId"]]
    assert (len(gone), len(masters)) == (12, 4)
    assert set(masters) <= live


def test_stamps_are_not_younger_than_the_organisation_and_many_are_shared(demo: Organisation) -> None:
    stamps = demo.records("Contact")["SystemModstamp"]
    assert stamps.type == pa.timestamp("s", tz="UTC")
    values = stamps.to_pylist()
    assert max(values) <= NEWEST
    assert Counter(values).most_common(1)[0][1] > 200


def test_in_a_benchmark_everybody_has_two_handles_but_for_a_hundredth_with_each_fault() -> None:
    contacts = generate_organisation(contacts=3000, accounts=150, habits=BENCHMARK_HABITS).table("Contact")
    handles = ("Email", "Phone", "MobilePhone", "Twitter__c")
    counts = Counter(
        sum(values) for values in zip(*(contacts.column(name).is_valid().to_pylist() for name in handles), strict=True)
    )
    assert counts[2] > 2700
    assert counts[0] == 30
    assert contacts.column("AccountId").null_count == 0
