"""The demo: the whole sync on one machine, with everything it needs, and nothing left when it stops.

Run it with `make demo`. The parts are PostgreSQL, a simulated Salesforce, a mailbox and Airflow's four components;
all their data lies in one private folder (`.demo`, or where DEMO_HOME says). This module says in which order they
start and what the run has to show; how processes are kept in hand is in `include.demo.processes`.
"""

import argparse
import hashlib
import os
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import requests

from include.demo import airflow, mail_sink
from include.demo.airflow import AirflowApi
from include.demo.postgres import Server, start_postgres
from include.demo.processes import (
    DemoError,
    Interrupted,
    Parts,
    free_port,
    guard,
    only_one,
    stop_when_parent_ends,
)
from include.demo.salesforce import start_simulator
from include.demo.show import Progress, describe_result, read_result, show

PROJECT = Path(__file__).resolve().parents[2]
_SETTINGS = Path(__file__).with_name("settings.yaml")
_KEPT_VARIABLES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "LD_LIBRARY_PATH")
_FAVOURITE_PORT = 8080
_RUN_MINUTES = 20


@dataclass(frozen=True)
class Demo:
    """The running demo, as far as following a run needs it."""

    home: Path
    parts: Parts
    postgres: Server
    api: AirflowApi
    password: str

    @property
    def mail(self) -> Path:
        """Where the e-mails are kept."""
        return self.home / "mail"


def run_demo(home: Path, once: bool) -> int:
    """Start everything, do one run and show it; then serve until somebody asks to stop, or end (`once`)."""
    os.umask(0o077)
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o711 if os.geteuid() == 0 else 0o700)  # PostgreSQL runs as another user then and has to get through
    with only_one(home / "lock"), Parts(home / "logs", home / "processes.json") as parts:
        try:
            demo = start_demo(home, parts)
            done_right = do_one_run(demo)
        except requests.RequestException:
            parts.check()  # the answer failed most likely because a part did, and that is the better explanation
            raise
        show_places(demo)
        if once:
            return 0 if done_right else 1
        return serve(parts)


def serve(parts: Parts) -> int:
    """Keep everything running until somebody asks to stop, which is the good end."""
    try:
        show("\nEverything keeps running. Stop it with Ctrl-C.")
        while True:
            parts.check()
            time.sleep(1)
    except Interrupted:
        show("\nStopping.")
        return 0


def start_demo(home: Path, parts: Parts) -> Demo:
    """Start the parts and wait until Airflow is healthy and knows the DAG and the settings."""
    base = _base_environment()
    show(f"Starting PostgreSQL, Salesforce (simulated), a mailbox and Airflow; their data and logs: {home}")
    postgres = start_postgres(home / "postgres", ["airflow", "contacts"], parts)
    _write_psql(home / "psql", postgres)
    smtp = mail_sink.start_mail_sink(home / "mail", parts, base)
    salesforce = start_simulator(home / "salesforce", parts, base)
    password = airflow.make_password(_folder(home / "airflow"))
    while True:
        environment = airflow.make_environment(
            {**base, **salesforce.environment, "CONTACT_SYNC_STAGING": f"file://{home / 'staging'}"},
            project=PROJECT,
            home=home / "airflow",
            port=free_port(_FAVOURITE_PORT),
            database=postgres.uri("airflow"),
            connections={
                "salesforce_default": salesforce.connection,
                "contacts_db": postgres.airflow_connection("contacts"),
                "smtp_default": smtp,
            },
        )
        api = AirflowApi(environment["AIRFLOW__API__BASE_URL"], password)
        if _start_airflow(home, parts, environment, api):
            return Demo(home, parts, postgres, api, password)


def _start_airflow(home: Path, parts: Parts, environment: Mapping[str, str], api: AirflowApi) -> bool:
    """False when somebody else took Airflow's port meanwhile; everything of it is stopped again then."""
    parts.run("db-migrate", airflow.airflow_command(["db", "migrate"]), environment=environment)
    started_at = datetime.now(UTC)
    components = airflow.start_components(parts, environment)
    _apply_settings(home, parts, environment)
    if not parts.wait_until(lambda: api.is_healthy() and api.log_in(), "Airflow to be healthy", losing=components[:1]):
        for component in components:
            parts.forget(component)
        return False
    parts.wait_until(lambda: api.is_parsed_since(started_at), "Airflow to read the DAG")
    return True


def _apply_settings(home: Path, parts: Parts, environment: Mapping[str, str]) -> None:
    """Save the demo's settings as a new version, unless they were already: what a person saved since stays."""
    applied = home / "settings-applied"
    fingerprint = hashlib.sha256(_SETTINGS.read_bytes()).hexdigest()
    if applied.exists() and applied.read_text(encoding="ascii") == fingerprint:
        return
    command = [sys.executable, "-m", "include.contact_sync", "settings", "apply", str(_SETTINGS)]
    parts.run("settings", command, environment=environment)
    applied.write_text(fingerprint, encoding="ascii")


def do_one_run(demo: Demo) -> bool:
    """Trigger a run, or go on with one that a stopped demo left, and show it. False when it did not do what it should."""
    mails_before = len(mail_sink.messages(demo.mail))
    run_id = demo.api.find_unfinished_run()
    if run_id:
        show(f"\nGoing on with the run that was not finished: {run_id}")
        demo.api.retry_at_once(run_id)
    else:
        run_id = demo.api.trigger()
        show(f"\nTriggered the DAG {airflow.DAG_ID}: {run_id}")
    demo.api.unpause()
    state = follow(demo, run_id)
    show()
    faults = [] if state == "success" else _explain_failure(demo, run_id, state)
    result = read_result(demo.postgres.uri("contacts"), run_id)
    if result is None:
        faults.append("the run left no record in the store")
    else:
        faults += result.faults
        for line in describe_result(result):
            show(line)
        if result.report_sent:
            faults += _show_mail(demo, mails_before)
    for fault in faults:
        show(f"Not as it should be: {fault}")
    return not faults


def follow(demo: Demo, run_id: str) -> str:
    """Show the run's progress until it ends; returns its state."""
    progress = Progress()
    deadline = time.monotonic() + _RUN_MINUTES * 60
    while time.monotonic() < deadline:
        state = demo.api.run_state(run_id)
        progress.update(demo.api.task_states(run_id))
        if state in {"success", "failed"}:
            return state
        demo.parts.check()
        time.sleep(0.5)
    raise DemoError(
        f"the run {run_id} did not end within {_RUN_MINUTES} minutes; the logs: {demo.home / 'airflow' / 'logs'}"
    )


def _explain_failure(demo: Demo, run_id: str, state: str) -> list[str]:
    """What Airflow says about a run that is not a success: which tasks failed, why, and where their logs lie."""
    faults = [f"Airflow's state of the run is {state}"]
    for task in demo.api.task_states(run_id):
        if task.state == "failed":
            log = airflow.task_log(demo.home / "airflow", run_id, task)
            faults.append(f"{task.task_id} failed: {airflow.read_fault(log)}\n    its log: {log}")
    return faults


def _show_mail(demo: Demo, mails_before: int) -> list[str]:
    """Show where the run's e-mail lies; a fault when it is not there."""
    mails = mail_sink.messages(demo.mail)[mails_before:]
    show()
    for mail in mails:
        show(f"E-mail: {mail}")
    return [] if mails else ["an e-mail was sent, but none arrived"]


def show_places(demo: Demo) -> None:
    """Show where to look next."""
    show()
    show(f"Airflow:      {demo.api.url}   user {airflow.USER}, password {demo.password}")
    show(f"Tables:       {shlex.quote(str(demo.home / 'psql'))} -c 'TABLE contact_store.contacts LIMIT 5'")
    show(f"Task logs:    {demo.home / 'airflow' / 'logs'}")
    show(f"E-mails:      {demo.mail}")


def _base_environment() -> dict[str, str]:
    """What the parts get of this process's environment: nothing that could point them at another Airflow or database."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONPATH": str(PROJECT), "PYTHONUNBUFFERED": "1"}


def _folder(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    return folder


def _write_psql(file: Path, postgres: Server) -> None:
    """A command that opens the contact store, for a person."""
    psql = shlex.quote(str(postgres.programs / "psql"))
    file.write_text(
        f"#!/bin/sh\n# Opens the demo's contact store.\nPGPASSWORD={postgres.password} "
        f'exec {psql} -h 127.0.0.1 -p {postgres.port} -U postgres -d contacts "$@"\n',
        encoding="utf-8",
    )
    file.chmod(0o700)


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run the demo behind a guard."""
    options = argparse.ArgumentParser(prog="python -m include.demo", description="The whole sync on this machine.")
    options.add_argument(
        "--once", action="store_true", help="end after one run; exit code 0 only if it did what it should"
    )
    options.add_argument(
        "--stop-with-parent", action="store_true", help="stop when the process that started this one ends"
    )
    chosen = options.parse_args(arguments)
    if chosen.stop_with_parent:
        stop_when_parent_ends()
    home = Path(os.environ.get("DEMO_HOME") or PROJECT / ".demo").absolute()
    return guard(lambda: _run_and_explain(home, chosen.once))


def _run_and_explain(home: Path, once: bool) -> int:
    """Run the demo; what a person can do something about is one message, not a traceback."""
    try:
        return run_demo(home, once)
    except (DemoError, requests.RequestException) as fault:
        print(f"\nThe demo stops: {fault}", file=sys.stderr, flush=True)
        return 1
    except Interrupted:
        print("\nThe demo was interrupted; the next one goes on from here.", file=sys.stderr, flush=True)
        return 130


if __name__ == "__main__":
    sys.exit(main())
