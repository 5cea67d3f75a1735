"""On a kernel with cgroup v2 alone, in a virtual machine: node capacity, a whole cluster, and the runtime's own tests.

The machine under development may have cgroup v1; users have v2. The runtime's integration tests are run in the guest as
they are, one guest test run per file, so that a failure here names the same test that a developer runs on the host.
"""

import json
import pathlib
import re
import textwrap
import time

import pytest

from .image import CHECKOUT

pytestmark = [pytest.mark.root, pytest.mark.long]

PATTERN = "tests/integration/test_runtime*.py"
GUEST_TESTS = [
    *(sorted(path.relative_to(CHECKOUT) for path in CHECKOUT.glob(PATTERN)) or [pathlib.Path(PATTERN)]),
    pathlib.Path("tests/vm/runtime_on_v2.py"),
]
# Emulated instructions take ten to twenty times as long.
FILE_SECONDS = 1500


def in_guest(vm, source, timeout=120):
    """Runs Python in the guest, in the checkout; returns what it printed as JSON."""
    done = vm.run("python3 -", timeout, stdin=textwrap.dedent(source).encode())
    assert done.code == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


def test_the_machine_has_cgroup_v2_alone(vm):
    controllers = vm.check("cat /sys/fs/cgroup/cgroup.controllers").split()
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= set(controllers)
    mounts = [line.split(" - ")[1].split()[0] for line in vm.check("cat /proc/self/mountinfo").splitlines()]
    assert mounts.count("cgroup2") == 1 and "cgroup" not in mounts
    # As under systemd, a command is not in the root, where the rules of v2 do not hold.
    assert re.fullmatch(r"0::/commands/\d+\n", vm.check("cat /proc/self/cgroup"))


CAPACITY = """
    import json, pathlib
    from nodeagent.capacity import find_cgroups, read_capacity
    root = pathlib.Path("/")
    def seen(parent, **more):
        found = read_capacity(root, parent, root, **more)
        return [found.cpu_milli, found.memory_bytes, found.pids]
"""


def test_capacity_without_limits_is_the_machine_itself(vm):
    found = in_guest(
        vm,
        CAPACITY
        + """
    cgroups = find_cgroups(root)
    print(json.dumps([cgroups.version, sorted(cgroups.mounts), seen("/pods-to-come"), seen("/", affinity=1)]))
    """,
    )
    memory = int(vm.check("awk '/MemTotal/ {print $2}' /proc/meminfo")) * 1024
    tasks = min(int(vm.check(f"cat /proc/sys/kernel/{name}")) for name in ("pid_max", "threads-max"))
    assert found == [
        2,
        ["cpu", "cpuset", "memory", "pids"],
        [2000, memory, tasks],
        [1000, memory, tasks],
    ]


def test_capacity_is_the_least_along_the_chain_and_follows_changes(vm):
    found = in_guest(
        vm,
        CAPACITY
        + """
    top = root / "sys/fs/cgroup/capacity"
    pods = top / "pods"
    pods.mkdir(parents=True)
    steps = {}
    try:
        steps["none"] = seen("/capacity/pods")[0]
        (top / "cgroup.subtree_control").write_text("+cpu +cpuset +memory +pids")
        (top / "cpu.max").write_text("150000 100000")
        (top / "memory.max").write_text(str(512 << 20))
        (pods / "memory.max").write_text(str(768 << 20))
        (pods / "pids.max").write_text("123")
        steps["chain"] = seen("/capacity/pods")
        (pods / "cpuset.cpus").write_text("1")
        (pods / "memory.max").write_text(str(256 << 20))
        steps["tighter"] = seen("/capacity/pods")
        (pods / "cpu.max").write_text("12500 50000")
        (pods / "pids.max").write_text("max")
        (top / "pids.max").write_text("99")
        steps["lower"] = seen("/capacity/pods")
        # The sibling has only what its ancestors have.
        (top / "other").mkdir()
        steps["sibling"] = seen("/capacity/other")
    finally:
        for directory in (top / "other", pods, top):
            if directory.exists():
                directory.rmdir()
    print(json.dumps(steps))
    """,
    )
    assert found == {
        "none": 2000,
        "chain": [1500, 512 << 20, 123],
        "tighter": [1000, 256 << 20, 123],
        "lower": [250, 256 << 20, 99],
        "sibling": [1500, 512 << 20, 99],
    }


def test_memory_pressure_counts_what_cannot_be_dropped(vm):
    """200 MiB of page cache under a limit of 256 MiB is no pressure; the same as anonymous memory is."""
    found = in_guest(
        vm,
        CAPACITY
        + """
    import subprocess, sys
    from nodeagent.capacity import read_pressure
    cgroup = root / "sys/fs/cgroup/pressure"
    cgroup.mkdir()
    (cgroup / "memory.max").write_text(str(256 << 20))
    file = pathlib.Path("/var/tmp/cached")
    holders = {
        "cache": f"import os; file = open('{file}', 'wb', 0); file.write(bytes(200 << 20)); os.fsync(file)",
        "anonymous": "held = b'x' * (200 << 20)",
    }
    steps = {}
    try:
        for name, source in holders.items():
            process = subprocess.Popen([sys.executable, "-c", source + "; print('held', flush=True); input()"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                       preexec_fn=lambda: (cgroup / "cgroup.procs").write_text("0"))
            assert process.stdout.readline() == "held\\n", name
            used = int((cgroup / "memory.current").read_text()) > 200 << 20
            steps[name] = [used, read_pressure(root, "/pressure", root, read_capacity(root, "/pressure", root)).memory]
            process.communicate("\\n")
            file.unlink(missing_ok=True)
    finally:
        cgroup.rmdir()
    print(json.dumps(steps))
    """,
    )
    assert found == {"cache": [True, False], "anonymous": [True, True]}


@pytest.mark.parametrize("path", GUEST_TESTS, ids=lambda path: path.stem)
def test_runtime(vm, path: pathlib.Path):
    command = f"python3 -m pytest -rs -p no:cacheprovider {path}"
    done = vm.run(command, FILE_SECONDS, env={"PYCTL_TEST_PATIENCE": "10"})
    assert done.code == 0, f"in the guest:\n{done.stdout[-20000:]}\n{done.stderr[-5000:]}\n{vm.console(20)}"
    assert re.search(r"\d+ passed", done.stdout) and "skipped" not in done.stdout, done.stdout


POD = """
apiVersion: v1
kind: Pod
metadata: {name: NAME}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: local/busybox:1
    command: [/usr/bin/busybox, sh, -c, 'SCRIPT']
    resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 500m, memory: 64Mi}}
"""


@pytest.fixture(scope="module")
def cluster(vm):
    """`pyctl up` in the guest, with an image; afterwards `pyctl down` has to leave nothing."""
    vm.check("pyctl up --timeout 400", 450)
    vm.check("pyctl image build --from-host /usr/bin/busybox -t local/busybox:1", 120)
    yield vm
    vm.check("pyctl down --purge", 180)
    left = "find /sys/fs/cgroup -name 'pyctl-????????'; ip -o link | grep pyctl; nft list tables | grep pyctl; :"
    assert vm.check(left) == ""


def apply(vm, name, script):
    done = vm.run("pyctl apply -f -", 120, stdin=POD.replace("NAME", name).replace("SCRIPT", script).encode())
    assert done.code == 0, done.stderr


def test_a_pod_of_a_whole_cluster_is_held_by_its_groups(cluster):
    apply(cluster, "held", "echo started; exec busybox sleep 100000")
    cluster.check("pyctl wait --for=condition=Ready pod/held --timeout=200s", 240)
    pod = json.loads(cluster.check("pyctl get pod held -o json"))
    container = pod["status"]["containerStatuses"][0]["containerID"].partition("://")[2]
    (inner,) = cluster.check(f"find /sys/fs/cgroup -name {container}").split()
    limits = {"cpu.max": "50000 100000", "memory.max": str(64 << 20)}
    # .../pod<uid>/<sandbox>/<container>: the agent names the first, the runtime makes them and limits the other two.
    sandbox = pathlib.PurePath(inner).parent
    assert sandbox.parent.name == f"pod{pod['metadata']['uid']}", inner
    for group in (inner, sandbox):
        assert {name: cluster.check(f"cat {group}/{name}").strip() for name in limits} == limits, group
    assert cluster.check("pyctl exec held -- busybox cat /sys/fs/cgroup/memory.max /proc/self/cgroup").split() == [
        str(64 << 20),
        "0::/",
    ]
    node = json.loads(cluster.check("pyctl get nodes -o json"))["items"][0]
    memory = cluster.check("awk '/MemTotal/ {print $2}' /proc/meminfo").strip()
    assert (node["status"]["capacity"]["cpu"], node["status"]["capacity"]["memory"]) == ("2", f"{memory}Ki")


def test_memory_over_the_limit_is_told_by_a_whole_cluster(cluster):
    apply(cluster, "greedy", "busybox dd if=/dev/zero of=/dev/null bs=200M count=1; exit $?")
    cluster.check("pyctl wait --for=jsonpath={.status.phase}=Failed pod/greedy --timeout=200s", 240)
    pod = json.loads(cluster.check("pyctl get pod greedy -o json"))
    assert pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137


def test_containers_do_not_notice_that_agent_and_runtime_are_killed(cluster):
    def parts():
        status = json.loads(cluster.check("pyctl status -o json"))
        return {part["name"]: part["pid"] for part in status["components"] if part["pid"]}

    apply(cluster, "steady", "exec busybox sleep 100000")
    cluster.check("pyctl wait --for=condition=Ready pod/steady --timeout=200s", 240)
    before = parts()
    inside = cluster.check("pyctl exec steady -- busybox stat -c %Y /proc/1")
    cluster.check(f"kill -9 {before['nodeagent']} {before['runtime']}")
    deadline = time.monotonic() + 300
    while (now := parts()).keys() != before.keys() or now["nodeagent"] == before["nodeagent"]:
        assert time.monotonic() < deadline, now
    assert now["runtime"] != before["runtime"] and now["apiserver"] == before["apiserver"]
    answer = cluster.run("until pyctl exec steady -- busybox stat -c %Y /proc/1; do :; done", 200)
    assert answer.stdout == inside
    pod = json.loads(cluster.check("pyctl get pod steady -o json"))
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
