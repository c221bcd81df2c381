"""Makes an organisation from a seed: 2,000 contacts for the demo, a million for the benchmark, by the same code.

Columns are built whole, with numpy and Arrow; the same seed and sizes give the same organisation, to the byte. On
top of ordinary people it plants records that a sync cannot take (`planted`), so that every contact-level error
happens, a few that look dangerous and must survive, and some that were deleted or merged.
"""

import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from include.salesforce_simulator import ids, schema
from include.salesforce_simulator.list_views import ListView
from include.salesforce_simulator.organisation import ConnectedApp, Organisation, User
from include.salesforce_simulator.places import (
    COMPANY_FIRST,
    COMPANY_SECOND,
    DEPARTMENTS,
    INDUSTRIES,
    NOTES,
    PLACES,
    TITLES,
    Place,
)
from include.salesforce_simulator.planted import plant
from include.salesforce_simulator.table import Table

DEMO_SEED = 2026
DEMO_CONTACTS = 2000
DEMO_ACCOUNTS = 300
ACTIVE_CUSTOMERS_VIEW = ids.make_id("00B", 1)
MY_CONTACTS_VIEW = ids.make_id("00B", 2)
CUSTOMER_ACCOUNTS_VIEW = ids.make_id("00B", 3)
NEWEST = datetime(2026, 6, 1, tzinfo=UTC)
"""Nothing that is generated is younger; edits are."""
_BULK_LOAD = datetime(2025, 3, 14, 2, 0, 0, tzinfo=UTC)
_DAYS_OF_HISTORY = 5 * 365
_STEP = 7_368_787  # a prime: serial * step modulo the size of a number block visits every number once
_DIGITS_OF = {"#": (10, 0), "N": (8, 2), "P": (9, 1)}
_EXTENSION_STYLES = (" ext. {}", " x{}", ";ext={}", " Ext {}")

Columns = dict[str, pa.Array]


@dataclass(frozen=True)
class Habits:
    """Which share of the contacts has what; `planted`: how many of them are planted with each fault."""

    private: float = 0.055
    email: float = 0.94
    phone: float = 0.55
    mobile_phone: float = 0.6
    twitter: float = 0.25
    planted: float = 0.002


BENCHMARK_HABITS = Habits(private=0, email=1, phone=1, mobile_phone=0, twitter=0, planted=0.01)
"""Two handles each, and a hundredth of the contacts with each fault."""


def generate_organisation(
    seed: int = DEMO_SEED,
    contacts: int = DEMO_CONTACTS,
    accounts: int = DEMO_ACCOUNTS,
    habits: Habits = Habits(),
) -> Organisation:
    """An organisation of this size."""
    random = np.random.default_rng(seed)
    users = make_users()
    places = random.choice(len(PLACES), accounts, p=_shares())
    account_columns, domains = _make_accounts(random, places, users)
    contact_columns = _make_contacts(random, contacts, account_columns["Id"], places, domains, users, habits)
    organisation = Organisation(
        Table(schema.CONTACT, contact_columns),
        Table(schema.ACCOUNT, account_columns),
        users,
        ConnectedApp(run_as=users[0].username),
    )
    for view in _make_list_views():
        organisation.list_views[view.id] = view
    plant(organisation, random, NEWEST, habits.planted)
    return organisation


def make_users() -> list[User]:
    """The integration user and four people who own records."""
    names = (
        ("integration", "Contacts Integration", "integ"),
        ("amara", "Amara Okafor", "aokafor"),
        ("bela", "Béla Kovács", "bkovacs"),
        ("chen", "Chen Wei", "cwei"),
        ("dolores", "Dolores Ruiz", "druiz"),
    )
    return [
        User(ids.make_id("005", number), f"{short}@demo.example", name, alias, f"{short}@demo.example")
        for number, (short, name, alias) in enumerate(names, start=1)
    ]


def _make_list_views() -> list[ListView]:
    return [
        ListView(
            ACTIVE_CUSTOMERS_VIEW,
            "Contact",
            "Active Customers",
            "Active_Customers",
            where="Account.Type = 'Customer' AND Tier__c IN ('Gold', 'Silver')",
            columns=("Name", "Account.Name", "toLabel(Tier__c)", "Phone", "Email", "Owner.Alias"),
        ),
        ListView(
            MY_CONTACTS_VIEW,
            "Contact",
            "My Contacts",
            "MyContacts",
            scope="mine",
            columns=("Name", "Account.Name", "Phone", "Email"),
        ),
        ListView(
            CUSTOMER_ACCOUNTS_VIEW,
            "Account",
            "Customer Accounts",
            "Customer_Accounts",
            where="Type = 'Customer'",
            columns=("Name", "Site", "BillingState", "Phone", "toLabel(Type)", "Owner.Alias"),
        ),
    ]


def _shares() -> np.ndarray:
    shares = np.array([place.share for place in PLACES])
    return shares / shares.sum()


def _make_accounts(random: np.random.Generator, places: np.ndarray, users: list[User]) -> tuple[Columns, pa.Array]:
    count = len(places)
    first, second = (_choose(random, words, count) for words in (COMPANY_FIRST, COMPANY_SECOND))
    suffix = _by_place(random, places, "companies")
    stem = _numbered(_join(first, second, " "), " ")
    name = _join(stem, suffix, " ")
    ending = pa.array([place.domain for place in PLACES]).take(pa.array(places))
    domain = _join(_slug(stem, ""), ending, ".")
    created, modified = _history(random, count)
    columns = {
        "Id": ids.make_ids("001", np.arange(1, count + 1)),
        "Name": name,
        "Type": _choose(random, ("Customer", "Customer", "Customer", "Prospect", "Partner"), count),
        "Website": _join(_choose(random, ("https://www.", "http://", "www.", ""), count), domain, ""),
        "Industry": _choose(random, INDUSTRIES, count),
        "Phone": _phones(random, places, "landlines", np.arange(count) + 3_000_000),
        "NumberOfEmployees": pa.array(random.integers(3, 20_000, count)),
        "AnnualRevenue": _some(random, pa.array(random.integers(1, 5_000, count) * 10_000.0), 0.8),
        "Rating": _some(random, _choose(random, ("Hot", "Warm", "Cold"), count), 0.6),
        "Description": _some(random, _choose(random, NOTES, count), 0.3),
        "Logo__c": _some(
            random, _join(_join(_same("https://", count), domain, ""), _same("/logo.png", count), ""), 0.5
        ),
        "Region__c": pa.array([_region(place) for place in PLACES]).take(pa.array(places)),
        "Customer_Since__c": _some(random, pc.cast(created, pa.date32()), 0.7),
        **_address(random, places, "Billing"),
        **_system(random, count, users, created, modified),
    }
    return columns, domain


def _make_contacts(
    random: np.random.Generator,
    count: int,
    account_ids: pa.Array,
    account_places: np.ndarray,
    domains: pa.Array,
    users: list[User],
    habits: Habits,
) -> Columns:
    accounts = len(account_ids)
    # A few accounts have many contacts, most have a few; every eighteenth contact is private.
    account = np.minimum((random.random(count) ** 1.7 * accounts).astype(np.int64), max(accounts - 1, 0))
    private = (random.random(count) < habits.private) | (accounts == 0)
    places = np.where(
        private, random.choice(len(PLACES), count, p=_shares()), account_places[account] if accounts else 0
    )
    first, first_latin = _people(random, places, "first_names")
    last, last_latin = _people(random, places, "last_names")
    created, modified = _history(random, count)
    home_domain = _choose(random, ("gmail.com", "outlook.com", "yahoo.com", "icloud.com", "proton.me"), count)
    work_domain = domains.take(pa.array(account)) if accounts else home_domain
    address = _join(
        _join(_slug(first_latin, "."), _slug(last_latin, "."), "."),
        pc.if_else(pa.array(private), home_domain, work_domain),
        "@",
    )
    handle = _numbered(_slug(_join(first_latin, last_latin, " "), "_"), "")
    serials = random.permutation(count).astype(np.int64)
    columns = {
        "Id": ids.make_ids("003", np.arange(1, count + 1)),
        "AccountId": _only(pa.array(~private), account_ids.take(pa.array(account)))
        if accounts
        else pa.nulls(count, pa.string()),
        "LastName": last,
        "FirstName": _some(random, first, 0.985),
        "Salutation": _some(random, _choose(random, ("Mr.", "Ms.", "Mrs.", "Dr.", "Prof."), count), 0.4),
        "Email": _some(random, _spread_case(random, _numbered_address(address)), habits.email),
        "Phone": _some(random, _extended(random, _phones(random, places, "landlines", serials)), habits.phone),
        "MobilePhone": _some(random, _phones(random, places, "mobiles", serials), habits.mobile_phone),
        "Title": _some(random, _choose(random, TITLES, count), 0.8),
        "Department": _some(random, _choose(random, DEPARTMENTS, count), 0.6),
        "LeadSource": _some(
            random, _choose(random, ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other"), count), 0.7
        ),
        "Birthdate": _some(
            random, pa.array(random.integers(-7000, 12_500, count).astype(np.int32)).cast(pa.date32()), 0.2
        ),
        "Description": _some(random, _choose(random, NOTES, count), 0.15),
        "Tier__c": _some(
            random, _choose(random, ("Gold", "Silver", "Silver", "Bronze", "Bronze", "Bronze"), count), 0.9
        ),
        "Score__c": _some(random, pa.array(np.round(random.random(count) * 100, 1)), 0.85),
        "Newsletter__c": pa.array(random.random(count) < 0.45),
        "Renewal__c": _some(random, _moments(random, count, 720, NEWEST + timedelta(days=500)), 0.5),
        "Twitter__c": _some(random, _join(_choose(random, ("@", "@", ""), count), handle, ""), habits.twitter),
        "LinkedIn__c": _some(
            random, _join(_same("https://www.linkedin.com/in/", count), _numbered(handle, "-"), ""), 0.3
        ),
        "Interests__c": _some(
            random, _choose(random, ("Product", "Events", "Product;Events", "Research;Training"), count), 0.3
        ),
        "Level_Text__c": _some(random, _choose(random, ("1", "2", "3", "4", "5"), count), 0.35),
        "IsEmailBounced": pa.array(random.random(count) < 0.01),
        **_address(random, places, "Mailing"),
        **_system(random, count, users, created, modified),
    }
    # Everybody can be reached somehow; who cannot is planted.
    unreachable = pc.and_(
        pc.and_(columns["Email"].is_null(), columns["Phone"].is_null()), columns["MobilePhone"].is_null()
    )
    columns["Email"] = pc.if_else(unreachable, _numbered_address(address), columns["Email"])
    return columns


def _system(
    random: np.random.Generator, count: int, users: list[User], created: pa.Array, modified: pa.Array
) -> Columns:
    owners = pa.array([user.id for user in users])
    owner = owners.take(pa.array(random.choice(len(users), count, p=(0.12, 0.22, 0.22, 0.22, 0.22))))
    return {
        "IsDeleted": pa.array(np.zeros(count, dtype=bool)),
        "OwnerId": owner,
        "CreatedDate": created,
        "CreatedById": owner,
        "LastModifiedDate": modified,
        "LastModifiedById": owner,
        "SystemModstamp": modified,
    }


def _history(random: np.random.Generator, count: int) -> tuple[pa.Array, pa.Array]:
    """When records were created and last changed; a fifth came in one load and share a stamp."""
    loaded = random.random(count) < 0.2
    created = _seconds(NEWEST) - random.integers(3600, _DAYS_OF_HISTORY * 86_400, count)
    created = np.where(loaded, _seconds(_BULK_LOAD), created)
    modified = created + ((_seconds(NEWEST) - created) * random.random(count) ** 2).astype(np.int64)
    modified = np.where(loaded & (random.random(count) < 0.8), created, modified)
    return _timestamps(created), _timestamps(modified)


def _moments(random: np.random.Generator, count: int, days: int, last: datetime) -> pa.Array:
    return _timestamps(_seconds(last) - random.integers(0, days * 86_400, count))


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def _timestamps(seconds: np.ndarray) -> pa.Array:
    return pa.array(seconds.astype("datetime64[s]")).cast(pa.timestamp("s", tz="UTC"))


def _region(place: Place) -> str:
    return {"US": "Americas", "BR": "Americas", "IN": "APAC", "JP": "APAC"}.get(place.code, "EMEA")


def _choose(random: np.random.Generator, words: Any, count: int) -> pa.Array:
    return pa.array(words, pa.string()).take(pa.array(random.integers(0, len(words), count)))


def _same(text: str, count: int) -> pa.Array:
    return pa.array([text] * count, pa.string())


def _some(random: np.random.Generator, values: pa.Array, share: float) -> pa.Array:
    """The values, a part of them missing."""
    return _only(pa.array(random.random(len(values)) < share), values)


def _only(mask: pa.Array, values: pa.Array) -> pa.Array:
    return pc.if_else(mask, values, pa.scalar(None, values.type))


def _join(left: pa.Array, right: pa.Array, separator: str) -> pa.Array:
    return pc.binary_join_element_wise(left, right, separator)


def _by_place(random: np.random.Generator, places: np.ndarray, name: str) -> pa.Array:
    """For every row one of its country's words."""
    lists = [getattr(place, name) for place in PLACES]
    return pa.array([word for words in lists for word in words]).take(pa.array(_positions(random, places, lists)))


def _positions(random: np.random.Generator, places: np.ndarray, lists: list[Any]) -> np.ndarray:
    """Where in the joined lists a random word of the row's country stands."""
    sizes = np.array([len(words) for words in lists])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return starts[places] + (random.random(len(places)) * sizes[places]).astype(np.int64)


def _people(random: np.random.Generator, places: np.ndarray, name: str) -> tuple[pa.Array, pa.Array]:
    """Names as they are written, and in Latin letters."""
    lists = [getattr(place, name) for place in PLACES]
    words = [word.partition("|") for listed in lists for word in listed]
    positions = pa.array(_positions(random, places, lists))
    native = [_written(before) for before, _, _ in words]
    latin = [after or before for before, _, after in words]
    return pa.array(native).take(positions), pa.array(latin).take(positions)


def _written(name: str) -> str:
    """`Van-Buren` in the lists is `Van Buren`: a blank parts the words there."""
    return name.replace("-", " ") if name[:3] in {"Van", "St-", "von"} else name


def _slug(texts: pa.Array, separator: str) -> pa.Array:
    """Lower-case Latin letters and digits, joined by the separator; distinct texts are looked at once."""
    coded = texts.dictionary_encode()
    return pa.array([_slug_of(text, separator) for text in coded.dictionary.to_pylist()], pa.string()).take(
        coded.indices
    )


def _slug_of(text: str, separator: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return separator.join("".join(letter if letter.isalnum() else " " for letter in plain.replace("'", "")).split())


def _numbered(texts: pa.Array, separator: str) -> pa.Array:
    """Texts made unique: the second of its kind gets a 2, the third a 3."""
    frame = pd.DataFrame({"text": texts.to_pandas()})
    number = frame.groupby("text", sort=False).cumcount().to_numpy() + 1
    suffix = pc.binary_join_element_wise(_same("", len(texts)), pa.array(number).cast(pa.string()), separator)
    return pc.if_else(pa.array(number > 1), pc.binary_join_element_wise(texts, suffix, ""), texts)


def _numbered_address(addresses: pa.Array) -> pa.Array:
    """E-mail addresses made unique before the @."""
    parts = pc.split_pattern(addresses, "@")
    frame = pd.DataFrame({"text": addresses.to_pandas()})
    number = frame.groupby("text", sort=False).cumcount().to_numpy() + 1
    suffix = pc.if_else(pa.array(number > 1), pa.array(number).cast(pa.string()), "")
    local = pc.binary_join_element_wise(pc.list_element(parts, 0), suffix, "")
    return _join(local, pc.list_element(parts, 1), "@")


def _spread_case(random: np.random.Generator, addresses: pa.Array) -> pa.Array:
    """Some people type their address in capitals."""
    return pc.if_else(pa.array(random.random(len(addresses)) < 0.03), pc.utf8_title(addresses), addresses)


def _phones(random: np.random.Generator, places: np.ndarray, name: str, serials: np.ndarray) -> pa.Array:
    """A phone number for every row, in one of the styles of its country. A serial number never gives a number twice."""
    lists = [getattr(place, name) for place in PLACES]
    patterns = [pattern for listed in lists for pattern in listed]
    position = _positions(random, places, lists)
    rows_of = [np.flatnonzero(position == number) for number in range(len(patterns))]
    numbers = pa.concat_arrays(
        [_fill_pattern(pattern, serials[rows]) for pattern, rows in zip(patterns, rows_of, strict=True)]
    )
    return numbers.take(pa.array(np.argsort(np.concatenate(rows_of), kind="stable")))


def _fill_pattern(pattern: str, serials: np.ndarray) -> pa.Array:
    places = [place for place, letter in enumerate(pattern) if letter in _DIGITS_OF]
    capacity = int(np.prod([_DIGITS_OF[pattern[place]][0] for place in places]))
    characters = np.tile(np.frombuffer(pattern.encode(), dtype=np.uint8), (len(serials), 1))
    rest = (serials.astype(np.int64) * _STEP) % capacity
    for place in reversed(places):
        base, lowest = _DIGITS_OF[pattern[place]]
        rest, digit = np.divmod(rest, base)
        characters[:, place] = digit + lowest + ord("0")
    return ids.texts_of(characters)


def _extended(random: np.random.Generator, phones: pa.Array) -> pa.Array:
    """Every twelfth desk has an extension."""
    endings = [style.format(number) for style in _EXTENSION_STYLES for number in range(10, 100)]
    ending = _choose(random, endings, len(phones))
    return pc.if_else(pa.array(random.random(len(phones)) < 0.08), _join(phones, ending, ""), phones)


def _address(random: np.random.Generator, places: np.ndarray, prefix: str) -> Columns:
    """Street, town, state, postal code and country; a fifth of the streets have two lines."""
    count = len(places)
    lists = [place.streets for place in PLACES]
    streets = [street.format(number) for listed in lists for street in listed for number in range(1, 120, 7)]
    expanded = [[0] * (len(listed) * len(range(1, 120, 7))) for listed in lists]
    street = pa.array(streets).take(pa.array(_positions(random, places, expanded)))
    two_lines = _join(street, _choose(random, ("\r\n2nd floor", '\r\nc/o "Reception"', "\nBuilding B"), count), "")
    towns = [place.towns for place in PLACES]
    flat = [town for listed in towns for town in listed]
    at = pa.array(_positions(random, places, towns))
    have = random.random(count) < 0.75
    parts = {
        "Street": pc.if_else(pa.array(random.random(count) < 0.2), two_lines, street),
        "City": pa.array([town for town, _, _ in flat]).take(at),
        "State": pa.array([state or None for _, state, _ in flat], pa.string()).take(at),
        "PostalCode": pa.array([code or None for _, _, code in flat], pa.string()).take(at),
    }
    country = pa.array([place.country for place in PLACES]).take(pa.array(places))
    return {f"{prefix}{name}": _only(pa.array(have), values) for name, values in parts.items()} | {
        f"{prefix}Country": country
    }
