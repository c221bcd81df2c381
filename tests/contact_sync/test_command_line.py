"""`python -m include.contact_sync`: what it prints, and its exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.contact_sync.__main__ import main
from include.contact_sync.settings import Settings, read_settings, to_yaml
from include.salesforce_simulator.server import Simulator
from tests.conftest import ROOT, Store
from tests.whole_runs import counts, save, settings_with, three_people

pytestmark = pytest.mark.usefixtures("staging", "store")


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    return write(tmp_path / "settings.yaml", settings_with())


def write(file: Path, settings: Settings) -> Path:
    file.write_text(to_yaml(settings), encoding="utf-8")
    return file


def printed(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """The JSON on standard output, and nothing else is there."""
    return json.loads(capsys.readouterr().out)


def command(*words: str) -> subprocess.CompletedProcess[str]:
    """A process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "include.contact_sync", *words],
        cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ),
    )  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- settings


def test_settings_that_are_applied_are_shown_again(
    settings_file: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settings", "apply", str(settings_file), "--by", "Ann"]) == 0
    assert "version 1" in capsys.readouterr().out
    assert store.execute("SELECT version, saved_by FROM contact_store.sync_settings") == [(1, "Ann")]
    assert main(["settings", "show"]) == 0
    assert read_settings(capsys.readouterr().out) == settings_with()


def test_an_older_version_can_be_shown_and_equal_settings_make_no_new_one(
    settings_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    newer = write(tmp_path / "newer.yaml", settings_with(maximum_contacts=7))
    for file in (settings_file, settings_file, newer):
        assert main(["settings", "apply", str(file)]) == 0
    assert "version 2" in capsys.readouterr().out
    assert main(["settings", "show", "--version", "1"]) == 0
    assert read_settings(capsys.readouterr().out) == settings_with()


def test_settings_with_faults_are_refused_with_every_fault(
    tmp_path: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rule 3.2."""
    text = to_yaml(settings_with()).replace("LastName", "Id").replace("Email", "Id").replace("US", "USA")
    file = tmp_path / "wrong.yaml"
    file.write_text(text, encoding="utf-8")
    assert main(["settings", "apply", str(file)]) == 1
    said = capsys.readouterr().err
    assert "the Id is synced by itself" in said
    assert "default_region" in said
    assert store.execute("SELECT count(*) FROM contact_store.sync_settings") == [(0,)]


def test_settings_that_were_never_saved_cannot_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings", "show"]) == 1
    assert "settings_invalid" in capsys.readouterr().err


def test_settings_can_be_applied_to_a_store_that_has_no_tables_yet(empty_database: Store, settings_file: Path) -> None:
    assert main(["settings", "apply", str(settings_file)]) == 0
    assert empty_database.execute("SELECT version FROM contact_store.sync_settings") == [(1,)]


def test_check_says_that_settings_can_be_used(
    organisation: Simulator, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["settings", "check", str(settings_file)]) == 0
    save(settings_with())
    assert main(["settings", "check"]) == 0
    assert capsys.readouterr().out.count("The settings can be used") == 2


def test_check_names_every_fault_that_salesforce_knows_of(
    organisation: Simulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    view = organisation.control.create_list_view(label="Gone")
    organisation.control.delete_list_view(id=view)
    organisation.control.hide_field(sobject="Contact", name="Email")
    file = write(tmp_path / "x.yaml", settings_with(contacts={"source": {"list_view": view}}))
    assert main(["settings", "check", str(file)]) == 1
    said = capsys.readouterr().out
    assert "Email" in said
    assert view in said


def test_check_says_why_the_login_was_refused(
    organisation: Simulator, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    organisation.control.change_user(api_enabled=False)
    assert main(["settings", "check", str(settings_file)]) == 1
    assert "api_disabled" in capsys.readouterr().out


# --------------------------------------------------------------------------------------------------------------- runs


def test_a_run_prints_its_summary_as_json_and_its_log_elsewhere(organisation: Simulator, store: Store) -> None:
    three_people(organisation)
    save(settings_with())
    done = command("run")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert {name: summary[name] for name in ("run_id", "state", "dry_run", "settings_version")} == {
        "run_id": 1, "state": "succeeded", "dry_run": False, "settings_version": 1,
    }  # fmt: skip
    assert (summary["accounts"], summary["contacts"]) == (
        counts(read=1, created=1),
        counts(read=3, created=2, error=1),
    )
    assert summary["errors"] == {"email_taken": 1}
    assert list(summary["steps"]) != []
    assert all(step["seconds"] >= 0 for step in summary["steps"].values())
    assert "Run 1 load_contacts" in done.stderr


def test_a_dry_run_prints_what_a_run_would_do_and_writes_nothing(
    organisation: Simulator, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    three_people(organisation)
    save(settings_with())
    assert main(["run", "--dry-run"]) == 0
    summary = printed(capsys)
    assert (summary["dry_run"], summary["contacts"]["created"], summary["errors"]) == (True, 2, {"email_taken": 1})
    assert store.execute("SELECT count(*) FROM contact_store.contacts") == [(0,)]


def test_a_run_takes_settings_from_a_file_instead_of_the_saved_ones(
    organisation: Simulator, store: Store, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three_people(organisation)
    save(settings_with(contacts={"enabled": False}))
    assert main(["run", "--settings", str(settings_file)]) == 0
    summary = printed(capsys)
    assert (summary["settings_version"], summary["contacts"]["created"]) == (None, 2)


def test_rule_1_3_a_window_makes_the_run_a_backfill(
    organisation: Simulator, store: Store, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    three_people(organisation)
    words = ["run", "--settings", str(settings_file), "--window", "2020-01-01", "2020-02-01T00:00:00+01:00"]
    assert main(words) == 0
    assert printed(capsys)["contacts"] == counts()
    query = "SELECT trigger, window_start::text, window_end::text FROM contact_store.sync_runs"
    assert store.execute(query) == [("backfill", "2020-01-01 00:00:00+00", "2020-01-31 23:00:00+00")]


def test_a_run_error_is_exit_code_1_and_in_the_summary(
    organisation: Simulator, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rule 8.2."""
    organisation.control.change_app(blocked=True)
    assert main(["run", "--settings", str(settings_file)]) == 1
    summary = printed(capsys)
    assert (summary["state"], summary["errors"], summary["contacts"]) == ("failed", {"app_blocked": 1}, None)


def test_a_run_without_any_settings_is_exit_code_1(organisation: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run"]) == 1
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["sync"],
        ["settings"],
        ["settings", "apply"],
        ["run", "--fast"],
        ["run", "--window", "yesterday", "today"],
        ["run", "--window", "2020-01-01"],
        ["settings", "show", "--version", "x"],
    ],
    ids=" ".join,
)
def test_wrong_words_are_exit_code_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["settings", "apply"], ["settings", "check"], ["run", "--settings"]], ids=" ".join)
def test_a_file_that_cannot_be_read_is_told_in_one_line(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    missing, unreadable = tmp_path / "none.yaml", tmp_path / "latin1.yaml"
    unreadable.write_bytes(b"owners: [\xe9]")
    for file in (missing, unreadable):
        with pytest.raises(SystemExit) as ended:
            main([*words, str(file)])
        assert ended.value.code == 2
        assert file.name in capsys.readouterr().err


@pytest.mark.parametrize("words", [["settings", "apply"], ["settings", "check"], ["run", "--settings"]], ids=" ".join)
def test_an_empty_file_is_not_taken_for_no_file(words: list[str], tmp_path: Path, organisation: Simulator) -> None:
    save(settings_with())
    (tmp_path / "empty.yaml").touch()
    assert main([*words, str(tmp_path / "empty.yaml")]) == 1


def test_rule_6_3_another_active_run_is_exit_code_3(
    organisation: Simulator, store: Store, settings_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store.execute(
        "INSERT INTO contact_store.sync_runs (trigger, settings, alive_until) VALUES ('manual', '{}', now() + interval '1 hour')"
    )
    assert main(["run", "--settings", str(settings_file)]) == 3
    told = capsys.readouterr()
    assert told.out == ""
    assert "one run at a time" in told.err


def test_a_store_that_does_not_answer_is_exit_code_1_and_names_its_connection(
    organisation: Simulator, settings_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = {"conn_type": "postgres", "host": "/nowhere", "login": "x", "password": "secret", "schema": "x"}
    monkeypatch.setenv("AIRFLOW_CONN_CONTACTS_DB", json.dumps(nowhere))
    assert main(["run", "--settings", str(settings_file)]) == 1
    said = capsys.readouterr().err
    assert "contacts_db" in said
    assert "secret" not in said


def test_help_answers_at_once_without_pandas_or_airflow() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "include.contact_sync", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "usage: python -m include.contact_sync" in done.stdout
    assert not imported & {"pandas", "airflow", "pyarrow", "psycopg"}
