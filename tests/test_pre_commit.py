"""The hooks before a commit are the checks of `make check`, less the tests, and download nothing."""

import shlex
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIGURATION = ROOT / ".pre-commit-config.yaml"


def hooks() -> list[dict[str, object]]:
    (repository,) = yaml.safe_load(CONFIGURATION.read_text(encoding="utf-8"))["repos"]
    assert repository["repo"] == "local"
    return repository["hooks"]


def checks() -> list[list[str]]:
    """The commands of `make check`, less making the environment and the tests."""
    words = ["make", "--no-print-directory", "--dry-run", "check"]
    lines = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [shlex.split(line) for line in lines if not line.startswith(".ci/") and "pytest" not in line]


def test_the_hooks_run_exactly_the_checks() -> None:
    assert [shlex.split(str(hook["entry"])) for hook in hooks()] == checks()


def test_the_hooks_run_from_the_project_s_environment_on_the_whole_project() -> None:
    for hook in hooks():
        assert hook["language"] == "system"
        assert hook["pass_filenames"] is False
        assert str(hook["entry"]).startswith(".venv/bin/python ")


def test_pre_commit_accepts_the_configuration() -> None:
    subprocess.run([sys.executable, "-m", "pre_commit", "validate-config", CONFIGURATION], cwd=ROOT, check=True)
