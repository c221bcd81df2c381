"""The simulated Salesforce as a part of the demo."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from include.demo.processes import DemoError, Parts


@dataclass(frozen=True)
class Salesforce:
    """How it is reached: an Airflow connection, variables that let its certificate be trusted, and the control API."""

    connection: Mapping[str, object]
    environment: Mapping[str, str]
    url: str
    control_token: str


def start_simulator(
    folder: Path, parts: Parts, environment: Mapping[str, str], arguments: Sequence[str] = ()
) -> Salesforce:
    """Start it and wait until it answers. `arguments` are for its command line: the demo's organisation by default.

    The organisation is made anew from its seed each time, so that a second run finds what the first found.
    """
    folder.mkdir(exist_ok=True)
    certificate = folder / "ca.pem"
    command = [sys.executable, "-m", "include.salesforce_simulator", "--ca-file", str(certificate), *arguments]
    log = parts.logs / "salesforce.log"
    parts.start_on_free_port(
        "salesforce",
        lambda port: parts.start("salesforce", [*command, "--port", str(port)], environment=environment),
        lambda port: _first_json_line(log) is not None,
    )
    ready = _first_json_line(log)
    if ready is None:
        raise DemoError(f"the simulated Salesforce does not say how it is reached; its log: {log}")
    (folder / "simulator.json").write_text(ready, encoding="utf-8")
    told = json.loads(ready)
    return Salesforce(
        told["connections"]["client_credentials"],
        {"REQUESTS_CA_BUNDLE": str(certificate)},
        told["url"],
        told["control_token"],
    )


def _first_json_line(log: Path) -> str | None:
    """The line in which the simulator says that it listens, and how it is reached."""
    lines = log.read_text(encoding="utf-8").splitlines(keepends=True)
    return next((line for line in lines if line.startswith("{") and line.endswith("\n")), None)
