"""The command line: `python -m include.salesforce_simulator` serves an organisation until it is told to stop.

The first line on standard output is JSON: where it answers, its certificate authority, the control token, and ready
connections for Airflow.
"""

import argparse
import json
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from include.salesforce_simulator.generate import (
    BENCHMARK_HABITS,
    DEMO_ACCOUNTS,
    DEMO_CONTACTS,
    DEMO_SEED,
    Habits,
    generate_organisation,
)
from include.salesforce_simulator.options import Options
from include.salesforce_simulator.server import connection, listen, make_certificate, make_server
from include.salesforce_simulator.state import State


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted."""
    wanted = _parse(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn passes the signal on when it has stopped; leaving by exception removes the certificate's folder.
        signal.signal(number, lambda *_: sys.exit(0))
    habits = BENCHMARK_HABITS if wanted.benchmark else Habits()
    organisation = generate_organisation(wanted.data_seed, wanted.contacts, wanted.accounts, habits)
    state = State(organisation, Options(keep_pages=wanted.benchmark))
    if wanted.control_token:
        state.control_token = wanted.control_token
    with tempfile.TemporaryDirectory(prefix="salesforce-simulator-") as folder:
        names = ["127.0.0.1", "localhost", *wanted.name]
        certificate = make_certificate(Path(folder), names, wanted.ca_file)
        listener = listen(wanted.host, wanted.port)
        url = f"https://{wanted.public_name}:{listener.getsockname()[1]}"
        ready = {
            "url": url,
            "ca_file": str(wanted.ca_file or certificate / "ca.pem"),
            "control_token": state.control_token,
            "connections": {
                kind: connection(organisation, url, kind)
                for kind in ("client_credentials", "jwt", "password", "oauth_password")
            },
        }
        sys.stdout.write(json.dumps(ready) + "\n")
        sys.stdout.flush()
        make_server(state, certificate).run(sockets=[listener])
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="salesforce_simulator", description="A Salesforce organisation on loopback.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument(
        "--name", action="append", default=[], help="a further host name for the certificate; may be repeated"
    )
    parser.add_argument("--public-name", default="127.0.0.1", help="the host name that clients use")
    parser.add_argument("--ca-file", type=Path, help="where to write the certificate authority, for REQUESTS_CA_BUNDLE")
    parser.add_argument("--control-token", default="", help="the control API's token (default: a random one)")
    parser.add_argument("--data-seed", type=int, default=DEMO_SEED)
    parser.add_argument("--contacts", type=int, default=DEMO_CONTACTS)
    parser.add_argument("--accounts", type=int, default=DEMO_ACCOUNTS)
    parser.add_argument(
        "--benchmark",
        action="store_true",
        help="two handles for every contact, a hundredth with each fault; pages are rendered once",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
