"""What `make` does: the environment is made once, again when it must be, and the commands are the documented ones."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Stands for python3.11: notes how it is called, and "makes" an environment whose pip can be told to break off.
STUB = """#!/bin/sh
case "$*" in
    "-c "*) exit 0 ;;
    "-m venv "*)
        echo "venv $3" >>"$CALLS"
        case "$3" in --clear) rm -rf .venv ;; esac
        mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    *) echo "pip $*" >>"$CALLS"; [ ! -e "$CALLS.break" ] ;;
esac
"""


class Project:
    """A project folder with a Python that only notes what it is asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls_file = folder.parent / "calls"
        (folder / ".ci").mkdir(parents=True)
        (folder / ".ci" / "environment").write_bytes((ROOT / ".ci" / "environment").read_bytes())
        (folder / ".ci" / "environment").chmod(0o755)
        (folder / "requirements.txt").write_text("one==1\n")
        (folder / "requirements-dev.txt").write_text("two==2\n")
        self.programs = folder.parent / "programs"
        self.programs.mkdir()
        self.install_python("python3.11")

    def install_python(self, name: str, text: str = STUB) -> None:
        (self.programs / name).write_text(text)
        (self.programs / name).chmod(0o755)

    def make_environment(self, kind: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{self.programs}:{os.defpath}", "CALLS": str(self.calls_file)}
        command = [self.folder / ".ci" / "environment", kind]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def calls(self) -> list[str]:
        """What was called since the last time."""
        calls = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return calls


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "a project")


def test_the_environment_is_made_with_hashes_and_then_left_alone(project: Project) -> None:
    assert project.make_environment("run").returncode == 0
    made, installed = project.calls()
    assert made == "venv --clear"
    assert "--require-hashes --requirement=requirements.txt" in installed

    assert project.make_environment("run").returncode == 0
    assert project.calls() == []


def test_what_changing_the_project_needs_is_added_in_place_and_serves_the_demo_too(project: Project) -> None:
    project.make_environment("run")
    project.calls()

    project.make_environment("dev")
    made, installed = project.calls()
    assert made == "venv .venv"
    assert installed.endswith("--requirement=requirements.txt --requirement=requirements-dev.txt")

    project.make_environment("run")
    assert project.calls() == []


def test_changed_requirements_are_installed_and_a_new_date_alone_is_no_change(project: Project) -> None:
    project.make_environment("run")
    project.calls()

    (project.folder / "requirements.txt").touch()
    project.make_environment("run")
    assert project.calls() == []

    (project.folder / "requirements.txt").write_text("one==2\n")
    project.make_environment("run")
    assert len(project.calls()) == 2


def test_an_installation_that_broke_off_is_made_from_scratch(project: Project) -> None:
    project.make_environment("run")
    (project.folder / "requirements.txt").write_text("one==2\n")
    broken = project.calls_file.with_name("calls.break")
    broken.touch()
    assert project.make_environment("run").returncode != 0
    broken.unlink()
    project.calls()

    assert project.make_environment("run").returncode == 0
    assert project.calls()[0] == "venv --clear"


def test_a_moved_project_gets_its_environment_anew(project: Project, tmp_path: Path) -> None:
    project.make_environment("run")
    project.calls()
    project.folder = project.folder.rename(tmp_path / "elsewhere")

    project.make_environment("run")
    assert len(project.calls()) == 2


def test_python3_serves_where_it_is_python_3_11(project: Project) -> None:
    (project.programs / "python3.11").rename(project.programs / "python3")
    project.install_python("python3.11", "#!/bin/sh\nexit 127\n")

    assert project.make_environment("run").returncode == 0


def test_without_ensurepip_the_pip_of_that_python_serves(project: Project) -> None:
    project.install_python("python3.11", STUB.replace('"-c "*)', '"-c import ensurepip") exit 1 ;;\n    "-c "*)'))

    assert project.make_environment("run").returncode == 0
    made, installed = project.calls()
    assert made == "venv --without-pip"
    assert installed.startswith("pip -m pip --python .venv/bin/python install")


def test_a_missing_python_is_named_with_what_to_do(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("python3.11", "python3", "python"):
        project.install_python(name, "#!/bin/sh\nexit 127\n")
    script = (project.folder / ".ci" / "environment").read_text()
    (project.folder / ".ci" / "environment").write_text(
        script.replace(" /usr/local/bin/python3.11 /usr/bin/python3.11", "")
    )

    answer = project.make_environment("run")

    assert answer.returncode != 0
    assert "Python 3.11 with venv or pip is needed. On Debian 12: apt-get install python3 python3-venv" in answer.stderr


def dry_run(*arguments: str) -> str:
    command = ["make", "--no-print-directory", "--dry-run", *arguments]
    plain = {"PATH": os.environ["PATH"]}  # not what an outer `make` was asked for
    return subprocess.run(command, cwd=ROOT, env=plain, capture_output=True, text=True, check=True).stdout


def test_make_demo_runs_the_demo_and_once_ends_it() -> None:
    assert dry_run("demo").splitlines() == [
        ".ci/environment run",
        "exec .venv/bin/python -m include.demo --stop-with-parent ",
    ]
    assert dry_run("demo", "ONCE=1").splitlines()[-1].endswith("--stop-with-parent --once")
    assert not dry_run("demo", "ONCE=0").splitlines()[-1].endswith("--once")


def test_the_checks_of_ci_are_make_test() -> None:
    assert (ROOT / ".ci" / "run").read_text().splitlines()[-1] == "exec make test"
    assert dry_run("test").splitlines() == [".ci/environment dev", "exec .venv/bin/python -m pytest "]


def test_make_check_runs_every_check() -> None:
    commands = dry_run("check")

    for check in ("ruff format --check", "ruff check", "mypy", "importlinter", "pytest"):
        assert check in commands


def test_nothing_names_a_package_host() -> None:
    for file in (ROOT / "Makefile", *(ROOT / ".ci").iterdir(), *ROOT.glob("requirements*")):
        text = file.read_text()
        assert "://" not in text.replace("https://docs.astral.sh", ""), file
        assert "--index-url" not in text, file
