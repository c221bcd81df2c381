"""The organisation's clock: real time, moved by whoever plays with the simulator.

Sessions end, windows roll and date literals (`TODAY`) read by this clock only. It has a resolution of one second,
because `SystemModstamp` has.
"""

from datetime import UTC, datetime, timedelta


class Clock:
    """Real time plus an offset."""

    def __init__(self) -> None:
        self._offset = timedelta(0)

    def now(self) -> datetime:
        """This second, in UTC."""
        return (datetime.now(UTC) + self._offset).replace(microsecond=0)

    def advance(self, seconds: float) -> None:
        """Move the clock."""
        self._offset += timedelta(seconds=seconds)

    def set(self, moment: datetime) -> None:
        """Let it be `moment` now."""
        self._offset = moment - datetime.now(UTC)
