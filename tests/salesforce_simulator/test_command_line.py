"""The command line: a process of its own that tells where it is and stops when told to."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import requests

from include.salesforce_simulator.control import ControlClient

ROOT = Path(__file__).resolve().parents[2]


def test_it_serves_until_it_is_told_to_stop(tmp_path: Path) -> None:
    ca_file = tmp_path / "trust" / "ca.pem"
    command = [
        sys.executable,
        "-m",
        "include.salesforce_simulator",
        "--ca-file",
        str(ca_file),
        "--data-seed",
        "9",
        "--name",
        "simulator",
    ]
    command += ["--contacts", "30", "--accounts", "5", "--control-token", "chosen"]
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment = {**os.environ, "TMPDIR": str(temporary)}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            assert (ready["ca_file"], ready["control_token"]) == (str(ca_file), "chosen")
            assert sorted(ready["connections"]) == ["client_credentials", "jwt", "oauth_password", "password"]
            with requests.Session() as session:
                session.verify = str(ca_file)
                session.trust_env = False
                assert session.get(ready["url"] + "/services/data", timeout=20).ok
                assert session.get(ready["url"].replace("127.0.0.1", "localhost") + "/services/data", timeout=20).ok
            control = ControlClient(ready["url"], "chosen", str(ca_file))
            assert len(control.records(sobject="Contact")) == 30
            control.close()
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=20)
    assert process.returncode == 0
    assert not list(temporary.iterdir())
