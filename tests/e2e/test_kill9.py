"""kill -9 of each part while a pod runs.

The container never notices, every part comes back by itself, and no acknowledged write is lost.
"""

import json
import os
import re
import signal
import subprocess
import threading
import time

import pytest

pytestmark = [pytest.mark.root, pytest.mark.e2e]

PARTS = ("apiserver", "scheduler", "nodeagent", "runtime", "supervisor")
ROUNDS = 10 if os.environ.get("PYCTL_TEST_LONG") else 1


@pytest.fixture(scope="module")
def ticking(cluster):
    """A pod that writes a line every tenth of a second and keeps its start in its memory."""
    script = "n=0; while true; do n=$((n+1)); echo tick $n; busybox sleep 0.1; done"
    cluster.run_pod("ticking", "/usr/bin/busybox", "sh", "-c", script)
    yield "ticking"
    cluster.pyctl("delete", "pod", "ticking")


def container(cluster, name):
    return cluster.pod(name)["status"]["containerStatuses"][0]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("round_number", range(ROUNDS))
def test_part_comes_back_and_nobody_notices(cluster, ticking, part, round_number):
    before = container(cluster, ticking)
    last = int(re.findall(r"tick (\d+)", cluster.pyctl("logs", ticking, "--tail", "1").stdout)[-1])
    pids = cluster.processes()
    acknowledged: list[str] = []
    stop = threading.Event()

    def write() -> None:
        """Config maps all the while; only those whose creation was acknowledged count."""
        number = 0
        while not stop.is_set():
            name = f"w-{part}-{round_number}-{number}"
            body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}})
            if cluster.pyctl("apply", "-f", "-", stdin=body, check=False).returncode == 0:
                acknowledged.append(name)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        cluster.until(lambda: acknowledged, "the first write")
        os.kill(pids[part], signal.SIGKILL)
        killed = time.monotonic()
        if part == "supervisor":
            # Its children serve on; the next `up` adopts or replaces them.
            assert ticking in cluster.pyctl("get", "pods").stdout
            cluster.pyctl("up")
        cluster.until(lambda: cluster.processes().get(part) not in (None, pids[part]), f"{part} to come back", 10)
        cluster.until(
            lambda: re.search(r"^ticking +1/1 +Running +0", cluster.kubectl("get", "pods", check=False).stdout, re.M),
            "kubectl get pods to be right again",
            max(0.5, 10 - (time.monotonic() - killed)),
        )
    finally:
        stop.set()
        writer.join(60)
    after = container(cluster, ticking)
    assert (after["containerID"], after["restartCount"]) == (before["containerID"], 0)
    ticks = [int(each) for each in re.findall(r"tick (\d+)", cluster.pyctl("logs", ticking).stdout)]
    assert ticks == list(range(1, len(ticks) + 1)) and ticks[-1] > last, "a line is missing or doubled"
    kept = set(cluster.pyctl("get", "configmaps", "-o", "name").stdout.split())
    assert [name for name in acknowledged if f"configmap/{name}" not in kept] == []
    # And it still works: exec into the old pod, a new pod from start to end.
    assert cluster.pyctl("exec", ticking, "--", "/usr/bin/busybox", "echo", "hi").stdout == "hi\n"
    cluster.run_pod(f"after-{part}", "/usr/bin/busybox", "sleep", "1000000")
    cluster.pyctl("delete", "pod", f"after-{part}")
    cluster.kubectl("delete", "configmaps", *acknowledged)


def test_exit_while_the_runtime_is_dead_is_not_lost(cluster):
    """The shim keeps exit code and log for a runtime that is not there."""
    script = "busybox sleep 0.5; echo bye; exit 5"
    cluster.run_pod("leaver", "/usr/bin/busybox", "sh", "-c", script, wait=False, restartPolicy="Never")
    cluster.until(lambda: (cluster.pod("leaver")["status"].get("phase")) == "Running", "Running")
    os.kill(cluster.processes()["runtime"], signal.SIGKILL)
    pod = cluster.until(lambda: (pod := cluster.pod("leaver"))["status"].get("phase") == "Failed" and pod, "Failed")
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 5
    assert cluster.pyctl("logs", "leaver").stdout == "bye\n"
    cluster.pyctl("delete", "pod", "leaver")


def test_pod_deleted_while_the_agent_is_dead(cluster):
    cluster.run_pod("orphan", "/usr/bin/busybox", "sleep", "1000000")
    os.kill(cluster.processes()["nodeagent"], signal.SIGKILL)
    cluster.pyctl("delete", "pod", "orphan", "--wait=false")
    cluster.until(lambda: cluster.pod("orphan") is None, "the agent to finish the deletion")
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert "busybox sleep 1000000\n" not in listed
