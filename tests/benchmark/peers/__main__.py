"""Lets every contestant sync the same contacts, and prints one table: `make bench-peers N=100000`.

Each starts from the same organisation and an empty database. Timed is the best of the first syncs, of which the
earlier ones have the simulator render its pages; memory is the sum of the resident memory of the contestant's processes,
looked at ten times a second, at its highest. Then contacts appear that are older than the newest one (Salesforce
commits a long transaction late), and after one more sync the table is held against Salesforce's own records.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import psycopg

from include.demo.processes import guard
from include.salesforce_simulator.control import ControlClient
from tests.benchmark.peers.compare import Comparison, Values, compare
from tests.benchmark.peers.contestants import LOGIN_HOST, Contestant, Ours, Peer, read_peers
from tests.benchmark.stage import CommandFailed, Stage, prepare_stage

PLANTED: tuple[dict[str, str], ...] = (
    *({"LastName": name} for name in ("NA", "null", "None", "N/A", "nan", "0012", "1E5", "TRUE")),
    {"LastName": "Long", "Description": "0123456789abcdef" * 2000},
    {"LastName": "Lines", "Description": 'one\r\ntwo "quoted"\r\n\r\nthree, four;\nfive'},
    {"LastName": "Zoë 🚀 👩‍👩‍👧‍👦", "FirstName": "أبو \u202bبكر\u202c", "Title": "מנהלת"},
)
"""Contacts whose texts are easily taken for something else."""

LATE = (timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=3), timedelta(days=1))
"""How much older than the newest contact the late ones are."""


@dataclass(frozen=True)
class Result:
    """A line of the table: seconds and MB of the first sync, what was found after the second, or why there is nothing."""

    tool: str
    versions: str
    notes: str
    failure: str = ""
    seconds: float = 0
    rows_a_second: int = 0
    peak_mb: int = 0
    second_sync_seconds: float = 0
    lost: int = 0
    lost_late: int = 0
    reported: int = 0
    too_many: int = 0
    altered: int = 0
    altered_values: Mapping[str, int] = field(default_factory=dict)
    what_altered: Sequence[str] = ()

    def cells(self) -> list[str]:
        """The line as texts, in the order of `HEADINGS`."""
        if self.failure:
            return [self.tool, self.versions, *["–"] * 5, "could not run"]
        lost = f"{self.lost:,}" + (f" ({self.lost_late} late)" if self.lost_late else "")
        lost += f", {self.too_many:,} too many" if self.too_many else ""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.altered_values.items())
        altered = f"{self.altered:,}" + (f" ({kinds})" if kinds else "")
        reports = f"yes, {self.reported:,} contacts" if self.reported else "no"
        figures = [f"{self.seconds:.1f}", f"{self.rows_a_second:,}", f"{self.peak_mb:,}"]
        return [self.tool, self.versions, *figures, lost, altered, reports]

    def remark(self) -> str:
        """What has to be known to read the line."""
        why = [f"could not run: {self.failure}"] if self.failure else []
        return "; ".join([*why, self.notes, *self.what_altered])


HEADINGS = ["tool", "versions", "seconds", "rows/s", "peak MB", "rows lost", "rows altered", "reports errors"]

METHOD = (
    "Seconds: wall time of the best first sync into an empty database, installation not counted; the simulator has a "
    "bulk job ready at the first look. Peak MB: highest sum of the resident memory of all processes of the tool, looked "
    "at ten times a second. Lost and altered: its table after a second sync, held against Salesforce's own records value "
    f"by value; before the second sync {len(LATE)} contacts appeared that are older than the newest one (late)."
)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmark.peers", description=__doc__.partition("\n")[0])
    parser.add_argument("--contacts", type=int, default=100_000)
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD", help="contestants whose name has such a word")
    parser.add_argument("--runs", type=int, default=2, help="first syncs, of which the best is told")
    parser.add_argument("--environments", type=Path, help="keep the tools' environments here (default: thrown away)")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="contact-sync-peers-") as scratch:
        contestants: list[Contestant] = [Ours(), *read_peers((wanted.environments or Path(scratch)).absolute())]
        chosen = [one for one in contestants if not wanted.only or any(word in one.name for word in wanted.only)]
        failures = {one.name: _install(one) for one in chosen}
        results = []
        with prepare_stage(wanted.contacts, [f"--name={LOGIN_HOST}"]) as stage:
            for one in chosen:
                _tell(f"{one.name} …")
                failure = failures[one.name]
                results.append(
                    Result(one.name, one.versions, one.notes, failure)
                    if failure
                    else try_contestant(stage, one, wanted.runs)
                )
    _show(results, wanted.contacts, wanted.json)
    return 0


def _install(contestant: Contestant) -> str:
    """Why it could not be installed; nothing where it was."""
    if isinstance(contestant, Peer):
        _tell(f"installing {contestant.name} …")
        try:
            contestant.install()
        except subprocess.CalledProcessError as failed:
            return _reason(failed.output)
    return ""


def try_contestant(stage: Stage, contestant: Contestant, runs: int) -> Result:
    """Its line of the table; where it fails, with the reason instead of figures."""
    try:
        return _judge(stage, contestant, runs)
    except CommandFailed as failed:
        # The tap logs the body of its login.
        told = "\n".join(line for line in str(failed).splitlines() if "token" not in line)
        reason = _reason(told)
    except psycopg.Error as failed:  # it ended well, but did not make the table, say
        told = reason = str(failed).partition("\n")[0]
    _tell(told)
    return Result(contestant.name, contestant.versions, contestant.notes, reason)


def _judge(stage: Stage, contestant: Contestant, runs: int) -> Result:
    control, database = stage.control, "peer"
    control.start_again()
    control.change_options(bulk_polls=0)  # nobody's pause between two looks at a job is timed
    newest = datetime.fromisoformat(control.now())
    account = control.create(sobject="Account", records=[{"Name": "Peers", "Website": "peers.example"}])[0]
    _create(control, account, "planted", PLANTED, newest)
    measured = []
    with tempfile.TemporaryDirectory(dir=stage.folder) as scratch:
        for run in range(runs):
            folder = Path(scratch) / str(run)
            stage.make_database(database)
            with _peak_memory() as peak:
                measured.append((contestant.sync(stage, database, folder).seconds, peak))
        late: list[str] = []
        for number, age in enumerate(LATE):
            late += _create(control, account, f"late{number}", [{"LastName": "Late"}], newest - age)
        second = contestant.sync(stage, database, folder).seconds
    seconds, peak = min(measured, key=lambda one: one[0])
    with stage.connect(database) as connection:
        contacts, accounts = contestant.reported(connection)
        records = _records(control, contestant.fields)
        if "AccountId" in contestant.fields:
            contacts |= {one for one, values in records.items() if values[0] in accounts}
        found = compare(records, contestant.rows(connection), contestant.fields, contacts)
    return Result(
        contestant.name,
        contestant.versions,
        contestant.notes,
        "",
        seconds,
        round((len(records) - len(late)) / seconds),
        peak[0] // 2**20,
        second,
        len(found.lost),
        len(found.lost & set(late)),
        len(contacts),
        found.repeated + found.unknown,
        found.altered,
        {kind: sum(found.kinds[one] for one in found.kinds if one[0] == kind) for kind in sorted(found.examples)},
        _describe(found),
    )


def _create(
    control: ControlClient, account: str, word: str, records: Sequence[dict[str, str]], at: datetime
) -> list[str]:
    """Contacts of the account that can be reached by e-mail; returns their ids."""
    full = [
        {**one, "AccountId": account, "Email": f"{word}.{number}@peers.example"} for number, one in enumerate(records)
    ]
    ids: list[str] = control.create(sobject="Contact", records=full, at=at.astimezone(UTC).isoformat())
    return ids


def _records(control: ControlClient, fields: Sequence[str]) -> dict[str, Values]:
    """Salesforce's live contacts by id; a name is made of its parts, as Salesforce does."""
    stored = [one for one in fields if one != "Name"]
    rows = control.records(sobject="Contact", fields=["Id", "FirstName", "LastName", *stored])
    for row in rows:
        row["Name"] = " ".join(filter(None, (row.pop("FirstName"), row.pop("LastName"))))
    return {row["Id"]: [row[one] for one in fields] for row in rows}


@contextmanager
def _peak_memory() -> Generator[list[int]]:
    """Watch the processes that this one starts meanwhile, and theirs: the highest sum of their resident bytes."""
    here = psutil.Process()
    others = {one.pid for one in here.children()}
    peak, done = [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.1):
            started = [one for one in here.children() if one.pid not in others]
            peak[0] = max(peak[0], sum(map(_resident, started)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _resident(process: psutil.Process) -> int:
    """Of a process and its descendants."""
    total = 0
    try:
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def _describe(found: Comparison) -> list[str]:
    """Each kind of change with its fields and an example."""
    kinds: dict[str, list[str]] = {}
    for kind, name in sorted(found.kinds):
        kinds.setdefault(kind, []).append(name)
    return [f"{kind}: {', '.join(names)}, such as {' → '.join(found.examples[kind])}" for kind, names in kinds.items()]


def _reason(output: str) -> str:
    """The last line that names an error, else the last one."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["it did not say why"])[-1][:300]


def _show(results: Sequence[Result], contacts: int, file: Path | None) -> None:
    machine = f"{os.cpu_count()} cores, {round(psutil.virtual_memory().total / 2**30)} GB"
    told = {"date": datetime.now(UTC).date().isoformat(), "machine": machine, "contacts": contacts}
    lines = [HEADINGS, *(one.cells() for one in results)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    remarks = "\n".join(f"- {one.tool}: {one.remark()}." for one in results)
    print(f"{contacts:,} contacts, {told['date']}, {machine}\n")
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    print(f"\n{METHOD}\n\nThe same in Markdown:\n")
    for line in (lines[0], ["---"] * len(HEADINGS), *lines[1:]):
        print(f"| {' | '.join(line)} |")
    print(f"\n{METHOD}\n\n{remarks}")
    if file:
        file.write_text(json.dumps({**told, "results": [asdict(one) for one in results]}, indent=2, ensure_ascii=False))


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(guard(main))
