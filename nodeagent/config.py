"""What the node agent can be told."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from pathlib import Path

from nodeagent.capacity import DEFAULT_MAX_PODS, Reserved


def default_node_name() -> str:
    """The host's name, lower-cased, as node names must be."""
    return socket.gethostname().lower()


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings of one agent.

    cgroup_parent: the cgroup that holds all pods, "" to leave it to the runtime (capacity is then the machine's);
    node_ip "" takes the address of the way out. Without tls_certificate the agent's own HTTPS API (logs, exec,
    images) is not served. client_ca: who signs the clients of that API, by default the authority of the kubeconfig.
    """

    kubeconfig: Path = Path("/var/lib/pyctl/node.kubeconfig")
    node_name: str = field(default_factory=default_node_name)
    node_ip: str = ""
    node_labels: dict[str, str] = field(default_factory=dict)
    cri_endpoint: str = "unix:///run/pyctl/runtime.sock"
    data_dir: Path = Path("/var/lib/pyctl/nodeagent")
    cgroup_parent: str = ""
    pod_cidr: str = ""
    address: str = "0.0.0.0"
    port: int = 10250
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None
    max_pods: int = DEFAULT_MAX_PODS
    reserved: Reserved = Reserved()  # noqa: RUF009  frozen, so sharing it is safe
    log_level: str = "info"
