"""`python -m nodeagent`: the agent of one node."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from apimachinery.quantity import milli, value
from componentbase.logs import LEVELS
from nodeagent.app import main
from nodeagent.capacity import Reserved
from nodeagent.config import Config

DESCRIPTION = """\
The node agent: registers this machine as a node, runs the pods that the API server gives to it through a
container runtime (any that speaks CRI v1), and reports what becomes of them.

  python -m nodeagent --kubeconfig node.kubeconfig --cri-endpoint unix:///run/pyctl/runtime.sock \\
      --data-dir /var/lib/pyctl/nodeagent --tls-certificate node-server.crt --tls-key node-server.key

Stopping it leaves every container running; the next start finds them again.
"""


def parser() -> argparse.ArgumentParser:
    default = Config()
    found = argparse.ArgumentParser(
        prog="python -m nodeagent", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--kubeconfig", type=Path, required=True, metavar="FILE", help="how to reach the API server, and as whom")
    add("--node-name", default=default.node_name, metavar="NAME", help="name of the node (default: %(default)s)")
    socket = "socket of the container runtime (default: %(default)s)"
    add("--cri-endpoint", default=default.cri_endpoint, metavar="unix:///PATH", help=socket)
    directory = "where pods' volumes and logs are kept (default: %(default)s)"
    add("--data-dir", type=Path, default=default.data_dir, metavar="DIR", help=directory)
    parent = "cgroup that holds all pods; its limits are the node's capacity (default: the runtime's choice)"
    add("--cgroup-parent", default=default.cgroup_parent, metavar="PATH", help=parent)
    add("--node-ip", default="", metavar="ADDRESS", help="address of the node (default: that of the way out)")
    add("--pod-cidr", default="", metavar="RANGE", help="the node's range of pod addresses, written into the Node")
    label = "a label of the node; may be repeated"
    add("--label", dest="labels", action="append", default=[], metavar="KEY=VALUE", help=label)
    add(
        "--max-pods",
        type=int,
        default=default.max_pods,
        metavar="N",
        help="at most so many pods (default: %(default)s)",
    )
    reserved = "kept from pods, such as cpu=500m,memory=1Gi,pids=1000,ephemeral-storage=1Gi"
    add("--reserved", default="", metavar="LIST", help=reserved)
    server = found.add_argument_group("the agent's own HTTPS API, for logs, exec and images")
    server.add_argument("--address", default=default.address, help="address to listen on (default: %(default)s)")
    port = "port to listen on; 0 chooses a free one (default: %(default)s)"
    server.add_argument("--port", type=int, default=default.port, help=port)
    without = "its certificate; without one the API is not served"
    server.add_argument("--tls-certificate", type=Path, metavar="FILE", help=without)
    server.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    authority = "who signs the clients that are let in (default: the kubeconfig's authority)"
    server.add_argument("--client-ca", type=Path, metavar="FILE", help=authority)
    add("--log-level", choices=LEVELS, default=default.log_level, help="how much to log (default: %(default)s)")
    return found


def config_of(arguments: list[str]) -> Config:
    """The configuration that a command line means; exits with 2 when it means none."""
    options = parser()
    given = vars(options.parse_args(arguments))
    if (given["tls_certificate"] is None) != (given["tls_key"] is None):
        options.error("--tls-certificate and --tls-key belong together")
    try:
        given["node_labels"] = pairs(given.pop("labels"))
        given["reserved"] = reserved(given["reserved"])
    except ValueError as error:
        options.error(str(error))
    return Config(**given)


def pairs(words: list[str]) -> dict[str, str]:
    """KEY=VALUE words as a mapping. Raises ValueError naming a word without `=`."""
    found = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not key or not equals:
            raise ValueError(f"{word!r} must be KEY=VALUE")
        found[key] = text
    return found


def reserved(text: str) -> Reserved:
    """`cpu=500m,memory=1Gi` as what is kept from pods. Raises ValueError."""
    given = pairs([word for word in text.split(",") if word])
    known = {"cpu", "memory", "pids", "ephemeral-storage"}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"--reserved: unknown resource {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return Reserved(
        cpu_milli=milli(given.get("cpu", "")),
        memory_bytes=value(given.get("memory", "")),
        pids=value(given.get("pids", "")),
        ephemeral_storage_bytes=value(given.get("ephemeral-storage", "")),
    )


if __name__ == "__main__":
    sys.exit(main(config_of(sys.argv[1:])))
