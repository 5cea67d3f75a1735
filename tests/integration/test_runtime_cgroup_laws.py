"""What a control group of ours does to real processes, whichever trees the machine has.

Says nothing of files and versions: on the host this meets cgroup v1 or a hybrid, in the virtual machine of tests/vm the
unified tree, with the same outcome asked for.
"""

import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import pytest

from runtime.cgroups.convert import ALL_DEVICES, DEFAULT_DEVICES
from runtime.cgroups.interface import CgroupError, DeviceRule, Resources
from runtime.cgroups.tree import Tree, detect
from runtime.linux.kernel import RealKernel

pytestmark = pytest.mark.root

KERNEL = RealKernel()
MIB = 1 << 20


def eventually(holds, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)
    return found


class Child:
    """A program that was in the group from its first instruction, as a container is."""

    def __init__(self, group, *argv):
        entry = group.entry()
        self.oom = entry.oom
        reading, writing = os.pipe()
        self.pid = KERNEL.clone(0, cgroup_fd=entry.clone)
        if self.pid == 0:
            try:
                for fd in entry.procs:
                    os.write(fd, b"0")
                os.dup2(writing, 1)
                os.dup2(writing, 2)
                os.execvp(argv[0], argv)
            finally:
                os._exit(126)
        for fd in (writing, *entry.procs, entry.clone, entry.kill):
            if fd >= 0:
                os.close(fd)
        self.output = os.fdopen(reading, "r")
        self.code = None

    def wait(self):
        """The exit code, negative for a signal; the output can be read then."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def says(self):
        text = self.output.read()
        return self.wait(), text

    def oom_kills(self):
        found = re.search(r"^oom_kill (\d+)$", os.pread(self.oom, 4096, 0).decode(), re.MULTILINE)
        return int(found[1]) if found else 0

    def close(self):
        if self.code is None:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.wait()
        self.output.close()
        if self.oom >= 0:
            os.close(self.oom)


@pytest.fixture
def tree():
    return Tree(KERNEL, detect())


@pytest.fixture
def group(tree):
    top = tree.group(f"/pyctl-test-{os.getpid()}")
    made = tree.group(f"{top.path}/pod/container")
    made.create()
    yield made
    top.kill()
    eventually(lambda: not top.processes())
    top.remove()


@pytest.fixture
def start(group):
    children = []

    def begin(*argv, inside=None):
        children.append(Child(inside or group, *argv))
        return children[-1]

    yield begin
    group.kill()
    group.freeze(False)
    for child in children:
        child.close()


def directories(tree, path):
    roots = {*tree.layout.v1.values()} | ({tree.layout.v2} if tree.layout.v2 else set())
    return [root / path.lstrip("/") for root in roots]


def python(source):
    return (sys.executable, "-I", "-S", "-c", source)


def test_a_child_is_in_the_group_in_every_tree_from_the_start(group, start):
    code, text = start("cat", "/proc/self/cgroup").says()
    assert code == 0
    paths = {line.split(":")[1]: line.split(":")[2] for line in text.splitlines()}
    joined = [controllers for controllers, path in paths.items() if path == group.path]
    assert joined
    known = {"memory", "pids", "cpu", ""} & {name for names in paths for name in names.split(",")}
    assert known <= {name for names in joined for name in names.split(",")}


def test_making_and_removing_may_be_repeated(tree, group):
    group.create()
    inner = tree.group(f"{group.path}/a/b")
    inner.create()
    assert all(path.is_dir() for path in directories(tree, inner.path))
    group.remove()
    group.remove()
    assert not any(path.exists() for path in directories(tree, group.path))
    group.create()
    assert group.processes() == []


@pytest.mark.parametrize("path", ["/", "", "/..", "//"])
def test_the_root_and_what_lies_outside_are_nobodys_group(tree, path):
    with pytest.raises(CgroupError, match="not a path"):
        tree.group(path)


def test_memory_over_the_limit_kills_and_is_counted(group, start):
    group.apply(Resources(memory_limit=32 * MIB, memory_swap_limit=32 * MIB))
    within = start(*python(f"held = b'x' * {8 * MIB}; print('fits')"))
    assert within.says() == (0, "fits\n")
    assert within.oom_kills() == 0
    over = start(*python(f"held = b'x' * {256 * MIB}; print('fits')"))
    assert over.says() == (-signal.SIGKILL, "")
    assert over.oom_kills() == 1
    assert group.usage().memory_limit == 32 * MIB


def test_tasks_over_the_limit_are_refused(group, start):
    group.apply(Resources(pids_limit=3))
    source = (
        "import os, signal\n"
        "count = 0\n"
        "try:\n"
        "  while True:\n"
        "    if os.fork() == 0: signal.pause()\n"
        "    count += 1\n"
        "except BlockingIOError: print('refused after', count, flush=True)\n"
        "signal.pause()\n"
    )
    child = start(*python(source))
    assert child.output.readline() == "refused after 2\n"
    assert group.usage().processes == 3


def test_a_quota_slows_down(group, start):
    group.apply(Resources(cpu_quota=20_000, cpu_period=100_000))
    spin = (
        "from time import monotonic, process_time\n"
        "start, used = monotonic(), process_time()\n"
        "while monotonic() < start + 1.5: pass\n"
        "print(process_time() - used)\n"
    )
    code, text = start(*python(spin)).says()
    assert code == 0
    # A fifth of a core for 1.5 s is 0.3; without the quota it is at least 0.7 even on a busy machine.
    assert float(text) < 0.5
    counted = group.usage().cpu_nanoseconds
    assert counted is not None and counted >= float(text) * 0.9e9


def test_cpus_are_confined(group, start):
    group.apply(Resources(cpuset_cpus="0"))
    assert start(*python("import os; print(os.sched_getaffinity(0))")).says() == (0, "{0}\n")


def test_devices_are_filtered(group, start, tmp_path):
    group.apply(Resources(devices=DEFAULT_DEVICES))
    tries = (
        "import os, errno\n"
        "for path in ('/dev/null', '/dev/zero', '/dev/kmsg'):\n"
        "  try: os.close(os.open(path, os.O_RDONLY)); print('open')\n"
        "  except OSError as error: print(errno.errorcode[error.errno])\n"
        f"os.mknod({str(tmp_path / 'made')!r}, 0o60600, os.makedev(253, 7)); print('made')"
    )
    assert start(*python(tries)).says() == (0, "open\nopen\nEPERM\nmade\n")


def test_a_privileged_group_may_use_every_device(group, start):
    group.apply(Resources(devices=ALL_DEVICES))
    assert start("sh", "-c", ": < /dev/kmsg && echo open").says() == (0, "open\n")


def test_a_later_device_rule_wins_for_the_access_it_names(group, start):
    log = DeviceRule(allow=True, type="c", major=1, minor=11, access="r")
    zero = DeviceRule(allow=False, type="c", major=1, minor=5, access="w")
    group.apply(Resources(devices=(*DEFAULT_DEVICES, log, zero)))
    attempts = (
        "for f in kmsg zero; do (: < /dev/$f) 2>/dev/null && echo $f r; (: > /dev/$f) 2>/dev/null && echo $f w; done"
    )
    assert start("sh", "-c", attempts + "; :").says() == (0, "kmsg r\nzero r\n")


def test_frozen_processes_stand_still(group, start):
    child = start("sh", "-c", "echo going; while :; do :; done")
    assert child.output.readline() == "going\n"
    before = group.usage().cpu_nanoseconds
    eventually(lambda: group.usage().cpu_nanoseconds > before)
    group.freeze(True)
    frozen = group.usage().cpu_nanoseconds
    ticks = pathlib.Path(f"/proc/{child.pid}/stat").read_text()
    subprocess.run(["sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done"], check=True)
    assert pathlib.Path(f"/proc/{child.pid}/stat").read_text().split()[13:15] == ticks.split()[13:15]
    assert group.usage().cpu_nanoseconds == frozen
    group.freeze(False)
    eventually(lambda: group.usage().cpu_nanoseconds > frozen)


@pytest.mark.parametrize("frozen", [False, True])
def test_kill_reaches_all_below_even_the_frozen(tree, group, start, frozen):
    inner = tree.group(f"{group.path}/inner")
    inner.create()
    # A controller is switched on for children only where no process is: what is started goes into leaves.
    leaf = tree.group(f"{group.path}/leaf")
    leaf.create()
    children = [
        start("sh", "-c", "sleep 1000 & setsid sleep 1000 & echo up; wait", inside=where) for where in (inner, leaf)
    ]
    for child in children:
        assert child.output.readline() == "up\n"
    eventually(lambda: len(group.processes()) == 6)
    group.freeze(frozen)
    group.kill()
    assert [child.wait() for child in children] == [-signal.SIGKILL] * 2
    eventually(lambda: not group.processes())


def test_usage_tells_what_is_used(group, start):
    child = start(*python(f"held = b'x' * {64 * MIB}; print('held', flush=True); import signal; signal.pause()"))
    assert child.output.readline() == "held\n"
    usage = group.usage()
    assert usage.memory_usage is not None and usage.memory_usage >= 64 * MIB
    assert usage.memory_working_set is not None and 64 * MIB <= usage.memory_working_set <= usage.memory_usage
    assert usage.memory_rss is not None and usage.memory_rss >= 60 * MIB
    assert usage.memory_limit is None
    assert usage.page_faults is not None and usage.page_faults >= 1
    assert usage.processes == 1
    assert usage.cpu_nanoseconds is not None and usage.cpu_nanoseconds > 0


def test_a_level_that_holds_processes_hands_nothing_down(tree, group, start):
    """v2's rule: the error names the cure. v1 has no such rule, and the child group works."""
    child = start("sh", "-c", "echo up; exec sleep 1000")
    assert child.output.readline() == "up\n"
    inner = tree.group(f"{group.path}/inner")
    if tree.layout.unified:
        with pytest.raises(CgroupError, match="it holds processes, move them into a child group"):
            inner.create()
    else:
        inner.create()
        assert inner.processes() == []


def test_settings_of_v2_are_written_there_and_refused_elsewhere(tree, group):
    settings = Resources(unified={"memory.high": str(16 * MIB), "cpu.weight": "77"})
    if not tree.layout.unified:
        with pytest.raises(CgroupError, match="cgroup v1"):
            group.apply(settings)
        return
    group.apply(settings)
    (directory,) = directories(tree, group.path)
    assert (directory / "memory.high").read_text() == f"{16 * MIB}\n"
    assert (directory / "cpu.weight").read_text() == "77\n"
    with pytest.raises(CgroupError, match=r"no\.such"):
        group.apply(Resources(unified={"cgroup.no.such": "1"}))
