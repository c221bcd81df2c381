"""One sync by Airflow itself, with its four components: from the trigger to the DAG run's success."""

import time
from datetime import UTC, datetime

from include.demo import airflow
from include.demo.airflow import AirflowApi
from include.demo.mail_sink import start_mail_sink
from include.demo.processes import DemoError, Parts, free_port
from tests.benchmark.stage import PROJECT, Stage

_POLL = 0.2


def run_whole_dag(stage: Stage, database: str) -> float:
    """Start a new Airflow, sync once into `database`, stop Airflow; returns the seconds from trigger to success."""
    home = stage.folder / "whole-dag"
    home.mkdir(exist_ok=True)
    stage.make_database("airflow")
    with Parts(home / "logs", home / "processes.json") as parts:
        ours = stage.environment(database)
        password = airflow.make_password(home)
        environment = airflow.make_environment(
            {**stage.base, **stage.salesforce.environment, "CONTACT_SYNC_STAGING": ours["CONTACT_SYNC_STAGING"]},
            project=PROJECT,
            home=home,
            port=free_port(),
            database=stage.postgres.uri("airflow"),
            connections={
                "salesforce_default": dict(stage.salesforce.connection),
                "contacts_db": stage.postgres.airflow_connection(database),
                "smtp_default": start_mail_sink(home / "mail", parts, stage.base),
            },
        )
        parts.run("db-migrate", airflow.airflow_command(["db", "migrate"]), environment=environment)
        started_at = datetime.now(UTC)
        airflow.start_components(parts, environment)
        api = AirflowApi(environment["AIRFLOW__API__BASE_URL"], password)
        parts.wait_until(lambda: api.is_healthy() and api.log_in(), "Airflow to be healthy")
        parts.wait_until(lambda: api.is_parsed_since(started_at), "Airflow to read the DAG")
        return _follow(api, parts)


def _follow(api: AirflowApi, parts: Parts) -> float:
    triggered = time.monotonic()
    run = api.trigger()
    api.unpause()
    while (state := api.run_state(run)) not in {"success", "failed"}:
        parts.check()
        time.sleep(_POLL)
    seconds = time.monotonic() - triggered
    if state == "failed":
        raise DemoError(f"the DAG run {run} failed")
    return seconds
