"""What `up` was asked for, checked against what was decided at the first start."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, replace

from pyctl.cluster import ports
from pyctl.cluster.layout import DEFAULT_DATA_DIR, Cluster, Layout
from pyctl.failure import Failure

NODE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Options:
    """The options of `up`; None and "" mean not given."""

    store: str = ""
    node_name: str = ""
    pod_cidr: str = ""
    registry_config: str | None = None
    api_port: int | None = None
    agent_port: int | None = None


def first(layout: Layout, options: Options, version: str) -> Cluster:
    """Decide everything for a cluster that starts for the first time."""
    seed = None if layout.data == DEFAULT_DATA_DIR else int(layout.hash, 16)
    used = [network for _, network in ports.used_networks()]
    pods, services = ports.choose_ranges(used, seed or 0)
    api_preferred, agent_preferred = ports.preferred(seed)
    api_port = options.api_port or ports.choose(api_preferred)
    agent_port = options.agent_port or ports.choose(agent_preferred, avoid=[api_port])
    return Cluster(
        node_name=_node_name(options.node_name or socket.gethostname().lower()),
        ports={"apiserver": api_port, "nodeagent": agent_port},
        pod_cidr=ports.parse_pod_range(options.pod_cidr) if options.pod_cidr else pods,
        service_cidr=services,
        store=options.store or "sqlite",
        registry_config=_registry_config(options.registry_config or ""),
        version=version,
    )


def again(cluster: Cluster, options: Options, version: str) -> Cluster:
    """The cluster as the options change it. Raises Failure for what cannot change any more."""
    if options.node_name and options.node_name != cluster.node_name:
        raise Failure(
            f"the node is called {cluster.node_name} since the first start; it cannot become {options.node_name}",
            hint="start afresh with `pyctl down --purge`, or choose another --data-dir",
        )
    changed = replace(cluster, version=version)
    if options.pod_cidr:
        changed = replace(changed, pod_cidr=ports.parse_pod_range(options.pod_cidr))
    if options.store:
        changed = replace(changed, store=options.store)
    if options.registry_config is not None:
        changed = replace(changed, registry_config=_registry_config(options.registry_config))
    given = {"apiserver": options.api_port, "nodeagent": options.agent_port}
    return replace(changed, ports={**changed.ports, **{name: port for name, port in given.items() if port}})


def check_ports(layout: Layout, cluster: Cluster, running: set[str]) -> None:
    """Raise Failure if a port or the pods' range is in somebody else's hands; `running` parts hold theirs rightly."""
    if "apiserver" not in running:
        ports.require_free(cluster.ports["apiserver"], "the API server's", "--api-port")
    if "nodeagent" not in running:
        ports.require_free(cluster.ports["nodeagent"], "the node agent's", "--agent-port")
    ports.require_range_free(cluster.pod_cidr, layout.name, ports.used_networks())


def _node_name(text: str) -> str:
    if len(text) > 253 or not NODE_NAME.fullmatch(text):
        raise Failure(
            f"{text!r} cannot be a node's name: lower-case letters, digits, '-' and '.' only",
            hint="give one with --node-name",
            code=2,
        )
    return text


def _registry_config(path: str) -> str:
    if path and not os.path.isdir(path):
        raise Failure(
            f"registry configuration {path!r} is not a directory", hint="it has certs.d/<registry>/hosts.toml's layout"
        )
    return os.path.realpath(path) if path else ""
