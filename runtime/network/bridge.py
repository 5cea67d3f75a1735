"""`PodNetwork` by a Linux bridge: veth pairs by netlink, addresses from leases on disk, masquerading by nftables.

It needs no configuration: the range is chosen free of the host's routes at the first start and kept in
`network.json`. All names on the host derive from the runtime's own name.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from runtime.linux.netlink import Route
from runtime.network import masquerade
from runtime.network.interface import Attachment, Health, NetworkError
from runtime.network.ipam import Leases, choose_range

log = logging.getLogger(__name__)

_ATTEMPTS = 8
_INSIDE = "eth0"


class BridgeNetwork:
    """Owns the bridge, the host ends of the pods' veth pairs, the leases and the nftables table."""

    def __init__(self, directory: Path, name: str, pod_cidr: str = "", mtu: int = 0) -> None:
        self._directory = directory
        self._name = name
        self._wanted = pod_cidr
        self._mtu = mtu
        self._prefix = "p" + hashlib.sha256(name.encode()).hexdigest()[:5]
        self._route: Route | None = None
        self._leases: Leases | None = None
        self._index = 0
        self._health = Health(ready=False, message="the pod network has not been started")

    @property
    def range(self) -> str:
        return str(self._leases.network) if self._leases else ""

    def start(self) -> None:
        """Make or find the bridge. What is missing is remembered for `health` instead of raised."""
        try:
            self._route = Route()
            network = self._range()
            self._leases = Leases(self._directory / "leases", network)
            self._mtu = self._mtu or self._uplink_mtu()
            self._index = self._bridge(self._leases)
        except (OSError, NetworkError, ValueError) as error:
            hint = " (run as root, with CAP_NET_ADMIN)" if getattr(error, "errno", 0) == errno.EPERM else ""
            self._health = Health(ready=False, message=f"pod network: {error}{hint}")
            log.error("%s", self._health.message)
            return
        warning = masquerade.install(self._name, network, self._name)
        if warning:
            log.warning("%s", warning)
        self._health = Health(ready=True, warning=warning)

    def _range(self) -> IPv4Network:
        """The range asked for, else the one kept from the first start, else a free one."""
        assert self._route is not None
        kept_in = self._directory / "network.json"
        self._directory.mkdir(parents=True, exist_ok=True)
        if self._wanted:
            network = IPv4Network(self._wanted)
        elif kept_in.exists():
            return IPv4Network(json.loads(kept_in.read_text())["range"])
        else:
            taken = [network for network, _ in self._route.routes()]
            taken += [address.network for _, address in self._route.addresses()]
            network = choose_range(taken, self._name)
        kept_in.write_text(json.dumps({"range": str(network), "bridge": self._name}))
        return network

    def _uplink_mtu(self) -> int:
        """The size that fits through the host's own way out."""
        assert self._route is not None
        sizes = {link.index: link.mtu for link in self._route.links()}
        return next(
            (sizes[out] for network, out in self._route.routes() if network.prefixlen == 0 and out in sizes), 1500
        )

    def _bridge(self, leases: Leases) -> int:
        route = self._route
        assert route is not None
        link = route.link(self._name)
        if link is None:
            route.add_bridge(self._name, self._mtu)
            link = route.link(self._name)
            if link is None:
                raise NetworkError(f"bridge {self._name} vanished")
            _write_sysctl(f"net/ipv6/conf/{self._name}/accept_ra", "0")
        if link.kind != "bridge":
            raise NetworkError(f"link {self._name} exists and is no bridge but {link.kind or 'something else'}")
        gateway = IPv4Interface((leases.gateway, leases.network.prefixlen))
        present = {address for index, address in route.addresses() if index == link.index}
        if gateway not in present:
            for network, out in route.routes():
                if network.prefixlen and network.overlaps(leases.network) and out != link.index:
                    raise NetworkError(f"pod range {leases.network} overlaps route {network} of this host")
            route.add_address(link.index, gateway)
        route.set_up(link.index)
        return link.index

    def _link_name(self, sandbox: str) -> str:
        return self._prefix + sandbox[:9]

    def attach(self, sandbox: str, namespace_fd: int, inside: Route) -> Attachment:
        """Give the pod eth0, lo, an address and a default route. `inside` acts in the pod's namespace."""
        if not self._health.ready or self._route is None or self._leases is None:
            raise NetworkError(self._health.message)
        self.detach(sandbox)
        name = self._link_name(sandbox)
        try:
            self._route.add_veth(name, _INSIDE, namespace_fd, self._index, self._mtu)
        except OSError as error:
            if error.errno not in (errno.ENODEV, errno.EINVAL):
                raise
            log.warning("bridge %s is gone, making it again", self._name)
            self._index = self._bridge(self._leases)
            self._route.add_veth(name, _INSIDE, namespace_fd, self._index, self._mtu)
        try:
            link = inside.link(_INSIDE)
            if link is None:
                raise NetworkError(f"{_INSIDE} of sandbox {sandbox} vanished")
            inside.set_up_name("lo")
            address = self._address(sandbox, inside, link.index)
            self._route.set_up_name(name)
            inside.set_up(link.index)
            inside.add_default_route(self._leases.gateway, link.index)
        except BaseException:
            self.detach(sandbox)
            raise
        return Attachment(address=str(address), gateway=str(self._leases.gateway), link=name)

    def _address(self, sandbox: str, inside: Route, index: int) -> IPv4Address:
        """Lease and set an address; one that somebody else took meanwhile is left aside."""
        assert self._leases is not None and self._route is not None
        avoid: set[IPv4Address] = set()
        for _ in range(_ATTEMPTS):
            address = self._leases.take(sandbox, avoid)
            try:
                inside.add_address(index, IPv4Interface((address, self._leases.network.prefixlen)))
            except OSError as error:
                self._leases.release(sandbox)
                if error.errno not in (errno.EEXIST, errno.EADDRINUSE):
                    raise
                avoid.add(address)
                continue
            return address
        raise NetworkError(f"no usable address in {self._leases.network} after {_ATTEMPTS} conflicts")

    def detach(self, sandbox: str) -> None:
        if self._route is not None:
            self._route.delete(self._link_name(sandbox))
        if self._leases is not None:
            self._leases.release(sandbox)

    def reconcile(self, living: Collection[str]) -> None:
        """Remove links and leases of ours that belong to no living sandbox."""
        if self._route is None or self._leases is None:
            return
        names = {self._link_name(sandbox) for sandbox in living}
        for link in self._route.links():
            if link.kind == "veth" and link.name.startswith(self._prefix) and link.name not in names:
                self._route.delete(link.name)
        for holder in set(self._leases.holders().values()) - set(living):
            self._leases.release(holder)

    def health(self) -> Health:
        return self._health

    def destroy(self) -> None:
        with Route() as route:
            for link in route.links():
                if link.kind == "veth" and link.name.startswith(self._prefix):
                    route.delete(link.name)
            link_or_none = route.link(self._name)
            if link_or_none is not None and link_or_none.kind == "bridge":
                route.delete(self._name)
        masquerade.remove(self._name)
        leases = self._directory / "leases"
        if leases.is_dir():
            for lease in leases.iterdir():
                lease.unlink(missing_ok=True)


def _write_sysctl(name: str, value: str) -> None:
    try:
        Path("/proc/sys", name).write_text(value)
    except FileNotFoundError:
        # No IPv6 in this kernel: nothing to switch off.
        pass
