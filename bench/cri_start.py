"""RunPodSandbox + CreateContainer + StartContainer over gRPC, network included, beside crun, runc and podman.

Ours does more than the peers do here: pod network, log files, the CRI's records on disk. The peers run /bin/true of the
same busybox from a root directory to its end. Starts are half a second apart, because the first cgroup attach after a
pause is what users wait for; `--back-to-back` drops the pause. The floor is 40 ms (containerd 2.3: 140).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
from _figures import run, table
from _podman import podman

from pb.cri.v1 import api_pb2 as cri
from pb.cri.v1 import api_pb2_grpc as cri_grpc
from pb.pyctl.runtime.v1 import runtime_pb2, runtime_pb2_grpc

BUSYBOX = "/usr/bin/busybox"


@contextlib.contextmanager
def runtime(root: Path) -> Iterator[grpc.Channel]:
    """Our runtime on a fresh root, ended and cleaned up afterwards."""
    socket = root / "r.sock"
    command = [sys.executable, "-m", "runtime", "--root", str(root / "root"), "--socket", str(socket)]
    daemon = subprocess.Popen(command, stderr=(root / "log").open("w"))
    channel = grpc.insecure_channel(f"unix://{socket}")
    try:
        grpc.channel_ready_future(channel).result(timeout=20)
        yield channel
    finally:
        channel.close()
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(20)
        run([sys.executable, "-m", "runtime", "--root", str(root / "root"), "--cleanup"])


def ours(root: Path, count: int, pause: float) -> list[float]:
    samples = []
    with runtime(root) as channel:
        service = cri_grpc.RuntimeServiceStub(channel)
        images = runtime_pb2_grpc.ImagesStub(channel)
        built = images.BuildFromHost(runtime_pb2.BuildFromHostRequest(programs=[BUSYBOX], tag="bench/busybox:1"))
        for number in range(count):
            sandbox_config = cri.PodSandboxConfig(
                metadata=cri.PodSandboxMetadata(name=f"bench{number}", uid=f"bench{number}", namespace="bench"),
                log_directory=str(root / "logs"),
            )
            container_config = cri.ContainerConfig(
                metadata=cri.ContainerMetadata(name="c"),
                image=cri.ImageSpec(image=built.reference),
                command=[BUSYBOX, "true"],
                log_path=f"{number}.log",
            )
            time.sleep(pause)

            began = time.perf_counter()
            pod = service.RunPodSandbox(cri.RunPodSandboxRequest(config=sandbox_config)).pod_sandbox_id
            made = service.CreateContainer(
                cri.CreateContainerRequest(pod_sandbox_id=pod, config=container_config, sandbox_config=sandbox_config)
            )
            service.StartContainer(cri.StartContainerRequest(container_id=made.container_id))
            samples.append((time.perf_counter() - began) * 1000)
            service.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=pod))
            service.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=pod))
    return samples


def bundle(root: Path) -> Path:
    """An OCI bundle with busybox, limits and rlimits that this machine allows."""
    path = root / "bundle"
    for name in ("bin", "proc", "sys", "dev", "etc", "tmp"):
        (path / "rootfs" / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, path / "rootfs/bin/busybox")
    (path / "rootfs/bin/true").symlink_to("busybox")
    run(["runc", "spec"], cwd=path)
    config = json.loads((path / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/true"], "rlimits": []}
    config["process"].pop("oomScoreAdj", None)
    (path / "config.json").write_text(json.dumps(config))
    return path


def peer(command: list[str], directory: Path, count: int, pause: float) -> list[float] | str:
    """Wall times of `command` with a fresh name each, or why it does not run.

    crun refuses a hybrid cgroup tree, so each peer gets a mount namespace of its own in which the v2 tree is hidden.
    """
    hide = "mount --make-rprivate / && if mountpoint -q /sys/fs/cgroup/unified; then umount /sys/fs/cgroup/unified; fi"
    samples = []
    for number in range(count):
        time.sleep(pause)
        # The namespace is made before the clock starts: the shell waits for a line.
        line = f"{hide}; echo ready; read -r go; exec {' '.join(command)} bench-{os.getpid()}-{number}"
        if command[0] == "podman":
            line = f"echo ready; read -r go; exec {' '.join(command)}"
        shell = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", line],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert shell.stdin is not None
        assert shell.stdout is not None
        shell.stdout.readline()
        began = time.perf_counter()
        _, errors = shell.communicate("go\n", timeout=60)
        samples.append((time.perf_counter() - began) * 1000)
        if shell.returncode != 0:
            return errors.strip().splitlines()[-1] if errors.strip() else f"exit code {shell.returncode}"
    return samples


def peers(root: Path, count: int, pause: float) -> list[tuple[str, list[float] | None, str]]:
    directory = bundle(root)
    rows: list[tuple[str, list[float] | None, str]] = []
    with contextlib.ExitStack() as stack:
        commands = {"crun run": ["crun", "run"], "runc run": ["runc", "run"]}
        try:
            base = stack.enter_context(podman())
        except FileNotFoundError as error:
            rows.append(("podman run", None, str(error)))
        else:
            options = ["--rm", "--network=none", "--rootfs", str(directory / "rootfs"), "/bin/true"]
            commands["podman run"] = [*base, "run", *options]
        for name, command in commands.items():
            if shutil.which(command[0]) is None:
                rows.append((name, None, f"{command[0]} is not installed"))
                continue
            result = peer(command, directory, count, pause)
            rows.append((name, None, result) if isinstance(result, str) else (name, result, ""))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--back-to-back", action="store_true", help="no pause between starts")
    options = parser.parse_args()
    pause = 0.0 if options.back_to_back else 0.5
    with tempfile.TemporaryDirectory(prefix="pyctl-bench-") as directory:
        mine = ours(Path(directory), options.count, pause)
        others = peers(Path(directory), options.count, pause)
    table("sandbox, container and start (median, p10 .. p90)", others, mine)


if __name__ == "__main__":
    main()
