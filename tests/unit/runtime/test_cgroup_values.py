import struct

import pytest

from runtime.cgroups.convert import (
    ALL_DEVICES,
    DEFAULT_DEVICES,
    Setting,
    cpu_weight,
    device_line,
    required_controllers,
    v1_settings,
    v2_settings,
)
from runtime.cgroups.device_program import assemble
from runtime.cgroups.interface import DeviceRule, Resources

FULL = Resources(
    cpu_shares=512,
    cpu_quota=50_000,
    cpu_period=100_000,
    cpuset_cpus="0-1",
    memory_limit=1000,
    memory_swap_limit=1500,
    pids_limit=9,
    hugepages={"2MB": 4096},
)


@pytest.mark.parametrize(
    ("shares", "weight"), [(0, 1), (2, 1), (3, 2), (1024, 100), (512, 59), (2048, 174), (262144, 10000), (10**9, 10000)]
)
def test_cpu_weights(shares, weight):
    """The ends and 1024 -> 100 are given by the formula's authors; the rest follows from it by hand."""
    assert cpu_weight(shares) == weight


def test_v1():
    assert v1_settings(FULL) == [
        Setting("cpu", "cpu.shares", "512"),
        Setting("cpu", "cpu.cfs_period_us", "100000"),
        Setting("cpu", "cpu.cfs_quota_us", "50000"),
        Setting("cpuset", "cpuset.cpus", "0-1"),
        Setting("memory", "memory.limit_in_bytes", "1000"),
        Setting("memory", "memory.memsw.limit_in_bytes", "1500"),
        Setting("pids", "pids.max", "9"),
        Setting("hugetlb", "hugetlb.2MB.limit_in_bytes", "4096"),
    ]


def test_v2():
    assert v2_settings(FULL) == [
        Setting("cpu", "cpu.weight", "59"),
        Setting("cpuset", "cpuset.cpus", "0-1"),
        Setting("memory", "memory.max", "1000"),
        Setting("pids", "pids.max", "9"),
        Setting("cpu", "cpu.max", "50000 100000"),
        Setting("memory", "memory.swap.max", "500"),
        Setting("hugetlb", "hugetlb.2MB.max", "4096"),
    ]


def test_no_limit_in_both_spellings():
    free = Resources(cpu_quota=-1, memory_limit=-1, memory_swap_limit=-1, pids_limit=-1)
    assert ("cpu", "cpu.cfs_quota_us", "-1") in v1_settings(free)
    assert ("pids", "pids.max", "max") in v1_settings(free)
    values = {setting.file: setting.value for setting in v2_settings(free)}
    assert values == {"cpu.max": "max 100000", "memory.max": "max", "memory.swap.max": "max", "pids.max": "max"}


def test_nothing_asked_nothing_written():
    assert v1_settings(Resources()) == v2_settings(Resources()) == []


def test_limits_need_their_controller_but_shares_are_a_wish():
    assert required_controllers(FULL) == {"cpu", "cpuset", "memory", "pids"}
    assert required_controllers(Resources(cpu_shares=2)) == set()


def test_device_lines():
    assert device_line(DeviceRule(allow=False, type="a")) == "a"
    assert device_line(DeviceRule(allow=True, type="c", major=136, access="rw")) == "c 136:* rw"
    assert device_line(DEFAULT_DEVICES[0]) == "a"


def allowed(program, kind, major, minor, access):
    """Runs a program of the instructions that we use."""
    context = struct.pack("=III", {"b": 1, "c": 2}[kind] | access << 16, major, minor)
    registers = [0] * 11
    at = 0
    while True:
        code, operands, offset, value = struct.unpack_from("<BBhi", program, at * 8)
        destination, source = operands & 15, operands >> 4
        at += 1
        if code == 0x61:
            registers[destination] = struct.unpack_from("=I", context, offset)[0]
        elif code == 0xBC:
            registers[destination] = registers[source]
        elif code == 0xB4:
            registers[destination] = value & 0xFFFFFFFF
        elif code == 0x54:
            registers[destination] &= value & 0xFFFFFFFF
        elif code == 0x74:
            registers[destination] >>= value
        elif code == 0x56:
            at += offset if registers[destination] != value & 0xFFFFFFFF else 0
        elif code == 0x5E:
            at += offset if registers[destination] != registers[source] else 0
        else:
            assert code == 0x95
            return bool(registers[0])


def oracle(rules, kind, major, minor, access):
    """What devices.allow and devices.deny would say: the last rule that covers the access decides."""
    letters = {"m": 1, "r": 2, "w": 4}
    verdict = False
    for rule in rules:
        covers = rule.type == "a" or (
            rule.type == kind
            and rule.major in (-1, major)
            and rule.minor in (-1, minor)
            and not access & ~sum(letters[letter] for letter in rule.access)
        )
        verdict = rule.allow if covers else verdict
    return verdict


@pytest.mark.parametrize(
    "rules",
    [
        DEFAULT_DEVICES,
        ALL_DEVICES,
        (),
        (*DEFAULT_DEVICES, DeviceRule(allow=True, type="b", major=8, minor=1, access="r")),
        (*ALL_DEVICES, DeviceRule(allow=False, type="c", major=1, minor=3, access="rw")),
    ],
)
def test_the_device_program_agrees_with_the_rules(rules):
    program = assemble(rules)
    for kind in "bc":
        for major in (0, 1, 5, 8, 136, 4095):
            for minor in (0, 1, 2, 3, 9, 70000):
                for access in range(1, 8):
                    case = (kind, major, minor, access)
                    assert allowed(program, *case) == oracle(rules, *case), case
