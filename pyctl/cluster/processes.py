"""Processes, known so well that a recycled number is never mistaken for one of ours.

A process is its number, the tick of the kernel's clock at which it started, and the boot. Its end is seen through a
pidfd, which works for processes that are not our children.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Identity:
    """One process for ever."""

    pid: int
    start_ticks: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Who has this number now; None if nobody, or one who is dead and only waits to be reaped."""
        try:
            fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else cls(pid, int(fields[19]), boot_id())

    @property
    def alive(self) -> bool:
        return Identity.of(self.pid) == self

    def open(self) -> int | None:
        """A pidfd that the caller closes; None if the process is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if not self.alive:
            os.close(descriptor)
            return None
        return descriptor

    def send(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if the process is gone."""
        descriptor = self.open()
        if descriptor is not None:
            try:
                signal.pidfd_send_signal(descriptor, number)
            except ProcessLookupError:
                pass
            finally:
                os.close(descriptor)


def with_arguments(arguments: list[bytes]) -> list[Identity]:
    """The processes with just these arguments behind their interpreter and its options, but for this one."""
    found = []
    for each in PROC.iterdir():
        if not each.name.isdigit() or int(each.name) == os.getpid():
            continue
        try:
            words = (each / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue
        if words[-len(arguments) :] == arguments:
            identity = Identity.of(int(each.name))
            if identity is not None:
                found.append(identity)
    return found


def boot_id() -> str:
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def wait_gone(processes: Iterable[Identity], seconds: float) -> list[Identity]:
    """Wait until all have ended; those that are still there after `seconds`."""
    deadline = time.monotonic() + seconds
    left = []
    for process in processes:
        descriptor = process.open()
        if descriptor is None:
            continue
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                left.append(process)
        finally:
            os.close(descriptor)
    return left


def end(processes: Iterable[Identity], *, grace_seconds: float) -> list[Identity]:
    """Ask them to stop, kill what has not after the grace; those that even then did not end."""
    all_of_them = list(processes)
    for process in all_of_them:
        process.send(signal.SIGTERM)
    stubborn = wait_gone(all_of_them, grace_seconds)
    for process in stubborn:
        process.send(signal.SIGKILL)
    return wait_gone(stubborn, 5.0)
