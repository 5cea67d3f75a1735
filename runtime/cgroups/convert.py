"""From limits to files and values, for both versions of cgroups: tables and pure functions.

Sources: crun and opencontainers/cgroups. The weight formula is the newer one, which maps 1024 shares to weight 100.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from runtime.cgroups.interface import DeviceRule, Resources


class Setting(NamedTuple):
    controller: str
    file: str
    value: str


def cpu_weight(shares: int) -> int:
    """v1 shares (2..262144) as a v2 weight (1..10000)."""
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    log = math.log2(shares)
    return math.ceil(10 ** ((log * log + 125 * log) / 612 - 7 / 34))


_Row = tuple[str, str, Callable[[int], str]]
_plain = str


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


# field of Resources: controller, file, how its value is written
V1: dict[str, _Row] = {
    "cpu_shares": ("cpu", "cpu.shares", _plain),
    "cpu_period": ("cpu", "cpu.cfs_period_us", _plain),
    "cpu_quota": ("cpu", "cpu.cfs_quota_us", _plain),
    "cpuset_cpus": ("cpuset", "cpuset.cpus", str),
    "cpuset_mems": ("cpuset", "cpuset.mems", str),
    "memory_limit": ("memory", "memory.limit_in_bytes", _plain),
    "memory_swap_limit": ("memory", "memory.memsw.limit_in_bytes", _plain),
    "pids_limit": ("pids", "pids.max", _or_max),
}
V2: dict[str, _Row] = {
    "cpu_shares": ("cpu", "cpu.weight", lambda shares: str(cpu_weight(shares))),
    "cpuset_cpus": ("cpuset", "cpuset.cpus", str),
    "cpuset_mems": ("cpuset", "cpuset.mems", str),
    "memory_limit": ("memory", "memory.max", _or_max),
    "pids_limit": ("pids", "pids.max", _or_max),
}
# Asking for one of these on a machine without the controller is refused; the rest is only a preference there.
REQUIRED = {"cpu_quota", "cpuset_cpus", "cpuset_mems", "memory_limit", "pids_limit"}


def required_controllers(resources: Resources) -> set[str]:
    """The controllers without which these limits would be silently ignored."""
    return {V1[name][0] for name in REQUIRED if getattr(resources, name) is not None}


def v1_settings(resources: Resources) -> list[Setting]:
    settings = []
    for name, (controller, file, text) in V1.items():
        value = getattr(resources, name)
        if value is not None:
            settings.append(Setting(controller, file, text(value)))
    for size, limit in resources.hugepages.items():
        settings.append(Setting("hugetlb", f"hugetlb.{size}.limit_in_bytes", str(limit)))
    return settings


def v2_settings(resources: Resources) -> list[Setting]:
    settings = []
    for name, (controller, file, text) in V2.items():
        value = getattr(resources, name)
        if value is not None:
            settings.append(Setting(controller, file, text(value)))
    if resources.cpu_quota is not None:
        settings.append(Setting("cpu", "cpu.max", f"{_or_max(resources.cpu_quota)} {resources.cpu_period or 100000}"))
    if resources.memory_swap_limit is not None and resources.memory_limit is not None:
        swap = resources.memory_swap_limit - resources.memory_limit if resources.memory_swap_limit >= 0 else -1
        settings.append(Setting("memory", "memory.swap.max", _or_max(swap)))
    for size, limit in resources.hugepages.items():
        settings.append(Setting("hugetlb", f"hugetlb.{size}.max", str(limit)))
    settings += [Setting(key.partition(".")[0], key, value) for key, value in resources.unified.items()]
    return settings


def device_line(rule: DeviceRule) -> str:
    """A rule as devices.allow and devices.deny take it."""
    if rule.type == "a":
        return "a"
    numbers = ("*" if number < 0 else str(number) for number in (rule.major, rule.minor))
    return f"{rule.type} {':'.join(numbers)} {rule.access}"


_ANY_NODE = (DeviceRule(allow=True, type="c", access="m"), DeviceRule(allow=True, type="b", access="m"))
_USABLE = ((1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2), (136, -1))
DEFAULT_DEVICES: tuple[DeviceRule, ...] = (
    DeviceRule(allow=False, type="a"),
    *_ANY_NODE,
    *(DeviceRule(allow=True, type="c", major=major, minor=minor) for major, minor in _USABLE),
)
ALL_DEVICES: tuple[DeviceRule, ...] = (DeviceRule(allow=True, type="a"),)
