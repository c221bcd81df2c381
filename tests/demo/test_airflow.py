"""What Airflow is told, and what is read from what it says. That it works is shown in tests/end_to_end."""

import json
import re
import stat
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

from include.demo import __main__ as demo
from include.demo.airflow import (
    COMPONENTS,
    AirflowApi,
    TaskState,
    _due_night,
    make_environment,
    make_password,
    read_fault,
    task_log,
)


def environment(tmp_path: Path) -> dict[str, str]:
    return make_environment(
        {"PATH": "/bin"},
        project=tmp_path / "project",
        home=tmp_path / "airflow",
        port=8123,
        database="postgresql://postgres:secret@127.0.0.1:5432/airflow",
        connections={"contacts_db": {"conn_type": "postgres", "host": "127.0.0.1"}},
    )


def test_every_airflow_process_is_told_the_same_places(tmp_path: Path) -> None:
    told = environment(tmp_path)

    assert told["AIRFLOW_HOME"] == str(tmp_path / "airflow")
    assert told["AIRFLOW__CORE__DAGS_FOLDER"] == str(tmp_path / "project" / "dags")
    assert told["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == (
        "postgresql+psycopg2://postgres:secret@127.0.0.1:5432/airflow"
    )
    assert told["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:8123"
    assert told["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert json.loads(told["AIRFLOW_CONN_CONTACTS_DB"]) == {"conn_type": "postgres", "host": "127.0.0.1"}


def test_every_setting_exists_under_its_name(tmp_path: Path) -> None:
    from airflow.configuration import conf

    described = conf.configuration_description
    for name in environment(tmp_path):
        if found := re.fullmatch(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", name):
            assert found[2].lower() in described[found[1].lower()]["options"], name


def test_the_log_servers_which_would_listen_everywhere_are_not_started() -> None:
    assert all("--skip-serve-logs" in COMPONENTS[name] for name in ("scheduler", "triggerer"))


def test_nothing_of_the_shell_points_the_parts_elsewhere(monkeypatch) -> None:
    for name in ("AIRFLOW_HOME", "AIRFLOW_CONN_CONTACTS_DB", "PGHOST", "HTTPS_PROXY", "http_proxy", "PYTHONHOME"):
        monkeypatch.setenv(name, "elsewhere")

    assert "elsewhere" not in demo._base_environment().values()


def test_the_password_is_made_once_and_kept_private(tmp_path: Path) -> None:
    password = make_password(tmp_path)

    assert len(password) >= 12
    assert make_password(tmp_path) == password
    assert stat.S_IMODE((tmp_path / "passwords.json").stat().st_mode) == 0o600


def test_a_run_takes_the_place_of_the_night_that_is_due() -> None:
    night = {
        "next_dagrun_run_after": (datetime.now(UTC) - timedelta(hours=3)).isoformat(),
        "next_dagrun_logical_date": "2026-11-22T02:00:00Z",
        "next_dagrun_data_interval_start": "2026-11-22T02:00:00Z",
        "next_dagrun_data_interval_end": "2026-11-23T02:00:00Z",
    }

    assert _due_night(night) == {
        "logical_date": "2026-11-22T02:00:00Z",
        "data_interval_start": "2026-11-22T02:00:00Z",
        "data_interval_end": "2026-11-23T02:00:00Z",
    }


def test_a_run_takes_the_place_of_no_night_that_is_still_to_come() -> None:
    later = (datetime.now(UTC) + timedelta(hours=3)).isoformat()

    assert _due_night({"next_dagrun_run_after": later}) == {"logical_date": None}
    assert _due_night({"next_dagrun_run_after": None}) == {"logical_date": None}


def test_why_a_task_failed_is_read_from_its_log(tmp_path: Path) -> None:
    log = task_log(tmp_path, "manual__1", TaskState("load_contacts", "failed", 3.0, try_number=2))
    log.parent.mkdir(parents=True)
    log.write_text(
        '{"event": "working"}\nplain text\n'
        '{"event": "Task failed", "error_detail": [{"exc_type": "RunError", "exc_value": "api_limit: …"}]}\n'
    )

    assert log.name == "attempt=2.log"
    assert read_fault(log) == "RunError: api_limit: …"


def test_a_log_that_does_not_say_why_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "log").write_text('{"event": "killed"}\n')

    assert read_fault(tmp_path / "log") == ""
    assert read_fault(tmp_path / "missing") == ""


def test_an_airflow_of_somebody_else_at_the_same_port_is_not_taken_for_ours() -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(401)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert not AirflowApi(f"http://127.0.0.1:{server.server_port}", "secret").log_in()
        thread.join()
