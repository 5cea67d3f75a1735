"""`Cgroup`: one control group, whatever trees the machine keeps it in.

Life cycle: `create` makes it (and its parents), `apply` sets limits, a child joins through `entry`, `kill` ends what is
in it, `remove` takes it away once it is empty. Every verb may be repeated. Quantities are bytes, nanoseconds,
microseconds where the kernel has microseconds; None means "leave as it is".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


class CgroupError(Exception):
    """The machine cannot do what a limit asks for; the text says what is missing and how to get it."""


@dataclass(frozen=True, kw_only=True)
class DeviceRule:
    """One line of a device filter: type `a`, `b` or `c`; -1 for any number; access out of `rwm`."""

    allow: bool
    type: str
    major: int = -1
    minor: int = -1
    access: str = "rwm"


@dataclass(frozen=True, kw_only=True)
class Resources:
    cpu_shares: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    memory_limit: int | None = None
    memory_swap_limit: int | None = None
    pids_limit: int | None = None
    devices: tuple[DeviceRule, ...] = ()
    hugepages: dict[str, int] = field(default_factory=dict)
    unified: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Usage:
    """Accounting of one group and all below it. None where no controller counts it."""

    cpu_nanoseconds: int | None = None
    memory_usage: int | None = None
    memory_working_set: int | None = None
    memory_rss: int | None = None
    memory_limit: int | None = None
    page_faults: int | None = None
    major_page_faults: int | None = None
    swap_usage: int | None = None
    processes: int | None = None


@dataclass(kw_only=True)
class Entry:
    """Descriptors with which a child joins: `procs` to write "0" to, `clone` for CLONE_INTO_CGROUP; -1 for none.

    `oom` is the file whose line `oom_kill N` counts, `kill` the one that takes "1". The caller closes them all.
    """

    procs: list[int] = field(default_factory=list)
    clone: int = -1
    oom: int = -1
    kill: int = -1


class Cgroup(Protocol):
    @property
    def path(self) -> str: ...
    def create(self) -> None: ...
    def apply(self, resources: Resources) -> None: ...
    def entry(self) -> Entry: ...
    def processes(self) -> list[int]: ...
    def freeze(self, frozen: bool) -> None: ...
    def kill(self) -> None: ...
    def usage(self) -> Usage: ...
    def rename(self, name: str) -> Cgroup: ...
    def remove(self) -> None: ...
