"""One simulated organisation for the tests of client and extract; each test finds it as if it had just started."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from include.contact_sync.salesforce import Salesforce
from include.salesforce_simulator.server import Simulator
from tests.contact_sync.salesforce.organisation import IN_HASTE, small_organisation


@pytest.fixture(scope="session")
def running_simulator() -> Iterator[Simulator]:
    with Simulator.start(small_organisation()) as simulator:
        yield simulator


@pytest.fixture
def simulator(running_simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> Simulator:
    """The organisation as it began; the Airflow connection `salesforce_default` leads to it."""
    running_simulator.control.start_again()
    running_simulator.control.change_options(page_size=5)
    monkeypatch.setenv("AIRFLOW_CONN_SALESFORCE_DEFAULT", json.dumps(running_simulator.connection()))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", running_simulator.ca_file)
    return running_simulator


@pytest.fixture
def connect(simulator: Simulator) -> Iterator[Callable[..., Salesforce]]:
    """Logs in; keyword arguments change the pace, `sleep` takes the waits."""
    opened: list[Salesforce] = []

    def connect(sleep: Callable[[float], None] = lambda seconds: None, **pace: Any) -> Salesforce:
        opened.append(Salesforce.connect(pace=replace(IN_HASTE, **pace), sleep=sleep))
        return opened[-1]

    yield connect
    for salesforce in opened:
        salesforce.close()
