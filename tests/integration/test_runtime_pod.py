"""Pods: what their containers share, their network and limits, what is told of them, and what they leave: nothing."""

import contextlib
import os
import pathlib
import threading

import grpc
import pytest

from pb.cri.v1 import api_pb2 as cri

from .runtime_daemon import Daemon, cgroups, eventually

pytestmark = pytest.mark.root

BUSYBOX = "/usr/bin/busybox"
MIB = 1 << 20
POD, CONTAINER, NODE, TARGET = range(4)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    # What is compared here before and after must not change because a sandbox is prepared for the next pod.
    daemon = Daemon(tmp_path_factory.mktemp("pod"), prepare_ahead=False)
    try:
        daemon.start()
        daemon.build_image("busybox")
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def pods(daemon):
    """Makes sandboxes that are removed again."""
    made = []

    def make(name="pod", **more):
        made.append(daemon.run_sandbox(name, **more))
        return made[-1]

    yield make
    for sandbox in made:
        daemon.remove_sandbox(sandbox)


def options(network=POD, pid=CONTAINER, ipc=POD, **more):
    return cri.NamespaceOption(network=network, pid=pid, ipc=ipc, **more)


def sandbox_linux(namespaces=None, **more):
    security = cri.LinuxSandboxSecurityContext(namespace_options=namespaces or options())
    return cri.LinuxPodSandboxConfig(security_context=security, **more)


def container_linux(namespaces=None, resources=None, **security):
    context = cri.LinuxContainerSecurityContext(namespace_options=namespaces or options(), **security)
    return cri.LinuxContainerConfig(security_context=context, resources=resources)


def group_files(daemon, container, name):
    """Contents of a cgroup file of a container, from whichever hierarchy has it."""
    verbose = daemon.runtime.ContainerStatus(cri.ContainerStatusRequest(container_id=container, verbose=True))
    path = verbose.info["cgroup"].lstrip("/")
    roots = [pathlib.Path("/sys/fs/cgroup"), *pathlib.Path("/sys/fs/cgroup").iterdir()]
    found = [(root / path / name).read_text().strip() for root in roots if (root / path / name).is_file()]
    return found[0] if found else None


# What is shared


def test_containers_of_a_pod_share_network_ipc_and_names(daemon, pods):
    pod = pods("shared", hostname="my-host")
    server = daemon.shell(pod, "echo hello > /index.html; httpd -f -p 127.0.0.1:8080 -h /", name="server")
    script = "until wget -q -O - http://127.0.0.1:8080/index.html; do usleep 50000; done; hostname; touch /dev/shm/seen"
    client = daemon.shell(pod, script, name="client")
    assert daemon.output(client).splitlines() == ["hello", "my-host"]
    assert daemon.sh(server, "ls /dev/shm; hostname") == "seen\nmy-host\n"
    for space in ("net", "ipc", "uts"):
        pin = daemon.root / "ns" / pod / space
        inside = daemon.sh(server, f"readlink /proc/self/ns/{space}").strip()
        assert inside == f"{space}:[{pin.stat().st_ino}]"
    assert daemon.sh(server, "ls / | grep -c index") == "1\n"


def test_pods_reach_each_other_and_the_host(daemon, pods):
    one, two = pods("one"), pods("two")
    first, second = (daemon.sandbox_status(pod).network.ip for pod in (one, two))
    assert first != second and first.startswith("10.89.7.")
    server = daemon.shell(one, "mkdir /w; echo page > /w/p; httpd -f -p 80 -h /w", name="server")
    eventually(lambda: "0050" in daemon.sh(server, "cat /proc/net/tcp /proc/net/tcp6"))
    client = daemon.run(two, BUSYBOX, "sleep", "1000", name="client")
    assert daemon.sh(client, f"wget -q -O - http://{first}/p") == "page\n"
    assert daemon.sh(client, "ping -c 1 -W 2 10.89.7.1 > /dev/null && echo gateway") == "gateway\n"
    assert daemon.inside(BUSYBOX, "wget", "-q", "-O", "-", f"http://{first}/p").stdout == "page\n"
    assert "default via 10.89.7.1 dev eth0" in daemon.sh(client, "ip route")
    mtu = daemon.sh(client, "cat /sys/class/net/eth0/mtu").strip()
    assert mtu == "1500"


def test_masquerading_stands_in_a_table_of_our_own(daemon, pods):
    pods("out")
    tables = daemon.inside("nft", "list", "tables").stdout.split("\n")
    name = next(line for line in tables if line).split()[-1]
    assert tables == [f"table ip {name}", ""]
    rules = daemon.inside("nft", "list", "table", "ip", name).stdout
    assert "10.89.7.0/24" in rules and "masquerade" in rules
    assert name in daemon.inside("ip", "-o", "link", "show", "type", "bridge").stdout


def test_files_in_etc(daemon, pods):
    dns = cri.DNSConfig(servers=["10.1.2.3"], searches=["a.b", "c.d"], options=["ndots:5"])
    pod = pods("files", hostname="named", dns_config=dns)
    container = daemon.run(pod, BUSYBOX, "sleep", "1000")
    address = daemon.sandbox_status(pod).network.ip
    assert daemon.sh(container, "cat /etc/resolv.conf") == "search a.b c.d\nnameserver 10.1.2.3\noptions ndots:5\n"
    assert daemon.sh(container, "cat /etc/hostname") == "named\n"
    assert f"{address}\tnamed\n" in daemon.sh(container, "cat /etc/hosts")


def test_a_pod_on_the_nodes_namespaces(daemon, pods):
    node = options(network=NODE, pid=NODE, ipc=NODE)
    pod = pods("node", linux=sandbox_linux(node))
    assert daemon.sandbox_status(pod).network.ip == ""
    container = daemon.run(pod, BUSYBOX, "sleep", "1000", linux=container_linux(node))
    holder = f"/proc/{daemon.holder.pid}/ns/net"
    assert daemon.sh(container, "readlink /proc/self/ns/net").strip() == os.readlink(holder)
    for space in ("ipc", "pid", "uts"):
        assert daemon.sh(container, f"readlink /proc/self/ns/{space}").strip() == os.readlink(f"/proc/self/ns/{space}")
    assert daemon.sh(container, f"test -d /proc/{os.getpid()} && echo sees") == "sees\n"


def test_the_end_of_a_container_in_the_nodes_pid_namespace_ends_its_children(daemon, pods):
    node = options(pid=NODE)
    pod = pods("node-pid", linux=sandbox_linux(node))
    container = daemon.shell(pod, "sleep 33441 & sleep 33441 & exit 3", linux=container_linux(node))
    assert daemon.wait_exit(container).exit_code == 3

    def alive():
        return [p for p in pathlib.Path("/proc").glob("[0-9]*/cmdline") if b"33441" in _read(p)]

    eventually(lambda: not alive())


def _read(path):
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def test_a_pid_namespace_for_the_whole_pod(daemon, pods):
    shared = options(pid=POD)
    pod = pods("pod-pid", linux=sandbox_linux(shared))
    one = daemon.run(pod, BUSYBOX, "sleep", "1001", name="one", linux=container_linux(shared))
    two = daemon.shell(pod, "(sleep 0.01 &); sleep 1002", name="two", linux=container_linux(shared))
    seen = daemon.sh(one, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "sleep 1001" in seen and "sleep 1002" in seen
    # Orphans are reaped by the pod's first process.
    eventually(lambda: "Z" not in daemon.sh(two, "grep -h State /proc/[0-9]*/status"))
    daemon.runtime.StopContainer(cri.StopContainerRequest(container_id=two, timeout=0))
    assert daemon.sh(one, "echo lives") == "lives\n"


def test_joining_the_pid_namespace_of_another_container(daemon, pods):
    pod = pods("target")
    target = daemon.run(pod, BUSYBOX, "sleep", "1003", name="target")
    linux = container_linux(options(pid=TARGET, target_id=target))
    debugger = daemon.run(pod, BUSYBOX, "sleep", "1004", name="debugger", linux=linux)
    assert daemon.sh(debugger, "cat /proc/1/cmdline | tr '\\0' ' '") == "/usr/bin/busybox sleep 1003 "


def test_sysctls(daemon, pods):
    pod = pods(
        "sysctl", linux=sandbox_linux(sysctls={"net.ipv4.ip_unprivileged_port_start": "1", "kernel.shmmni": "77"})
    )
    container = daemon.run(pod, BUSYBOX, "sleep", "1000")
    script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shmmni"
    assert daemon.sh(container, script) == "1\n77\n"


@pytest.mark.parametrize(
    ("more", "code", "text"),
    [
        ({"linux": sandbox_linux(sysctls={"vm.swappiness": "1"})}, grpc.StatusCode.INVALID_ARGUMENT, "not namespaced"),
        (
            {"linux": sandbox_linux(options(network=NODE), sysctls={"net.core.somaxconn": "1"})},
            grpc.StatusCode.INVALID_ARGUMENT,
            "node's network namespace",
        ),
        ({"linux": sandbox_linux(sysctls={"net.no.such": "1"})}, grpc.StatusCode.UNKNOWN, "sysctl net.no.such=1"),
        ({"hostname": "a\nb"}, grpc.StatusCode.INVALID_ARGUMENT, "hostname"),
        (
            {"port_mappings": [cri.PortMapping(container_port=80, host_port=8080)]},
            grpc.StatusCode.UNIMPLEMENTED,
            "host port 8080",
        ),
        (
            {"linux": sandbox_linux(options(userns_options=cri.UserNamespace(mode=POD)))},
            grpc.StatusCode.UNIMPLEMENTED,
            "user namespaces",
        ),
    ],
)
def test_a_sandbox_that_cannot_be_leaves_nothing(daemon, more, code, text):
    before = traces(daemon)
    with pytest.raises(grpc.RpcError) as caught:
        daemon.run_sandbox("impossible", **more)
    assert caught.value.code() == code
    assert text in caught.value.details()
    assert traces(daemon) == before
    listed = daemon.runtime.ListPodSandbox(cri.ListPodSandboxRequest())
    assert "impossible" not in [item.metadata.name for item in listed.items]


def traces(daemon):
    """Everything that sandboxes leave while they live."""
    found = [str(path) for path in cgroups(f"{daemon.parent}/*/*")]
    found += [
        line.split()[4]
        for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        if str(daemon.root) in line
    ]
    found += [
        line.split(": ")[1] for line in daemon.inside("ip", "-o", "link", "show", "type", "veth").stdout.splitlines()
    ]
    for directory in ("sandboxes", "snapshots", "ns", "network/leases", "images/pins"):
        found += map(str, (daemon.root / directory).iterdir())
    parents = {}
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            pid, _, rest = stat.read_text().partition(" ")
            parents[int(pid)] = int(rest.rpartition(") ")[2].split()[1])
    return sorted(found), sorted(pid for pid, parent in parents.items() if parent == daemon.process.pid)


def test_nothing_is_left_of_a_pod(daemon):
    before = traces(daemon)
    pod = daemon.run_sandbox("gone")
    shim = int(
        daemon.runtime.PodSandboxStatus(cri.PodSandboxStatusRequest(pod_sandbox_id=pod, verbose=True)).info["shimPid"]
    )
    daemon.shell(pod, "sleep 1000 & sleep 1000", name="one")
    daemon.create(pod, BUSYBOX, "true", name="two")
    assert traces(daemon) != before
    for _ in range(2):
        daemon.runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=pod))
    assert daemon.sandbox_status(pod).state == cri.PodSandboxState.SANDBOX_NOTREADY
    assert daemon.sandbox_status(pod).network.ip == ""
    with pytest.raises(grpc.RpcError, match="not ready"):
        daemon.create(pod, BUSYBOX, "true", name="three")
    for _ in range(2):
        daemon.runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=pod))
    assert traces(daemon) == before
    eventually(lambda: not pathlib.Path(f"/proc/{shim}").exists())


def test_twenty_pods_at_once(daemon):
    before = traces(daemon)
    results = []

    def cycle(number):
        pod = daemon.run_sandbox(f"many-{number}")
        container = daemon.shell(pod, "ip -4 addr show eth0 | grep -o 'inet [0-9.]*'")
        results.append((daemon.output(container).split()[1], daemon.sandbox_status(pod).network.ip))
        daemon.remove_sandbox(pod)

    threads = [threading.Thread(target=cycle, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 20
    assert all(inside == told for inside, told in results)
    assert traces(daemon) == before


# Limits and numbers


def test_limits_reach_the_cgroup(daemon, pods):
    resources = cri.LinuxContainerResources(
        cpu_shares=512, cpu_quota=50000, cpu_period=100000, memory_limit_in_bytes=64 * MIB, unified={"pids.max": "40"}
    )
    container = daemon.run(pods("limits"), BUSYBOX, "sleep", "1000", linux=container_linux(resources=resources))
    v1 = group_files(daemon, container, "memory.limit_in_bytes") is not None
    expected = (
        {
            "cpu.shares": "512",
            "cpu.cfs_quota_us": "50000",
            "memory.limit_in_bytes": str(64 * MIB),
            "pids.max": "40",
        }
        if v1
        else {"cpu.weight": "59", "cpu.max": "50000 100000", "memory.max": str(64 * MIB), "pids.max": "40"}
    )
    assert {name: group_files(daemon, container, name) for name in expected} == expected
    changed = cri.LinuxContainerResources(cpu_quota=80000, cpu_period=100000, memory_limit_in_bytes=96 * MIB)
    daemon.runtime.UpdateContainerResources(cri.UpdateContainerResourcesRequest(container_id=container, linux=changed))
    limit = "memory.limit_in_bytes" if v1 else "memory.max"
    assert group_files(daemon, container, limit) == str(96 * MIB)
    linux = daemon.status(container).resources.linux
    assert (linux.cpu_quota, linux.cpu_shares, linux.memory_limit_in_bytes) == (80000, 512, 96 * MIB)


def test_a_container_that_takes_too_much_memory_is_oom_killed(daemon, pods):
    resources = cri.LinuxContainerResources(memory_limit_in_bytes=15 * MIB, memory_swap_limit_in_bytes=15 * MIB)
    command = (BUSYBOX, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M")
    container = daemon.run(pods("oom"), *command, linux=container_linux(resources=resources))
    status = daemon.wait_exit(container)
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


def test_too_many_processes_are_refused_by_the_kernel(daemon, pods):
    resources = cri.LinuxContainerResources(unified={"pids.max": "5"})
    script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 100 & done; echo done"
    container = daemon.shell(pods("pids"), script, linux=container_linux(resources=resources))
    daemon.wait_exit(container)
    assert any("can't fork" in content for _, _, content in daemon.read_log(container))


def test_a_container_is_limited_from_its_first_instruction(daemon, pods):
    pod = pods("first")
    for name in ("one", "two"):
        container = daemon.run(pod, BUSYBOX, "cat", "/proc/self/cgroup", name=name)
        lines = daemon.output(container).splitlines()
        own = [line for line in lines if line.endswith(":/")]
        assert len(own) >= min(len(lines), 8), lines


def test_stats(daemon, pods):
    pod = pods("stats")
    work = "dd if=/dev/zero of=/file bs=1M count=4 2>/dev/null; i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
    script = f"{work}; echo done; sleep 1000"
    container = daemon.shell(pod, script)
    eventually(lambda: daemon.read_log(container))

    def used():
        stats = daemon.runtime.ContainerStats(cri.ContainerStatsRequest(container_id=container)).stats
        return stats if stats.cpu.usage_core_nano_seconds.value > 50_000_000 else None

    stats = eventually(used)
    assert stats.memory.working_set_bytes.value > 0
    assert stats.writable_layer.used_bytes.value >= 4 * MIB
    assert stats.attributes.metadata.name == "main"
    whole = daemon.runtime.PodSandboxStats(cri.PodSandboxStatsRequest(pod_sandbox_id=pod)).stats
    assert whole.linux.cpu.usage_core_nano_seconds.value >= stats.cpu.usage_core_nano_seconds.value
    assert [each.attributes.id for each in whole.linux.containers] == [container]
    assert whole.linux.network.default_interface.name == "eth0"
    listed = daemon.runtime.ListContainerStats(cri.ListContainerStatsRequest())
    assert container in [each.attributes.id for each in listed.stats]


# What is told


def test_events_are_told_at_once(daemon):
    told = []
    stream = daemon.runtime.GetContainerEvents(cri.GetEventsRequest())

    def listen():
        with contextlib.suppress(grpc.RpcError):
            for event in stream:
                told.append(event)

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        # The subscription itself is not answered, so a first sandbox is made until it is heard of.
        def heard():
            daemon.remove_sandbox(daemon.run_sandbox("warm-up"))
            return told

        eventually(heard)
        pod = daemon.run_sandbox("told")
        container = daemon.shell(pod, "exit 6")
        daemon.wait_exit(container)
        daemon.remove_sandbox(pod)
        eventually(lambda: any(e.container_id == pod and e.container_event_type == 3 for e in told))
    finally:
        stream.cancel()
        listener.join()
    assert [e.container_event_type for e in told if e.container_id == container] == [0, 1, 2, 3]
    assert [e.container_event_type for e in told if e.container_id == pod] == [0, 1, 2, 3]
    stopped = next(e for e in told if e.container_id == container and e.container_event_type == 2)
    assert stopped.pod_sandbox_status.id == pod
    assert [(c.id, c.exit_code) for c in stopped.containers_statuses] == [(container, 6)]


def test_version_status_and_config(daemon):
    version = daemon.runtime.Version(cri.VersionRequest())
    assert (version.runtime_name, version.runtime_api_version) == ("pyctl", "v1")
    status = daemon.runtime.Status(cri.StatusRequest())
    conditions = {each.type: each.status for each in status.status.conditions}
    assert conditions["RuntimeReady"] and conditions["NetworkReady"]
    assert {handler.name for handler in status.runtime_handlers} == {"", "pyctl"}
    config = daemon.runtime.RuntimeConfig(cri.RuntimeConfigRequest())
    assert config.linux.cgroup_driver == cri.CgroupDriver.CGROUPFS
    with pytest.raises(grpc.RpcError) as caught:
        daemon.runtime.CheckpointContainer(cri.CheckpointContainerRequest())
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_the_zygote_is_small(daemon):
    pid = daemon.runtime.Status(cri.StatusRequest(verbose=True)).info["zygotePid"]
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert int(fields["VmRSS"].split()[0]) < 15 * 1024
    assert fields["Threads"].strip() == "1"
