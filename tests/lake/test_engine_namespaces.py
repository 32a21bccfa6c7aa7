"""A Dask cluster whose scheduler and workers have a network each, as on machines of their own: every message is one row."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.whole  # it starts processes

SCRIPT = Path(__file__).parent.parent / "helpers" / "dask_in_namespaces.py"


def allowed():
    """Whether this machine lets us make namespaces and join them: root with `ip`, as a rule, and not in a container."""
    tried = "ip link add ours type veth peer name theirs && ip link add br0 type bridge"
    try:
        return subprocess.run(["unshare", "--net", "sh", "-c", tried], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not allowed(), reason="this machine allows no network namespaces (root, unshare, ip with bridges)")
def test_scheduler_and_workers_have_a_network_each_one_is_killed_and_every_message_is_one_row():
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (SCRIPT.parent, Path(__file__).parent)))}
    command = ["unshare", "--net", sys.executable, SCRIPT]
    done = subprocess.run(command, env=found, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["workers"] == ["tcp://10.77.0.3", "tcp://10.77.0.4"]
    assert said["killed"]
    assert (said["rows"], said["keys"], said["most"]) == (20_000, 20_000, 1)
