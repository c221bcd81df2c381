"""The directions in which modules may import one another, as pyproject.toml states them."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT


def test_every_import_contract_is_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def test_the_modules_that_decide_can_be_imported_without_airflow_database_or_network() -> None:
    program = (
        "import sys\n"
        "from include.contact_sync import claims, columns, match, phones, plan, transform\n"
        "from include.contact_sync.report import csv_file, model, render\n"
        "print([name for name in ('airflow', 'psycopg', 'adbc_driver_postgresql', 'requests') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
