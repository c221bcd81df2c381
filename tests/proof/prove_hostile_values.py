"""Values that break importers, in every kind of field of contacts and accounts that can hold them, by both of
Salesforce's interfaces: each survives the way to the store byte for byte, or is reported with record, field and value.
What the mail makes of them is proven in `prove_hostile_mail`.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType

from include.contact_sync.errors import RunError
from include.contact_sync.salesforce import client
from include.contact_sync.settings import Settings, read_settings, to_yaml
from include.salesforce_simulator.ids import lengthen
from include.salesforce_simulator.server import Simulator
from tests.conftest import Store
from tests.proof.conftest import Score
from tests.proof.hostile_values import (
    BOOLEANS,
    COUNTRIES,
    DATETIMES,
    DOMAINS,
    DOMAINS_IN_TEXTS,
    EMAILS,
    ENUMS,
    NO_PHONES,
    NUMBERS,
    TEXTS,
    VALUES_OF_ENUM,
)
from tests.proof.invariants import broken
from tests.proof.one_run import sync
from tests.whole_runs import IN_HASTE, counts, lines, save, settings_with

pytestmark = pytest.mark.usefixtures("staging")

APIS = {"rest": IN_HASTE, "bulk": replace(IN_HASTE, rest_rows=0, first_page_rows=40, page_rows=40)}


@pytest.fixture(params=APIS)
def api(request: pytest.FixtureRequest, organisation: Simulator, monkeypatch: pytest.MonkeyPatch) -> str:
    """By which interface the records are read, in several pages."""
    organisation.control.change_options(page_size=50)
    read_by(request.param, monkeypatch)
    return str(request.param)


def read_by(api: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(client, "Pace", lambda: APIS[api])


ALL_TEXTS = [(kind, text) for kind, found in TEXTS.items() for text in found]

# ------------------------------------------------------------------------------------ wherever any text can stand

CONTACT_TEXTS = {
    "LastName": "name",
    "Description": "description",
    "Title": "custom_fields.a title",
    "MailingStreet": 'custom_fields.street "quoted"',
    "Department": "custom_fields.Ünïcode 🦄",
    "LinkedIn__c": "url",
    "Blog__c": "url",
}
CONTACT_HANDLES = {"Facebook__c": "facebook", "Key__c": "custom_handle"}
ACCOUNT_TEXTS = {
    "Name": "name",
    "Description": "description",
    "Logo__c": "logo_url",
    "Site": "custom_fields.it's a site",
    "BillingStreet": "custom_fields.$street",
    "Tradestyle": "custom_fields.<b>Ünïcode</b> 🦄",
}


def settings_for_texts() -> Settings:
    contacts = lines(Email="email", **CONTACT_TEXTS, **CONTACT_HANDLES)
    return settings_with(
        contacts={"mapping": contacts, "custom_fields": strings(CONTACT_TEXTS)},
        accounts={"mapping": lines(**ACCOUNT_TEXTS), "custom_fields": strings(ACCOUNT_TEXTS)},
    )


def strings(targets: dict[str, str]) -> dict[str, Any]:
    names = [
        target.removeprefix("custom_fields.") for target in targets.values() if target.startswith("custom_fields.")
    ]
    return {name: {"type": "string"} for name in names}


def add_fields(organisation: Simulator, *names: str, sobject: str = "Contact") -> None:
    for name in names:
        organisation.control.add_field(sobject=sobject, name=name, type="textarea", length=131_072)


def test_text_arrives_as_it_was_sent(
    store: Store, organisation: Simulator, score: Score, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    """Rules 3.7, 4.7 and 4.12: created, then updated while everybody gets another's values, then left alone."""
    control = organisation.control
    add_fields(organisation, "Blog__c", *CONTACT_HANDLES)
    with_text = [dict.fromkeys(ACCOUNT_TEXTS, text) for _, text in ALL_TEXTS]
    accounts = control.create(sobject="Account", records=with_text)
    people = [dict.fromkeys([*CONTACT_TEXTS, *CONTACT_HANDLES], text) for _, text in ALL_TEXTS]
    keys = [{"AccountId": account, "Email": f"{at}@example.org"} for at, account in enumerate(accounts)]
    contacts = control.create(
        sobject="Contact", records=[person | key for person, key in zip(people, keys, strict=True)]
    )
    count = len(ALL_TEXTS)

    run = sync(settings_for_texts()).run
    assert (run.accounts, run.contacts) == (counts(read=count, created=count),) * 2
    compare(
        store, organisation, score, dict(zip([*accounts, *contacts], [kind for kind, _ in ALL_TEXTS] * 2, strict=True))
    )

    for at in range(count):
        control.update(sobject="Account", ids=[accounts[at]], values=with_text[at - 1])
        control.update(sobject="Contact", ids=[contacts[at]], values=people[at - 1])
    run = sync(settings_for_texts()).run
    assert (run.accounts, run.contacts) == (counts(read=count, updated=count),) * 2
    compare(store, organisation, score, dict.fromkeys([*accounts, *contacts], "another's value, as an update"))

    for other in APIS:  # whichever brings them
        read_by(other, monkeypatch)
        run = sync(settings_for_texts()).run
        assert (run.accounts, run.contacts) == (counts(read=count, unchanged=count),) * 2
        score.met[f"unchanged when read again by {other}"] += 2 * count
    assert store.execute("SELECT count(*) FROM contact_store.sync_errors") == [(0,)]
    assert broken(store) == {}
    score.expect(
        [*TEXTS, "another's value, as an update", *(f"unchanged when read again by {other}" for other in APIS)]
    )
    score.expect(f"as {part} {target}" for part, target in KINDS_OF_FIELDS)


KINDS_OF_FIELDS = [
    *(
        ("contact", target)
        for target in ("name", "description", "custom field", "web link", "facebook", "custom handle")
    ),
    *(("account", target) for target in ("name", "description", "custom field", "logo_url")),
]


def compare(store: Store, organisation: Simulator, score: Score, kinds: dict[str, str]) -> None:
    """What Salesforce holds against what the store holds, record by record and field by field."""
    for part, expected, found in (
        ("contact", expected_contacts(organisation), stored_contacts(store)),
        ("account", expected_accounts(organisation), stored_accounts(store)),
    ):
        assert set(found) == set(expected)
        for external_id, values in expected.items():
            assert found[external_id] == values
            score.met[kinds[external_id]] += len(values)
            for target in values:
                name = "custom field" if target.startswith("custom_fields.") else target
                score.met[f"as {part} {name}"] += 1
            score.tried["values compared"] += len(values)


def expected_contacts(organisation: Simulator) -> dict[str, dict[str, Any]]:
    """By id. A handle loses the space around it; nothing else changes, but that nothing is the same as an empty text."""
    expected = {}
    for sent in organisation.control.records(sobject="Contact"):
        texts = {target: sent[field] or None for field, target in CONTACT_TEXTS.items() if target != "url"}
        links = [sent[field] for field in ("LinkedIn__c", "Blog__c") if sent[field]]
        handles = {source: (sent[field] or "").strip() or None for field, source in HANDLE_NAMES.items()}
        expected[sent["Id"]] = texts | {"web link": list(dict.fromkeys(links))} | handles
    return expected


HANDLE_NAMES = {"Facebook__c": "facebook", "Key__c": "custom handle"}


def expected_accounts(organisation: Simulator) -> dict[str, dict[str, Any]]:
    return {
        sent["Id"]: {target: sent[field] or None for field, target in ACCOUNT_TEXTS.items()}
        for sent in organisation.control.records(sobject="Account")
    }


def stored_contacts(store: Store) -> dict[str, dict[str, Any]]:
    query = """
        SELECT external_id, name, description, links, custom_fields,
            (SELECT handle FROM contact_store.contact_handles WHERE contact_id = id AND source = 'facebook'),
            (SELECT handle FROM contact_store.contact_handles WHERE contact_id = id AND source = 'custom')
        FROM contact_store.contacts"""
    return {
        external_id: {
            "name": name,
            "description": description,
            "web link": links,
            "facebook": facebook,
            "custom handle": custom_handle,
        }
        | prefixed(custom_fields)
        for external_id, name, description, links, custom_fields, facebook, custom_handle in store.execute(query)
    }


def stored_accounts(store: Store) -> dict[str, dict[str, Any]]:
    query = "SELECT external_id, name, description, logo_url, custom_fields FROM contact_store.accounts"
    return {
        external_id: {"name": name, "description": description, "logo_url": logo_url} | prefixed(custom_fields)
        for external_id, name, description, logo_url, custom_fields in store.execute(query)
    }


def prefixed(custom_fields: dict[str, Any]) -> dict[str, Any]:
    return {f"custom_fields.{name}": value for name, value in custom_fields.items()}


# ------------------------------------------------------------------------- where something else than a text is wanted

TYPED = {
    "Number_Text__c": ("custom_fields.number", NUMBERS),
    "Truth_Text__c": ("custom_fields.boolean", BOOLEANS),
    "Moment_Text__c": ("custom_fields.datetime", DATETIMES),
    "Choice_Text__c": ("custom_fields.enum", ENUMS),
}
CUSTOM_TYPES: dict[str, Any] = {kind: {"type": kind} for kind in ("number", "boolean", "datetime")} | {
    "enum": {"type": "enum", "values": VALUES_OF_ENUM}
}


def settings_for_types() -> Settings:
    mapping = lines(**{name: target for name, (target, _) in TYPED.items()})
    contacts = lines(Key__c="custom_handle", Twitter__c="twitter", Email="email", Phone="phone")
    return settings_with(
        contacts={"mapping": mapping + contacts, "custom_fields": CUSTOM_TYPES},
        accounts={"mapping": mapping + lines(Website="domain"), "custom_fields": CUSTOM_TYPES},
    )


def test_what_a_field_cannot_hold_is_reported_with_record_field_and_value(
    store: Store, organisation: Simulator, score: Score, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    """Rules 3.5 to 3.7, for numbers, truth values, moments, enums, e-mails, phones, twitter names and domains."""
    control = organisation.control
    add_fields(organisation, "Key__c", *TYPED)
    add_fields(organisation, *TYPED, sobject="Account")
    typed = [dict.fromkeys(TYPED, text) for _, text in ALL_TEXTS]
    accounts = control.create(
        sobject="Account",
        records=[one | {"Name": "x", "Website": text} for one, (_, text) in zip(typed, ALL_TEXTS, strict=True)],
    )
    people = [
        one
        | {
            "LastName": "x",
            "AccountId": accounts[0],
            "Key__c": f"key {at}",
            "Email": text,
            "Phone": text,
            "Twitter__c": twitter,
        }
        for at, (one, (_, text), twitter) in enumerate(zip(typed, ALL_TEXTS, each_twitter_once(), strict=True))
    ]
    contacts = control.create(sobject="Contact", records=people)
    count = len(ALL_TEXTS)
    run = sync(settings_for_types()).run
    assert (run.accounts, run.contacts) == (counts(read=count, created=count),) * 2

    custom = dict(store.execute("SELECT external_id, custom_fields FROM contact_store.contacts"))
    custom |= dict(store.execute("SELECT external_id, custom_fields FROM contact_store.accounts"))
    handles = handles_by_record(store)
    errors = reported(store)
    for part, ids, records in (("contact", contacts, people), ("account", accounts, typed)):
        for external_id, record, (_, text) in zip(ids, records, ALL_TEXTS, strict=True):
            expected = {}
            for name, (target, readable) in TYPED.items():
                key = target.removeprefix("custom_fields.")
                assert custom[external_id].get(key) == readable.get(text)
                expected |= {} if text in readable else {name: ("invalid_value", text)}
                score.met[f"{part}'s {key}: {'read' if text in readable else 'reported'}"] += 1
            domain = DOMAINS_IN_TEXTS.get(text) if part == "account" else None
            found = handles.get(external_id, {})
            assert found.get("domain") == domain
            if text.strip() and not domain:  # space alone is no handle at all
                fields = ("Email", "Phone") if part == "contact" else ("Website",)
                expected |= dict.fromkeys(fields, ("invalid_handle", text))
                score.met[f"{part}'s {' and '.join(fields)}: reported"] += 1
            if part == "contact":
                twitter = as_twitter(record["Twitter__c"])
                assert found.get("twitter") == twitter
                score.met["contact's Twitter__c: read"] += twitter is not None
                if twitter is None and (record["Twitter__c"] or "").strip():
                    expected["Twitter__c"] = ("invalid_handle", record["Twitter__c"])
            assert errors.get(external_id, {}) == expected
            score.tried["fields looked at"] += len(record)

    for other in APIS:
        read_by(other, monkeypatch)
        run = sync(settings_for_types()).run
        assert (run.accounts, run.contacts) == (counts(read=count, unchanged=count),) * 2
        assert reported(store) == errors
    assert broken(store) == {}
    types = [
        f"{part}'s {kind}: {end}"
        for part in ("contact", "account")
        for kind in CUSTOM_TYPES
        for end in ("read", "reported")
    ]
    score.expect(
        [*types, "contact's Email and Phone: reported", "account's Website: reported", "contact's Twitter__c: read"]
    )


def each_twitter_once() -> Iterator[str | None]:
    """The texts as twitter names; those that another text has already, in the form of a handle, are left out."""
    seen = set()
    for _, text in ALL_TEXTS:
        name = as_twitter(text)
        yield None if name is not None and name in seen else text
        seen.add(name)


def as_twitter(text: str | None) -> str | None:
    """Without `@`, space and capitals: letter by letter, as in no language in particular."""
    return "".join(letter.lower()[0] for letter in (text or "").strip().lstrip("@").strip()) or None


def handles_by_record(store: Store) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for table, owner, parent in (
        ("contact_handles", "contact_id", "contacts"),
        ("account_domains", "account_id", "accounts"),
    ):
        source, handle = ("source", "handle") if parent == "contacts" else ("'domain'", "domain")
        query = f"SELECT external_id, {source}, {handle} FROM contact_store.{table} JOIN contact_store.{parent} ON id = {owner}"
        for external_id, source_, handle_ in store.execute(query):
            found.setdefault(external_id, {})[source_] = handle_
    return found


def reported(store: Store) -> dict[str, dict[str, tuple[str, str]]]:
    """The open errors: code and value, by record and field."""
    query = "SELECT external_id, salesforce_field, code, value FROM contact_store.sync_errors WHERE closed_run IS NULL"
    found: dict[str, dict[str, tuple[str, str]]] = {}
    for external_id, field, code, value in store.execute(query):
        assert field not in found.get(external_id, {}), "reported twice"
        found.setdefault(external_id, {})[field] = (code, value)
    return found


def test_32_000_characters_survive_in_every_field_or_are_reported(
    store: Store, organisation: Simulator, score: Score, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    """A handle is at most 500 characters long; everywhere else a text may be as long as Salesforce lets it be."""
    long = "Ω" * 31_997 + '"\r\n'
    contact_texts = {f"Long_{at}__c": target for at, target in enumerate(dict.fromkeys(CONTACT_TEXTS.values()))}
    account_texts = {f"Long_{at}__c": target for at, target in enumerate(ACCOUNT_TEXTS.values())}
    no_handles = {"L_Email__c": "email", "L_Phone__c": "phone", "L_Twitter__c": "twitter", "L_Facebook__c": "facebook"}
    no_handles |= {"L_Custom__c": "custom_handle"}
    no_values = {name: target for name, (target, _) in TYPED.items()}
    settings = settings_with(
        contacts={
            "mapping": lines(Email="email", **contact_texts, **no_handles, **no_values),
            "custom_fields": strings(contact_texts) | CUSTOM_TYPES,
        },
        accounts={
            "mapping": lines(L_Domain__c="domain", **account_texts, **no_values),
            "custom_fields": strings(account_texts) | CUSTOM_TYPES,
        },
    )
    add_fields(organisation, *contact_texts, *no_handles, *no_values)
    add_fields(organisation, "L_Domain__c", *account_texts, *no_values, sobject="Account")
    control = organisation.control
    filled = dict.fromkeys(["L_Domain__c", *account_texts, *no_values], long)
    (account,) = control.create(sobject="Account", records=[{"Name": "x"} | filled])
    filled = dict.fromkeys([*contact_texts, *no_handles, *no_values], long)
    (contact,) = control.create(
        sobject="Contact", records=[{"LastName": "x", "Email": "a@example.org", "AccountId": account} | filled]
    )
    run = sync(settings).run
    assert (run.accounts, run.contacts) == (counts(read=1, created=1),) * 2

    (found,) = stored_contacts(store).values()
    expected = {target: long for target in contact_texts.values() if target != "url"}
    assert found == expected | {"web link": [long], "facebook": None, "custom handle": None}
    (found,) = stored_accounts(store).values()
    assert found == dict.fromkeys(account_texts.values(), long)
    values = dict.fromkeys(no_values, ("invalid_value", long))
    assert reported(store) == {
        contact: dict.fromkeys(no_handles, ("invalid_handle", long)) | values,
        account: {"L_Domain__c": ("invalid_handle", long)} | values,
    }
    score.met["survived"] += len(contact_texts) + len(account_texts)
    score.met["reported"] += len(no_handles) + 1 + 2 * len(no_values)
    for other in APIS:
        read_by(other, monkeypatch)
        run = sync(settings).run
        assert (run.accounts, run.contacts) == (counts(read=1, unchanged=1),) * 2
    score.tried["fields with 32,000 characters"] += score.met["survived"] + score.met["reported"]
    assert broken(store) == {}


def test_a_nul_character_is_removed_and_nothing_else(
    store: Store, organisation: Simulator, score: Score, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    """Rule 3.7: PostgreSQL cannot hold it."""
    control = organisation.control
    add_fields(organisation, "Blog__c", *CONTACT_HANDLES)
    text, left = "\x00Z\x00o\x00\x00e\x00", "Zoe"
    (account,) = control.create(sobject="Account", records=[dict.fromkeys(ACCOUNT_TEXTS, text)])
    only_nul = {"LastName": "x", "Description": "\x00", "Key__c": "\x00", "Email": "b@example.org"}
    control.create(
        sobject="Contact",
        records=[
            dict.fromkeys([*CONTACT_TEXTS, *CONTACT_HANDLES], text)
            | {"Email": "zo\x00e@example.org", "AccountId": account},
            only_nul | {"AccountId": account},
        ],
    )
    assert sync(settings_for_texts()).run.contacts == counts(read=2, created=2)
    zoe, other = sorted(stored_contacts(store).values(), key=lambda each: each["name"])
    texts = {target: left for target in CONTACT_TEXTS.values() if target != "url"}
    assert zoe == texts | {"web link": [left], "facebook": left, "custom handle": left}
    assert (other["name"], other["description"], other["custom handle"]) == ("x", None, None)
    assert list(stored_accounts(store).values()) == [dict.fromkeys(ACCOUNT_TEXTS.values(), left)]
    emails = store.execute("SELECT handle FROM contact_store.contact_handles WHERE source = 'email' ORDER BY 1")
    assert emails == [("b@example.org",), ("zoe@example.org",)]
    for again in APIS:
        read_by(again, monkeypatch)
        assert sync(settings_for_texts()).run.contacts == counts(read=2, unchanged=2)
        assert broken(store) == {}
    score.tried["values with a NUL"] += len(CONTACT_TEXTS) + len(CONTACT_HANDLES) + len(ACCOUNT_TEXTS) + 3


# ----------------------------------------------------------------------------------------------------------------- ids


def test_ids_that_differ_only_in_case_are_different_records(
    store: Store, organisation: Simulator, score: Score, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    """Rule 2.7: ids of contacts, of their accounts and of a list view, the latter two also in their short form."""
    control = organisation.control
    companies = {lengthen(f"001HsAAAAAA{end}"): end for end in ("aBcD", "AbCd", "abcd", "ABCD")}
    people = {lengthen(f"003HsAAAAAA{end}"): end for end in ("aBcD", "AbCd", "abcd", "ABCD")}
    control.create(
        sobject="Account", records=[{"Id": identifier, "Name": end} for identifier, end in companies.items()]
    )
    records = [
        {"Id": person, "LastName": end, "Email": f"{at}@example.org", "Tier__c": "Gold", "AccountId": company[:length]}
        for at, ((person, end), company, length) in enumerate(
            zip(people.items(), companies, (18, 15, 15, 18), strict=True)
        )
    ]
    control.create(sobject="Contact", records=records)
    control.change_options(list_view_id_length=15)
    view = control.create_list_view(label="Gold", where="Tier__c = 'Gold'")
    found_by_their_accounts = settings_with()
    found_by = [
        settings_with(contacts={"mapping": lines(Name="name", Email="email"), "source": {"list_view": identifier}})
        for identifier in (view, view[:15])
    ]
    for settings in (found_by_their_accounts, *found_by):
        assert sync(settings).run.state == "succeeded"
        found = store.execute(
            "SELECT contacts.external_id, contacts.name, accounts.external_id, accounts.name"
            " FROM contact_store.contacts LEFT JOIN contact_store.accounts ON accounts.id = account_id"
        )
        assert {
            (person, end, company, end) for (person, end), company in zip(people.items(), companies, strict=True)
        } == set(found)
        score.tried["contacts found by their id"] += len(found)
    for other in APIS:
        read_by(other, monkeypatch)
        run = sync(found_by_their_accounts).run
        assert (run.accounts, run.contacts) == (counts(read=4, unchanged=4),) * 2
        assert broken(store) == {}


# ----------------------------------------------------------------------------------------------------------- addresses


def test_every_email_and_domain_becomes_a_handle_or_is_reported(
    store: Store, organisation: Simulator, score: Score, monkeypatch: pytest.MonkeyPatch, api: str
) -> None:
    """Rules 3.6, 5 and 7: plus-tags, internationalised addresses, markup, formulas, and what is no address at all."""
    control = organisation.control
    sites = [{"Name": "x", "Website": domain} for domain in DOMAINS]
    accounts = control.create(sobject="Account", records=sites)
    records = [
        {"LastName": "x", "Email": email, "Twitter__c": f"t{at}", "AccountId": accounts[0]}
        for at, email in enumerate(EMAILS)
    ]
    contacts = control.create(sobject="Contact", records=records)
    settings = settings_with(contacts={"mapping": lines(Email="email", Twitter__c="twitter")})
    run = sync(settings).run
    taken = {"accounts": counts(read=len(DOMAINS), created=len(DOMAINS) - 1, error=1)}
    taken["contacts"] = counts(read=len(EMAILS), created=len(EMAILS) - 1, error=1)
    assert {"accounts": run.accounts, "contacts": run.contacts} == taken
    handles, errors = handles_by_record(store), reported(store)
    for source, field, ids, table in (
        ("email", "Email", contacts, EMAILS),
        ("domain", "Website", accounts, DOMAINS),
    ):
        for external_id, (sent, handle) in zip(ids, table.items(), strict=True):
            assert handles.get(external_id, {}).get(source) == (handle or None)
            if handle:
                assert external_id not in errors
                score.met[f"{source}: became a handle"] += 1
            elif handle is None:
                code, value = errors[external_id][field]
                assert (code, value in handles[ids[0]].values()) == (f"{source}_taken", True)
                score.met[f"{source}: was taken"] += 1
            else:
                assert errors[external_id] == {field: ("invalid_handle", sent)}
                score.met[f"{source}: could not be read and was reported"] += 1
            score.tried["addresses"] += 1
    for other in APIS:
        read_by(other, monkeypatch)
        run = sync(settings).run
        assert run.contacts == counts(read=len(EMAILS), unchanged=len(EMAILS) - 1, error=1)
        assert run.accounts == counts(read=len(DOMAINS), unchanged=len(DOMAINS) - 1, error=1)
        assert (handles_by_record(store), reported(store)) == (handles, errors)
    assert broken(store) == {}
    ends = ("became a handle", "was taken", "could not be read and was reported")
    score.expect(f"{source}: {end}" for source in ("email", "domain") for end in ends)


# -------------------------------------------------------------------------------------------------------------- phones

Number = phonenumbers.PhoneNumber


def numbers_of(region: str) -> list[Number]:
    """A fixed line and a mobile, each with and without an extension; in some countries both look alike."""
    kinds = (PhoneNumberType.FIXED_LINE, PhoneNumberType.MOBILE)
    found = {
        as_handle(number): number for kind in kinds if (number := phonenumbers.example_number_for_type(region, kind))
    }
    return list(found.values())


def as_handle(number: Number) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.E164)


def nationally(number: Number) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)


def internationally(number: Number) -> str:
    return phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL)


ABROAD: dict[str, Callable[[Number, str], str]] = {
    "E.164": lambda number, extension: as_handle(number) + extension,
    "international": lambda number, extension: internationally(number) + extension,
    "with space around": lambda number, extension: f"\t {internationally(number)}{extension} ",
    "with dots": lambda number, extension: internationally(number).replace(" ", ".") + extension,
    "as a link": lambda number, extension: f"tel:{as_handle(number)}{EXTENSIONS[extension]}",
}
"""How a number is typed with its country's code."""
EXTENSIONS = {"": "", " x12": ";ext=12", " ext. 0034": ";ext=0034", ";ext=56": ";ext=56"}
"""How an extension is typed, and what of it stands in a handle. Each belongs to a person of his own."""


def test_a_phone_number_of_twenty_countries_is_one_handle_however_it_is_typed(
    store: Store, organisation: Simulator, score: Score, api: str
) -> None:
    """Rule 3.6: first with the country's code, then, where that country is the sync's region, without; nothing changes."""
    control = organisation.control
    (acme,) = control.create(sobject="Account", records=[{"Name": "Acme"}])
    phones = [(region, number, typed) for region in COUNTRIES for number in numbers_of(region) for typed in EXTENSIONS]
    records = [
        {"LastName": "x", "Phone": internationally(number) + typed, "AccountId": acme} for _, number, typed in phones
    ]
    ids = control.create(sobject="Contact", records=records)
    handles = {
        external_id: {"phone": as_handle(number) + EXTENSIONS[typed]}
        for external_id, (_, number, typed) in zip(ids, phones, strict=True)
    }

    def again(region: str, outcome: str) -> None:
        settings = settings_with(contacts={"mapping": lines(Name="name", Phone="phone")}, default_region=region)
        assert sync(settings).run.contacts == counts(read=len(ids), **{outcome: len(ids)})
        assert (handles_by_record(store), reported(store)) == (handles, {})

    def type_anew(external_id: str, text: str) -> None:
        control.update(sobject="Contact", ids=[external_id], values={"Phone": text})
        score.tried["numbers typed anew"] += 1

    again(COUNTRIES[0], "created")
    for place, (form, write) in enumerate(ABROAD.items(), start=1):
        for external_id, (_, number, typed) in zip(ids, phones, strict=True):
            type_anew(external_id, write(number, typed))
            score.met[f"{form}{', with an extension' if typed else ''}, read in another region"] += 1
        again(COUNTRIES[place], "unchanged")
    for region in COUNTRIES:
        for external_id, (of, number, typed) in zip(ids, phones, strict=True):
            if of == region:
                type_anew(external_id, nationally(number) + typed)
                score.met[f"{region}, without the country's code"] += 1
                score.met["without the country's code, with an extension"] += bool(typed)
        again(region, "unchanged")
        for external_id, (of, number, typed) in zip(ids, phones, strict=True):
            if of == region:
                type_anew(external_id, internationally(number) + typed)
    nonsense(store, organisation, score, dict(zip(ids, NO_PHONES, strict=False)), handles)
    assert broken(store) == {}
    score.expect(
        [*(f"{region}, without the country's code" for region in COUNTRIES), "nonsense, reported, handle kept"]
    )
    score.expect(f"{form}{more}, read in another region" for form in ABROAD for more in ("", ", with an extension"))


def nonsense(
    store: Store, organisation: Simulator, score: Score, typed: dict[str, str], handles: dict[str, dict[str, str]]
) -> None:
    """What is no number anywhere: reported, and the handle that the field gave before stays."""
    for external_id, text in typed.items():
        organisation.control.update(sobject="Contact", ids=[external_id], values={"Phone": text})
    settings = settings_with(contacts={"mapping": lines(Name="name", Phone="phone")})
    assert sync(settings).run.contacts == counts(read=len(handles), unchanged=len(handles))
    assert handles_by_record(store) == handles
    assert reported(store) == {external_id: {"Phone": ("invalid_handle", text)} for external_id, text in typed.items()}
    score.met["nonsense, reported, handle kept"] += len(typed)
    score.tried["numbers that are none"] += len(typed)


# ------------------------------------------------------------------------------------------- names of custom fields

NAMES = [
    "NULL", "0012", "TRUE", "=1+1", '"', "'", "\\", "\\N", "$1", "%s", "%(x)s", "{}", "{0}", "[0]", "a,b", "a:b", "a;b", "#x",
    "- x", "? x", "&x", "*x", "!x", "@x", "`x`", "<script>", "&amp;", "🦄", "名前", "e\u0301", "é", "\u202eabc", "x ", "id",
    "name", "custom_fields", "external_id", "__proto__", "'); DROP TABLE x;--", "x" * 100,
]  # fmt: skip
REFUSED_NAMES = ["", " x", "a.b", "a\nb", "a\r\nb", "a\x00b", "\x1b[31m", "a\u2028b", "a\x85b", "x" * 101, "\ud800"]


def test_names_of_custom_fields_are_kept_as_they_are_or_refused(
    store: Store, organisation: Simulator, score: Score, api: str
) -> None:
    """Rule 3.1. They are keys of JSON, cells of a staged file and words in YAML, never SQL or SOQL."""
    control = organisation.control
    fields = {f"F{at}__c": name for at, name in enumerate(NAMES)}
    add_fields(organisation, *fields)
    add_fields(organisation, *fields, sobject="Account")
    mapping = lines(**{field: f"custom_fields.{name}" for field, name in fields.items()})
    custom_fields = {name: {"type": "string"} for name in NAMES}
    part = {"custom_fields": custom_fields}
    settings = settings_with(
        contacts=part | {"mapping": mapping + lines(Email="email")}, accounts=part | {"mapping": mapping}
    )
    settings = read_settings(to_yaml(settings))
    save(settings)
    values = {field: f"value of {name}" for field, name in fields.items()}
    (account,) = control.create(sobject="Account", records=[{"Name": "x"} | values])
    control.create(sobject="Contact", records=[{"LastName": "x", "Email": "a@x.co", "AccountId": account} | values])
    sync()
    for table in ("contacts", "accounts"):
        ((found,),) = store.execute(f"SELECT custom_fields FROM contact_store.{table}")
        assert found == {name: f"value of {name}" for name in NAMES}
        score.met["kept"] += len(found)
    run = sync().run
    assert (run.accounts, run.contacts) == (counts(read=1, unchanged=1),) * 2
    assert broken(store) == {}
    for name in REFUSED_NAMES:
        with pytest.raises(RunError, match="settings_invalid") as refusal:
            settings_with(contacts={"mapping": lines(Email="email"), "custom_fields": {name: {"type": "string"}}})
        assert "contacts.custom_fields" in refusal.value.detail
        score.met["refused"] += 1
    score.tried["names"] += 2 * len(NAMES) + len(REFUSED_NAMES)
    score.expect(["kept", "refused"])
