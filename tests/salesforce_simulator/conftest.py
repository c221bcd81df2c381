"""One simulator for all these tests, brought back to its beginning before each, and a bare client without a retry."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import requests

from include.salesforce_simulator.generate import generate_organisation
from include.salesforce_simulator.server import Simulator

VERSION = "66.0"


@dataclass
class Api:
    """What a client sees: addresses below `/services/data/v66.0`, answers untouched."""

    sim: Simulator
    session: requests.Session

    def call(self, method: str, path: str, *, version: str = VERSION, **more: Any) -> requests.Response:
        return self.session.request(method, f"{self.sim.url}/services/data/v{version}{path}", timeout=20, **more)

    def get(self, path: str, **parameters: Any) -> requests.Response:
        return self.call("GET", path, params=parameters)

    def query(self, text: str, path: str = "/query") -> dict[str, Any]:
        answer = self.get(path, q=text)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def values(self, text: str, path: str = "/query") -> list[Any]:
        """The first selected field of every record."""
        records = self.query(text, path)["records"]
        return [next(value for name, value in record.items() if name != "attributes") for record in records]

    def refusal(self, text: str) -> tuple[int, str, str]:
        answer = self.get("/query", q=text)
        error = answer.json()[0]
        return answer.status_code, error["errorCode"], error["message"]

    def create_job(self, query: str, operation: str = "query", **more: Any) -> requests.Response:
        return self.call("POST", "/jobs/query", json={"operation": operation, "query": query, **more})

    def finished_job(self, query: str, operation: str = "query", **more: Any) -> dict[str, Any]:
        job = self.create_job(query, operation, **more).json()
        while job["state"] in {"UploadComplete", "InProgress"}:
            job = self.get(f"/jobs/query/{job['id']}").json()
        return job

    def page(self, job: dict[str, Any], **parameters: Any) -> requests.Response:
        return self.get(f"/jobs/query/{job['id']}/results", **parameters)

    def log_in(self) -> None:
        self.session.headers["Authorization"] = f"Bearer {token_answer(self.sim).json()['access_token']}"


def open_session(sim: Simulator) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.verify = sim.ca_file
    return session


def token_answer(sim: Simulator, **form: str) -> requests.Response:
    """What the token endpoint answers; client credentials where nothing else is said."""
    app = sim.organisation.app
    content = form or {
        "grant_type": "client_credentials",
        "client_id": app.consumer_key,
        "client_secret": app.consumer_secret,
    }
    with open_session(sim) as session:
        return session.post(f"{sim.url}/services/oauth2/token", data=content, timeout=20)


@pytest.fixture(scope="session")
def running() -> Iterator[Simulator]:
    with Simulator.start(generate_organisation()) as simulator:
        yield simulator


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    running.control.start_again()
    return running


@pytest.fixture
def api(sim: Simulator) -> Iterator[Api]:
    with open_session(sim) as session:
        api = Api(sim, session)
        api.log_in()
        yield api


@pytest.fixture
def account(sim: Simulator) -> str:
    """An account that no generated contact belongs to."""
    return str(sim.control.create(sobject="Account", records=[{"Name": "Test Works", "BillingCountry": "Peru"}])[0])


def create_contacts(sim: Simulator, *records: dict[str, Any]) -> list[str]:
    return list(sim.control.create(sobject="Contact", records=[{"LastName": "Tester", **record} for record in records]))
