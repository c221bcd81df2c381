# /// script
# dependencies = ["tap-salesforce==2.8.1"]
#
# [tool.peer]
# name = "tap-salesforce + target-postgres"
# shown = ["tap-salesforce", "meltanolabs-target-postgres"]
# table = "salesforce.Contact"
# notes = "REST API, since its bulk mode is Bulk API 1.0, which the simulator does not have; it knows login.salesforce.com only, which a `sitecustomize` of its environment leads to the simulator; goes on from the newest SystemModstamp"
#
# [tool.peer.environments]
# target = ["meltanolabs-target-postgres==0.8.1"]
# ///
"""A Singer tap and target: two processes and a pipe, with the state kept from one sync to the next."""

import json
import os
import subprocess
import sys
from pathlib import Path

task = json.loads(os.environ["PEER"])
folder, login, postgres = Path(task["folder"]), task["salesforce"], task["postgres"]
tap = [str(Path(sys.executable).with_name("tap-salesforce")), "--config", str(folder / "tap.json")]
target = [f"{task['environments']['target']}/bin/target-postgres", "--config", str(folder / "target.json")]
catalog, state = folder / "catalog.json", folder / "state.json"


def write(path, content):
    """Write a JSON file that only its owner can read."""
    path.touch(mode=0o600)
    path.write_text(json.dumps(content))


def choose(discovered):
    """The catalog with Contact alone, of which only the wanted fields are read."""
    stream = next(one for one in discovered["streams"] if one["stream"] == "Contact")
    for entry in stream["metadata"]:
        if not entry["breadcrumb"]:
            entry["metadata"] |= {
                "selected": True,
                "replication-method": "INCREMENTAL",
                "replication-key": "SystemModstamp",
            }
        else:
            entry["metadata"]["selected"] = entry["breadcrumb"][-1] in {*task["fields"], "IsDeleted"}
    return {"streams": [stream]}


write(
    folder / "tap.json",
    {
        "client_id": login["consumer_key"],
        "client_secret": login["consumer_secret"],
        "refresh_token": login["refresh_token"],
        "start_date": task["start"],
        "api_type": "REST",
    },
)
write(
    folder / "target.json",
    {
        **{name: postgres[name] for name in ("host", "port", "user", "password", "database")},
        "default_target_schema": "salesforce",
        "use_copy": True,
    },
)
if not catalog.exists():
    found = subprocess.run([*tap, "--discover"], stdout=subprocess.PIPE, check=True)
    write(catalog, choose(json.loads(found.stdout)))
resume = ["--state", str(state)] if state.exists() else []
with (folder / "states.jsonl").open("w+b") as states:
    reading = subprocess.Popen([*tap, "--properties", str(catalog), *resume], stdout=subprocess.PIPE)
    writing = subprocess.Popen(target, stdin=reading.stdout, stdout=states)
    reading.stdout.close()
    codes = reading.wait(), writing.wait()
    if any(codes):
        sys.exit(f"the tap ended with {codes[0]}, the target with {codes[1]}")
    states.seek(0)
    write(state, json.loads(states.read().splitlines()[-1]))
