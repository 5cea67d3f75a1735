"""The parts of a cluster on one host, and how each is told where its things are.

Nothing of a component is imported here before the supervisor asks for it: `prepare` imports, in the parent, and hands
back the `main` that runs in the child. The order is that of the longest road to a ready node.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pyctl.cluster.layout import Cluster, Layout
from pyctl.cluster.supervisor import Component, Main

OOM_SCORE = -800

if TYPE_CHECKING:
    from runtime.config import Config as RuntimeConfig

# What the runtime itself imports only after it has started its zygote; the parent may load it before.
RUNTIME_MODULES = (
    "grpc.aio",
    "pb.pyctl.runtime.v1.runtime_pb2_grpc",
    "runtime.core",
    "runtime.images.service",
    "runtime.images.store",
    "runtime.cgroups.tree",
    "runtime.linux.kernel",
    "runtime.network.bridge",
    "runtime.server",
    "runtime.snapshots.copy",
    "runtime.snapshots.overlay",
    "runtime.streaming.server",
)

Prepare = Callable[[Layout, Cluster], Main]


def table(layout: Layout, cluster: Cluster) -> list[Component]:
    """The components in the order of their start."""
    fingerprint = hashlib.sha256(repr((layout, cluster)).encode()).hexdigest()[:16]
    rows: list[tuple[str, Prepare, int]] = [
        ("apiserver", apiserver, OOM_SCORE),
        ("runtime", runtime, 0),  # its children are other people's programs: not dearer than they
        ("nodeagent", nodeagent, OOM_SCORE),
        ("scheduler", scheduler, OOM_SCORE),
    ]
    return [Component(name, partial(prepare, layout, cluster), fingerprint, score) for name, prepare, score in rows]


def _load(*modules: str) -> None:
    """Import for the children's sake: what the parent has loaded, they share."""
    for name in modules:
        importlib.import_module(name)


def apiserver(layout: Layout, cluster: Cluster) -> Main:
    """The API server, on the store that was chosen."""
    from apiserver import app
    from apiserver.config import Config

    _load("apiserver.server", "uvloop")
    return partial(
        app.main,
        Config(
            data_dir=layout.data,
            store="memory" if cluster.store == "memory" else f"sqlite:{layout.database}",
            port=cluster.ports["apiserver"],
            tls_certificate=layout.pki / "apiserver.crt",
            tls_key=layout.pki / "apiserver.key",
            client_ca=layout.pki / "ca.crt",
            kubelet_certificate=layout.pki / "kubelet-client.crt",
            kubelet_key=layout.pki / "kubelet-client.key",
        ),
    )


def runtime(layout: Layout, cluster: Cluster) -> Main:
    """The container runtime."""
    from runtime import app

    _load(*RUNTIME_MODULES)
    return partial(app.main, runtime_config(layout, cluster))


def runtime_config(layout: Layout, cluster: Cluster) -> RuntimeConfig:
    """What `up` tells the runtime, and `down` too when it must clean up without one."""
    from runtime.config import Config

    return Config(
        root=layout.runtime_root,
        socket=layout.runtime_socket,
        name=layout.name,
        registry_config=Path(cluster.registry_config) if cluster.registry_config else None,
        pod_cidr=cluster.pod_cidr,
    )


def nodeagent(layout: Layout, cluster: Cluster) -> Main:
    """The node agent, beside the runtime."""
    from nodeagent import app
    from nodeagent.config import Config

    return partial(
        app.main,
        Config(
            kubeconfig=layout.component_kubeconfig("node"),
            node_name=cluster.node_name,
            cri_endpoint=f"unix://{layout.runtime_socket}",
            data_dir=layout.data / "nodeagent",
            cgroup_parent=f"/{layout.name}",
            pod_cidr=cluster.pod_cidr,
            port=cluster.ports["nodeagent"],
            tls_certificate=layout.pki / "node-server.crt",
            tls_key=layout.pki / "node-server.key",
            client_ca=layout.pki / "ca.crt",
        ),
    )


def scheduler(layout: Layout, cluster: Cluster) -> Main:
    """The scheduler."""
    from scheduler import app
    from scheduler.config import Config

    _load("uvloop", "kubeclient.http_transport", "scheduler.policies.catalog", "scheduler.policies.default")
    return partial(app.main, Config(kubeconfig=layout.component_kubeconfig("scheduler")))
