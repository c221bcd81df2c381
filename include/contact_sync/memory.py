"""How much memory this process held at most: its resident pages, as Linux counts them (`man 5 proc`)."""

import resource
from contextlib import suppress
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def forget_peak() -> None:
    """Count the peak anew from here on. Where the system does not let a process do so, it stays that of its whole life."""
    with suppress(OSError):
        _CLEAR_REFS.write_text(_RESET_PEAK, encoding="ascii")


def peak_mb() -> int:
    """The peak in MB since it was last forgotten."""
    with suppress(OSError, StopIteration), _STATUS.open(encoding="ascii", errors="replace") as lines:
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
