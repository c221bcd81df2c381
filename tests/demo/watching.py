"""How tests wait for processes, and find the ones that were left."""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path


def wait_for(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def processes_with_files_below(folder: Path) -> list[int]:
    """The processes that have a file below the folder open: every part of a demo has its log."""
    found = []
    for links in Path("/proc").glob("[0-9]*/fd"):
        with contextlib.suppress(OSError):
            if any(link.readlink().is_relative_to(folder) for link in links.iterdir()):
                found.append(int(links.parent.name))
    return found
