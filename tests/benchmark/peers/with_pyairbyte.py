# /// script
# dependencies = ["airbyte==0.71.3"]
#
# [tool.peer]
# name = "PyAirbyte + source-salesforce"
# shown = ["airbyte", "airbyte-source-salesforce"]
# table = "salesforce.contact"
# notes = "Bulk API 2.0 (`force_use_bulk_api`), all fields of Contact, since they cannot be chosen; it knows login.salesforce.com only, which a `sitecustomize` of its environment leads to the simulator; goes on from 10 minutes before the newest SystemModstamp (`lookback_window`) and takes texts such as NA for none (`preserve_na_values` is off), both as by default"
#
# [tool.peer.environments]
# source = ["airbyte-source-salesforce==2.10.3"]
# ///
"""PyAirbyte with a connector that was installed beforehand, into its PostgreSQL cache."""

import json
import os
from pathlib import Path

import airbyte as ab
from airbyte.caches import PostgresCache

task = json.loads(os.environ["PEER"])
login, postgres = task["salesforce"], task["postgres"]
source = ab.get_source(
    "source-salesforce",
    local_executable=Path(task["environments"]["source"]) / "bin" / "source-salesforce",
    config={
        "auth_type": "Client",
        "client_id": login["consumer_key"],
        "client_secret": login["consumer_secret"],
        "refresh_token": login["refresh_token"],
        "start_date": task["start"],
        "force_use_bulk_api": True,
    },
    streams=["Contact"],
)
cache = PostgresCache(
    host=postgres["host"],
    port=postgres["port"],
    username=postgres["user"],
    password=postgres["password"],
    database=postgres["database"],
    schema_name="salesforce",
    cache_dir=Path(task["folder"]) / "cache",
)
source.read(cache=cache)
