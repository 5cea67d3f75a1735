"""A single-node cluster: time to node Ready, time from apply to all containers Running, memory at rest.

Peers: `podman kube play` of the same pod in the same run; k3s and k3d are not to be had offline, so their
published figures are quoted (docs.k3s.io resource profiling; minikube's timeToK8s benchmark, v1.36.0).
Floors: 2 s, 300 ms, 250 MB.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _figures import machine, proportional_kib, run, table, timed_ms
from _podman import podman

from apimachinery.kinds.pod import Pod
from componentbase.clock import RealClock
from kubeclient.config import load_kubeconfig
from kubeclient.http_transport import HttpTransport
from kubeclient.rest import Client

PYCTL = str(Path(sys.executable).parent / "pyctl")
IMAGE = "bench/busybox:1"


def manifest(name: str) -> dict[str, object]:
    """Two containers, small limits."""
    resources = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
    container = {"image": IMAGE, "command": ["/usr/bin/busybox", "sleep", "100000"], "resources": resources}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container | {"name": "a"}, container | {"name": "b"}],
        },
    }


def running(pod: Pod) -> bool:
    statuses = pod.status.containerStatuses
    return len(statuses) == 2 and all(each.state is not None and each.state.running is not None for each in statuses)


async def apply_to_running(kubeconfig: Path, count: int) -> list[float]:
    """Milliseconds from sending the create to seeing, by watch, that all containers run; on an idle node."""
    clock = RealClock()
    transport = HttpTransport(load_kubeconfig(kubeconfig))
    client = Client(transport)
    samples = []
    try:
        for number in range(count):
            name = f"bench-{number}"
            await clock.sleep(1.0)
            pod = json.dumps(manifest(name)).encode()
            began = time.perf_counter()
            version = (await client.create(_decoded(pod))).metadata.resourceVersion
            async for event in client.watch(Pod, "default", fields=f"metadata.name={name}", resource_version=version):
                if running(event.object):
                    samples.append((time.perf_counter() - began) * 1000)
                    break
            await client.delete(Pod, name, "default", grace_seconds=0)
    finally:
        await transport.close()
    return samples


def _decoded(data: bytes) -> Pod:
    from apimachinery.codec import decode

    pod = decode(Pod, data).object
    assert isinstance(pod, Pod)
    return pod


def podman_play(count: int) -> tuple[str, list[float] | None, str]:
    """`podman kube play` of the same pod, from command to its return."""
    name, samples = "podman kube play", []
    try:
        with podman() as base, tempfile.TemporaryDirectory(prefix="pyctl-bench-") as folder:
            rootfs = Path(folder, "rootfs/usr/bin")
            rootfs.mkdir(parents=True)
            shutil.copy("/usr/bin/busybox", rootfs / "busybox")
            run(["tar", "-C", f"{folder}/rootfs", "-cf", f"{folder}/root.tar", "."])
            run([*base, "import", f"{folder}/root.tar", IMAGE])
            for number in range(count + 1):
                path = Path(folder, "pod.json")
                path.write_text(json.dumps(manifest(f"bench-{number}")).replace(IMAGE, f"localhost/{IMAGE}"))
                time.sleep(1.0)
                samples.append(timed_ms(lambda path=path: run([*base, "kube", "play", "--network=none", str(path)])))
                subprocess.run([*base, "kube", "down", str(path)], capture_output=True)
    except (FileNotFoundError, SystemExit) as error:
        return name, None, str(error).strip().splitlines()[-1]
    return name, samples[1:], "(no network; its first, which makes its pause image, left out)"


def processes(data: Path) -> dict[str, int]:
    """All our processes by name: the components of `pyctl status` and whatever descends from them."""
    status = json.loads(run([PYCTL, "--data-dir", str(data), "status", "-o", "json"]).stdout)
    named = {each["name"]: each["pid"] for each in status["components"] if each["pid"]}
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    found = set(named.values())
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    others = sorted(found - set(named.values()))
    return named | {f"{Path(f'/proc/{pid}/comm').read_text().strip()} ({pid})": pid for pid in others}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20, help="pods, and starts / 4")
    count = parser.parse_args().count
    data = Path(tempfile.mkdtemp(prefix="pyctl-bench-"))
    pyctl = [PYCTL, "--data-dir", str(data)]
    try:
        run([*pyctl, "up"])
        run([*pyctl, "image", "build", "--from-host", "/usr/bin/busybox", "-t", IMAGE])
        starts = []
        for _ in range(max(3, count // 4)):
            run([*pyctl, "down"])
            starts.append(timed_ms(lambda: run([*pyctl, "up"])))
        table("pyctl up to node Ready, second start", [("k3d 5.8.3 (published: 12.6 s)", [12600.0], "")], starts)

        kubeconfig = Path(run([*pyctl, "kubeconfig"]).stdout.strip())
        samples = asyncio.run(apply_to_running(kubeconfig, count))
        table("apply to all containers Running", [podman_play(max(3, count // 4))], samples)

        time.sleep(5)
        found = processes(data)
        sizes = proportional_kib(found.values())
        total = sum(sizes.values()) / 1024
        print(f"whole cluster at rest, proportional set size\n  machine: {machine()}")
        for name, pid in sorted(found.items()):
            print(f"  {name:34}{sizes.get(pid, 0) / 1024:8.1f} MB")
        print(f"  {'pyctl':34}{total:8.1f} MB")
        print(f"  {'k3s 1.26 (published: 1,428 MB)':34}{1428:8.1f} MB   {1428 / total:5.1f} x ours")
    finally:
        subprocess.run([*pyctl, "down", "--purge"], capture_output=True)
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    main()
