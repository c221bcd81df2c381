"""The sync without Airflow's scheduler: `python -m include.contact_sync run` and `… settings apply | show | check`.

The connections come from `AIRFLOW_CONN_…` variables, as Airflow reads them. Results go to standard output, the log to
standard error. Exit code 0: done; 1: a run error, or settings with faults; 2: wrong words or no such file; 3: another run is active.
"""

import argparse
import gc
import getpass
import json
import logging
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path

from include.contact_sync.errors import AnotherRunIsActive, SyncError
from include.contact_sync.settings import Settings, read_settings, to_yaml

Result = tuple[int, str]
"""The exit code, and what goes to standard output."""


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    chosen = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        # Airflow logs to what it finds as standard output when it is imported; that is kept for the result.
        with redirect_stdout(sys.stderr):
            code, result = chosen.do(chosen)
    except KeyboardInterrupt:
        print("Interrupted; nothing that was not applied by then will be", file=sys.stderr)
        return 130
    except AnotherRunIsActive as active:
        print(active, file=sys.stderr)
        return 3
    except SyncError as error:
        print(error, file=sys.stderr)
        return 1
    if result:
        print(result)
    return int(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m include.contact_sync", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="one whole run in this process; prints a JSON summary")
    run.add_argument("--dry-run", action="store_true", help="plan and count, write nothing")
    run.add_argument(
        "--settings", type=_text_of, metavar="FILE.yaml", help="use these settings instead of the saved ones"
    )
    run.add_argument(
        "--window", nargs=2, type=_moment, metavar=("START", "END"), help="only contacts changed in between (ISO 8601)"
    )
    run.set_defaults(do=_run)
    settings = commands.add_parser("settings", help="save, show or check the sync settings").add_subparsers(
        required=True, metavar="COMMAND"
    )
    apply_ = settings.add_parser("apply", help="save FILE.yaml as the newest version")
    apply_.add_argument("file", type=_text_of, metavar="FILE.yaml")
    apply_.add_argument("--by", default=None, metavar="NAME", help="who saves it (default: the user of this machine)")
    apply_.set_defaults(do=_apply)
    show = settings.add_parser("show", help="print a version as YAML, by default the newest")
    show.add_argument("--version", type=int)
    show.set_defaults(do=_show)
    check = settings.add_parser("check", help="ask Salesforce too: login, permission, list views, every mapped field")
    check.add_argument("file", type=_text_of, nargs="?", metavar="FILE.yaml", help="instead of the saved settings")
    check.set_defaults(do=_check)
    return parser


def _run(chosen: argparse.Namespace) -> Result:
    # Here and below: what pulls in pandas and Airflow is imported when it is needed, so that --help answers at once.
    from include.contact_sync.conclude import summary
    from include.contact_sync.flow import RunRequest, run_all_steps

    if chosen.window and chosen.window[0] >= chosen.window[1]:
        print("The window's start must lie before its end", file=sys.stderr)
        return 2, ""
    started = datetime.now(UTC)
    concluded = run_all_steps(
        RunRequest(
            dag_run_id=f"command_line__{started.isoformat()}__{os.getpid()}",
            trigger="backfill" if chosen.window else "manual",
            triggered_by=getpass.getuser(),
            dry_run=chosen.dry_run,
            window=tuple(chosen.window) if chosen.window else None,
            settings=None if chosen.settings is None else read_settings(chosen.settings),
        )
    )
    if concluded is None:
        return 1, ""
    return 0 if concluded.run.state == "succeeded" else 1, json.dumps(summary(concluded), indent=2)


def _apply(chosen: argparse.Namespace) -> Result:
    from include.contact_sync.store import settings_versions
    from include.contact_sync.store.connection import connect
    from include.contact_sync.store.migrations import migrate

    settings = read_settings(chosen.file)
    with connect() as connection:
        migrate(connection)
        version = settings_versions.save_settings(connection, settings, chosen.by or getpass.getuser())
    return 0, f"The newest settings are version {version}"


def _show(chosen: argparse.Namespace) -> Result:
    return 0, to_yaml(_saved(chosen.version)).rstrip("\n")


def _check(chosen: argparse.Namespace) -> Result:
    from include.contact_sync.salesforce import Salesforce
    from include.contact_sync.salesforce.check import check_settings

    settings = _saved(None) if chosen.file is None else read_settings(chosen.file)
    with Salesforce.connect() as salesforce:
        faults = check_settings(salesforce, settings)
    return 1 if faults else 0, "\n".join(faults) or "The settings can be used"


def _saved(version: int | None) -> Settings:
    from include.contact_sync.store import settings_versions
    from include.contact_sync.store.connection import connect
    from include.contact_sync.store.migrations import migrate

    with connect() as connection:
        migrate(connection)
        return settings_versions.load_settings(connection, version).settings


def _text_of(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as unreadable:
        reason = getattr(unreadable, "strerror", None) or "not UTF-8"
        raise argparse.ArgumentTypeError(f"{file} cannot be read: {reason}") from unreadable


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no date or time such as 2026-11-23 or 2026-11-23T02:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def collecting_rarely(program: Callable[[], int]) -> int:
    """Do the work of a program that ends with it; returns its exit code.

    Importing Airflow makes a million objects that stay: looking through them again and again, and once more at the end,
    takes a second.
    """
    gc.set_threshold(200_000)
    code = program()
    gc.freeze()
    return code


if __name__ == "__main__":
    sys.exit(collecting_rarely(main))
