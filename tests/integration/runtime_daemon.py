"""A runtime daemon of its own for tests: own network namespace, own cgroup parent, own root; all gone afterwards."""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import grpc

from pb.cri.v1 import api_pb2 as cri
from pb.cri.v1 import api_pb2_grpc
from pb.pyctl.runtime.v1 import runtime_pb2, runtime_pb2_grpc
from runtime.linux.constants import CLONE_NEWNET
from runtime.linux.kernel import RealKernel

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
IMAGE = "test.local/busybox:1"
# Generous, for these tests run on emulated machines too.
CALL_SECONDS = 60
_NUMBERS = itertools.count()
# Multiplies deadlines: tests/vm runs these tests on an emulated processor.
PATIENCE = float(os.environ.get("PYCTL_TEST_PATIENCE", "1"))


def eventually(holds, seconds=60.0):
    """The first true value of `holds()`; an assertion error when the time is over."""
    deadline = time.monotonic() + seconds * PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
    return found


def cgroups(path: str) -> list[pathlib.Path]:
    """The directories of a group, which may be a pattern, in every tree of this machine."""
    base = pathlib.Path("/sys/fs/cgroup")
    found = [*base.glob(path.strip("/")), *base.glob(f"*/{path.strip('/')}")]
    return [directory for directory in found if directory.is_dir()]


class Daemon:
    """`runtime` and `images` are CRI stubs, `extra` our own Images service."""

    def __init__(
        self, home: pathlib.Path, *options: str, share_network: bool = False, prepare_ahead: bool = True
    ) -> None:
        self.home = home
        self.root = home / "root"
        self.socket = home / "r.sock"
        self.logs = home / "logs"
        self.log = home / "daemon.log"
        self.parent = f"/pyctl-test-{os.getpid()}-{next(_NUMBERS)}"
        (home / "config.toml").write_text(f"prepare_ahead = {str(prepare_ahead).lower()}\n")
        self.options = ("--config", str(home / "config.toml"), *options)
        # A namespace for the bridge, kept by a sleeping holder so that it outlives a killed daemon.
        # Tests that connect to the daemon's own port enter it too, by `share_network`.
        self.holder = subprocess.Popen(["unshare", "-n", "sleep", "100000"])
        eventually(lambda: self._namespace("net") != os.readlink("/proc/self/ns/net"))
        self._home_namespace = os.open("/proc/self/ns/net", os.O_RDONLY) if share_network else -1
        if share_network:
            RealKernel().setns(os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)
        self.inside("ip", "link", "set", "lo", "up")
        self.process = None
        self.channel = None

    def _namespace(self, kind: str) -> str:
        with contextlib.suppress(OSError):
            return os.readlink(f"/proc/{self.holder.pid}/ns/{kind}")
        return os.readlink(f"/proc/self/ns/{kind}")

    def inside(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess:
        """Run a command in the daemon's network namespace."""
        enter = ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        return subprocess.run([*enter, *argv], check=check, capture_output=True, text=True)

    def command(self, *more: str) -> list[str]:
        return [
            *("nsenter", f"--net=/proc/{self.holder.pid}/ns/net"),
            *(sys.executable, "-m", "runtime", "--root", str(self.root), "--socket", str(self.socket)),
            *("--cgroup-parent", self.parent, "--pod-cidr", "10.89.7.0/24", *self.options, *more),
        ]

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command(), cwd=CHECKOUT, stdout=log, stderr=log)
        self.connect()

    def connect(self) -> None:
        if self.channel is not None:
            self.channel.close()
        self.channel = grpc.insecure_channel(f"unix:{self.socket}")
        self.runtime = api_pb2_grpc.RuntimeServiceStub(self.channel)
        self.images = api_pb2_grpc.ImageServiceStub(self.channel)
        self.extra = runtime_pb2_grpc.ImagesStub(self.channel)

        def answers():
            assert self.process.poll() is None, self.log.read_text()
            try:
                return self.runtime.Version(cri.VersionRequest(), timeout=CALL_SECONDS, wait_for_ready=True)
            except grpc.RpcError:
                return None

        eventually(answers)

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(CALL_SECONDS)

    def build_image(self, *programs: str, tag: str = IMAGE) -> None:
        request = runtime_pb2.BuildFromHostRequest(programs=programs, tag=tag, entrypoint=["/usr/bin/busybox"])
        self.extra.BuildFromHost(request, timeout=60)

    def cleanup(self) -> subprocess.CompletedProcess:
        return subprocess.run(self.command("--cleanup"), cwd=CHECKOUT, capture_output=True, text=True)

    def close(self) -> None:
        if self.channel is not None:
            self.channel.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()
        done = self.cleanup()
        if self._home_namespace >= 0:
            RealKernel().setns(self._home_namespace, CLONE_NEWNET)
            os.close(self._home_namespace)
        self.holder.kill()
        self.holder.wait()
        for directory in cgroups(self.parent):
            with contextlib.suppress(OSError):
                directory.rmdir()
        shutil.rmtree(self.home, ignore_errors=True)
        assert done.returncode == 0, done.stderr

    # Requests, with what a test does not care about filled in.

    def sandbox_config(self, name: str = "pod", **more) -> cri.PodSandboxConfig:
        return cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, uid=f"uid-{name}", namespace="default"),
            hostname=more.pop("hostname", name),
            log_directory=str(self.logs / name),
            **more,
        )

    def run_sandbox(self, name: str = "pod", **more) -> str:
        request = cri.RunPodSandboxRequest(config=self.sandbox_config(name, **more))
        return self.runtime.RunPodSandbox(request, timeout=CALL_SECONDS).pod_sandbox_id

    def create(self, sandbox: str, *command: str, name: str = "main", **more) -> str:
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=name, attempt=more.pop("attempt", 0)),
            image=cri.ImageSpec(image=more.pop("image", IMAGE)),
            command=command,
            log_path=f"{name}.log",
            **more,
        )
        request = cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=config)
        return self.runtime.CreateContainer(request, timeout=CALL_SECONDS).container_id

    def start_container(self, container: str) -> None:
        self.runtime.StartContainer(cri.StartContainerRequest(container_id=container), timeout=CALL_SECONDS)

    def run(self, sandbox: str, *command: str, **more) -> str:
        container = self.create(sandbox, *command, **more)
        self.start_container(container)
        return container

    def shell(self, sandbox: str, script: str, **more) -> str:
        return self.run(sandbox, "/usr/bin/busybox", "sh", "-c", script, **more)

    def status(self, container: str) -> cri.ContainerStatus:
        request = cri.ContainerStatusRequest(container_id=container)
        return self.runtime.ContainerStatus(request, timeout=CALL_SECONDS).status

    def sandbox_status(self, sandbox: str) -> cri.PodSandboxStatus:
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        return self.runtime.PodSandboxStatus(request, timeout=CALL_SECONDS).status

    def wait_exit(self, container: str, seconds: float = 60.0) -> cri.ContainerStatus:
        def exited():
            status = self.status(container)
            return status if status.state == cri.ContainerState.CONTAINER_EXITED else None

        return eventually(exited, seconds)

    def exec(self, container: str, *command: str, timeout: int = 10) -> cri.ExecSyncResponse:
        request = cri.ExecSyncRequest(container_id=container, cmd=command, timeout=timeout)
        return self.runtime.ExecSync(request, timeout=timeout + CALL_SECONDS)

    def sh(self, container: str, script: str) -> str:
        answer = self.exec(container, "/usr/bin/busybox", "sh", "-c", script)
        assert answer.exit_code == 0, answer
        return answer.stdout.decode()

    def read_log(self, container: str) -> list[tuple[str, str, str]]:
        """(stream, tag, content) of each record."""
        records = []
        for line in pathlib.Path(self.status(container).log_path).read_text().splitlines():
            _, stream, tag, content = (line + " ").split(" ", 3)
            records.append((stream, tag, content[:-1]))
        return records

    def output(self, container: str) -> str:
        self.wait_exit(container)
        return "\n".join(content for _, _, content in self.read_log(container))

    def remove_sandbox(self, sandbox: str) -> None:
        self.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=sandbox), timeout=CALL_SECONDS)
        self.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox), timeout=CALL_SECONDS)
