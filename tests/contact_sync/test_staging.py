"""Where rows rest between the steps of a run: a local folder and an object store, by the same tests."""

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Generator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from include.contact_sync.errors import RunRefused
from include.contact_sync.staging import Staging
from tests.conftest import ROOT

ROWS = pa.table({
    "Id": ["003000000000001AAA", "003000000000002AAA"],
    "Account.Name": ["NA", None],
    "Description": ["0012\n\"x\" 🙂 שלום", "1E5"],
})  # fmt: skip


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Staging]:
    """The same staging on a local folder and on a file system that has no folders of its own."""
    if request.param == "folder":
        yield Staging(f"file://{tmp_path}/staging")
        return
    from airflow.sdk.io import attach
    from fsspec.implementations.memory import MemoryFileSystem

    bucket = MemoryFileSystem()
    attach("memory", fs=bucket)
    yield Staging("memory://bucket/staging")
    bucket.store.clear()
    bucket.pseudo_dirs[:] = [""]


def write_long_ago(place: Staging, run_id: int, days: int) -> None:
    """Stage rows of a run that wrote last so many days ago."""
    written_at = datetime.now(UTC) - timedelta(days=days)
    run = place.run(run_id)
    run.write("contacts/plan", ROWS)
    for path, entry in getattr(place._files, "store", {}).items():
        if f"/run-{run_id}/" in path:
            entry.modified = written_at
    folder = Path(place._folder) / f"run-{run_id}"
    for path in [*folder.rglob("*"), folder] if folder.exists() else []:
        os.utime(path, (written_at.timestamp(), written_at.timestamp()))


def remaining(place: Staging, *run_ids: int) -> list[int]:
    return [run_id for run_id in run_ids if place.run(run_id).size()]


def test_rule_3_7_a_table_comes_back_exactly(place: Staging) -> None:
    run = place.run(7)
    assert not run.exists("contacts/merges")
    run.write("contacts/merges", ROWS)
    assert run.exists("contacts/merges")
    assert run.read("contacts/merges").equals(ROWS)


def test_columns_can_be_chosen_also_those_with_a_dot(place: Staging) -> None:
    run = place.run(7)
    run.write("rows", ROWS)
    run.write_part("parts", 0, ROWS)
    assert run.read("rows", ["Account.Name", "Id"]).equals(ROWS.select(["Account.Name", "Id"]))
    assert run.read_parts("parts", ["Account.Name"]).equals(ROWS.select(["Account.Name"]))


def test_parts_are_put_together_in_the_order_of_their_numbers(place: Staging) -> None:
    run = place.run(7)
    for number in (10, 2, 0):
        run.write_part("contacts/snapshot", number, pa.table({"n": [number]}))
    assert run.read_parts("contacts/snapshot").column("n").to_pylist() == [0, 2, 10]
    assert run.exists("contacts/snapshot/part-00010")


def test_parts_that_were_opened_stay_as_they_are_whatever_is_written_in_their_place(place: Staging) -> None:
    run = place.run(7)
    run.write_part("contacts/snapshot", 0, ROWS)
    run.write_part("contacts/snapshot", 1, ROWS.slice(1))
    parts = run.open_parts("contacts/snapshot")
    run.write_part("contacts/snapshot", 0, ROWS.slice(0, 0))
    whole = pa.concat_tables([ROWS, ROWS.slice(1)])
    assert parts["Account.Name"].equals(whole["Account.Name"])
    run.remove()
    assert parts.schema.equals(ROWS.schema)
    assert parts.read().equals(whole)
    assert parts.read(["Id"]).equals(whole.select(["Id"]))


def test_an_empty_part_takes_the_same_path(place: Staging) -> None:
    run = place.run(7)
    run.write_part("contacts/snapshot", 0, ROWS.slice(0, 0))
    assert run.read_parts("contacts/snapshot").equals(ROWS.slice(0, 0))


def test_a_table_written_again_replaces_the_first(place: Staging) -> None:
    run = place.run(7)
    run.write("plan", ROWS)
    run.write("plan", ROWS.slice(1))
    assert run.read("plan").equals(ROWS.slice(1))


def test_dictionaries_that_differ_from_chunk_to_chunk_come_back(place: Staging) -> None:
    kind = pa.dictionary(pa.int16(), pa.string())
    chunks = [pa.array(["a", "b"]).dictionary_encode().cast(kind), pa.array(["c", None]).dictionary_encode().cast(kind)]
    table = pa.table({"few": pa.chunked_array(chunks), "n": [1, 2, 3, 4]})
    place.run(7).write("few", table)
    back = place.run(7).read("few")
    assert (back.schema, back.to_pydict()) == (table.schema, table.to_pydict())
    assert place.run(7).read("few", ["few"]).to_pydict() == {"few": ["a", "b", "c", None]}


def test_a_table_can_be_packed_tighter(place: Staging) -> None:
    table = pa.table({"name": [f"Person {number % 997} of {number}" for number in range(20_000)]})
    place.run(1).write("rows", table)
    place.run(2).write("rows", table, "zstd")
    assert place.run(2).size() < 0.8 * place.run(1).size()
    assert place.run(2).read("rows").equals(table)


def test_other_programs_can_read_a_staged_file(tmp_path: Path) -> None:
    Staging(f"file://{tmp_path}").run(7).write("rows", ROWS)
    with (tmp_path / "run-7" / "rows.arrows").open("rb") as file:
        assert pa.ipc.open_stream(file).read_all().equals(ROWS)


def test_a_damaged_file_is_refused_whichever_byte_it_is(tmp_path: Path) -> None:
    run = Staging(f"file://{tmp_path}").run(7)
    run.write("rows", ROWS)
    file = tmp_path / "run-7" / "rows.arrows"
    content = file.read_bytes()
    damaged = [content[:at] + bytes([content[at] ^ 4]) + content[at + 1 :] for at in range(len(content))]
    damaged += [content[:at] for at in (0, 3, 4, 5, len(content) // 2, len(content) - 1)] + [content + b"x"]
    for harmed in damaged:
        file.write_bytes(harmed)
        with pytest.raises(RunRefused, match="rows of run 7 was damaged; start a new run"):
            run.read("rows")


def test_clearing_a_folder_removes_its_parts_and_nothing_else(place: Staging) -> None:
    run = place.run(7)
    run.clear("contacts/snapshot")
    for number in range(3):
        run.write_part("contacts/snapshot", number, ROWS)
    run.write("contacts/merges", ROWS)
    run.clear("contacts/snapshot")
    assert run.exists("contacts/merges")
    with pytest.raises(RunRefused):
        run.read_parts("contacts/snapshot")


def test_data_that_is_gone_says_of_which_run_and_what_to_do(place: Staging) -> None:
    run = place.run(7)
    with pytest.raises(RunRefused, match=r"contacts/plan of run 7 .* start a new run"):
        run.read("contacts/plan")
    with pytest.raises(RunRefused, match=r"contacts/snapshot of run 7 .* start a new run"):
        run.read_parts("contacts/snapshot")


def test_runs_do_not_see_each_other_and_are_removed_whole(place: Staging) -> None:
    one, eleven = place.run(1), place.run(11)
    one.write("a/b", ROWS)
    eleven.write("a/b", ROWS)
    assert one.size() == eleven.size() > 0
    one.remove()
    one.remove()
    assert (one.size(), one.exists("a/b"), eleven.exists("a/b")) == (0, False, True)


def test_folders_are_removed_when_their_retention_ends_of_whatever_run(place: Staging) -> None:
    assert place.remove_older_than(7, datetime.now(UTC)) == 0
    for run_id, days in ((1, 30), (2, 8), (3, 6), (4, 0)):
        write_long_ago(place, run_id, days)
    assert place.remove_older_than(7, datetime.now(UTC)) == 2
    assert remaining(place, 1, 2, 3, 4) == [3, 4]
    assert place.remove_older_than(0, datetime.now(UTC)) == 2
    assert remaining(place, 3, 4) == []


def test_a_run_that_wrote_anything_lately_keeps_all_it_has(place: Staging) -> None:
    write_long_ago(place, 1, 30)
    place.run(1).write("contacts/later", ROWS)
    assert place.remove_older_than(7, datetime.now(UTC)) == 0
    assert place.run(1).exists("contacts/plan")


def test_a_folder_that_a_dead_run_left_empty_goes_too_and_nothing_that_is_not_a_run(
    staging: Staging, tmp_path: Path
) -> None:
    empty, foreign = tmp_path / "staging" / "run-1", tmp_path / "staging" / "notes"
    for folder in (empty, foreign):
        folder.mkdir(parents=True)
        os.utime(folder, (0, 0))
    assert staging.remove_older_than(7, datetime.now(UTC)) == 1
    assert (empty.exists(), foreign.exists()) == (False, True)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_staged_files_are_readable_by_their_owner_only_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        Staging(f"file://{tmp_path}/deep/staging").run(7).write("contacts/merges", ROWS)
    finally:
        os.umask(before)
    rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "deep").rglob("*")}
    assert rights == {"staging": 0o700, "run-7": 0o700, "contacts": 0o700, "merges.arrows": 0o600}


def test_a_worker_killed_while_writing_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "import pyarrow as pa\n"
        "from include.contact_sync import staging\n"
        "from include.contact_sync.staging import Staging\n"
        "def die(table, target, compression):\n"
        "    target.write(b'half'); target.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "staging._write_stream = die\n"
        f"Staging('file://{tmp_path}/staging').run(7).write_part('snapshot', 0, pa.table({{'a': [1]}}))\n"
    )
    died = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL
    run = Staging(f"file://{tmp_path}/staging").run(7)
    assert not run.exists("snapshot/part-00000")
    with pytest.raises(RunRefused):
        run.read_parts("snapshot")
    assert run.size() > 0
    run.write_part("snapshot", 0, ROWS)
    assert run.read_parts("snapshot").equals(ROWS)


def test_a_full_disk_keeps_the_old_file_and_leaves_no_new_one(staging: Staging, tmp_path: Path) -> None:
    run = staging.run(7)
    run.write("plan", ROWS)
    large = pa.table({"bytes": [os.urandom(200_000)]})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
    try:
        for name in ("plan", "other"):
            with pytest.raises(OSError, match="File too large"):
                run.write(name, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert run.read("plan").equals(ROWS)
    assert [path.name for path in (tmp_path / "staging" / "run-7").iterdir()] == ["plan.arrows"]


def test_the_place_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONTACT_SYNC_STAGING", f"file://{tmp_path}/chosen")
    Staging.from_environment().run(1).write("a", ROWS)
    monkeypatch.delenv("CONTACT_SYNC_STAGING")
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "home"))
    Staging.from_environment().run(1).write("a", ROWS)
    monkeypatch.delenv("AIRFLOW_HOME")
    monkeypatch.chdir(tmp_path)
    Staging.from_environment().run(1).write("a", ROWS)
    for folder in ("chosen", "home/staging", "staging"):
        assert (tmp_path / folder / "run-1" / "a.arrows").is_file()
