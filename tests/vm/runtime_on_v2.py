"""`python -m runtime`, driven over gRPC, on a machine with cgroup v2 alone: what a container's group says on the host
and inside, and what is left afterwards. `test_cgroup_v2.py` runs this file in the virtual machine; it needs v2.
"""

import contextlib
import pathlib
import signal
import subprocess
import sys
import time

import grpc
import pytest

from pb.cri.v1 import api_pb2 as cri
from pb.cri.v1 import api_pb2_grpc
from pb.pyctl.runtime.v1 import runtime_pb2, runtime_pb2_grpc

CGROUPS = pathlib.Path("/sys/fs/cgroup")
IMAGE = "local/busybox:1"
MIB = 1 << 20
CALL_SECONDS = 60


def eventually(holds, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
    return found


class Daemon:
    """The runtime as a process of its own, and its services."""

    def __init__(self, root, *options):
        self.root = root
        self.socket = root / "runtime.sock"
        self.options = options
        self.start()

    def start(self):
        self.log = (self.root.parent / "runtime.log").open("ab")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log)
        self.channel = grpc.insecure_channel(f"unix:{self.socket}")
        self.runtime = api_pb2_grpc.RuntimeServiceStub(self.channel)
        try:
            grpc.channel_ready_future(self.channel).result(CALL_SECONDS)
        except grpc.FutureTimeoutError:
            raise AssertionError(self.said()) from None

    def command(self, *more):
        return [sys.executable, "-m", "runtime", "--root", str(self.root), *self.options, *more]

    def said(self):
        return (self.root.parent / "runtime.log").read_text()

    def build(self):
        images = runtime_pb2_grpc.ImagesStub(self.channel)
        request = runtime_pb2.BuildFromHostRequest(programs=["/bin/busybox"], tag=IMAGE)
        images.BuildFromHost(request, timeout=CALL_SECONDS)

    def call(self, verb, request):
        return getattr(self.runtime, verb)(request, timeout=CALL_SECONDS)

    def pod(self, **linux):
        metadata = cri.PodSandboxMetadata(name="pod", uid=str(time.monotonic_ns()), namespace="default")
        config = cri.PodSandboxConfig(metadata=metadata, linux=cri.LinuxPodSandboxConfig(**linux))
        return self.call("RunPodSandbox", cri.RunPodSandboxRequest(config=config)).pod_sandbox_id, config

    def container(self, pod, *command, **resources):
        identifier, sandbox = pod
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=f"c{time.monotonic_ns()}"),
            image=cri.ImageSpec(image=IMAGE),
            command=["/bin/busybox", *command],
            linux=cri.LinuxContainerConfig(resources=cri.LinuxContainerResources(**resources)),
        )
        request = cri.CreateContainerRequest(pod_sandbox_id=identifier, config=config, sandbox_config=sandbox)
        made = self.call("CreateContainer", request).container_id
        self.call("StartContainer", cri.StartContainerRequest(container_id=made))
        return made

    def execute(self, container, *command):
        request = cri.ExecSyncRequest(container_id=container, cmd=["/bin/busybox", *command], timeout=30)
        answer = self.call("ExecSync", request)
        return answer.exit_code, answer.stdout.decode(), answer.stderr.decode()

    def status(self, container):
        return self.call("ContainerStatus", cri.ContainerStatusRequest(container_id=container)).status

    def ended(self, container):
        eventually(lambda: self.status(container).state == cri.CONTAINER_EXITED)
        return self.status(container)

    def stop(self, number=signal.SIGTERM):
        self.channel.close()
        self.process.send_signal(number)
        code = self.process.wait(CALL_SECONDS)
        self.log.close()
        return code

    def end(self):
        """Stops it and takes away everything that it made."""
        if self.process.poll() is None:
            self.stop()
        subprocess.run(self.command("--cleanup"), check=True, capture_output=True, timeout=CALL_SECONDS)


@contextlib.contextmanager
def running(folder, *options):
    daemon = Daemon(folder / "root", *options)
    try:
        daemon.build()
        yield daemon
    finally:
        daemon.end()


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runtime")
    (folder / "root").mkdir()
    before = ours()
    with running(folder) as daemon:
        yield daemon
    assert ours() == before, "left after --cleanup"


@pytest.fixture
def pod(daemon):
    made = daemon.pod()
    yield made
    daemon.call("StopPodSandbox", cri.StopPodSandboxRequest(pod_sandbox_id=made[0]))
    daemon.call("RemovePodSandbox", cri.RemovePodSandboxRequest(pod_sandbox_id=made[0]))


def ours():
    return [str(path) for path in CGROUPS.rglob("pyctl-*")]


def group(identifier):
    (found,) = CGROUPS.rglob(identifier)
    return found


def test_limits_reach_the_kernel_in_the_words_of_v2(daemon, pod):
    container = daemon.container(
        pod,
        *("sleep", "1000"),
        cpu_quota=50_000,
        cpu_period=100_000,
        cpu_shares=1024,
        cpuset_cpus="0",
        memory_limit_in_bytes=64 * MIB,
        memory_swap_limit_in_bytes=64 * MIB,
        unified={"pids.max": "50", "memory.high": str(48 * MIB)},
    )
    files = ("cpu.max", "cpu.weight", "cpuset.cpus", "memory.max", "memory.swap.max", "memory.high", "pids.max")
    found = {name: (group(container) / name).read_text().strip() for name in files}
    assert found == {
        "cpu.max": "50000 100000",
        "cpu.weight": "100",
        "cpuset.cpus": "0",
        "memory.max": str(64 * MIB),
        "memory.swap.max": "0",
        "memory.high": str(48 * MIB),
        "pids.max": "50",
    }
    assert group(container).parent.name == pod[0]
    assert daemon.execute(container, "cat", "/proc/self/cgroup") == (0, "0::/\n", "")
    # What the container sees is its own group, and it cannot change it.
    assert daemon.execute(container, "cat", "/sys/fs/cgroup/memory.max")[:2] == (0, f"{64 * MIB}\n")
    code, _, complaint = daemon.execute(container, "sh", "-c", "echo max > /sys/fs/cgroup/memory.max")
    assert code != 0 and "Read-only file system" in complaint


def test_limits_of_the_pod_hold_for_the_whole_of_it(daemon):
    limits = cri.LinuxContainerResources(cpu_quota=70_000, cpu_period=100_000, memory_limit_in_bytes=96 * MIB)
    made = daemon.pod(resources=limits)
    try:
        directory = group(made[0])
        assert (directory / "cpu.max").read_text() == "70000 100000\n"
        assert (directory / "memory.max").read_text() == f"{96 * MIB}\n"
        greedy = daemon.container(made, "dd", "if=/dev/zero", "of=/dev/null", "bs=160M", "count=1")
        assert daemon.ended(greedy).exit_code == 137
    finally:
        daemon.call("RemovePodSandbox", cri.RemovePodSandboxRequest(pod_sandbox_id=made[0]))
    assert not list(CGROUPS.rglob(made[0]))


def test_every_process_of_a_container_is_in_its_group(daemon, pod):
    container = daemon.container(pod, "sh", "-c", "busybox sleep 1000 & busybox sleep 1000; :")
    eventually(lambda: len((group(container) / "cgroup.procs").read_text().split()) == 3)
    seen = daemon.execute(
        container, "sh", "-c", "busybox cat /proc/self/cgroup; busybox wc -l < /sys/fs/cgroup/cgroup.procs; :"
    )
    assert seen[0] == 0
    lines = seen[1].split()
    # The shell of the exec and wc are there beside the three.
    assert lines == ["0::/", "5"]


def test_memory_over_the_limit_is_told_as_oom_killed(daemon, pod):
    container = daemon.container(
        pod,
        *("dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"),
        memory_limit_in_bytes=16 * MIB,
        memory_swap_limit_in_bytes=16 * MIB,
    )
    status = daemon.ended(container)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


def test_devices_beyond_the_usual_are_refused(daemon, pod):
    container = daemon.container(pod, "sleep", "1000")
    script = "busybox mknod /log c 1 11 && busybox cat /log; echo $?; busybox head -c 1 /dev/zero | busybox wc -c"
    code, text, complaint = daemon.execute(container, "sh", "-c", script)
    assert (code, text.split()) == (0, ["1", "1"])
    assert "Operation not permitted" in complaint


def test_limits_of_a_running_container_can_be_changed(daemon, pod):
    container = daemon.container(pod, "sleep", "1000", memory_limit_in_bytes=64 * MIB, cpu_quota=50_000)
    new = cri.LinuxContainerResources(memory_limit_in_bytes=128 * MIB, cpu_quota=25_000, cpu_period=100_000)
    request = cri.UpdateContainerResourcesRequest(container_id=container, linux=new)
    daemon.call("UpdateContainerResources", request)
    assert (group(container) / "memory.max").read_text() == f"{128 * MIB}\n"
    assert (group(container) / "cpu.max").read_text() == "25000 100000\n"


def test_stopping_takes_the_whole_tree_of_processes(daemon, pod):
    container = daemon.container(pod, "sh", "-c", "trap '' TERM; while :; do busybox sleep 1000; done")
    directory = group(container)
    eventually(lambda: len((directory / "cgroup.procs").read_text().split()) == 2)
    daemon.call("StopContainer", cri.StopContainerRequest(container_id=container, timeout=0))
    assert daemon.status(container).exit_code == 137
    assert (directory / "cgroup.procs").read_text() == ""
    daemon.call("RemoveContainer", cri.RemoveContainerRequest(container_id=container))
    assert not directory.exists()


def test_a_killed_daemon_finds_its_container_and_its_group_again(daemon, pod):
    container = daemon.container(pod, "sleep", "1000", memory_limit_in_bytes=64 * MIB)
    before = (group(container) / "cgroup.procs").read_text()
    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert (group(container) / "cgroup.procs").read_text() == before
    daemon.start()
    assert daemon.status(container).state == cri.CONTAINER_RUNNING
    assert daemon.execute(container, "cat", "/sys/fs/cgroup/memory.max")[:2] == (0, f"{64 * MIB}\n")
    assert (group(container) / "cgroup.procs").read_text() == before


def test_pods_go_below_the_parent_that_was_named(tmp_path):
    (tmp_path / "root").mkdir()
    with running(tmp_path, "--cgroup-parent", "/machines.slice/inner") as daemon:
        made = daemon.pod()
        container = daemon.container(made, "sleep", "1000", memory_limit_in_bytes=64 * MIB)
        assert group(container).is_relative_to(CGROUPS / "machines.slice/inner")
        assert (group(container) / "memory.max").read_text() == f"{64 * MIB}\n"
        slice_of_its_own = daemon.pod(cgroup_parent="kubepods-burstable.slice")
        assert group(slice_of_its_own[0]).parent == CGROUPS / "kubepods.slice/kubepods-burstable.slice"
    assert not list(CGROUPS.glob("machines.slice/inner/*/"))


def test_a_parent_that_holds_processes_is_refused_with_the_cure(tmp_path):
    (tmp_path / "root").mkdir()
    parent = CGROUPS / "busy"
    parent.mkdir()
    holder = subprocess.Popen(["sleep", "1000"])
    try:
        (parent / "cgroup.procs").write_text(str(holder.pid))
        with running(tmp_path, "--cgroup-parent", "/busy") as daemon:
            with pytest.raises(grpc.RpcError, match="holds processes, move them into a child group"):
                daemon.pod()
    finally:
        holder.kill()
        holder.wait()
        eventually(lambda: "populated 0" in (parent / "cgroup.events").read_text())
        for path in sorted(parent.rglob("*/"), reverse=True):
            path.rmdir()
        parent.rmdir()
