"""Ports and address ranges: chosen free at the first start, and checked at every later one.

A port counts as free when it can be bound on loopback now. A range counts as free when no route and no address of this
host overlaps it. Who holds a taken port is looked up in /proc, so that the message can name the process.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyctl.failure import Failure

# Kubernetes' own, for the cluster in the default directory.
API_PORT = 6443
AGENT_PORT = 10250
# Other clusters begin to look elsewhere, each at its own place below the ephemeral ports: two that are started at the
# same moment, or one while the other is down, do not choose the same.
OTHER_PORTS = range(16400, 30000, 8)
SPAN = 200

Network = ipaddress.IPv4Network


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True


def choose(preferred: int, avoid: Iterable[int] = ()) -> int:
    """The first free port from `preferred` on. Raises Failure when the whole span is taken."""
    taken = set(avoid)
    for port in range(preferred, preferred + SPAN):
        if port not in taken and is_free(port):
            return port
    raise Failure(
        f"no free port between {preferred} and {preferred + SPAN - 1}",
        hint="stop what listens there, or name one with --api-port and --agent-port",
    )


def require_free(port: int, what: str, option: str) -> None:
    """Raise Failure naming the port, what we want it for, and who has it."""
    if is_free(port):
        return
    holder = holder_of(port)
    raise Failure(
        f"port {port} ({what}) is already taken" + (f" by {holder}" if holder else ""),
        hint=f"stop that program, or choose another port once with `pyctl up {option} PORT`; it is kept from then on",
    )


def holder_of(port: int, proc: Path = Path("/proc")) -> str:
    """`name (pid N)` of the process that listens on a TCP port, "" if that cannot be seen."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            lines = (proc / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return ""
    for process in proc.iterdir():
        if not process.name.isdigit():
            continue
        try:
            if any(os.readlink(each) in inodes for each in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue
    return ""


def used_networks(proc: Path = Path("/proc")) -> list[tuple[str, Network]]:
    """(device, network) of every IPv4 route of this host but the default ones."""
    found = []
    try:
        lines = (proc / "net/route").read_text().splitlines()[1:]
    except OSError:
        return []
    for fields in map(str.split, lines):
        # The kernel prints the network-order bytes as a little-endian integer (on every machine that we know).
        destination, mask = (int.from_bytes(bytes.fromhex(fields[index]), "little") for index in (1, 7))
        if mask:
            found.append((fields[0], Network((destination, mask.bit_count()), strict=False)))
    return found


def preferred(seed: int | None) -> tuple[int, int]:
    """Where the search for the API server's and the agent's port begins; None: the cluster in the default directory."""
    if seed is None:
        return API_PORT, AGENT_PORT
    base = OTHER_PORTS[seed % len(OTHER_PORTS)]
    return base, base + 1


def _pod_ranges(seed: int) -> Iterator[Network]:
    count = 12 * 256
    for number in range(count):
        second, third = divmod((seed + number) % count, 256)
        yield Network(f"10.{244 + second}.{third}.0/24")


def _service_ranges() -> Iterator[Network]:
    for second in range(96, 128):
        yield Network(f"10.{second}.0.0/16")


def choose_ranges(used: Iterable[Network], seed: int = 0) -> tuple[str, str]:
    """A /24 for pods and a /16 for services that overlap nothing in `used`; the search begins at `seed`."""
    taken = list(used)

    def first(candidates: Iterator[Network], what: str) -> Network:
        for candidate in candidates:
            if not any(candidate.overlaps(each) for each in taken):
                return candidate
        raise Failure(f"no free address range for {what} in 10.0.0.0/8", hint="name one with --pod-cidr")

    return str(first(_pod_ranges(seed), "pods")), str(first(_service_ranges(), "services"))


def parse_pod_range(text: str) -> str:
    """A usable IPv4 pod range in canonical form. Raises Failure with the value in it."""
    try:
        network = Network(text)
    except ValueError as error:
        raise Failure(f"--pod-cidr {text!r}: {error}", hint="write it like 10.244.0.0/24", code=2) from error
    if network.prefixlen > 28:
        raise Failure(f"--pod-cidr {text!r}: too small, at least a /28 is needed", code=2)
    return str(network)


def require_range_free(cidr: str, own_device: str, used: Iterable[tuple[str, Network]]) -> None:
    """Raise Failure if a route of another device overlaps the pods' range."""
    network = Network(cidr)
    for device, other in used:
        if device != own_device and network.overlaps(other):
            raise Failure(
                f"the pods' range {cidr} overlaps {other} of device {device}",
                hint="take that route away, or choose another range once with `pyctl up --pod-cidr CIDR`",
            )
