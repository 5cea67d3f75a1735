"""`pyctl up`: from nothing to a ready node."""

from __future__ import annotations

import sys

import click

from pyctl.cluster.preflight import require_root
from pyctl.options import verb
from pyctl.settings import Settings


@verb(name="up", short_help="start the cluster, and return when its node is ready")
@click.option(
    "--store", type=click.Choice(["sqlite", "memory"]), default=None, help="Where objects are kept [default: sqlite]."
)
@click.option("--node-name", default="", metavar="NAME", help="The node's name [default: this host's].")
@click.option(
    "--pod-cidr", default="", metavar="CIDR", help="Addresses for pods [default: a free /24 of 10.244.0.0/14]."
)
@click.option(
    "--registry-config",
    envvar="PYCTL_REGISTRY_CONFIG",
    default=None,
    metavar="DIR",
    help="Mirrors, as DIR/<registry>/hosts.toml [env PYCTL_REGISTRY_CONFIG].",
)
@click.option(
    "--api-port",
    type=click.IntRange(1, 65535),
    default=None,
    help="The API server's port [default: 6443 or the next free].",
)
@click.option(
    "--agent-port",
    type=click.IntRange(1, 65535),
    default=None,
    help="The node agent's port [default: 10250 or the next free].",
)
@click.option(
    "--timeout", type=float, default=60.0, show_default=True, metavar="SECONDS", help="How long to wait for the node."
)
@click.option("--foreground", is_flag=True, help="Stay, and stop the components at Ctrl-C or SIGTERM.")
def command(
    settings: Settings,
    store: str | None,
    node_name: str,
    pod_cidr: str,
    registry_config: str | None,
    api_port: int | None,
    agent_port: int | None,
    timeout: float,
    foreground: bool,
) -> int:
    """Start the cluster of this data directory, and return when its node is ready.

    The first start chooses ports and ranges that are free, and keeps them. A cluster that is up already is left as it
    is. Needs root; the kubeconfig belongs to who called sudo.
    """
    require_root("pyctl up")
    from pyctl.cluster import starting
    from pyctl.cluster.options import Options

    options = Options(store or "", node_name, pod_cidr, registry_config, api_port, agent_port)
    layout = settings.layout
    if foreground:
        starting.run_here(layout, options, say)
    starting.start(layout, options, seconds=timeout, say=say)
    say(f"kubeconfig: {layout.kubeconfig}")
    return 0


def say(text: str) -> None:
    """Progress is for people: stdout carries data only."""
    print(text, file=sys.stderr, flush=True)
