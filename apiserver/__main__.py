"""`python -m apiserver`: one API server, alone or as a part of a cluster."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from componentbase.logs import LEVELS

from .app import main
from .config import Config

DESCRIPTION = """\
A Kubernetes API server on one revisioned store.

Run without certificates it makes its own authority below the data directory and writes a kubeconfig there:

  python -m apiserver --data-dir /tmp/api --port 6443
  kubectl --kubeconfig /tmp/api/kubeconfig get namespaces
"""


def parser() -> argparse.ArgumentParser:
    default = Config()
    found = argparse.ArgumentParser(
        prog="python -m apiserver", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    directory = "where the store and own certificates are kept (default: ./%(default)s)"
    add("--data-dir", type=Path, default=default.data_dir, metavar="DIR", help=directory)
    engines = "memory (forgets at exit), sqlite, or sqlite:PATH (default: %(default)s)"
    add("--store", default=default.store, metavar="ENGINE", help=engines)
    add("--host", default=default.host, metavar="ADDRESS", help="address to listen on (default: %(default)s)")
    add("--port", type=int, default=default.port, help="port to listen on; 0 chooses a free one (default: %(default)s)")
    another = "another name or address in the server's own certificate"
    add("--also-host", dest="hosts", action="append", default=[], metavar="NAME", help=another)
    tls = found.add_argument_group("certificates of a cluster (all three, or none)")
    tls.add_argument("--tls-certificate", type=Path, metavar="FILE", help="the server's certificate")
    tls.add_argument("--tls-key", type=Path, metavar="FILE", help="its key")
    tls.add_argument("--client-ca", type=Path, metavar="FILE", help="authority that signs clients and node agents")
    nodes = found.add_argument_group("node agents")
    nodes.add_argument("--kubelet-certificate", type=Path, metavar="FILE", help="what the server shows to node agents")
    nodes.add_argument("--kubelet-key", type=Path, metavar="FILE", help="its key")
    limit = "requests worked on at a time, watches not counted (default: %(default)s)"
    add("--max-in-flight", type=int, default=default.max_in_flight, metavar="N", help=limit)
    add("--seed", default=default.seed, help="seed of uids and generated names, for runs that are to be repeated")
    add(
        "--log-level", choices=LEVELS, default=default.log_level, help="debug logs every request (default: %(default)s)"
    )
    return found


def config_of(arguments: list[str]) -> Config:
    """The configuration that a command line means; exits with 2 when it means none."""
    given = vars(parser().parse_args(arguments))
    given["hosts"] = tuple(given["hosts"])
    return Config(**given)


if __name__ == "__main__":
    sys.exit(main(config_of(sys.argv[1:])))
