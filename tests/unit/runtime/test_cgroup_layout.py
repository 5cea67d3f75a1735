import pathlib

import pytest

from runtime.cgroups.interface import CgroupError, Resources
from runtime.cgroups.tree import Layout, Tree, parse
from runtime.cgroups.v1 import V1Cgroup
from runtime.cgroups.v2 import V2Cgroup
from runtime.linux.recorder import Recorder

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
36 31 0:33 /docker/x /elsewhere/devices rw - cgroup cgroup rw,devices
"""
V2 = "24 23 0:25 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
GROUPS = pathlib.Path("/sys/fs/cgroup")


def test_pure_v1():
    layout = parse(V1, "")
    assert layout.v1 == {"cpu": GROUPS / "cpu,cpuacct", "cpuacct": GROUPS / "cpu,cpuacct", "memory": GROUPS / "memory"}
    assert layout.v2 is None and not layout.unified


def test_pure_v2():
    layout = parse(V2, "cpuset cpu io memory hugetlb pids rdma misc\n")
    assert layout.unified
    assert layout.controllers == {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"}


def test_a_hybrid_whose_v2_tree_has_hugetlb_alone_is_used_for_killing_only():
    layout = parse(HYBRID, "hugetlb")
    assert layout.v2 == GROUPS / "unified"
    assert layout.v2_controllers == frozenset()
    assert set(layout.v1) == {"cpu", "cpuacct", "memory"}


def test_no_tree_at_all_says_how_to_get_one():
    with pytest.raises(CgroupError, match="mount -t cgroup2"):
        Tree(Recorder(), parse("", ""))


def test_what_a_container_sees():
    hybrid = Tree(Recorder(), parse(HYBRID, "")).container_mounts()
    assert hybrid == [
        {"name": "cpu,cpuacct", "type": "cgroup", "options": [["cpu", None], ["cpuacct", None]]},
        {"name": "memory", "type": "cgroup", "options": [["memory", None]]},
        {"name": "unified", "type": "cgroup2", "options": []},
    ]
    assert Tree(Recorder(), parse(V2, "cpu")).container_mounts() == [{"name": "", "type": "cgroup2", "options": []}]


@pytest.mark.parametrize(
    ("parent", "path"),
    [
        ("", ""),
        ("/kubepods/pod1", "/kubepods/pod1"),
        ("a.slice", "/a.slice"),
        ("a-b.slice", "/a.slice/a-b.slice"),
        ("kubepods-besteffort-podx.slice", "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-podx.slice"),
        ("/test.slice", "/test.slice"),
    ],
)
def test_parents_in_both_spellings(parent, path):
    assert Tree(Recorder(), Layout(v2=GROUPS)).slice_path(parent) == path


@pytest.mark.parametrize("engine", ["v1", "v2"])
def test_a_limit_without_its_controller_is_refused_with_a_hint(engine, tmp_path):
    group = V1Cgroup({"cpu": tmp_path}, "/x") if engine == "v1" else V2Cgroup(Recorder(), tmp_path, {"cpu"}, "/x")
    with pytest.raises(CgroupError, match="no memory cgroup controller on this machine"):
        group.apply(Resources(memory_limit=1 << 20))


def test_v1_refuses_keys_of_v2(tmp_path):
    with pytest.raises(CgroupError, match=r"memory\.high"):
        V1Cgroup({"memory": tmp_path}, "/x").apply(Resources(unified={"memory.high": "1"}))


def test_cpusets_are_filled_on_every_level(tmp_path):
    for name, value in (("cpuset.cpus", "0-3"), ("cpuset.mems", "0")):
        (tmp_path / name).write_text(value)
    V1Cgroup({"cpuset": tmp_path, "pids": tmp_path.parent / "none"}, "/a/b")
    group = V1Cgroup({"cpuset": tmp_path}, "/a/b")
    group.create()
    group.create()
    assert (tmp_path / "a/b/cpuset.cpus").read_text() == "0-3"
    assert (tmp_path / "a/cpuset.mems").read_text() == "0"


def test_controllers_are_switched_on_from_the_root_downwards(tmp_path):
    """Files in place of a kernel: what was written stays to be read."""
    for directory in ("", "top"):
        (tmp_path / directory).mkdir(exist_ok=True)
        (tmp_path / directory / "cgroup.subtree_control").write_text("")
        (tmp_path / directory / "cgroup.controllers").write_text("cpu memory")
    V2Cgroup(Recorder(), tmp_path, {"cpu", "memory"}, "/top/pod").create()
    assert (tmp_path / "top" / "cgroup.subtree_control").read_text() == "+cpu +memory"


def test_usage_from_both_spellings(tmp_path):
    group = tmp_path / "g"
    group.mkdir()
    files = {
        "cpuacct.usage": "77",
        "memory.usage_in_bytes": "1000",
        "memory.limit_in_bytes": "9223372036854771712",
        "memory.stat": "total_inactive_file 300\ntotal_rss 400\ntotal_pgfault 5\ntotal_pgmajfault 1\n",
        "pids.current": "3",
    }
    for name, text in files.items():
        (group / name).write_text(text)
    usage = V1Cgroup(dict.fromkeys(("cpuacct", "memory", "pids"), tmp_path), "/g").usage()
    assert (usage.cpu_nanoseconds, usage.memory_working_set, usage.memory_rss) == (77, 700, 400)
    assert (usage.memory_limit, usage.processes) == (None, 3)
    files = {"cpu.stat": "usage_usec 5\n", "memory.current": "1000", "memory.max": "max", "memory.stat": "anon 9\n"}
    for name, text in files.items():
        (group / name).write_text(text)
    usage = V2Cgroup(Recorder(), tmp_path, {"cpu", "memory"}, "/g").usage()
    assert (usage.cpu_nanoseconds, usage.memory_working_set, usage.memory_rss) == (5000, 1000, 9)
    assert usage.memory_limit is None
