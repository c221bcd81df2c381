"""Airflow for the demo: its environment, its four components, and its REST API.

The components are started one by one: `airflow standalone` leaves processes behind when it is stopped.
Everything listens on loopback; the log servers, which cannot, are not started, since one machine needs none.
"""

import json
import secrets
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import requests

from include.demo.processes import DemoError, Part, Parts

DAG_ID = "salesforce_contacts_sync"
USER = "admin"
COMPONENTS = {
    "api-server": ["api-server"],
    "scheduler": ["scheduler", "--skip-serve-logs"],
    "dag-processor": ["dag-processor"],
    "triggerer": ["triggerer", "--skip-serve-logs"],
}
_HEALTH_NAMES = ("metadatabase", "scheduler", "triggerer", "dag_processor")
_UNFINISHED = ("queued", "running")
_NOT_STARTED = (None, "scheduled", "queued", "up_for_retry", "restarting")


def make_environment(
    base: Mapping[str, str],
    *,
    project: Path,
    home: Path,
    port: int,
    database: str,
    connections: Mapping[str, Mapping[str, Any]],
) -> dict[str, str]:
    """The environment of every Airflow process. `database` is the metadata database's URI, as libpq writes it."""
    settings = {
        "CORE__DAGS_FOLDER": project / "dags",
        "CORE__PLUGINS_FOLDER": project / "plugins",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": 4,
        "CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": home / "passwords.json",
        "DATABASE__SQL_ALCHEMY_CONN": database.replace("postgresql://", "postgresql+psycopg2://", 1),
        "API__HOST": "127.0.0.1",
        "API__PORT": port,
        "API__BASE_URL": f"http://127.0.0.1:{port}",
        "LOGGING__BASE_LOG_FOLDER": home / "logs",
        # While all start at once on a small machine the API server answers late; a task that gave up would wait to be
        # tried again.
        "WORKERS__EXECUTION_API_RETRIES": 10,
        "WORKERS__EXECUTION_API_RETRY_WAIT_MAX": 5,
        "WORKERS__EXECUTION_API_TIMEOUT": 30,
        # A demo that was killed in the middle of a run goes on with it: its tasks are found to be orphaned soon.
        "SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": 15,
    }
    return {
        **base,
        "AIRFLOW_HOME": str(home),
        **{f"AIRFLOW__{name}": str(value) for name, value in settings.items()},
        **{f"AIRFLOW_CONN_{name.upper()}": json.dumps(connection) for name, connection in connections.items()},
    }


def make_password(home: Path) -> str:
    """The password of the demo's one user, made on first use, in the file where Airflow looks for it."""
    file = home / "passwords.json"
    if not file.exists():
        file.touch(mode=0o600)
        file.write_text(json.dumps({USER: secrets.token_urlsafe(12)}), encoding="utf-8")
    return str(json.loads(file.read_text(encoding="utf-8"))[USER])


def airflow_command(arguments: Sequence[str]) -> list[str]:
    """An `airflow` command line that works without an activated environment."""
    return [sys.executable, "-m", "airflow", *arguments]


def start_components(parts: Parts, environment: Mapping[str, str]) -> list[Part]:
    """Start all four; the first is the API server."""
    return [
        parts.start(name, airflow_command(command), environment=environment) for name, command in COMPONENTS.items()
    ]


@dataclass(frozen=True)
class TaskState:
    """How far one task of a run is, in its latest try. `seconds` is None until that started."""

    task_id: str
    state: str
    seconds: float | None
    try_number: int = 1


class AirflowApi:
    """What the demo asks of Airflow's REST API."""

    def __init__(self, url: str, password: str) -> None:
        self.url = url
        self._password = password
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy and no other certificates: this stays on loopback

    def is_healthy(self) -> bool:
        """Whether all four components report to be well."""
        try:
            health = self._session.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        except requests.RequestException:
            return False
        return all((health.get(name) or {}).get("status") == "healthy" for name in _HEALTH_NAMES)

    def log_in(self) -> bool:
        """Get the token that all other requests need. False where somebody else's Airflow answers at this address."""
        credentials = {"username": USER, "password": self._password}
        answer = self._session.post(f"{self.url}/auth/token", json=credentials, timeout=30)
        if answer.status_code == requests.codes.unauthorized:
            return False
        answer.raise_for_status()
        self._session.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        return True

    def is_parsed_since(self, moment: datetime) -> bool:
        """Whether Airflow knows the DAG as it is in the file now.

        Raises:
            DemoError: the file cannot be imported; with Airflow's reason.
        """
        faults = self._get("importErrors")["import_errors"]
        if faults:
            raise DemoError(
                "\n".join(f"{fault['filename']} cannot be imported:\n{fault['stack_trace']}" for fault in faults)
            )
        answer = self._session.get(f"{self.url}/api/v2/dags/{DAG_ID}", timeout=30)
        return answer.status_code == requests.codes.ok and _moment(answer.json()["last_parsed_time"]) >= moment

    def find_unfinished_run(self) -> str | None:
        """The run that is queued or running, if there is one."""
        runs = self._get(f"dags/{DAG_ID}/dagRuns", state=list(_UNFINISHED), order_by="run_after", limit=1)["dag_runs"]
        return str(runs[0]["dag_run_id"]) if runs else None

    def trigger(self) -> str:
        """Start a run and return its id.

        A DAG that is unpaused for the first time gets a scheduled run for the night before at once. The run that is
        triggered here takes that night's place, so that there is one run to look at, not two.
        """
        dag = self._get(f"dags/{DAG_ID}")
        answer = self._post_run(_due_night(dag) if dag["is_paused"] else {"logical_date": None})
        if answer.status_code == requests.codes.conflict:
            answer = self._post_run({"logical_date": None})
        answer.raise_for_status()
        return str(answer.json()["dag_run_id"])

    def retry_at_once(self, run_id: str) -> None:
        """Let tasks that were stopped with their demo not wait out their retry delay."""
        waiting = [task.task_id for task in self.task_states(run_id) if task.state == "up_for_retry"]
        if waiting:
            body = {"dry_run": False, "dag_run_id": run_id, "task_ids": waiting, "only_failed": False}
            answer = self._session.post(f"{self.url}/api/v2/dags/{DAG_ID}/clearTaskInstances", json=body, timeout=30)
            answer.raise_for_status()

    def unpause(self) -> None:
        """Let the DAG's runs start; from now on it also runs by its schedule."""
        self._session.patch(
            f"{self.url}/api/v2/dags/{DAG_ID}", json={"is_paused": False}, timeout=30
        ).raise_for_status()

    def run_state(self, run_id: str) -> str:
        """queued, running, success or failed."""
        return str(self._get(_run_path(run_id))["state"])

    def task_states(self, run_id: str) -> list[TaskState]:
        """The run's tasks in the order of the DAG's arrows."""
        rows = self._get(f"{_run_path(run_id)}/taskInstances", limit=100)["task_instances"]
        place = {task_id: number for number, task_id in enumerate(self._task_order())}
        rows.sort(key=lambda row: (place.get(row["task_id"], len(place)), row["map_index"]))
        return [TaskState(row["task_id"], row["state"] or "waiting", _seconds(row), row["try_number"]) for row in rows]

    @cache  # ruff: ignore[cached-instance-method] - one object lives as long as the program
    def _task_order(self) -> tuple[str, ...]:
        tasks = self._get(f"dags/{DAG_ID}/tasks")["tasks"]
        followers = {task["task_id"]: task["downstream_task_ids"] for task in tasks}
        return tuple(reversed(list(TopologicalSorter(followers).static_order())))

    def _post_run(self, dates: Mapping[str, str | None]) -> requests.Response:
        return self._session.post(f"{self.url}/api/v2/dags/{DAG_ID}/dagRuns", json={**dates, "conf": {}}, timeout=30)

    def _get(self, path: str, **parameters: Any) -> dict[str, Any]:
        answer = self._session.get(f"{self.url}/api/v2/{path}", params=parameters, timeout=30)
        answer.raise_for_status()
        return dict(answer.json())


def task_log(home: Path, run_id: str, task: TaskState) -> Path:
    """Where Airflow keeps the log of a task's latest try."""
    folder = home / "logs" / f"dag_id={DAG_ID}" / f"run_id={run_id}" / f"task_id={task.task_id}"
    return folder / f"attempt={task.try_number}.log"


def read_fault(log: Path) -> str:
    """Why a task failed, in the words of its log; empty where it does not say."""
    for line in log.read_text(encoding="utf-8").splitlines() if log.exists() else ():
        detail = json.loads(line).get("error_detail") if line.startswith("{") else None
        if detail:
            return f"{detail[0]['exc_type']}: {detail[0]['exc_value']}"
    return ""


def _run_path(run_id: str) -> str:
    return f"dags/{DAG_ID}/dagRuns/{quote(run_id, safe='')}"


def _due_night(dag: Mapping[str, Any]) -> dict[str, str | None]:
    """The dates of the scheduled run that is due. The interval is needed too: from it Airflow counts on to the next."""
    due = dag["next_dagrun_run_after"]
    if due is None or _moment(due) > datetime.now(UTC):
        return {"logical_date": None}
    return {
        "logical_date": dag["next_dagrun_logical_date"],
        "data_interval_start": dag["next_dagrun_data_interval_start"],
        "data_interval_end": dag["next_dagrun_data_interval_end"],
    }


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _seconds(row: Mapping[str, Any]) -> float | None:
    if row["start_date"] is None or row["state"] in _NOT_STARTED:  # a retry keeps the start of the try before
        return None
    end = _moment(row["end_date"]) if row["end_date"] else datetime.now(UTC)
    return max(0.0, (end - _moment(row["start_date"])).total_seconds())
