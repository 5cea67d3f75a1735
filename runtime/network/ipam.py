"""Addresses of pods: one file a lease, named by the address and holding the sandbox's id. Also the choice of a range.

A lease is taken with O_EXCL, so two daemons on one directory cannot give one address twice. Addresses are handed out in
a ring, so that one just freed is not reused at once (neighbours may still remember it).
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from runtime.network.interface import NetworkError

_POOL = IPv4Network("10.64.0.0/10")
_PREFIX = 24


def choose_range(taken: Iterable[IPv4Network], seed: str) -> IPv4Network:
    """A /24 out of 10.64.0.0/10 that overlaps nothing in `taken`; where the search begins depends on `seed`."""
    busy = [network for network in taken if network.prefixlen > 0]
    count = 1 << (_PREFIX - _POOL.prefixlen)
    first = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") % count
    size = 1 << (32 - _PREFIX)
    for step in range(count):
        start = int(_POOL.network_address) + (first + step) % count * size
        candidate = IPv4Network((start, _PREFIX))
        if not any(candidate.overlaps(network) for network in busy):
            return candidate
    raise NetworkError(f"no free range for pods in {_POOL}: give one with --pod-cidr")


class Leases:
    """The leases of one range. The first address is the gateway's."""

    def __init__(self, directory: Path, network: IPv4Network) -> None:
        if network.num_addresses < 4:
            raise NetworkError(f"pod range {network} is too small")
        self._directory = directory
        self.network = network
        self.gateway = network.network_address + 1
        self._last = int(self.gateway)
        directory.mkdir(parents=True, exist_ok=True)

    def take(self, sandbox: str, avoid: Collection[IPv4Address] = ()) -> IPv4Address:
        """A free address that is not in `avoid`."""
        first, last = int(self.gateway) + 1, int(self.network.broadcast_address) - 1
        used = {lease.name for lease in self._directory.iterdir()}
        for step in range(1, last - first + 2):
            number = first + (self._last - first + step) % (last - first + 1)
            address = IPv4Address(number)
            if str(address) in used or address in avoid:
                continue
            try:
                with (self._directory / str(address)).open("x") as lease:
                    lease.write(sandbox)
            except FileExistsError:
                continue
            self._last = number
            return address
        raise NetworkError(f"no free address in pod range {self.network}")

    def holders(self) -> dict[IPv4Address, str]:
        return {IPv4Address(lease.name): lease.read_text() for lease in self._directory.iterdir()}

    def release(self, sandbox: str) -> None:
        for address, holder in self.holders().items():
            if holder == sandbox:
                (self._directory / str(address)).unlink(missing_ok=True)
