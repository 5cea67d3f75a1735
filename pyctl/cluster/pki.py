"""The cluster's certificates and kubeconfigs.

One authority below `<data>/pki`; a certificate for the API server, one for the node agent's own server, and a client
certificate for each who talks to the API server. A stamp says for which names they were issued and until when they are
good, so that an ordinary start need not load a cryptography library to find that all is well. The admin's kubeconfig
belongs to the person who typed the command, also behind sudo.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import time
from pathlib import Path

from pyctl.cluster.layout import Cluster, Layout, write_file
from pyctl.failure import Failure

# A certificate that `componentbase.tls` keeps has more than a third of a year left, so the stamp never outlives it.
STAMP_DAYS = 120

CLIENTS = {
    # file: (common name, organization)
    "admin": ("admin", "system:masters"),
    "scheduler": ("system:kube-scheduler", ""),
    "kubelet-client": ("kube-apiserver-kubelet-client", "system:masters"),
}
COMPONENTS = ("scheduler", "node")


def ensure(layout: Layout, cluster: Cluster) -> None:
    """Make what is missing, outdated or was issued for other names, certificates and kubeconfigs."""
    hosts = _hosts(cluster)
    stamp = layout.pki / "issued.json"
    subject = hashlib.sha256(json.dumps([hosts, cluster.node_name, sorted(CLIENTS)]).encode()).hexdigest()
    if not _stamp_holds(stamp, subject):
        _issue(layout, cluster, hosts)
        write_file(stamp, json.dumps({"subject": subject, "until": time.time() + STAMP_DAYS * 86400}), mode=0o600)
    _write_kubeconfigs(layout, cluster)


def _stamp_holds(stamp: Path, subject: str) -> bool:
    names = ["ca", "apiserver", "node-server", "node", *CLIENTS]
    if not all((stamp.parent / f"{name}.{end}").exists() for name in names for end in ("crt", "key")):
        return False
    try:
        document = json.loads(stamp.read_bytes())
        return bool(document["subject"] == subject and document["until"] > time.time())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _hosts(cluster: Cluster) -> list[str]:
    service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    first_service_address = cluster.service_cidr.rpartition(".")[0] + ".1"
    names = ["localhost", "127.0.0.1", "::1", cluster.node_name, socket.gethostname().lower()]
    return sorted({*names, *service, first_service_address, *host_addresses()})


def host_addresses() -> list[str]:
    """The address this host would use to speak to others, if it has any."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a datagram socket: asks the routing table, sends nothing
        except OSError:
            return []
        return [probe.getsockname()[0]]


def _issue(layout: Layout, cluster: Cluster, hosts: list[str]) -> None:
    from componentbase.tls import Authority

    try:
        authority = Authority.load_or_create(layout.pki)
    except ValueError as error:
        raise Failure(str(error), hint="put it back from a copy, or choose another --data-dir") from error
    authority.issue("apiserver", common_name="kube-apiserver", hosts=tuple(hosts), server=True)
    node = f"system:node:{cluster.node_name}"
    authority.issue("node-server", common_name=node, organizations=("system:nodes",), hosts=tuple(hosts), server=True)
    authority.issue("node", common_name=node, organizations=("system:nodes",), client=True)
    for name, (common_name, organization) in CLIENTS.items():
        authority.issue(
            name, common_name=common_name, organizations=(organization,) if organization else (), client=True
        )


def _write_kubeconfigs(layout: Layout, cluster: Cluster) -> None:
    owner = invoking_user()
    write_file(layout.kubeconfig, kubeconfig(layout, cluster, "admin"), mode=0o600, owner=owner)
    for component in COMPONENTS:
        write_file(layout.component_kubeconfig(component), kubeconfig(layout, cluster, component), mode=0o600)


def invoking_user() -> tuple[int, int] | None:
    """User and group id of the person behind sudo; None for who is root by himself, or is not root."""
    if os.geteuid() != 0:
        return None
    try:
        return int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
    except (KeyError, ValueError):
        return None


def kubeconfig(layout: Layout, cluster: Cluster, user: str) -> str:
    """A kubeconfig that needs no other file; its only context is called `pyctl`."""

    def embed(name: str) -> str:
        return base64.b64encode((layout.pki / name).read_bytes()).decode()

    return f"""\
apiVersion: v1
kind: Config
clusters:
- name: pyctl
  cluster:
    server: {cluster.server}
    certificate-authority-data: {embed("ca.crt")}
users:
- name: {user}
  user:
    client-certificate-data: {embed(f"{user}.crt")}
    client-key-data: {embed(f"{user}.key")}
contexts:
- name: pyctl
  context:
    cluster: pyctl
    user: {user}
    namespace: default
current-context: pyctl
"""
