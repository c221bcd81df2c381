"""How long a sync takes, and what it needs: `make bench N=1000000` prints a table and the same as JSON.

Each measure is the command `python -m include.contact_sync run`, whose steps are those of the DAG, in a fresh process,
start of Python and Airflow included. The floor beside it is what cannot be saved, measured in the same way:
`tests.benchmark.floor`. Told is the median of several; between first syncs the stores are made anew from a copy, so that
each finds the same. Nights follow one another, as nights do.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

import psutil

from include.contact_sync.store.connection import sql
from include.demo.processes import guard
from tests.benchmark import floor
from tests.benchmark.stage import SETTINGS, Stage, prepare_stage
from tests.benchmark.whole_dag import run_whole_dag

FULL_SIZE = 1_000_000
"""The size for which there are aims; the start of the process alone takes more than a second at any size."""
CHANGED = 0.01
"""The share of contacts that change for the measure of a night on which some did."""

STEPS = (
    "validate_settings",
    "sync_accounts",
    "extract_contacts",
    "transform_contacts",
    "match_contacts",
    "load_contacts",
)

_VERDICTS = {True: "reached", False: "not reached", None: ""}


@dataclass
class Runs:
    """What several runs of one kind took. Seconds, MB (of 2²⁰ bytes)."""

    seconds: list[float] = field(default_factory=list)
    peak_mb: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    floor_seconds: list[float] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    steps: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds)

    @property
    def floor(self) -> float:
        """Seconds, the median."""
        return statistics.median(self.floor_seconds)

    def note_record(self, counts: dict[str, int], steps: dict[str, dict[str, Any]], peak_mb: int = 0) -> None:
        """What a run wrote down of itself. Its steps forget the peak of their process, of which `peak_mb` is the last one."""
        self.counts = counts
        self.steps = {name: {fact: steps[name][fact] for fact in ("seconds", "peak_mb")} for name in STEPS}
        self.peak_mb.append(max(peak_mb, *(step["peak_mb"] for step in self.steps.values())))


@dataclass(frozen=True)
class Line:
    """A line of the table: what was measured, what was to be reached, and whether it was."""

    measure: str
    found: str
    wanted: str
    reached: bool | None


@dataclass
class Bench:
    """The measures of one organisation."""

    stage: Stage
    repeat: int
    rewritten: bool = False

    def __post_init__(self) -> None:
        self.stage.make_database("empty")
        self.stage.ours("empty", ["include.contact_sync", "settings", "apply", str(SETTINGS)])
        self.stage.make_database("first", "empty")
        self._render_pages("first")

    def first(self) -> Runs:
        """The first sync into an empty store, which stays as the database `first`."""
        runs = Runs()
        for _ in range(self.repeat):
            self.stage.make_database("first", "empty")
            self._sync("first", runs)
        return runs

    def floor_of_first(self, runs: Runs) -> None:
        """Download, and ingest what `first` holds."""
        rows = self.stage.folder / "rows"
        with self.stage.connect("first") as connection:
            floor.dump(connection, rows)
        self._floor("first", "night")  # renders its pages
        for _ in range(self.repeat):
            self.stage.make_database("floor", "empty")
            runs.floor_seconds.append(self._floor("floor", "first", str(rows)))
        self.stage.drop_databases("floor")

    def first_with_unlinked(self) -> Runs:
        """The first sync into a store that holds as many contacts of people's own, half of them matching by e-mail."""
        self.stage.make_database("unlinked", "empty")
        self._add_unlinked("unlinked", self.stage.contacts, matching=0.5)
        runs = Runs()
        for _ in range(self.repeat):
            self.stage.make_database("linked", "unlinked")
            self._sync("linked", runs)
        self.stage.drop_databases("linked", "unlinked")
        return runs

    def nights_without_copy(self) -> Runs:
        """Nights on which nothing changed, and that find no copy of the store: they read all of it and keep one."""
        self.stage.tidy_up("first")
        runs = Runs()
        for _ in range(self.repeat):
            for folder in (self.stage.folder / "staging" / "first").glob("run-*/contacts/store_copy"):
                shutil.rmtree(folder)
            self._render_pages("first")
            self._sync("first", runs)
        return runs

    def nights(self) -> tuple[Runs, Runs]:
        """Nights on which one contact of a hundred has a new title, some a new address; and such on which nothing changed.

        They are measured in turn, each right after the same other process, so that they find the machine in about the same
        state: how long the kernel takes to give memory depends on what ran before. The unchanged night always follows a
        changed one, whose old row versions are still there.
        """
        changed, unchanged = Runs(), Runs()
        for night in range(_nights(self.repeat)):
            self._change(night)
            self._render_pages("first")
            self._sync("first", changed)
            before = self._versions_of_rows("first")
            self._render_pages("first")
            self._sync("first", unchanged)
            self.rewritten |= self._versions_of_rows("first") != before
            unchanged.floor_seconds.append(self._floor_of_night("first"))
        return changed, unchanged

    def grown_store(self, contacts: int) -> Runs:
        """A night on which nothing changed, in a store that holds so many contacts, those of others included."""
        self.stage.make_database("grown", "first")
        with self.stage.connect("grown") as connection:
            row = connection.execute("SELECT count(*) FROM contact_store.contacts").fetchone()
        assert row is not None
        self._add_unlinked("grown", contacts - row[0], matching=0)
        self._sync("grown", Runs())  # the first there finds nothing staged
        runs = Runs()
        for _ in range(self.repeat):
            self._render_pages("grown")
            self._sync("grown", runs)
            runs.floor_seconds.append(self._floor_of_night("grown"))
        self.stage.drop_databases("grown")
        return runs

    def whole_dag(self) -> Runs:
        """The first sync by Airflow's four components, from trigger to success; memory is what the steps noted."""
        runs = Runs()
        for _ in range(self.repeat):
            self.stage.make_database("by_airflow", "empty")
            self.stage.control.forget_calls()
            runs.seconds.append(run_whole_dag(self.stage, "by_airflow"))
            runs.calls.append(self.stage.control.calls()["total"])
            with self.stage.connect("by_airflow") as connection:
                row = connection.execute("SELECT contacts, steps FROM contact_store.sync_runs").fetchone()
            assert row is not None
            runs.note_record(*row)
        self.stage.drop_databases("by_airflow")
        return runs

    def _sync(self, database: str, runs: Runs) -> None:
        self.stage.control.forget_calls()
        measured = self.stage.ours(database, ["include.contact_sync", "run"])
        runs.seconds.append(measured.seconds)
        runs.calls.append(self.stage.control.calls()["total"])
        told = json.loads(measured.output)
        runs.note_record(told["contacts"], told["steps"], measured.peak_mb)

    def _render_pages(self, database: str) -> None:
        """Let the simulator render the pages of the syncs that follow."""
        self.stage.ours(database, ["tests.benchmark.rendering"])

    def _floor(self, database: str, *what: str) -> float:
        return self.stage.ours(database, ["tests.benchmark.floor", *what]).seconds

    def _floor_of_night(self, database: str) -> float:
        self._floor(database, "night")  # renders its pages, which are not those of a sync
        self._render_pages(database)
        return self._floor(database, "night")

    def staged_mb(self) -> int:
        """What the run that staged most left on disk, in millions of bytes; a larger store has a larger copy."""
        runs = (self.stage.folder / "staging").glob("*/run-*")
        return max(_size_mb(run) for run in runs if run.parent.name != "grown")

    def _versions_of_rows(self, database: str) -> list[Any]:
        errors = "SELECT count(*), sum(hashtidextended(ctid, xmin::text::bigint)) FROM contact_store.sync_errors"
        with self.stage.connect(database) as connection:
            return [
                connection.execute(query).fetchone()
                for query in (sql("fingerprint_accounts"), sql("fingerprint_contacts"), errors)
            ]

    def _add_unlinked(self, database: str, contacts: int, *, matching: float) -> None:
        """Contacts without a link, each with an e-mail address; of the last ones it is that of a Salesforce contact."""
        with self.stage.connect("first") as first, self.stage.connect(database) as connection:
            addresses = first.execute(
                "SELECT handle FROM contact_store.contact_handles WHERE source = 'email' ORDER BY contact_id LIMIT %s",
                [round(contacts * matching)],
            ).fetchall()
            row = connection.execute("SELECT coalesce(max(id), 0) FROM contact_store.contacts").fetchone()
            assert row is not None
            connection.execute(
                "INSERT INTO contact_store.contacts (name) SELECT 'Somebody ' || n FROM generate_series(1, %s) AS n",
                [contacts],
            )
            handles = "COPY contact_store.contact_handles (source, handle, contact_id) FROM STDIN"
            with connection.cursor() as cursor, cursor.copy(handles) as copy:
                for number in range(contacts - len(addresses)):
                    copy.write_row(("email", f"somebody.{number}@people.example", row[0] + 1 + number))
                for number, (address,) in enumerate(addresses, contacts - len(addresses)):
                    copy.write_row(("email", address, row[0] + 1 + number))
            connection.execute("VACUUM ANALYZE contact_store.contacts, contact_store.contact_handles")

    def _change(self, night: int) -> None:
        with self.stage.connect("first") as connection:
            rows = connection.execute(
                "SELECT external_id FROM contact_store.contacts WHERE external_id IS NOT NULL ORDER BY external_id"
            )
            ids = [identifier for (identifier,) in islice(rows, night, None, round(1 / CHANGED))]
        self.stage.control.update(sobject="Contact", ids=ids, values={"Title": f"Changed in night {night}"})
        for identifier in ids[::100]:
            address = f"{identifier.lower()}.{night}@changed.example"
            self.stage.control.update(sobject="Contact", ids=[identifier], values={"Email": address})


def main() -> int:
    """Measure and print; the exit code is 0 whatever was reached, since machines differ."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark", description=__doc__.partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument(
        "--repeat",
        type=int,
        default=3,
        help="runs of each measure, of which the median is told; of nights nearly twice as many",
    )
    parser.add_argument("--without-airflow", action="store_true", help="leave out the run by Airflow's components")
    parser.add_argument(
        "--grow-to", type=int, nargs="*", default=[], metavar="CONTACTS", help="nights in larger stores"
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    wanted = parser.parse_args()
    if wanted.repeat < 1 or wanted.contacts < 100 or any(size <= wanted.contacts for size in wanted.grow_to):
        parser.error("it takes 100 contacts, one run of each, and stores that hold more than was synced")
    with prepare_stage(wanted.contacts // 10) as stage:
        _tell(f"A tenth: {stage.contacts:,} contacts")
        tenth = Bench(stage, wanted.repeat).first()
    figures: dict[str, Runs] = {"first sync of a tenth": tenth}
    with prepare_stage(wanted.contacts) as stage:
        _tell(f"{stage.contacts:,} contacts")
        bench = Bench(stage, wanted.repeat)
        first = figures["first sync"] = _told("first sync", bench.first())
        bench.floor_of_first(first)
        unlinked = figures["first sync, unlinked contacts"] = _told("unlinked", bench.first_with_unlinked())
        without_copy = figures["night, no copy of the store"] = _told("without copy", bench.nights_without_copy())
        changed, night = bench.nights()
        figures["night, nothing changed"] = _told("night", night)
        figures["night, 1 % changed"] = _told("changed", changed)
        grown = {size: _told(f"{size:,} stored", bench.grown_store(size)) for size in wanted.grow_to}
        if not wanted.without_airflow:
            figures["first sync by Airflow"] = _told("by Airflow", bench.whole_dag())
        staged_mb = bench.staged_mb()
    ours = [*figures.values()]
    lines = [
        _seconds("first sync into an empty store", first.median, 30),
        _ratio("… of its floor", first.median, first.floor, 2.0),
        _seconds("first sync, as many unlinked contacts there, half of them matching", unlinked.median, 45),
        _seconds("night, nothing changed", night.median, 15),
        _ratio("… of its floor", night.median, night.floor, 2.0),
        Line("… rows rewritten", "some" if bench.rewritten else "none", "none", not bench.rewritten),
        Line("… where it finds no copy of the store", f"{without_copy.median:.1f} s", "", None),
        _ratio("night, 1 % changed, of the unchanged one", changed.median, night.median, 1.15),
        _atmost("peak memory of a process", max(mb for runs in ours for mb in runs.peak_mb), 1536, "MB"),
        _ratio("growth from a tenth", first.median, tenth.median, 11.0),
        _atmost("Salesforce API calls of a run", max(count for runs in ours for count in runs.calls), 100, ""),
        _atmost("staged data of a run", staged_mb, 300, "MB"),
    ]
    if not wanted.without_airflow:
        took = figures["first sync by Airflow"].median
        lines.append(_seconds("first sync by Airflow's four components", took, 60))
    if wanted.contacts != FULL_SIZE:
        lines = [replace(line, wanted="", reached=None) for line in lines]
    for size, runs in grown.items():
        name = f"night, nothing changed, {size:,} contacts stored"
        figures[name] = runs
        lines += [
            Line(name, f"{runs.median:.1f} s", "", None),
            Line("… of its floor", f"{runs.median / runs.floor:.2f} × {runs.floor:.1f} s", "", None),
            Line("… memory, API calls", f"{max(runs.peak_mb):,} MB, {max(runs.calls):,}", "", None),
        ]
    _show(lines, figures, wanted, first.counts)
    return 0


def _seconds(measure: str, found: float, wanted: int) -> Line:
    return Line(measure, f"{found:.1f} s", f"≤ {wanted} s", found <= wanted)


def _ratio(measure: str, found: float, beside: float, wanted: float) -> Line:
    return Line(measure, f"{found / beside:.2f} × {beside:.1f} s", f"≤ {wanted:.2f} ×", found / beside <= wanted)


def _atmost(measure: str, found: int, wanted: int, unit: str) -> Line:
    return Line(measure, f"{found:,} {unit}".strip(), f"≤ {wanted:,} {unit}".strip(), found <= wanted)


def _show(lines: Sequence[Line], figures: dict[str, Runs], wanted: argparse.Namespace, counts: dict[str, int]) -> None:
    machine = f"{os.cpu_count()} cores, {round(psutil.virtual_memory().total / 2**30)} GB"
    told = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "contacts": wanted.contacts}
    medians = f"the median of {wanted.repeat}, of nights that follow one another of {_nights(wanted.repeat)}"
    print(f"{wanted.contacts:,} contacts, {told['date']}, {machine}; {medians}")
    print(f"A first sync: {', '.join(f'{count:,} {outcome}' for outcome, count in counts.items())}\n")
    width = max(len(line.measure) for line in lines)
    for line in lines:
        print(f"{line.measure:<{width}}  {line.found:>16}  {line.wanted:>10}  {_VERDICTS[line.reached]}".rstrip())
    print("\nSeconds and peak memory by step, of the last run of each kind:\n")
    for name, runs in figures.items():
        steps = ", ".join(
            f"{step} {facts['seconds']:.1f} s {facts['peak_mb']} MB" for step, facts in runs.steps.items()
        )
        print(f"{name}: {', '.join(f'{seconds:.1f}' for seconds in runs.seconds)} s; {steps}")
    content = json.dumps(
        {
            **told,
            "repeat": wanted.repeat,
            "nights": _nights(wanted.repeat),
            "table": [asdict(line) for line in lines],
            "runs": {name: asdict(runs) for name, runs in figures.items()},
        }
    )
    print(f"\n{content}")
    if wanted.json:
        wanted.json.write_text(content, encoding="utf-8")


def _told(name: str, runs: Runs) -> Runs:
    _tell(f"{name}: {', '.join(f'{seconds:.1f}' for seconds in runs.seconds)} s, {runs.counts}")
    return runs


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _nights(repeat: int) -> int:
    """They are short, and a tenth of one decides."""
    return 2 * repeat - 1


def _size_mb(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1_000_000


if __name__ == "__main__":
    sys.exit(guard(main))
