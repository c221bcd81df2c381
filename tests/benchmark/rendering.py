"""Asks for the pages of a sync and throws them away: `python -m tests.benchmark.rendering`.

The simulator keeps what it has rendered, so that the sync which is measured afterwards does not wait for it. Neither the
store nor the staging place of that sync is touched: it would find there what it was sent.
"""

import os
import sys
from tempfile import TemporaryDirectory

import pyarrow as pa

from include.contact_sync.extract import extract_accounts, extract_contacts
from include.contact_sync.salesforce import Salesforce
from include.contact_sync.settings import read_settings
from include.contact_sync.staging import Staging
from tests.benchmark.stage import SETTINGS


def main() -> int:
    """Extract both parts, once."""
    settings = read_settings(SETTINGS.read_text(encoding="utf-8"))
    nobody = pa.array([], pa.string())
    with TemporaryDirectory(dir=os.environ["AIRFLOW_HOME"]) as folder, Salesforce.connect() as salesforce:
        staging = Staging(f"file://{folder}").run(0)
        extract_accounts(salesforce, settings, staging, _say_nothing)
        extract_contacts(salesforce, settings, staging, _say_nothing, linked_accounts=nobody, window=None)
    return 0


def _say_nothing(line: str) -> None:
    pass


if __name__ == "__main__":
    sys.exit(main())
