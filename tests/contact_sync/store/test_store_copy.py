"""A copy and what is newer are what the store holds, whatever happened to it since; or everything is read."""

import random
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import psycopg
import pyarrow as pa
import pytest

from include.contact_sync.columns import Columns, Part, resolve_columns
from include.contact_sync.match import StoredRecords
from include.contact_sync.settings import parse_settings
from include.contact_sync.store import store_copy
from include.contact_sync.store.connection import Moment, one_moment
from include.contact_sync.store.records import read_fingerprint, read_stored_records
from include.contact_sync.store.store_copy import CopyOrigin, StoreCopy, most_newer, read_newer
from tests.conftest import Store
from tests.contact_sync.applying import NO_MERGES

PEOPLE = 40
SOURCES = ("email", "phone", "custom")


def columns_of(*fields: str) -> Columns:
    lines = [{"salesforce_field": f"{field}__c", "field": field} for field in fields]
    settings = {
        "owners": ["owner@example.com"],
        "accounts": {"mapping": []},
        "contacts": {"custom_fields": {"score": {"type": "number"}}, "mapping": lines},
    }
    return resolve_columns(Part.CONTACTS, parse_settings(settings), {}, ())


COLUMNS = columns_of("name", "email", "url", "description", "custom_fields.score")


@pytest.fixture
def people(store: Store) -> Store:
    """A store with a few people, of whom the even ones are linked and each has two handles."""
    store.execute(
        "INSERT INTO contact_store.contacts (external_id, name, custom_fields)"
        " SELECT CASE WHEN n %% 2 = 0 THEN lpad(n::text, 18, '0') END, 'Person ' || n, jsonb_build_object('score', n)"
        " FROM generate_series(1, %s) AS n",
        [PEOPLE],
    )
    store.execute(
        "INSERT INTO contact_store.contact_handles (contact_id, source, handle, origin, salesforce_field)"
        " SELECT id, source, source || id, 'salesforce', source || '__c'"
        " FROM contact_store.contacts, unnest(ARRAY['email', 'custom']) AS source"
    )
    return store


def origin_at(moment: Moment, columns: Columns = COLUMNS) -> CopyOrigin:
    origin = CopyOrigin.at(moment, columns)
    assert origin is not None
    return origin


def copy_now(columns: Columns = COLUMNS) -> StoreCopy:
    with one_moment() as moment:
        copy = StoreCopy.of(read_stored_records(columns, NO_MERGES, moment), origin_at(moment, columns))
    assert copy is not None
    return copy


def look_again(copy: StoreCopy, columns: Columns = COLUMNS) -> tuple[StoredRecords | None, StoredRecords]:
    """What is found with the copy, and what is there."""
    with one_moment() as moment:
        assert copy.origin is not None
        assert copy.origin.precedes(origin_at(moment, columns))
        found = read_newer(copy, columns, NO_MERGES, moment, lambda: read_fingerprint(Part.CONTACTS, moment))
        return found, read_stored_records(columns, NO_MERGES, moment)


def rows(stored: StoredRecords) -> list[list[dict]]:
    """Contacts in their order; handles and accounts in any."""
    return [
        stored.records.to_pylist(),
        *(sorted(table.to_pylist(), key=repr) for table in (stored.handles, stored.accounts)),
    ]


def assert_like_reading_all(copy: StoreCopy) -> None:
    found, there = look_again(copy)
    assert found is not None
    assert rows(found) == rows(there)
    for name in ("records", "handles", "accounts"):
        assert getattr(found, name).schema.equals(getattr(there, name).schema)
    assert found.records["id"].num_chunks == 1


CONTACTS, HANDLES = "contact_store.contacts", "contact_store.contact_handles"
SEEN = {
    "nothing": "SELECT 1",
    "a contact is added": f"INSERT INTO {CONTACTS} (name) VALUES ('Zoe')",
    "a contact is changed": f"UPDATE {CONTACTS} SET name = 'Zoe' WHERE id = 7",
    "a value becomes null": f"UPDATE {CONTACTS} SET name = NULL, custom_fields = '{{}}' WHERE id = 7",
    "the links of two contacts are swapped": f"UPDATE {CONTACTS} SET external_id = NULL WHERE id IN (2, 4);"
    f"UPDATE {CONTACTS} SET external_id = lpad('4', 18, '0') WHERE id = 2;"
    f"UPDATE {CONTACTS} SET external_id = lpad('2', 18, '0') WHERE id = 4",
    "all contacts are changed": f"UPDATE {CONTACTS} SET description = 'new'",
    "a handle is added": f"INSERT INTO {HANDLES} (contact_id, source, handle) VALUES (3, 'phone', '+12128425500')",
    "one of another source with the same text": f"INSERT INTO {HANDLES} (contact_id, source, handle) VALUES (3, 'phone', 'email4')",
    "a handle goes to another contact": f"UPDATE {HANDLES} SET contact_id = 5 WHERE handle = 'email6'",
    "another field gives a handle": f"UPDATE {HANDLES} SET salesforce_field = 'Other__c' WHERE handle = 'email6'",
    "a handle is replaced as a sync does it": f"DELETE FROM {HANDLES} WHERE handle = 'email6';"
    f"INSERT INTO {HANDLES} (contact_id, source, handle) VALUES (6, 'email', 'new6');"
    f"UPDATE {CONTACTS} SET updated_at = now() WHERE id = 6",
    "handles are swapped as a sync does it": f"DELETE FROM {HANDLES} WHERE handle IN ('email6', 'email8');"
    f"INSERT INTO {HANDLES} (contact_id, source, handle) VALUES (6, 'email', 'email8'), (8, 'email', 'email6');"
    f"UPDATE {CONTACTS} SET updated_at = now() WHERE id IN (6, 8)",
    "a handle is taken away as a sync does it": f"DELETE FROM {HANDLES} WHERE handle = 'email6';"
    f"UPDATE {CONTACTS} SET updated_at = now() WHERE id = 6",
    "a savepoint": f"SAVEPOINT one; UPDATE {CONTACTS} SET name = 'Zoe' WHERE id = 7; RELEASE one",
    "a savepoint that was taken back": f"SAVEPOINT one; DELETE FROM {CONTACTS}; ROLLBACK TO one",
    "an account is linked": "INSERT INTO contact_store.accounts (external_id) VALUES (lpad('1', 18, '0'))",
    "a contact comes and goes": f"INSERT INTO {CONTACTS} (name) VALUES ('Zoe'); DELETE FROM {CONTACTS} WHERE name = 'Zoe'",
}
GONE = {
    "a contact": f"DELETE FROM {CONTACTS} WHERE id = 7",
    "a contact, and another is added": f"DELETE FROM {CONTACTS} WHERE id = 7; INSERT INTO {CONTACTS} (name) VALUES ('Zoe')",
    "a handle": f"DELETE FROM {HANDLES} WHERE handle = 'email6'",
    "a handle, and another is added": f"DELETE FROM {HANDLES} WHERE handle = 'email6';"
    f"INSERT INTO {HANDLES} (contact_id, source, handle) VALUES (6, 'email', 'new6')",
    "the text of a handle": f"UPDATE {HANDLES} SET handle = 'new6' WHERE handle = 'email6'",
    "everything": f"TRUNCATE {CONTACTS} CASCADE",
}


@pytest.mark.parametrize("edit", SEEN)
def test_what_is_newer_makes_the_copy_what_is_there(people: Store, edit: str) -> None:
    copy = copy_now()
    people.execute(SEEN[edit])
    assert_like_reading_all(copy)


@pytest.mark.parametrize("edit", SEEN)
def test_what_was_not_over_when_it_was_copied_is_seen(people: Store, edit: str) -> None:
    session = people.connect()
    session.execute(SEEN[edit])
    copy = copy_now()
    session.commit()
    assert_like_reading_all(copy)


@pytest.mark.parametrize("edit", [*SEEN, *GONE])
def test_what_was_over_when_it_was_copied_is_in_the_copy(people: Store, edit: str) -> None:
    """Though a transaction that began before is still open, so that it counts as newer."""
    session = people.connect()
    session.execute("SELECT pg_current_xact_id()")
    people.execute((SEEN | GONE)[edit])
    copy = copy_now()
    session.rollback()
    assert_like_reading_all(copy)


@pytest.mark.parametrize("edit", GONE)
def test_where_something_is_gone_everything_is_to_be_read(people: Store, edit: str) -> None:
    copy = copy_now()
    people.execute(GONE[edit])
    found, _ = look_again(copy)
    assert found is None


@pytest.mark.parametrize("order", ["VACUUM FULL", "VACUUM FREEZE", "VACUUM"])
def test_house_keeping_changes_nothing(people: Store, order: str) -> None:
    people.execute(f"UPDATE {CONTACTS} SET description = 'old versions to clear away'")
    copy = copy_now()
    people.execute(f"UPDATE {CONTACTS} SET name = 'Zoe' WHERE id = 7")
    with psycopg.connect(people.uri, autocommit=True) as connection:
        connection.execute(f"{order} {CONTACTS}, {HANDLES}")
    assert_like_reading_all(copy)


def test_where_too_much_is_newer_everything_is_to_be_read(people: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_copy, "SOME_NEWER", 2)
    assert most_newer(PEOPLE) == 6
    copy = copy_now()
    people.execute(f"UPDATE {CONTACTS} SET name = 'new' WHERE id <= 6")
    assert_like_reading_all(copy)
    people.execute(f"UPDATE {CONTACTS} SET name = 'new' WHERE id = 7")
    assert look_again(copy)[0] is None


def test_a_store_that_was_empty_when_it_was_copied(store: Store) -> None:
    copy = copy_now()
    store.execute(f"INSERT INTO {CONTACTS} (name) VALUES ('Zoe')")
    store.execute(f"INSERT INTO {HANDLES} (contact_id, source, handle) SELECT id, 'email', 'z@x.org' FROM {CONTACTS}")
    assert_like_reading_all(copy)


def test_random_edits(people: Store) -> None:
    """Many transactions, some still open when it is copied, one after the other on the same copy."""
    draw = random.Random(4)
    used = 0
    for _ in range(60):
        sessions = [people.connect() for _ in range(draw.randint(0, 2))]
        for number, session in enumerate(sessions):
            some_edits(session, draw, range(1 + 10 * number, 11 + 10 * number))
        copy = copy_now()
        for session in sessions:
            draw.choice([session.commit, session.rollback])()
            session.close()
        for _ in range(draw.randint(0, 3)):
            with psycopg.connect(people.uri) as session:
                some_edits(session, draw, range(1, PEOPLE + 1))
            found, there = look_again(copy)
            if found is not None:
                assert rows(found) == rows(there)
                used += 1
    assert used > 20


def some_edits(session: psycopg.Connection, draw: random.Random, ids: range) -> None:
    """Change, add or take away something of these contacts; mostly as a sync does it, which writes the contact too."""
    for _ in range(draw.randint(1, 4)):
        one, text = draw.choice(ids), f"{draw.choice(SOURCES)}{draw.randrange(100)}"
        kind = draw.randrange(6)
        if kind == 0:
            session.execute(f"UPDATE {CONTACTS} SET name = %s WHERE id = %s", [text, one])
        elif kind == 1:
            session.execute(f"INSERT INTO {CONTACTS} (name) VALUES (%s)", [text])
        elif kind == 2:
            session.execute(
                f"INSERT INTO {HANDLES} (contact_id, source, handle) SELECT id, 'phone', %s FROM {CONTACTS}"
                " WHERE id = %s ON CONFLICT DO NOTHING",
                [f"{text} of {one}", one],
            )
        elif kind < 5:
            session.execute(f"DELETE FROM {HANDLES} WHERE contact_id = %s", [one])
            if kind == 3 or draw.random() < 0.7:
                session.execute(f"UPDATE {CONTACTS} SET updated_at = now() WHERE id = %s", [one])
        elif draw.random() < 0.1:
            session.execute(f"DELETE FROM {CONTACTS} WHERE id = %s", [one])


# ------------------------------------------------------------------------------------------------ what it is a copy of


@pytest.fixture
def origin(people: Store) -> CopyOrigin:
    with one_moment() as moment:
        return origin_at(moment)


@pytest.mark.parametrize(
    ("later", "is_usable"),
    [
        (lambda origin: origin, True),
        (lambda origin: replace(origin, token="another"), True),
        (lambda origin: replace(origin, queries="others"), False),
        (lambda origin: replace(origin, tables="others"), False),
        (lambda origin: replace(origin, next_transaction=origin.oldest_open - 1), False),
        (lambda origin: replace(origin, next_transaction=origin.oldest_open + 2**30 - 1), True),
        (lambda origin: replace(origin, next_transaction=origin.oldest_open + 2**30), False),
    ],
    ids=[
        "the same",
        "another copy",
        "other queries",
        "other tables",
        "set back",
        "a quarter of a round",
        "too long ago",
    ],
)
def test_what_a_copy_serves_for(origin: CopyOrigin, later: Callable[[CopyOrigin], CopyOrigin], is_usable: bool) -> None:
    assert origin.precedes(later(origin)) == is_usable


def test_what_was_read_in_another_way_is_of_another_origin(people: Store, origin: CopyOrigin) -> None:
    with one_moment() as moment:
        assert not origin.precedes(origin_at(moment, columns_of("name", "email")))


@pytest.mark.parametrize(
    "change",
    [
        f"ALTER TABLE {CONTACTS} DROP COLUMN description CASCADE; ALTER TABLE {CONTACTS} ADD COLUMN description text",
        f"CREATE TABLE kept AS TABLE {HANDLES}; DROP TABLE {HANDLES}; ALTER TABLE kept RENAME TO contact_handles;"
        "ALTER TABLE contact_handles SET SCHEMA contact_store",
        f"ALTER TABLE {CONTACTS} RENAME name TO other; ALTER TABLE {CONTACTS} RENAME description TO name;"
        f"ALTER TABLE {CONTACTS} RENAME other TO description",
    ],
    ids=["a column made anew", "a table made anew", "two columns swapped"],
)
def test_tables_that_were_made_anew_are_others(people: Store, origin: CopyOrigin, change: str) -> None:
    people.execute(change)
    with one_moment() as moment:
        assert not origin.precedes(origin_at(moment))


def test_where_postgresql_does_not_tell_the_user_which_database_it_is_there_is_no_origin(people: Store) -> None:
    people.execute("REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC")
    people.execute("CREATE ROLE stranger")
    try:
        with one_moment() as moment:
            moment.session.execute("SET LOCAL ROLE stranger")
            assert CopyOrigin.at(moment, COLUMNS) is None
            moment.session.execute("RESET ROLE")
            assert read_stored_records(COLUMNS, NO_MERGES, moment).records.num_rows == PEOPLE  # the moment goes on
    finally:
        people.execute("DROP ROLE stranger")


def test_tables_of_two_copies_have_no_origin(people: Store) -> None:
    assert StoreCopy(copy_now().records, copy_now().handles).origin is None


@pytest.mark.parametrize("facts", [None, "{}", '{"token": "of another release"}'])
def test_tables_of_another_release_have_no_origin(people: Store, facts: str | None) -> None:
    copy = copy_now()
    told = {"store_copy": facts} if facts else None
    tables = (copy.records, copy.handles)
    other = StoreCopy(*(cast(pa.Table, table).replace_schema_metadata(told) for table in tables))
    assert other.origin is None


def test_a_column_that_is_too_large_is_not_copied(people: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_copy, "MOST_TEXT", 100)
    with one_moment() as moment:
        stored = read_stored_records(COLUMNS, pa.table({}), moment)
        assert StoreCopy.of(stored, origin_at(moment)) is None
