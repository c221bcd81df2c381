"""Errors from run to run: opened, still open, closed by themselves (rule 7)."""

import itertools
import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pyarrow as pa
import pytest

from include.contact_sync.errors import RunError
from include.contact_sync.load import compare_errors
from include.contact_sync.store import error_book, runs
from include.contact_sync.store.connection import sql
from include.contact_sync.store.runs import Run
from include.contact_sync.transform import ERRORS_SCHEMA
from tests.conftest import Store

StartRun = Callable[..., Run]

ANN = "003000000000001AAA"
BOB = "003000000000002AAA"
EVE = "003000000000003AAA"

NUMBERS = itertools.count()


def error(code: str, external_id: str | None = None, field: str | None = None, **more: Any) -> dict[str, Any]:
    """One row of an errors frame."""
    level = {"field_not_found": "run", "domain_taken": "account"}.get(
        code, "warning" if "invalid" in code else "contact"
    )
    usual = {"value": None, "detail": None, "holders": "[]"}
    return {"code": code, "level": level, "external_id": external_id, "salesforce_field": field, **usual, **more}


class Book:
    """Runs that met errors, told in a line each."""

    def __init__(self, connection: psycopg.Connection, start_run: StartRun) -> None:
        self.connection = connection
        self.start_run = start_run

    def run(
        self,
        errors: Iterable[dict[str, Any]] = (),
        *,
        part: runs.Part = "contacts",
        read: Iterable[str] | None = None,
        still: Iterable[str] = (),
        is_backfill: bool = False,
    ) -> int:
        """A run that got through a part; `read` is what a window's run read. Returns the run's id."""
        window = (
            None
            if read is None and not is_backfill
            else (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 5, 2, tzinfo=UTC))
        )
        run = self.start_run(f"manual__{next(NUMBERS)}", window=window)
        met = pa.Table.from_pylist([*errors], schema=ERRORS_SCHEMA)
        with self.connection.transaction(), self.connection.cursor() as cursor:
            error_book.create_part_tables(cursor)
            if read is None:
                met, resolved = compare_errors(met, error_book.open_record_errors(part))
            cursor.executemany(
                "INSERT INTO pg_temp.part_errors VALUES (%(code)s, %(level)s, %(external_id)s, %(salesforce_field)s,"
                " %(value)s, %(detail)s, %(holders)s)",
                met.to_pylist(),
            )
            if read is None:
                error_book.record_errors(cursor, run.id, part, resolved.to_pylist())
            else:
                cursor.executemany("INSERT INTO pg_temp.part_read VALUES (%s)", [[external_id] for external_id in read])
                error_book.record_errors_of_window(cursor, run.id, part)
            error_book.close_run_errors(cursor, run.id, part, list(still))
            runs.mark_applied(cursor, run.id, part, {})
        runs.close_run(self.connection, run.id, "succeeded")
        return run.id

    def failed_run(self, failure: RunError, part: Any = "contacts") -> int:
        run = self.start_run(f"manual__{next(NUMBERS)}")
        error_book.record_run_error(self.connection, run.id, part, failure)
        runs.close_run(self.connection, run.id, "failed")
        return run.id

    def told(self, run_id: int) -> list[tuple[str, str | None, str]]:
        """What the run's report says: code, record or field, status."""
        rows = error_book.errors_of_run(run_id).to_pylist()
        return [(row["code"], row["external_id"] or row["salesforce_field"], row["status"]) for row in rows]


@pytest.fixture
def book(connection: psycopg.Connection, start_run: StartRun) -> Book:
    return Book(connection, start_run)


def test_an_error_is_new_then_still_open_then_resolved_by_the_run_that_no_more_met_it(book: Book, store: Store) -> None:
    first = book.run([error("no_handle", ANN)])
    second = book.run([error("no_handle", ANN)])
    third = book.run()
    fourth = book.run()
    assert book.told(second) == [("no_handle", ANN, "still_open")]
    assert book.told(third) == [("no_handle", ANN, "resolved")]
    assert book.told(fourth) == []
    assert book.told(first) == [("no_handle", ANN, "new")]
    assert store.execute(
        "SELECT opened_run, last_run, closed_run, closed_at IS NOT NULL FROM contact_store.sync_errors"
    ) == [(first, first, third, True)]


def test_what_a_run_met_it_says_also_after_later_runs(book: Book) -> None:
    first = book.run([error("no_handle", ANN), error("no_handle", BOB), error("no_handle", EVE)])
    second = book.run([error("no_handle", ANN), error("no_handle", BOB)])
    window = book.run([error("no_handle", ANN)], read=[ANN])
    empty = book.run(read=[])
    failed = book.failed_run(RunError("login_failed"))
    runs_before = (first, second, window, empty, failed)
    told = [book.told(run) for run in runs_before]
    assert [len(errors) for errors in told] == [3, 3, 1, 0, 1]
    book.run([error("no_handle", ANN), error("no_handle", EVE)])
    book.run([error("no_handle", ANN)], part="contacts")
    assert [book.told(run) for run in runs_before] == told
    book.run([error("no_handle", ANN)], read=[ANN])
    assert [book.told(run) for run in (first, second, empty, failed)] == [*told[:2], *told[3:]]
    assert book.told(window) == []  # which of the errors that were open before it had read nobody knows any more


def test_an_error_that_is_still_open_as_it_was_is_not_written(book: Book, store: Store) -> None:
    """Whatever the text: a night of a large source finds tens of thousands of them as they were."""
    odd = 'quoted "\\" \u0001\t\u007f\u2028 é 漢 \U0001f600 {[,]}'
    holder = {"handle": odd, "source": "email", "contact_id": 12, "external_id": BOB}
    errors = [
        error("email_taken", ANN, "Email", value=odd, holders=json.dumps([holder, holder], ensure_ascii=False)),
        error("no_handle", BOB),
        error("invalid_value", BOB, "X__c", value="", detail=odd),
        error("field_not_found", None, "Y__c"),
        *[error("invalid_value", EVE, "Z__c", value="?")] * 2,  # the field feeds two of ours
    ]
    versions = "SELECT xmin::text, ctid::text, * FROM contact_store.sync_errors ORDER BY id"
    book.run(errors)
    before = store.execute(versions)
    book.run(reversed(errors))
    assert store.execute(versions) == before


@pytest.mark.parametrize(
    "change",
    [{"value": "c@d.co"}, {"value": None}, {"detail": "x"}, {"holders": "[]"}],
    ids=["another value", "no value", "a detail", "nobody"],
)
def test_an_open_error_is_written_where_one_thing_about_it_differs(
    book: Book, store: Store, change: dict[str, str | None]
) -> None:
    taken = error("email_taken", ANN, "Email", value="a@b.co", holders='[{"handle": "a@b.co"}]')
    other = error("email_taken", BOB, "Email", value="a@b.co", holders='[{"handle": "a@b.co"}]')
    first = book.run([taken, other])
    second = book.run([taken | change, other])
    assert book.told(second) == [("email_taken", ANN, "still_open"), ("email_taken", BOB, "still_open")]
    told = "SELECT value, detail, holders::text, last_run FROM contact_store.sync_errors WHERE external_id = %s"
    now = taken | change
    assert store.execute(told, [ANN]) == [(now["value"], now["detail"], now["holders"], second)]
    assert store.execute(told, [BOB]) == [("a@b.co", None, '[{"handle": "a@b.co"}]', first)]


def test_an_error_that_comes_back_is_a_new_one(book: Book, store: Store) -> None:
    book.run([error("no_handle", ANN)])
    book.run()
    third = book.run([error("no_handle", ANN)])
    assert book.told(third) == [("no_handle", ANN, "new")]
    assert store.execute("SELECT count(*), count(closed_run) FROM contact_store.sync_errors") == [(2, 1)]


def test_another_code_on_the_same_record_closes_the_old_error_and_opens_one(book: Book) -> None:
    book.run([error("email_taken", ANN, "Email")])
    second = book.run([error("no_handle", ANN)])
    assert book.told(second) == [("email_taken", ANN, "resolved"), ("no_handle", ANN, "new")]


def test_an_open_error_shows_what_the_last_run_found(book: Book, connection: psycopg.Connection) -> None:
    holder = {"contact_id": 1, "external_id": BOB, "source": "email", "handle": "a@b.co"}
    other = {**holder, "contact_id": None, "external_id": EVE}
    book.run([error("email_taken", ANN, "Email", value="a@b.co", detail="old", holders=json.dumps([holder]))])
    second = book.run(
        [error("email_taken", ANN, "Email", value="c@d.co", detail="new", holders=json.dumps([holder, other]))]
    )
    (row,) = error_book.errors_of_run(second).to_pylist()
    assert (row["value"], row["detail"], row["status"]) == ("c@d.co", "new", "still_open")
    assert pa.array([row["holders"]]).to_pylist()[0].count("contact_id") == 2


def test_rule_1_3_a_window_closes_only_errors_of_records_it_read(book: Book, store: Store) -> None:
    book.run(
        [
            error("no_handle", ANN),
            error("no_handle", BOB),
            error("no_handle", EVE),
            error("field_not_found", None, "X__c"),
        ]
    )
    window = book.run([error("no_handle", BOB)], read=[ANN, BOB])
    assert book.told(window) == [("no_handle", ANN, "resolved"), ("no_handle", BOB, "still_open")]
    still_open = "SELECT coalesce(external_id, salesforce_field) FROM contact_store.sync_errors WHERE closed_run IS NULL ORDER BY 1"
    assert store.execute(still_open) == [(BOB,), (EVE,), ("X__c",)]


def test_rule_1_3_a_window_closes_an_error_whose_code_changed_on_a_record_it_read(book: Book) -> None:
    book.run([error("email_taken", ANN, "Email"), error("email_taken", BOB, "Email")])
    window = book.run([error("phone_taken", ANN, "Phone")], read=[ANN])
    assert book.told(window) == [("email_taken", ANN, "resolved"), ("phone_taken", ANN, "new")]


def test_an_empty_window_says_nothing(book: Book) -> None:
    book.run([error("no_handle", ANN)])
    assert book.told(book.run(read=[])) == []


def test_a_part_touches_only_its_own_errors(book: Book) -> None:
    book.run([error("domain_taken", "001000000000001AAA", "Website")], part="accounts")
    contacts = book.run([error("no_handle", ANN)], part="contacts")
    assert book.told(contacts) == [("no_handle", ANN, "new")]
    accounts = book.run(part="accounts")
    assert book.told(accounts) == [("domain_taken", "001000000000001AAA", "resolved")]


def test_a_run_over_a_window_that_met_all_errors_of_the_accounts_says_so_also_after_later_runs(book: Book) -> None:
    """Accounts are always read whole (rule 1.3)."""
    first = book.run([error("domain_taken", "001000000000001AAA", "Website")], part="accounts")
    window = book.run([error("domain_taken", "001000000000001AAA", "Website")], part="accounts", is_backfill=True)
    book.run([error("domain_taken", "001000000000001AAA", "Website", value="acme.com")], part="accounts")
    assert book.told(first) == [("domain_taken", "001000000000001AAA", "new")]
    assert book.told(window) == [("domain_taken", "001000000000001AAA", "still_open")]


def test_a_part_that_failed_touches_no_error_of_its_records(book: Book, store: Store) -> None:
    first = book.run([error("no_handle", ANN)])
    failed = book.failed_run(RunError("too_many_contacts", "1,000,001"))
    assert book.told(failed) == [("too_many_contacts", None, "new")]
    assert store.execute("SELECT last_run, closed_run FROM contact_store.sync_errors WHERE code = 'no_handle'") == [
        (first, None)
    ]


def test_a_run_error_stays_open_over_failing_runs_and_is_closed_by_the_one_that_gets_through(book: Book) -> None:
    book.failed_run(RunError("list_view_not_found", "gone"))
    again = book.failed_run(RunError("list_view_not_found", "still gone"))
    through = book.run()
    assert book.told(again) == [("list_view_not_found", None, "still_open")]
    assert book.told(through) == [("list_view_not_found", None, "resolved")]


def test_a_run_error_of_another_part_or_named_as_still_there_stays_open(book: Book, store: Store) -> None:
    book.failed_run(RunError("login_failed"), part="run")
    book.failed_run(RunError("api_limit"), part="contacts")
    book.run(still=["api_limit"])
    assert store.execute("SELECT count(*) FROM contact_store.sync_errors WHERE closed_run IS NULL") == [(2,)]


def test_a_failed_run_that_went_on_and_got_through_closes_its_own_error_and_has_nothing_to_tell(
    book: Book, store: Store, connection: psycopg.Connection, start_run: StartRun
) -> None:
    run = start_run()
    error_book.record_run_error(connection, run.id, "contacts", RunError("login_failed"))
    runs.close_run(connection, run.id, "failed")
    runs.resume_run(connection, run.id)
    with connection.transaction(), connection.cursor() as cursor:
        error_book.close_run_errors(cursor, run.id, "contacts")
    assert store.execute("SELECT code, closed_run FROM contact_store.sync_errors") == [("login_failed", run.id)]
    assert book.told(run.id) == []


def test_rule_3_3_each_missing_field_is_an_error_of_its_own(book: Book) -> None:
    first = book.run([error("field_not_found", None, "A__c"), error("field_not_found", None, "B__c")])
    second = book.run([error("field_not_found", None, "B__c")])
    assert book.told(first) == [("field_not_found", "A__c", "new"), ("field_not_found", "B__c", "new")]
    assert book.told(second) == [("field_not_found", "A__c", "resolved"), ("field_not_found", "B__c", "still_open")]


def test_the_same_fault_of_a_field_that_feeds_two_of_ours_is_one_error_that_says_both(
    book: Book, connection: psycopg.Connection
) -> None:
    both = [error("invalid_value", ANN, "X__c", value="?", detail=detail) for detail in ("not a number", "not a date")]
    for errors in (both, both, both[:1], both):
        (row,) = error_book.errors_of_run(book.run(errors)).to_pylist()
        told = "; ".join(sorted(each["detail"] for each in errors))
        assert (row["value"], row["detail"], row["holders"]) == ("?", told, "[]")


def test_a_load_that_is_rolled_back_leaves_the_book_as_it_was(
    book: Book, connection: psycopg.Connection, start_run: StartRun
) -> None:
    book.run([error("no_handle", ANN)])
    run = start_run("manual__rolled_back")
    with connection.transaction(force_rollback=True), connection.cursor() as cursor:
        error_book.create_part_tables(cursor)
        open_errors = error_book.open_record_errors("contacts")
        error_book.record_errors(cursor, run.id, "contacts", open_errors["id"].to_pylist())
    assert book.told(run.id) == []


def test_a_run_without_errors_has_an_empty_frame_with_all_columns(book: Book, connection: psycopg.Connection) -> None:
    frame = error_book.errors_of_run(book.run())
    assert frame.num_rows == 0
    assert {"part", "code", "level", "external_id", "value", "holders", "status"} <= set(frame.column_names)


def test_closing_many_errors_never_compares_each_with_each(connection: psycopg.Connection, start_run: StartRun) -> None:
    run = start_run()
    with connection.transaction(), connection.cursor() as cursor:
        error_book.create_part_tables(cursor)
        cursor.execute(
            "INSERT INTO pg_temp.part_errors (code, level, external_id)"
            " SELECT 'no_handle', 'contact', '003' || lpad(n::text, 12, '0') || 'AAA' FROM generate_series(1, 5000) n"
        )
        cursor.execute("INSERT INTO pg_temp.part_read SELECT external_id FROM pg_temp.part_errors")
        error_book.record_errors_of_window(cursor, run.id, "contacts")
        values = {"run_id": run.id + 1, "part": "contacts"}
        plan = "\n".join(line for (line,) in cursor.execute("EXPLAIN " + sql("close_resolved_errors_read"), values))
    assert "Hash" in plan
    assert "Nested Loop" not in plan
