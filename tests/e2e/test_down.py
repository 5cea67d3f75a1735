"""After `pyctl down` nothing of ours is left: no process, mount, namespace, link, nftables rule or cgroup."""

import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest

pytestmark = [pytest.mark.root, pytest.mark.e2e]


def traces(cluster) -> dict[str, list[str]]:
    """What bears the cluster's name or data directory on this host."""
    name = json.loads(cluster.pyctl("status", "-o", "json", check=False).stdout or "{}").get("name") or cluster.name
    data = str(cluster.data)

    def lines(*command):
        return subprocess.run(command, capture_output=True, text=True).stdout.splitlines()

    processes = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            groups = (folder / "cgroup").read_text()
        except OSError:
            continue
        if int(folder.name) != os.getpid() and (data in arguments or name in arguments or name in groups):
            processes.append(f"{folder.name} {arguments}")
    base = pathlib.Path("/sys/fs/cgroup")
    cgroups = [str(path) for top in (base, *base.glob("*")) for path in top.glob(f"{name}*") if path.is_dir()]
    rules = lines("nft", "list", "tables") if shutil.which("nft") else []
    return {
        "processes": processes,
        "mounts": [line for line in lines("cat", "/proc/mounts") if data in line or name in line],
        "links": [line for line in lines("ip", "-o", "link") if name in line],
        "nftables": [line for line in rules if name in line],
        "cgroups": cgroups,
        "run": [str(path) for path in pathlib.Path("/run").glob(f"{name}*")],
        "netns": [str(path) for path in pathlib.Path("/run/netns").glob(f"{name}*")],
    }


def remember_name(cluster):
    cluster.name = json.loads(cluster.pyctl("status", "-o", "json").stdout)["name"]


def test_down_leaves_nothing_and_keeps_the_data(own_cluster):
    remember_name(own_cluster)
    own_cluster.run_pod("one", "/usr/bin/busybox", "sleep", "1000000")
    own_cluster.run_pod("two", "/usr/bin/busybox", "sleep", "1000000")
    busy = traces(own_cluster)
    assert busy["processes"] and busy["links"] and busy["mounts"] and busy["cgroups"], busy
    own_cluster.pyctl("down", timeout=120)
    assert traces(own_cluster) == {key: [] for key in busy}
    assert own_cluster.pyctl("down").returncode == 0, "down is idempotent"
    own_cluster.pyctl("up")
    own_cluster.until(lambda: own_cluster.pyctl("get", "nodes", "-o", "name").stdout.startswith("node/"), "the node")
    own_cluster.pyctl("down", "--purge", timeout=120)
    assert not own_cluster.data.exists()


def test_down_after_everything_was_killed(own_cluster):
    remember_name(own_cluster)
    own_cluster.run_pod("one", "/usr/bin/busybox", "sleep", "1000000")
    for name, pid in sorted(own_cluster.processes().items(), key=lambda item: item[0] != "supervisor"):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pytest.fail(f"{name} ({pid}) was not alive")
    own_cluster.pyctl("down", timeout=120)
    left = traces(own_cluster)
    assert left == {key: [] for key in left}


def test_two_clusters_side_by_side(cluster, own_cluster):
    own_cluster.run_pod("neighbour", "/usr/bin/busybox", "sleep", "1000000")
    assert cluster.pod("neighbour") is None
    assert (
        json.loads(cluster.pyctl("status", "-o", "json").stdout)["name"]
        != json.loads(own_cluster.pyctl("status", "-o", "json").stdout)["name"]
    )
    own_cluster.pyctl("down", timeout=120)
    assert "Ready" in cluster.pyctl("get", "nodes").stdout
