"""Only what differs from what an earlier run was sent is read; the outcome is that of reading everything."""

import platform
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from include.contact_sync import reread
from include.contact_sync.columns import Columns, HandleColumn, Part, ValueColumn
from include.contact_sync.errors import RunRefused
from include.contact_sync.phones import numbering_plans
from include.contact_sync.reread import Earlier, comes_from, marked, origin, transform_what_differs
from include.contact_sync.settings import CustomFieldType
from include.contact_sync.transform import CleanRecords, transform
from tests.conftest import ROOT
from tests.contact_sync.worlds import columns_of, drawn_worlds, in_pieces, read_earlier, snapshot_of, together

COLUMNS = Columns(
    Part.CONTACTS,
    (HandleColumn("Phone", "phone"), HandleColumn("Email", "email"), HandleColumn("Other", "phone")),
    (
        ValueColumn("name", ("Name",), ("string",)),
        ValueColumn("custom_fields.score", ("Score",), ("double",), CustomFieldType.NUMBER),
    ),
)
NAMES = ("Id", "AccountId", "Phone", "Email", "Other", "Name", "Score")
ANN, BOB, EVE, ZOE = (f"00300000000000{number}AAA" for number in range(1, 5))
PEOPLE = {
    ANN: ("001", "(212) 842-5500", "a@x.org", "212-842-5500", "Ann", "1"),
    BOB: (None, "call me", "no address", None, None, "many"),
    EVE: ("001", None, None, "212-842-5501", "", None),
}


@pytest.fixture(autouse=True)
def few_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many of the few records here differ, they are not too many."""
    monkeypatch.setattr(reread, "MOST_DIFFERING", 1)


def snapshot(people: dict[str, tuple[str | None, ...]]) -> pa.Table:
    rows = [dict(zip(NAMES, (key, *values), strict=True)) for key, values in people.items()]
    return pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in NAMES]))


def earlier(people: dict[str, tuple[str | None, ...]]) -> Earlier:
    return Earlier(snapshot(people), transform(snapshot(people), COLUMNS))


def rows_of(clean: CleanRecords) -> dict[str, list[dict[str, Any]]]:
    return {field.name: getattr(clean, field.name).to_pylist() for field in fields(clean)}


def assert_like_reading_all(found: CleanRecords, sent: pa.Table, columns: Columns) -> None:
    """Every table, every row, in its order."""
    whole = transform(sent, columns)
    assert rows_of(found) == rows_of(whole)
    for field in fields(whole):
        assert getattr(found, field.name).schema.equals(getattr(whole, field.name).schema)


def test_what_is_as_it_was_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    before = earlier(PEOPLE)
    for sent in (snapshot(PEOPLE), snapshot(dict(reversed(PEOPLE.items())))):
        with monkeypatch.context() as patch:
            patch.setattr(reread.transform, "transform", None)
            found, read = transform_what_differs(sent, COLUMNS, lambda: before)
        assert read == 0
        assert_like_reading_all(found, sent, COLUMNS)


@pytest.mark.parametrize("place", range(len(NAMES) - 1), ids=NAMES[1:])
@pytest.mark.parametrize("value", [None, "", "new", "(212) 842-5500", "2"])
@pytest.mark.parametrize("key", PEOPLE)
def test_a_record_with_one_other_value_is_read(key: str, place: int, value: str | None) -> None:
    values = [*PEOPLE[key]]
    is_other = values[place] != value
    values[place] = value
    sent = snapshot(PEOPLE | {key: tuple(values)})
    found, read = transform_what_differs(sent, COLUMNS, lambda: earlier(PEOPLE))
    assert read == is_other
    assert_like_reading_all(found, sent, COLUMNS)


@pytest.mark.parametrize(
    ("people", "count"),
    [
        ({ANN: PEOPLE[ANN]}, 0),
        ({}, 0),
        (PEOPLE | {ZOE: PEOPLE[ANN]}, 1),
        ({ZOE: PEOPLE[BOB], EVE: PEOPLE[EVE], ANN: PEOPLE[BOB]}, 2),
        ({ANN: PEOPLE[BOB], BOB: PEOPLE[ANN], EVE: PEOPLE[EVE]}, 2),
    ],
    ids=["two are gone", "all are gone", "one is new", "gone, new and changed", "two have changed places"],
)
def test_records_that_come_and_go(people: dict[str, tuple[str | None, ...]], count: int) -> None:
    found, read = transform_what_differs(snapshot(people), COLUMNS, lambda: earlier(PEOPLE))
    assert read == count
    assert_like_reading_all(found, snapshot(people), COLUMNS)


def test_what_is_read_anew_is_put_in_its_order() -> None:
    """By field first: the last record's e-mail stands before the first one's phone."""
    before = {ANN: PEOPLE[ANN], EVE: ("001", None, "e@x.org", None, "Eve", None)}
    sent = snapshot(before | {ANN: ("001", "(212) 842-5599", "a@x.org", None, "Ann", "1")})
    found, read = transform_what_differs(sent, COLUMNS, lambda: earlier(before))
    assert read == 1
    assert_like_reading_all(found, sent, COLUMNS)


def test_tables_without_any_piece_are_put_together() -> None:
    """As an empty table comes back from the staging place."""
    flawless = {ANN: PEOPLE[ANN], ZOE: ("001", None, "z@x.org", None, "Zoe", None)}
    clean = earlier(flawless).clean
    empty = {name: pa.Table.from_batches([], getattr(clean, name).schema) for name in ("unreadable", "warnings")}
    before = Earlier(snapshot(flawless), replace(clean, **empty))
    sent = snapshot(flawless | {ANN: ("001", "(212) 842-5599", None, None, "Ann", "1")})
    found, read = transform_what_differs(sent, COLUMNS, lambda: before)
    assert read == 1
    assert_like_reading_all(found, sent, COLUMNS)


def test_where_nothing_was_read_before_all_is_read() -> None:
    for before in (None, earlier({})):
        found, read = transform_what_differs(snapshot(PEOPLE), COLUMNS, lambda before=before: before)
        assert read == len(PEOPLE)
        assert_like_reading_all(found, snapshot(PEOPLE), COLUMNS)


def test_what_does_not_belong_together_is_not_believed() -> None:
    before, fewer = earlier(PEOPLE), {key: values for key, values in PEOPLE.items() if key != ANN}
    other_names = before.snapshot.rename_columns([*NAMES[:-1], "Points"])
    for torn in (
        Earlier(snapshot(fewer), before.clean),
        Earlier(before.snapshot, transform(snapshot(fewer), COLUMNS)),
        Earlier(other_names, before.clean),
    ):
        found, read = transform_what_differs(snapshot(PEOPLE), COLUMNS, lambda torn=torn: torn)
        assert read == len(PEOPLE)
        assert_like_reading_all(found, snapshot(PEOPLE), COLUMNS)


@pytest.mark.parametrize("seed", range(20))
def test_many_records_that_collide_are_read_as_all_at_once(seed: int) -> None:
    draw = Random(seed)
    world = together(drawn_worlds(draw, 1, 20))
    columns, sent = columns_of(world), in_pieces(snapshot_of(world), draw)
    before = read_earlier(world, draw)
    found, read = transform_what_differs(sent, columns, lambda: before)
    assert 0 < read < len(sent)
    assert_like_reading_all(found, sent, columns)


def test_where_much_differs_all_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    many = {f"003{number:012d}AAA": PEOPLE[ANN] for number in range(100)}
    for count, expected in ((10, 10), (11, 100)):
        others = dict.fromkeys(list(many)[:count], PEOPLE[BOB])
        sent = snapshot(many | others)
        found, read = transform_what_differs(sent, COLUMNS, lambda: earlier(many))
        assert read == expected
        assert_like_reading_all(found, sent, COLUMNS)


class Torn:
    """A snapshot of which a column cannot be read."""

    def __init__(self, snapshot: pa.Table) -> None:
        self.snapshot, self.schema = snapshot, snapshot.schema

    def __getitem__(self, name: str) -> pa.ChunkedArray:
        if name == "Name":
            raise OSError("Invalid IPC stream")
        return self.snapshot[name]


@pytest.mark.parametrize("fault", [RunRefused("gone"), OSError("gone"), pa.ArrowInvalid("damaged"), None])
def test_where_what_was_read_before_cannot_be_had_all_is_read(
    fault: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def read_earlier() -> Earlier:
        if fault is not None:
            raise fault
        return Earlier(Torn(snapshot(PEOPLE)), transform(snapshot(PEOPLE), COLUMNS))

    found, read = transform_what_differs(snapshot(PEOPLE), COLUMNS, read_earlier)
    assert read == len(PEOPLE)
    assert_like_reading_all(found, snapshot(PEOPLE), COLUMNS)
    assert f"everything is read anew: {fault or 'Invalid IPC stream'}" in caplog.text


def test_text_that_may_be_too_much_for_one_array_is_read_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before, longer = earlier(PEOPLE), PEOPLE | {ZOE: ("001", None, "z@x.org", None, "x" * 3000, None)}
    monkeypatch.setattr(reread.transform, "MOST_TEXT", 5000)
    found, read = transform_what_differs(snapshot(longer), COLUMNS, lambda: before)
    assert read == 4
    found, read = transform_what_differs(snapshot(PEOPLE), COLUMNS, lambda: earlier(longer))
    assert read == 3
    assert_like_reading_all(found, snapshot(PEOPLE), COLUMNS)
    monkeypatch.setattr(reread.transform, "MOST_TEXT", 2000)
    with pytest.raises(RunRefused, match="Name holds more than 2 GB of text in all"):
        transform_what_differs(snapshot(longer), COLUMNS, lambda: before)


def test_another_mapping_or_region_is_another_reader() -> None:
    others = [
        COLUMNS,
        replace(COLUMNS, default_region="DE"),
        replace(COLUMNS, handles=COLUMNS.handles[::-1]),
        replace(COLUMNS, handles=(replace(COLUMNS.handles[0], missing=True), *COLUMNS.handles[1:])),
        replace(COLUMNS, fields=COLUMNS.fields[:1]),
        replace(COLUMNS, fields=(replace(COLUMNS.fields[0], types=("double",)), COLUMNS.fields[1])),
    ]
    assert origin(COLUMNS, "1") == origin(replace(COLUMNS), "1")
    assert len({origin(columns, "1")[b"read_by"] for columns in others}) == len(others)


def test_other_code_is_another_reader(tmp_path: Path) -> None:
    """Every module that a value passes through, and that puts the outcome together, counts; and what they lean on."""
    told = []
    for number, changed in enumerate(["", *READ_WITH]):
        folder = tmp_path / str(number)
        for source in ("__init__.py", *(f"contact_sync/{name}.py" for name in ("__init__", "errors", *READ_WITH))):
            copy = folder / "include" / source
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((ROOT / "include" / source).read_bytes())
        if changed:
            with (folder / "include" / "contact_sync" / f"{changed}.py").open("a", encoding="utf-8") as file:
                file.write("# another release\n")
        told.append(
            subprocess.run(
                [sys.executable, "-c", "from include.contact_sync.reread import _CODE; print(_CODE)"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
    assert len(set(told)) == len(READ_WITH) + 1
    for library in (platform.python_version(), pa.__version__, pd.__version__, np.__version__, numbering_plans()):
        assert library in told[0]


READ_WITH = ("reread", "transform", "arrays", "phones", "columns", "settings")


def test_what_was_read_says_by_whom_and_from_what() -> None:
    clean, mine = earlier(PEOPLE).clean, origin(COLUMNS, "one")
    assert not comes_from(clean, mine)
    assert comes_from(marked(clean, mine), mine)
    for other in (origin(COLUMNS, "other"), origin(replace(COLUMNS, default_region="DE"), "one")):
        assert not comes_from(marked(clean, other), mine)
        for field in fields(clean):
            mixed = replace(marked(clean, mine), **{field.name: getattr(marked(clean, other), field.name)})
            assert not comes_from(mixed, mine)
