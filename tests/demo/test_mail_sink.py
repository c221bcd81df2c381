"""The mailbox keeps each message as a file and ends when it is told to."""

import email
import email.policy
import os
import signal
import smtplib
import stat
import subprocess
import sys
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest

from include.demo.mail_sink import messages
from include.demo.processes import accepts_connections, free_port
from tests.demo.watching import wait_for

PROJECT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    folder = tmp_path / "mail box"
    port = free_port()
    command = [sys.executable, "-m", "include.demo.mail_sink", "--port", str(port), "--folder", str(folder)]
    process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(PROJECT)}, stdout=subprocess.PIPE)
    wait_for(lambda: accepts_connections(port))
    yield process, port, folder
    process.kill()
    process.communicate()


def send(port: int, subject: str) -> None:
    message = EmailMessage()
    message["Subject"] = subject
    message.set_content("Grüße 🙂\n" * 2000)
    with smtplib.SMTP("127.0.0.1", port) as smtp:
        smtp.send_message(message, "sync@demo.example", ["ann@demo.example", "bob@demo.example"])


def test_each_message_becomes_a_private_file_in_the_order_of_arrival(
    sink: tuple[subprocess.Popen[bytes], int, Path],
) -> None:
    _, port, folder = sink
    for subject in ("first", "second"):
        send(port, subject)

    kept = [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in messages(folder)]
    assert [message["Subject"] for message in kept] == ["first", "second"]
    assert kept[0].get_content().startswith("Grüße 🙂")
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_well_and_says_nothing_about_the_people(
    sink: tuple[subprocess.Popen[bytes], int, Path], number: signal.Signals
) -> None:
    process, port, _ = sink
    send(port, "one")
    process.send_signal(number)

    said, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert said.endswith(b"2 recipient(s)\n")
    assert b"@" not in said
