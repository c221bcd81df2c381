"""Settings and runs that the store's tests need."""

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from include.contact_sync.settings import Settings, parse_settings
from include.contact_sync.store.runs import Run, open_run
from tests.conftest import Store


@pytest.fixture
def settings() -> Settings:
    mapping = [{"salesforce_field": "Name", "field": "name"}]
    return parse_settings(
        {"accounts": {"mapping": mapping}, "contacts": {"mapping": mapping}, "owners": ["owner@example.com"]}
    )


@pytest.fixture
def connection(store: Store) -> psycopg.Connection:
    return store.connect()


@pytest.fixture
def start_run(connection: psycopg.Connection, settings: Settings) -> Callable[..., Run]:
    """Open a run of the given DAG run; what is not given is what a scheduled run has."""

    def start(dag_run_id: str | None = "scheduled__1", on: psycopg.Connection = connection, **chosen: Any) -> Run:
        usual: dict[str, Any] = {
            "trigger": "schedule",
            "triggered_by": None,
            "notify": None,
            "settings_version": None,
            "settings": settings,
            "dry_run": False,
            "window": None,
        }
        return open_run(on, dag_run_id=dag_run_id, **{**usual, **chosen})

    return start
