"""A running simulator: the certificate, the server, and the handle that tests hold.

`Simulator.start(organisation)` serves in a thread of this process and stops at the end of the `with`; `serve` is the
same for a process of its own (`__main__`). Both listen on loopback unless told otherwise.
"""

import socket
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import trustme
import uvicorn

from include.salesforce_simulator.connection import Protocol
from include.salesforce_simulator.control import ControlClient
from include.salesforce_simulator.http import build_application
from include.salesforce_simulator.options import Options
from include.salesforce_simulator.organisation import Organisation
from include.salesforce_simulator.state import State

_LOOPBACK_NAMES = ("127.0.0.1", "localhost")
_API_VERSION = "66.0"
_SOAP_API_VERSION = "64.0"
_SECONDS_TO_START = 30


class Simulator:
    """A running simulator.

    Attributes:
        url: where it answers, such as `https://127.0.0.1:54321`.
        ca_file: the certificate authority, for `REQUESTS_CA_BUNDLE`.
        control: the control API.
        organisation: what is in it (the first one; after `control.start_again()` ask `state.organisation`).
    """

    def __init__(self, state: State, url: str, ca_file: str) -> None:
        self.state = state
        self.url = url
        self.ca_file = ca_file
        self.control = ControlClient(url, state.control_token, ca_file)

    @property
    def organisation(self) -> Organisation:
        """What is in the organisation now."""
        return self.state.organisation

    @classmethod
    @contextmanager
    def start(
        cls, organisation: Organisation, options: Options | None = None, *, port: int = 0
    ) -> Generator["Simulator"]:
        """Serve an organisation from a thread of this process until the `with` ends."""
        with tempfile.TemporaryDirectory(prefix="salesforce-simulator-") as folder:
            certificate = make_certificate(Path(folder), _LOOPBACK_NAMES)
            state = State(organisation, options or Options())
            listener = listen("127.0.0.1", port)
            server = make_server(state, certificate)
            thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
            thread.start()
            _wait_until_started(server)
            simulator = cls(state, f"https://127.0.0.1:{listener.getsockname()[1]}", str(certificate / "ca.pem"))
            try:
                yield simulator
            finally:
                simulator.control.close()
                server.should_exit = server.force_exit = True
                thread.join(timeout=30)
                listener.close()

    def connection(self, kind: str = "client_credentials") -> dict[str, Any]:
        """An Airflow connection (JSON form) by `client_credentials`, `jwt`, `password` or `oauth_password`."""
        return connection(self.organisation, self.url, kind)


def connection(organisation: Organisation, url: str, kind: str) -> dict[str, Any]:
    """An Airflow connection to the simulator, as the value of `AIRFLOW_CONN_SALESFORCE_DEFAULT`."""
    app, user = organisation.app, organisation.integration_user
    domain = url.removeprefix("https://") + "/"
    key = {"consumer_key": app.consumer_key}
    secret = {**key, "consumer_secret": app.consumer_secret}
    forms: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "client_credentials": ({}, {**secret, "version": _API_VERSION}),
        "jwt": (
            {"login": user.username},
            {**key, "private_key": app.private_key_pem if kind == "jwt" else "", "version": _API_VERSION},
        ),
        "password": (
            {"login": user.username, "password": user.password},
            {"security_token": user.security_token, "version": _SOAP_API_VERSION},
        ),
        "oauth_password": (
            {"login": user.username, "password": user.password + user.security_token},
            {**secret, "version": _API_VERSION},
        ),
    }
    top, extra = forms[kind]
    return {"conn_type": "salesforce", **top, "extra": {"domain": domain, **extra}}


def make_certificate(folder: Path, names: Sequence[str], ca_file: Path | None = None) -> Path:
    """Write a certificate authority (`ca.pem`) and a server certificate for these names; returns the folder."""
    authority = trustme.CA()
    certificate = authority.issue_cert(*dict.fromkeys(names))
    authority.cert_pem.write_to_path(folder / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    (folder / "server.pem").chmod(0o600)
    if ca_file is not None:
        ca_file.parent.mkdir(parents=True, exist_ok=True)
        authority.cert_pem.write_to_path(ca_file)
    return folder


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one."""
    listener = socket.create_server((host, port), backlog=256)
    listener.setblocking(False)
    # Accepted connections inherit this; asyncio would not set it, and small answers would wait 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def make_server(state: State, certificate: Path) -> uvicorn.Server:
    """The server, ready to run."""
    config = uvicorn.Config(
        build_application(state),
        http=Protocol,
        loop="asyncio",
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        ssl_certfile=certificate / "server.pem",
        ssl_keyfile=certificate / "server.pem",
        timeout_keep_alive=60,
        timeout_graceful_shutdown=2,
    )
    return _Server(config)


class _Server(uvicorn.Server):
    """A server that stops at once: nobody is served who would mind, and idle connections would be waited for."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called on SIGINT and SIGTERM."""
        super().handle_exit(sig, frame)
        self.force_exit = True


def _wait_until_started(server: uvicorn.Server) -> None:
    deadline = time.monotonic() + _SECONDS_TO_START
    while not server.started:
        if time.monotonic() > deadline:
            raise TimeoutError("the simulator did not start")
        time.sleep(0.005)
