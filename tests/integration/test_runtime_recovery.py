"""kill -9 of each part of the runtime: containers do not notice, and everything is known again afterwards."""

import os
import pathlib
import signal
import subprocess

import grpc
import pytest

from pb.cri.v1 import api_pb2 as cri

from .runtime_daemon import CHECKOUT, Daemon, cgroups, eventually

pytestmark = pytest.mark.root

RUNNING, EXITED = cri.ContainerState.CONTAINER_RUNNING, cri.ContainerState.CONTAINER_EXITED
READY, NOT_READY = cri.PodSandboxState.SANDBOX_READY, cri.PodSandboxState.SANDBOX_NOTREADY


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    daemon = Daemon(tmp_path_factory.mktemp("recovery"))
    try:
        daemon.start()
        daemon.build_image("busybox")
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def sandbox(daemon, request):
    if daemon.process.poll() is not None:
        daemon.start()
    identifier = daemon.run_sandbox(request.node.name[:60])
    yield identifier
    if daemon.process.poll() is not None:
        daemon.start()
    daemon.remove_sandbox(identifier)


def info(daemon, container):
    answer = daemon.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True))
    return answer.info


def shim_pid(daemon, sandbox):
    answer = daemon.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox, verbose=True))
    return int(answer.info["shimPid"])


def test_a_container_does_not_notice_the_death_of_the_daemon(daemon, sandbox):
    container = daemon.shell(sandbox, "i=0; while true; do i=$((i+1)); echo line $i; usleep 20000; done")
    eventually(lambda: len(daemon.read_log(container)) > 3)
    before, pid, address = daemon.status(container), info(daemon, container)["pid"], daemon.sandbox_status(sandbox)
    log = pathlib.Path(before.log_path)
    daemon.kill()
    at_death = len(log.read_text().splitlines())
    eventually(lambda: len(log.read_text().splitlines()) > at_death + 5)
    daemon.start()
    after = daemon.status(container)
    assert after == before
    assert info(daemon, container)["pid"] == pid
    assert daemon.sandbox_status(sandbox) == address
    assert daemon.sh(container, "echo alive") == "alive\n"
    daemon.runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=0))
    lines = [content for _, _, content in daemon.read_log(container)]
    assert lines == [f"line {n + 1}" for n in range(len(lines))], "no line lost or written twice"


def test_an_exit_while_the_daemon_is_dead_is_known_afterwards(daemon, sandbox):
    gate = daemon.home / "gate"
    gate.mkdir(exist_ok=True)
    mount = cri.Mount(container_path="/gate", host_path=str(gate))
    script = "until [ -e /gate/open ]; do usleep 10000; done; echo last words; exit 7"
    container = daemon.shell(sandbox, script, mounts=[mount])
    log = pathlib.Path(daemon.status(container).log_path)
    daemon.kill()
    (gate / "open").touch()
    eventually(lambda: "last words" in log.read_text())
    state = daemon.root / "sandboxes" / sandbox / "containers" / container / "state.json"
    eventually(lambda: '"exited"' in state.read_text())
    daemon.start()
    status = daemon.status(container)
    assert (status.state, status.exit_code, status.reason) == (EXITED, 7, "Error")
    assert status.finished_at > status.started_at > 0
    assert daemon.read_log(container) == [("stdout", "F", "last words")]


def test_a_created_container_can_be_started_by_the_next_daemon(daemon, sandbox):
    container = daemon.create(sandbox, "/usr/bin/busybox", "sh", "-c", "echo started; exit 4")
    daemon.kill()
    daemon.start()
    assert daemon.status(container).state == cri.ContainerState.CONTAINER_CREATED
    daemon.start_container(container)
    assert daemon.wait_exit(container).exit_code == 4
    assert daemon.read_log(container) == [("stdout", "F", "started")]


def test_the_zygote_is_started_again(daemon, sandbox):
    container = daemon.shell(sandbox, "sleep 1000")
    status = daemon.runtime.Status(cri.StatusRequest(verbose=True))
    os.kill(int(status.info["zygotePid"]), signal.SIGKILL)
    other = daemon.run_sandbox("after-zygote")
    try:
        assert daemon.wait_exit(daemon.shell(other, "exit 5")).exit_code == 5
    finally:
        daemon.remove_sandbox(other)
    assert daemon.sh(container, "echo fine") == "fine\n"


@pytest.mark.parametrize("down", [False, True], ids=["seen", "found"])
def test_a_pod_whose_shim_was_killed_is_ended_and_reported(daemon, sandbox, down):
    container = daemon.shell(sandbox, "sleep 1000")
    pid = int(info(daemon, container)["pid"])
    shim = shim_pid(daemon, sandbox)
    if down:
        daemon.kill()
    os.kill(shim, signal.SIGKILL)
    if down:
        daemon.start()
    status = daemon.wait_exit(container)
    assert (status.exit_code, status.reason) == (255, "Unknown")
    eventually(lambda: not pathlib.Path(f"/proc/{pid}").exists())
    eventually(lambda: daemon.sandbox_status(sandbox).state == NOT_READY)


def test_a_shim_that_hangs_is_killed_and_leaves_nothing_running(daemon):
    options = cri.NamespaceOption(pid=cri.NamespaceMode.POD)
    security = cri.LinuxSandboxSecurityContext(namespace_options=options)
    pod = daemon.run_sandbox("hanging", linux=cri.LinuxPodSandboxConfig(security_context=security))
    linux = cri.LinuxContainerConfig(security_context=cri.LinuxContainerSecurityContext(namespace_options=options))
    container = daemon.run(pod, "/usr/bin/busybox", "sleep", "1000", linux=linux)
    shim = shim_pid(daemon, pod)
    children = pathlib.Path(f"/proc/{shim}/task/{shim}/children").read_text().split()
    assert info(daemon, container)["pid"] in children and len(children) >= 2
    os.kill(shim, signal.SIGSTOP)
    daemon.remove_sandbox(pod)
    eventually(lambda: not any(pathlib.Path(f"/proc/{pid}").exists() for pid in [shim, *children]))


def test_a_container_is_stopped_although_its_shim_hangs(daemon, sandbox):
    container = daemon.run(sandbox, "/usr/bin/busybox", "sleep", "1000")
    os.kill(shim_pid(daemon, sandbox), signal.SIGSTOP)
    daemon.runtime.StopContainer(cri.StopContainerRequest(container_id=container, timeout=1), timeout=60)
    assert daemon.status(container).exit_code == 255
    eventually(lambda: daemon.sandbox_status(sandbox).state == NOT_READY)


def test_a_state_that_cannot_be_written_costs_nobody_his_life(daemon, sandbox):
    """As on a full disk."""
    ending = daemon.shell(sandbox, "while ! [ -e /go ]; do usleep 10000; done; exit 3", name="ending")
    other = daemon.run(sandbox, "/usr/bin/busybox", "sleep", "1000", name="other")
    (daemon.root / "sandboxes" / sandbox / "containers" / ending / "state.json.new").mkdir()
    daemon.sh(ending, "touch /go")
    assert daemon.wait_exit(ending).exit_code == 3
    daemon.kill()
    daemon.start()
    assert daemon.status(ending).exit_code == 3
    assert daemon.status(other).state == cri.ContainerState.CONTAINER_RUNNING


def test_a_creation_that_was_cut_off_is_swept(daemon, sandbox):
    daemon.kill()
    leftover = daemon.root / "sandboxes" / ("ab" * 32)
    (leftover / "containers").mkdir(parents=True)
    lease = daemon.root / "network" / "leases" / "10.89.7.200"
    lease.write_text("ab" * 32)
    daemon.start()
    assert not leftover.exists()
    assert not lease.exists()
    assert daemon.sandbox_status(sandbox).state == READY


def test_a_second_daemon_is_refused(daemon, sandbox):
    second = subprocess.run(daemon.command(), capture_output=True, text=True, timeout=20, cwd=CHECKOUT)
    assert second.returncode == 1
    assert f"another runtime (pid {daemon.process.pid}) is using {daemon.root}" in second.stderr
    assert daemon.sandbox_status(sandbox).state == READY


def test_sigterm_ends_the_daemon_alone(daemon, sandbox):
    container = daemon.shell(sandbox, "sleep 1000")
    pid = info(daemon, container)["pid"]
    stream = daemon.runtime.GetContainerEvents(cri.GetEventsRequest())
    daemon.status(container)
    assert daemon.stop() == 0
    # A listener is let go, not cut off: its stream ends without an error.
    assert {event.container_id for event in stream} <= {container, sandbox}
    assert pathlib.Path(f"/proc/{pid}").exists()
    with pytest.raises(grpc.RpcError):
        daemon.status(container)
    daemon.start()
    assert daemon.status(container).state == RUNNING
    assert info(daemon, container)["pid"] == pid


def traces(daemon, marker):
    """What of a root is still on the machine: processes, mounts, cgroups, links, tables."""
    found = []
    for proc in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            command = (proc / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if marker in command:
            found.append(command)
    mounts = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
    found += [line for line in mounts if str(daemon.root) in line]
    found += map(str, cgroups(f"{daemon.parent}/*"))
    found += [line for line in daemon.inside("ip", "-o", "link").stdout.splitlines() if "lo:" not in line]
    found += daemon.inside("nft", "list", "tables", check=False).stdout.splitlines()
    found += map(str, (daemon.root / "network" / "leases").glob("*"))
    return found


def test_cleanup_leaves_nothing_even_when_the_daemon_is_dead(tmp_path):
    daemon = Daemon(tmp_path)
    try:
        daemon.start()
        daemon.build_image("busybox")
        sandbox = daemon.run_sandbox("pod")
        marker = "sleep 918273"
        daemon.shell(sandbox, f"{marker} & {marker}")
        eventually(lambda: len(traces(daemon, marker)) > 3)
        daemon.kill()
        assert traces(daemon, marker)
        for _ in range(2):
            done = daemon.cleanup()
            assert done.returncode == 0, done.stderr
            assert traces(daemon, marker) == []
        assert not list((daemon.root / "sandboxes").iterdir())
    finally:
        daemon.close()


def prepared(daemon):
    return daemon.runtime.Status(cri.StatusRequest(verbose=True)).info["preparedSandbox"]


def test_a_sandbox_is_prepared_for_the_next_pod_wherever_its_cgroup_belongs(tmp_path):
    daemon = Daemon(tmp_path)
    try:
        daemon.start()
        daemon.build_image("busybox")
        root = f"{daemon.parent}/{daemon.inside('ip', '-o', 'link', 'show', 'type', 'bridge').stdout.split(': ')[1]}"
        for number, parent in enumerate(["", f"{root}/pod-of-ours", f"{daemon.parent}/elsewhere/pod"]):
            ready = eventually(lambda: prepared(daemon))
            sandbox = daemon.run_sandbox(f"pod-{number}", linux=cri.LinuxPodSandboxConfig(cgroup_parent=parent))
            assert sandbox == ready
            container = daemon.shell(sandbox, "hostname; sleep 1000")
            eventually(lambda c=container: daemon.read_log(c))
            assert daemon.read_log(container) == [("stdout", "F", f"pod-{number}")]
            group = info(daemon, container)["cgroup"]
            assert group.endswith(f"/{sandbox}/{container}")
            assert group.startswith(f"{parent}/{sandbox}" if parent else f"{root}/")
            joined = pathlib.Path(f"/proc/{info(daemon, container)['pid']}/cgroup").read_text().splitlines()
            assert group in [line.split(":")[2] for line in joined]
        ready = eventually(lambda: prepared(daemon))
        daemon.kill()
        daemon.start()
        assert not (daemon.root / "sandboxes" / ready).exists(), "the prepared one is swept"
        for item in daemon.runtime.ListPodSandbox(cri.ListPodSandboxRequest()).items:
            daemon.remove_sandbox(item.id)
        eventually(lambda: prepared(daemon))
        assert daemon.stop() == 0
        assert "veth" not in daemon.inside("ip", "-d", "-o", "link").stdout
        assert not cgroups(f"{root}/*")
        assert not [*(daemon.root / "sandboxes").iterdir(), *(daemon.root / "ns").iterdir()]
    finally:
        daemon.close()
        for name in ("/elsewhere/pod", "/elsewhere", ""):
            for directory in cgroups(daemon.parent + name):
                directory.rmdir()


@pytest.mark.parametrize("damage", ["record", "config", "containers", "empty"])
def test_a_damaged_sandbox_is_removed_and_the_others_are_served(daemon, sandbox, damage):
    container = daemon.shell(sandbox, "sleep 1000")
    broken = daemon.run_sandbox("broken")
    inner = daemon.shell(broken, "sleep 1000")
    pid = int(info(daemon, inner)["pid"])
    daemon.kill()
    home = daemon.root / "sandboxes" / broken
    if damage == "record":
        (home / "record.json").write_text("{")
    elif damage == "config":
        (home / "config.pb").write_bytes(b"\xff\xff")
    elif damage == "containers":
        (home / "containers" / inner / "config.pb").unlink()
    else:
        (home / "containers" / inner / "state.json").write_text("")
    daemon.start()
    assert daemon.sh(container, "echo served") == "served\n"
    if damage == "empty":
        # The shim knows better than the disk.
        assert daemon.status(inner).state == RUNNING
    else:
        eventually(lambda: not pathlib.Path(f"/proc/{pid}").exists())
    if damage in ("record", "config"):
        assert not home.exists()
    else:
        daemon.remove_sandbox(broken)


def test_a_damaged_image_index_is_named_and_does_not_hinder_cleaning_up(tmp_path):
    daemon = Daemon(tmp_path)
    try:
        daemon.start()
        daemon.build_image("busybox")
        daemon.shell(daemon.run_sandbox("pod"), "sleep 1000")
        daemon.kill()
        index = daemon.root / "images" / "index.json"
        index.write_text("{")
        again = subprocess.run(daemon.command(), capture_output=True, text=True, timeout=60, cwd=CHECKOUT)
        assert again.returncode == 1
        assert str(index) in again.stderr and "Traceback" not in again.stderr
        assert daemon.cleanup().returncode == 0
        assert traces(daemon, "no marker") == []
    finally:
        daemon.close()
