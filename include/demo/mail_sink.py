"""A mailbox for trying things out: takes every message and keeps it as a file, delivers nothing.

Run as `python -m include.demo.mail_sink --port N --folder PATH`. Never part of a real deployment.
"""

import argparse
import os
import signal
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from include.demo.processes import Parts, accepts_connections


class KeepAsFile:
    """Writes each message to the folder as `<when>-<number>.eml`, readable by its owner only."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = count(1)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """What aiosmtpd calls for each message. The file appears under its name only when it is complete."""
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{next(self._numbers):03}.eml"
        unfinished = self._folder / f".{name}"
        with open(unfinished, "wb", opener=_open_private) as file:
            file.write(envelope.original_content or b"")
        unfinished.rename(self._folder / name)
        print(f"{name}: {len(envelope.rcpt_tos)} recipient(s)", flush=True)
        return "250 kept"


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def start_mail_sink(folder: Path, parts: Parts, environment: Mapping[str, str]) -> dict[str, object]:
    """Start a mailbox as a part of its own; returns the Airflow connection to it."""
    command = [sys.executable, "-m", "include.demo.mail_sink", "--folder", str(folder), "--port"]
    port = parts.start_on_free_port(
        "mail", lambda port: parts.start("mail", [*command, str(port)], environment=environment), accepts_connections
    )
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "contacts-sync@demo.example"}
    return {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra}


def messages(folder: Path) -> list[Path]:
    """The kept messages, oldest first."""
    return sorted(folder.glob("[0-9]*.eml"))


def main() -> None:
    """Take mail until somebody asks to stop."""
    options = argparse.ArgumentParser(prog="python -m include.demo.mail_sink", description=__doc__)
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, required=True)
    options.add_argument("--folder", type=Path, required=True)
    chosen = options.parse_args()
    chosen.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    controller = Controller(KeepAsFile(chosen.folder), hostname=chosen.host, port=chosen.port)
    controller.start()
    signal.sigwait((signal.SIGINT, signal.SIGTERM))
    controller.stop()


if __name__ == "__main__":
    main()
