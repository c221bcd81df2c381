"""Parts are watched, stopped, and never left behind, whichever process is killed."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from include.demo.processes import (
    DemoError,
    Interrupted,
    Part,
    PartEnded,
    Parts,
    accepts_connections,
    free_port,
    only_one,
    stop_signals_raise,
)
from tests.demo.watching import processes_with_files_below, wait_for

ENVIRONMENT = dict(os.environ)
SLEEPS = [sys.executable, "-c", "import time; time.sleep(600)"]
IGNORES_TERM = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)",
]
LISTENS = [
    sys.executable,
    "-c",
    "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)",
]


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    with Parts(tmp_path / "logs", tmp_path / "processes.json") as parts:
        yield parts


def test_a_part_writes_its_own_log_which_only_its_owner_can_read(parts: Parts) -> None:
    part = parts.start(
        "speaks", [sys.executable, "-uc", "print('hello'); import time; time.sleep(600)"], environment={}
    )

    parts.wait_until(lambda: part.log.read_text() == "hello\n", "its words")
    assert part.log == parts.logs / "speaks.log"
    assert stat.S_IMODE(part.log.stat().st_mode) == 0o600


def test_leaving_stops_every_part_the_one_that_others_need_last(tmp_path: Path) -> None:
    told = "import signal, sys, time\ndef end(*_):\n print(time.monotonic(), flush=True); sys.exit()\n"
    command = [
        sys.executable,
        "-c",
        f"{told}signal.signal(signal.SIGTERM, end)\nprint('ready', flush=True)\ntime.sleep(600)",
    ]
    with Parts(tmp_path / "logs", tmp_path / "processes.json") as parts:
        needed = parts.start("needed", command, environment=ENVIRONMENT, stops_last=True)
        other = parts.start("other", command, environment=ENVIRONMENT)
        wait_for(lambda: all("ready" in part.log.read_text() for part in (needed, other)))

    ended = {part.name: float(part.log.read_text().split()[-1]) for part in (needed, other)}
    assert ended["other"] < ended["needed"]
    assert needed.process.returncode == other.process.returncode == 0
    assert not (tmp_path / "processes.json").exists()


def test_a_part_that_does_not_listen_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Parts(tmp_path / "logs", tmp_path / "processes.json") as parts:
        deaf = parts.start("deaf", IGNORES_TERM, environment=ENVIRONMENT)
        wait_for(lambda: "ready" in deaf.log.read_text())
        monkeypatch.setattr("include.demo.processes.STOP_SECONDS", 0.2)

    assert deaf.process.returncode == -signal.SIGKILL


def test_a_part_that_ends_by_itself_is_named_with_its_log_and_last_words(parts: Parts) -> None:
    parts.start("good", SLEEPS, environment=ENVIRONMENT)
    bad = parts.start(
        "bad", [sys.executable, "-c", "print('out of paper'); raise SystemExit(3)"], environment=ENVIRONMENT
    )
    bad.process.wait()

    with pytest.raises(PartEnded, match=r"(?s)bad ended with exit code 3; its log: .*bad\.log.*out of paper"):
        parts.check()


def test_a_killed_part_is_said_to_be_killed(parts: Parts) -> None:
    part = parts.start("victim", SLEEPS, environment=ENVIRONMENT)
    part.process.kill()
    part.process.wait()

    with pytest.raises(PartEnded, match="victim was killed by SIGKILL"):
        parts.check()


def test_waiting_ends_with_the_part_that_ended_meanwhile(parts: Parts) -> None:
    parts.start("short", [sys.executable, "-c", ""], environment=ENVIRONMENT)

    with pytest.raises(PartEnded, match="short ended with exit code 0"):
        parts.wait_until(lambda: False, "something that never comes")


def test_waiting_ends_when_the_time_is_over(parts: Parts) -> None:
    with pytest.raises(DemoError, match="waited 0 s for a miracle; the logs lie in"):
        parts.wait_until(lambda: False, "a miracle", seconds=0.1)


def test_a_command_is_run_to_its_good_end(parts: Parts, tmp_path: Path) -> None:
    done = tmp_path / "done"

    parts.run("writes", [sys.executable, "-c", f"open({str(done)!r}, 'w')"], environment=ENVIRONMENT)

    assert done.exists()
    parts.check()


def test_a_command_that_fails_is_explained(parts: Parts) -> None:
    with pytest.raises(PartEnded, match=r"(?s)fails ended with exit code 1.*no such file"):
        parts.run("fails", [sys.executable, "-c", "raise SystemExit('no such file')"], environment=ENVIRONMENT)


def test_a_command_that_takes_too_long_is_given_up(parts: Parts) -> None:
    with pytest.raises(DemoError, match="slow took longer than 0 s"):
        parts.run("slow", SLEEPS, environment=ENVIRONMENT, seconds=0.1)


def test_a_port_that_somebody_takes_at_the_last_moment_is_given_up_for_another(parts: Parts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as quicker:
        offered = iter([quicker.getsockname()[1]])

        def start(port: int) -> Part:
            return parts.start("server", [*LISTENS, str(next(offered, port))], environment=ENVIRONMENT)

        port = parts.start_on_free_port("server", start, accepts_connections)

        assert port != quicker.getsockname()[1]
    assert accepts_connections(port)
    parts.check()


def test_a_part_that_never_gets_a_port_is_explained(parts: Parts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as quicker:
        command = [*LISTENS, str(quicker.getsockname()[1])]
        with pytest.raises(DemoError, match="server found its port taken 5 times in a row"):
            parts.start_on_free_port(
                "server", lambda _: parts.start("server", command, environment=ENVIRONMENT), lambda _: False
            )


def test_a_favourite_port_is_used_only_while_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        assert free_port(taken) != taken
    assert free_port(taken) == taken


def test_what_a_killed_demo_left_is_ended_by_the_next(tmp_path: Path) -> None:
    left = subprocess.Popen(SLEEPS)
    record = tmp_path / "processes.json"
    record.write_text(json.dumps([[left.pid, psutil.Process(left.pid).create_time(), int(signal.SIGTERM)]]))

    with Parts(tmp_path / "logs", record):
        assert not psutil.pid_exists(left.pid)
    left.wait()


def test_a_process_number_that_was_given_to_somebody_else_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(SLEEPS)
    record = tmp_path / "processes.json"
    record.write_text(
        json.dumps([[stranger.pid, psutil.Process(stranger.pid).create_time() - 100, int(signal.SIGTERM)]])
    )

    with Parts(tmp_path / "logs", record):
        assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_a_second_demo_in_the_same_folder_is_told_who_has_it(tmp_path: Path) -> None:
    told = pytest.raises(DemoError, match=rf"already running .*\(process {os.getpid()}\)")
    with only_one(tmp_path / "lock"), told, only_one(tmp_path / "lock"):
        raise AssertionError
    with only_one(tmp_path / "lock"):
        pass


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_interrupts_and_later_ones_do_not_disturb_the_stopping(number: signal.Signals) -> None:
    with stop_signals_raise():
        with pytest.raises(Interrupted):
            signal.raise_signal(number)
        signal.raise_signal(signal.SIGINT)


def test_a_signal_that_comes_while_parts_stop_takes_effect_when_they_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = Parts.stop

    def stop_and_be_asked_to(parts: Parts) -> None:
        signal.raise_signal(signal.SIGTERM)
        stop(parts)

    monkeypatch.setattr(Parts, "stop", stop_and_be_asked_to)
    with stop_signals_raise():
        with pytest.raises(Interrupted), Parts(tmp_path / "logs", tmp_path / "processes.json") as parts:
            part = parts.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], environment={})
        assert part.process.poll() is not None


# A demo in small: a guard, and behind it parts of which one starts a process that starts its own session.
SMALL_DEMO = """
import sys, time
from pathlib import Path
from include.demo.processes import Parts, guard, Interrupted
folder = Path(sys.argv[1])
STRAY = "import os, time\\nos.setsid()\\nif os.fork(): os._exit(0)\\ntime.sleep(600)"
PARENT = f"import subprocess, sys, time\\nsubprocess.Popen([sys.executable, '-c', {STRAY!r}])\\ntime.sleep(1)\\nprint('ready', flush=True)\\ntime.sleep(600)"
def work():
    with Parts(folder / "logs", folder / "processes.json") as parts:
        for name in ("one", "two"):
            parts.start(name, [sys.executable, "-c", PARENT], environment={})
        try:
            while True:
                parts.check()
                time.sleep(0.1)
        except Interrupted:
            return 7
sys.exit(guard(work))
"""


class SmallDemo:
    """The small demo as a process; its processes are known by the log files that they have open."""

    def __init__(self, folder: Path, command: Sequence[str] = ()) -> None:
        self.folder = folder
        program = [*command, sys.executable, "-c", SMALL_DEMO, str(folder)]
        environment = {**ENVIRONMENT, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        self.front = subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL)
        logs = [folder / "logs" / f"{name}.log" for name in ("one", "two")]
        wait_for(lambda: all(log.exists() and "ready" in log.read_text() for log in logs))

    @property
    def behind(self) -> psutil.Process:
        (process,) = psutil.Process(self.front.pid).children()
        return process

    def left(self) -> list[int]:
        return processes_with_files_below(self.folder)


@pytest.fixture
def small_demo(tmp_path: Path) -> Iterator[SmallDemo]:
    demo = SmallDemo(tmp_path)
    assert len(demo.left()) == 4, "two parts, and the stray process of each"
    yield demo
    for pid in demo.left():
        os.kill(pid, signal.SIGKILL)
    demo.front.wait(20)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_the_front_stops_everything_in_order(small_demo: SmallDemo, number: signal.Signals) -> None:
    small_demo.front.send_signal(number)

    assert small_demo.front.wait(20) == 7
    assert small_demo.left() == []


def test_when_the_front_is_killed_nothing_is_left(small_demo: SmallDemo) -> None:
    small_demo.front.kill()

    wait_for(lambda: small_demo.left() == [])


def test_when_the_process_behind_the_front_is_killed_nothing_is_left(small_demo: SmallDemo) -> None:
    small_demo.behind.kill()

    assert small_demo.front.wait(20) == 128 + signal.SIGKILL
    assert small_demo.left() == []


def test_when_both_are_killed_the_parts_are_told(small_demo: SmallDemo) -> None:
    behind = small_demo.behind
    recorded = json.loads((small_demo.folder / "processes.json").read_text())
    parts = [psutil.Process(pid) for pid, _, _ in recorded]
    behind.suspend()  # or it would be quick enough to stop the parts in order
    small_demo.front.kill()
    behind.kill()

    wait_for(lambda: not any(part.is_running() and part.status() != psutil.STATUS_ZOMBIE for part in parts))


def test_when_a_part_crashes_the_rest_is_stopped(small_demo: SmallDemo) -> None:
    small_demo.behind.children()[0].kill()

    assert small_demo.front.wait(20) == 1
    assert small_demo.left() == []


def test_a_hang_up_that_was_ignored_from_the_start_stays_ignored(tmp_path: Path) -> None:
    demo = SmallDemo(tmp_path, ["nohup"])
    demo.front.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert demo.front.poll() is None

    demo.front.send_signal(signal.SIGTERM)
    assert demo.front.wait(20) == 7
