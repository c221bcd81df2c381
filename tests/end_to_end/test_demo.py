"""The demo from outside, which is also the sync under a real scheduler: broken off, gone on with, and run again.

One story in three acts on the same data, since each start of Airflow takes half a minute:
the first demo is interrupted in the middle of its run; the second goes on with that run and is looked at while it
serves; the third runs once more and finds everything unchanged.
"""

import contextlib
import email
import email.policy
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import requests

from include.demo.postgres import remove_postgres
from include.demo.show import OUTCOMES
from include.salesforce_simulator.control import ControlClient
from tests.demo.watching import processes_with_files_below, wait_for
from tests.end_to_end.independent_count import count_accounts, count_contacts

ROOT = Path(__file__).resolve().parents[2]
_MINUTES = 5


class Demo:
    """A demo as a process, with what it prints."""

    def __init__(self, home: Path, *arguments: str) -> None:
        self.home = home
        self._printed = home.with_name("printed")
        # Variables of a developer that point to other places must not matter.
        environment = {
            **os.environ,
            "DEMO_HOME": str(home),
            "AIRFLOW_HOME": "/nonexistent",
            "http_proxy": "http://127.0.0.1:9",
        }
        command = [sys.executable, "-m", "include.demo", *arguments]
        self._family: set[psutil.Process] = set()
        with self._printed.open("wb") as output:
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT)

    @property
    def printed(self) -> str:
        return self._printed.read_text(encoding="utf-8")

    def wait_until_printed(self, pattern: str) -> None:
        def is_there() -> bool:
            assert self.process.poll() is None, self.printed
            return re.search(pattern, self.printed) is not None

        wait_for(is_there, seconds=_MINUTES * 60)
        self._meet_family()

    def stop(self) -> int:
        """Ctrl-C."""
        self._meet_family()
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(60)

    def left(self) -> list[int]:
        """The processes that are still there, of all that were seen below this one or have one of its files open.

        Airflow hides the open files of some of its processes from everybody but root.
        """
        living = [one.pid for one in self._family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
        return sorted({*living, *processes_with_files_below(self.home)})

    def _meet_family(self) -> None:
        self._family.update(psutil.Process(self.process.pid).children(recursive=True))

    def counts(self, part: str) -> dict[str, int]:
        """The printed outcome counts of a part."""
        numbers = re.search(rf"^  {part} +(\d.*)$", self.printed, re.MULTILINE)
        assert numbers, self.printed
        return dict(zip(("read", *OUTCOMES), map(int, numbers[1].split()), strict=True))

    def errors(self, part: str) -> Counter[str]:
        """The printed errors of a part by code."""
        return Counter(
            {code: int(count) for code, count in re.findall(rf"^  {part} +(\w+) +[a-z]+ +(\d+) ", self.printed, re.M)}
        )


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="contacts demo "))  # a space, as folders have it
    yield folder / ".demo"
    for pid in processes_with_files_below(folder):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not processes_with_files_below(folder))
    remove_postgres(folder / ".demo" / "postgres")
    shutil.rmtree(folder)


@dataclass(frozen=True)
class Ended:
    """How a demo ended: its exit code, what it printed, and the processes that it left."""

    code: int
    printed: str
    left: list[int]


@pytest.fixture(scope="module")
def interrupted(home: Path) -> Ended:
    """The first demo, interrupted when it was about to read contacts."""
    demo = Demo(home)
    demo.wait_until_printed("sync_accounts +success")
    return Ended(demo.stop(), demo.printed, demo.left())


@pytest.fixture(scope="module")
def serving(home: Path, interrupted: Ended) -> Iterator[Demo]:
    """The second demo, while it serves."""
    demo = Demo(home)
    demo.wait_until_printed("Stop it with Ctrl-C|Not as it should be")
    yield demo
    if demo.process.poll() is None:
        demo.stop()


def password(demo: Demo) -> str:
    found = re.search(r"user admin, password (\S+)", demo.printed)
    assert found
    return found[1]


def test_an_interrupted_demo_says_so_and_leaves_no_process(interrupted: Ended) -> None:
    assert interrupted.code == 130
    assert "The demo was interrupted" in interrupted.printed
    assert interrupted.left == []


def test_the_next_demo_goes_on_with_the_run_and_does_what_it_should(interrupted: Ended, serving: Demo) -> None:
    (run,) = re.findall(r"Triggered the DAG salesforce_contacts_sync: (\S+)", interrupted.printed)

    assert f"Going on with the run that was not finished: {run}" in serving.printed
    assert "Not as it should be" not in serving.printed


def test_the_printed_counts_agree_with_an_independent_count(serving: Demo) -> None:
    simulator = json.loads((serving.home / "salesforce" / "simulator.json").read_text())
    control = ControlClient(simulator["url"], simulator["control_token"], simulator["ca_file"])
    accounts, linked = count_accounts(control.records(sobject="Account"))
    contacts = count_contacts(control.records(sobject="Contact"), linked)
    control.close()

    for part, expected in (("accounts", accounts), ("contacts", contacts)):
        counts = serving.counts(part)
        assert counts == {
            "read": expected.read,
            "created": expected.created,
            "linked": 0,
            "updated": 0,
            "unchanged": 0,
            "error": expected.read - expected.created,
        }
        assert serving.errors(part) == expected.errors
        assert 0 < expected.created < expected.read


def test_the_store_holds_what_was_printed_and_the_printed_command_opens_it(serving: Demo) -> None:
    command = [
        serving.home / "psql",
        "-Atc",
        "SELECT count(*) FROM contact_store.contacts WHERE external_id IS NOT NULL",
    ]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)

    assert int(answer.stdout) == serving.counts("contacts")["created"]


def test_one_e_mail_went_to_the_person_who_triggered_the_run(serving: Demo) -> None:
    (file,) = (serving.home / "mail").glob("*.eml")
    message = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)

    assert str(file) in serving.printed
    assert message["To"] == "admin@demo.example"
    found = sum((serving.errors("accounts") + serving.errors("contacts")).values())
    assert str(found) in message["Subject"]


def test_there_is_one_run_and_the_next_one_is_due_tomorrow(serving: Demo) -> None:
    found = re.search(r"Airflow: +(http://127\.0\.0\.1:\d+)", serving.printed)
    assert found
    with requests.Session() as session:
        session.trust_env = False
        login = {"username": "admin", "password": password(serving)}
        token = session.post(f"{found[1]}/auth/token", json=login, timeout=30).json()["access_token"]
        session.headers["Authorization"] = f"Bearer {token}"
        dag = f"{found[1]}/api/v2/dags/salesforce_contacts_sync"
        (run,) = session.get(f"{dag}/dagRuns", timeout=30).json()["dag_runs"]
        # The scheduler counts on to the next night a moment after the run has ended.
        wait_for(lambda: session.get(dag, timeout=30).json()["next_dagrun_run_after"] > run["run_after"], seconds=60)
        details = session.get(dag, timeout=30).json()
        events = session.get(f"{found[1]}/api/v2/assets/events", timeout=30).json()["asset_events"]

    assert (run["state"], run["run_type"], run["triggering_user_name"]) == ("success", "manual", "admin")
    assert details["is_paused"] is False
    assert [event["name"] for event in events] == ["contact_store_contacts"]


def test_everything_listens_on_loopback_only(serving: Demo) -> None:
    listening = []
    for part in psutil.Process(serving.process.pid).children(recursive=True):
        with contextlib.suppress(psutil.AccessDenied):  # Airflow hides some of its processes from everybody but root
            listening += [one.laddr.ip for one in part.net_connections("tcp") if one.status == psutil.CONN_LISTEN]

    assert set(listening) == {"127.0.0.1"}
    assert len(listening) >= 3


def test_nobody_else_can_read_what_lies_in_the_demos_folder(serving: Demo) -> None:
    readable = [path for path in serving.home.iterdir() if path.stat().st_mode & 0o066]

    assert readable == []
    assert serving.home.stat().st_mode & 0o066 == 0


def test_a_second_demo_in_the_same_folder_refuses(serving: Demo) -> None:
    environment = {**os.environ, "DEMO_HOME": str(serving.home)}
    command = [sys.executable, "-m", "include.demo", "--once"]
    second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)

    assert second.returncode == 1
    assert "a demo is already running in this folder" in second.stderr


def test_task_logs_hold_no_personal_data(serving: Demo) -> None:
    """Rule 8.4."""
    logs = "\n".join(file.read_text() for file in (serving.home / "airflow" / "logs").rglob("attempt=*.log"))
    command = [
        serving.home / "psql",
        "-Atc",
        "SELECT handle FROM contact_store.contact_handles WHERE length(handle) > 8",
    ]
    handles = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    assert len(handles) > 1000
    assert [handle for handle in handles if handle in logs] == []
    assert re.search(r"\b003\w{15}\b", logs), "ids are named, so that a person can look"


@pytest.fixture(scope="module")
def stopped(serving: Demo) -> Ended:
    """The second demo after Ctrl-C."""
    return Ended(serving.stop(), serving.printed, serving.left())


def test_a_serving_demo_ends_well_with_ctrl_c_and_leaves_no_process(stopped: Ended) -> None:
    assert (stopped.code, stopped.left) == (0, [])


@pytest.fixture(scope="module")
def again(home: Path, stopped: Ended) -> Demo:
    """The third demo, to its end by itself."""
    demo = Demo(home, "--once")
    demo.wait_until_printed("publish_contacts +success")
    demo.process.wait(60)
    return demo


def test_a_second_run_finds_everything_unchanged_but_for_the_standing_errors(again: Demo) -> None:
    """Rule 4.12."""
    assert again.process.returncode == 0, again.printed
    for part in ("accounts", "contacts"):
        counts = again.counts(part)
        assert counts["unchanged"] + counts["error"] == counts["read"] > 0
    assert re.findall(r"\d+ new$", again.printed, re.MULTILINE) == []


def test_a_demo_that_ended_by_itself_leaves_no_process(again: Demo) -> None:
    assert again.left() == []
