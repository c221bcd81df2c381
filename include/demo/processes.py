"""Starts the demo's parts as processes of their own, watches them, and leaves none behind.

Every part runs in its own session and writes its own log. `guard` runs the whole in two processes, one behind
the other: what a part started comes to them when the part dies (Linux: child subreaper), so that stopping finds
it, and if one of the two is killed the other clears up. A part whose starter is gone is told so by the kernel
(parent death signal). What the parts are is said in `include.demo.__main__`.
"""

import contextlib
import ctypes
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

import psutil

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SET_PARENT_DEATH_SIGNAL = 1
_SET_CHILD_SUBREAPER = 36
_PORT_TAKEN = "address already in use"
_STARTS = 5
_INTERRUPTED = 130
STOP_SECONDS = 10.0
"""How long a part may take to stop before it is killed."""


class DemoError(Exception):
    """The demo cannot go on, for a reason that a person can read."""


class PartEnded(DemoError):
    """A part ended by itself, which none should."""

    def __init__(self, part: "Part", code: int) -> None:
        self.part = part
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
        super().__init__(f"{part.name} {how}; its log: {part.log}{_last_lines(part.log)}")


class Interrupted(BaseException):
    """Somebody asked the demo to stop. Not an `Exception`: nothing but the end of the program handles it."""


def _last_lines(log: Path, count: int = 12, width: int = 160) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:]
    return "".join(f"\n    {line[:width]}" for line in lines)


def _process_control(option: int, value: int) -> None:
    """Linux's prctl; elsewhere there is no such thing and orderly stopping has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def stop_when_parent_ends(signal_number: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send this process a signal when the process that started it is gone."""
    _process_control(_SET_PARENT_DEATH_SIGNAL, signal_number)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent dies."""
    _process_control(_SET_CHILD_SUBREAPER, 1)


@contextlib.contextmanager
def stop_signals_raise() -> Generator[None, None, None]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into `Interrupted`; later ones are ignored, since stopping is under way.

    A hang-up that was already ignored (`nohup`) stays so.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for each in STOP_SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted

    with _handling_stop_signals(interrupt):
        yield


@contextlib.contextmanager
def stop_signals_wait() -> Generator[None, None, None]:
    """Let no signal break what is being done; the first one takes effect afterwards."""
    came: list[int] = []
    with _handling_stop_signals(lambda number, frame: came.append(number)):
        yield
    if came:
        signal.raise_signal(came[0])


@contextlib.contextmanager
def _handling_stop_signals(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers,
) -> Generator[None, None, None]:
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    for number in STOP_SIGNALS:
        if (number, before[number]) != (signal.SIGHUP, signal.SIG_IGN):
            signal.signal(number, handler)
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def guard(work: Callable[[], int]) -> int:
    """Do the work in a child process; the exit code is returned in both processes. It is 130 where `Interrupted` ended it.

    The one in front only waits and hands on the signals that ask to stop. When the child is killed it stops
    whatever the child had started, and when it is killed itself the child is told to stop.
    """
    adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    child = os.fork()
    if child == 0:
        stop_when_parent_ends()
        os.setsid()
        adopt_orphans()
        with stop_signals_raise():
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
                return work()
            except Interrupted:
                return _INTERRUPTED
            finally:
                with _handling_stop_signals(signal.SIG_IGN):
                    end_descendants(seconds=3)
    with _handling_stop_signals(lambda number, frame: os.kill(child, signal.SIGTERM)):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    end_descendants(seconds=10)
    return code if code >= 0 else 128 - code


def _living_descendants() -> list[psutil.Process]:
    living = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                living.append(process)
    return living


def end_descendants(seconds: float) -> None:
    """End everything below this process: asked first, killed when the time is over."""
    deadline = time.monotonic() + seconds
    asked: set[int] = set()
    while living := _living_descendants():
        for process in living:
            with contextlib.suppress(psutil.NoSuchProcess):
                if time.monotonic() > deadline:
                    process.kill()
                elif process.pid not in asked:
                    process.terminate()
            asked.add(process.pid)
        time.sleep(0.05)


@dataclass(frozen=True)
class Part:
    """A running part of the demo."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    stop_signal: signal.Signals
    stops_last: bool

    @property
    def created(self) -> float:
        """When the process was created: together with the process id this names it for good."""
        return psutil.Process(self.process.pid).create_time()

    def lost_its_port(self) -> bool:
        """Whether it ended because somebody else took its port in the meantime."""
        return self.process.poll() is not None and _PORT_TAKEN in self.log.read_text(errors="replace").lower()


class Parts:
    """The running parts. Leaving the context stops all of them.

    `record` is a file that names them, so that the next demo can end what a killed one left.
    """

    def __init__(self, logs: Path, record: Path) -> None:
        self.logs = logs
        self._record = record
        self._parts: list[Part] = []

    def __enter__(self) -> Self:
        self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        _end_recorded(self._record)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with stop_signals_wait():
            self.stop()

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path | None = None,
        user: tuple[int, int] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        stops_last: bool = False,
    ) -> Part:
        """Start a part; its output goes to `<logs>/<name>.log`. `user` is a user and group id to run as."""
        log = self.logs / f"{name}.log"
        with open(log, "wb", opener=_open_private) as output:
            process = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=lambda: _settle_in(stop_signal),
                user=user[0] if user else None,
                group=user[1] if user else None,
                extra_groups=[] if user else None,
            )
        part = Part(name, process, log, stop_signal, stops_last)
        self._parts.append(part)
        self._write_record()
        return part

    def start_on_free_port(
        self, name: str, start: Callable[[int], Part], answers: Callable[[int], bool], *, first: int | None = None
    ) -> int:
        """Start a part on a free port and wait until it answers there; another port if somebody else was quicker."""
        for _ in range(_STARTS):
            port = free_port(first)
            part = start(port)
            if self.wait_until(lambda port=port: answers(port), f"{name} to answer", losing=[part]):  # type: ignore[misc]
                return port
            self.forget(part)
        raise DemoError(f"{name} found its port taken {_STARTS} times in a row; its log: {self.logs / name}.log")

    def wait_until(
        self, true: Callable[[], bool], what: str, *, seconds: float = 120, losing: Sequence[Part] = ()
    ) -> bool:
        """Wait for something while every part runs. False when one of `losing` lost its port.

        Raises:
            PartEnded: a part ended meanwhile.
            DemoError: the time is over.
        """
        deadline = time.monotonic() + seconds
        while not true():
            if any(part.lost_its_port() for part in losing):
                return False
            self.check()
            if time.monotonic() > deadline:
                raise DemoError(f"waited {seconds:.0f} s for {what}; the logs lie in {self.logs}")
            time.sleep(0.1)
        return True

    def run(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], seconds: float = 300) -> None:
        """Run a command to its end, which must be a good one, while every part runs.

        Raises:
            PartEnded: it failed, or a part ended meanwhile.
            DemoError: the time is over.
        """
        part = self.start(name, command, environment=environment)
        deadline = time.monotonic() + seconds
        while part.process.poll() is None:
            self.check(besides=part)
            if time.monotonic() > deadline:
                raise DemoError(f"{name} took longer than {seconds:.0f} s; its log: {part.log}")
            time.sleep(0.05)
        if part.process.returncode:
            raise PartEnded(part, part.process.returncode)
        self.forget(part)

    def check(self, *, besides: Part | None = None) -> None:
        """Raise `PartEnded` for the first part that is not running any more."""
        for part in self._parts:
            code = part.process.poll()
            if code is not None and part is not besides:
                raise PartEnded(part, code)

    def forget(self, part: Part) -> None:
        """Stop one part, if it still runs, and watch it no longer."""
        _stop([part])
        self._parts.remove(part)
        self._write_record()

    def stop(self) -> None:
        """Stop every part, the ones that others need last."""
        _stop([part for part in self._parts if not part.stops_last])
        _stop([part for part in self._parts if part.stops_last])
        self._parts.clear()
        self._record.unlink(missing_ok=True)

    def _write_record(self) -> None:
        running = [part for part in self._parts if part.process.poll() is None]
        rows = [[part.process.pid, part.created, int(part.stop_signal)] for part in running]
        self._record.write_text(json.dumps(rows), encoding="utf-8")


def _settle_in(stop_signal: signal.Signals) -> None:
    """What a part does between fork and exec: default signals, and a signal of its own should its starter die."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    stop_when_parent_ends(stop_signal)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _stop(parts: Sequence[Part]) -> None:
    """Ask each to stop, wait for all, kill the rest."""
    for part in parts:
        if part.process.poll() is None:
            part.process.send_signal(part.stop_signal)
    deadline = time.monotonic() + STOP_SECONDS
    for part in parts:
        try:
            part.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            part.process.kill()
            part.process.wait()


def _end_recorded(record: Path) -> None:
    """End what an earlier, killed demo left running; a process id that was given to another process is left alone."""
    if not record.exists():
        return
    left = []
    for pid, created, stop_signal in json.loads(record.read_text(encoding="utf-8") or "[]"):
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            if abs(process.create_time() - created) < 1:
                process.send_signal(stop_signal)
                left.append(process)
    for process in psutil.wait_procs(left, timeout=15)[1]:
        process.kill()
    psutil.wait_procs(left, timeout=5)
    record.unlink()


def free_port(first: int | None = None) -> int:
    """A loopback port that nobody listens on: `first` if it is free, else any."""
    for port in (first, 0) if first else (0,):
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            return int(listener.getsockname()[1])
    raise DemoError("no free port on 127.0.0.1")


def accepts_connections(port: int) -> bool:
    """Whether somebody listens on a loopback port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def only_one(lock: Path) -> Generator[None, None, None]:
    """Hold the folder for this demo; a second one is told who has it."""
    with open(lock, "a+", opener=_open_private) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "?"
            raise DemoError(
                f"a demo is already running in this folder (process {owner}); stop it first, or use it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
