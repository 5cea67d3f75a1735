"""`python -m pyctl.cluster.daemon --data-dir DIR`: the supervisor of a cluster that `pyctl up` has prepared."""

from __future__ import annotations

import argparse
import os
import sys

from pyctl.cluster import layout as layouts
from pyctl.cluster.layout import Layout
from pyctl.cluster.processes import Identity, end, with_arguments
from pyctl.cluster.state import read_state
from pyctl.cluster.supervisor import STOP_SECONDS, Supervisor, introduce
from pyctl.failure import Failure
from pyctl.versions import own_version

# Lowered where the host allows it: without its parent, nobody restarts what dies.
OOM_SCORE = -900
MODULE = "pyctl.cluster.daemon"


def command(layout: Layout) -> list[str]:
    """The command line of a cluster's supervisor, and of all that it forks."""
    return [sys.executable, "-P", "-m", MODULE, "--data-dir", str(layout.data)]


def environment() -> dict[str, str]:
    """Ours, with this very pyctl first on the way to modules, however it was found."""
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    paths = [home, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def processes(layout: Layout) -> list[Identity]:
    """The supervisor of this cluster and the components that were forked from it, as /proc tells; this process is left
    out. What a supervisor had forked and not written down when it was killed is found here alone."""
    return with_arguments([os.fsencode(word) for word in command(layout)[2:]])


def run(layout: Layout) -> int:
    """Supervise until SIGTERM."""
    # Before anything is imported: a numeric library that starts threads would make forking unsafe.
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    os.environ["OMP_NUM_THREADS"] = "1"
    from pyctl.cluster import components

    cluster = layouts.load(layout)
    if cluster is None:
        raise Failure(f"no cluster in {layout.data}", hint="`pyctl up` makes one")
    introduce("supervisor", OOM_SCORE)
    known = read_state(layout.run).leftovers
    end([each for each in processes(layout) if each not in known], grace_seconds=STOP_SECONDS)
    return Supervisor(components.table(layout, cluster), layout.run, layout.logs, own_version()).run()


def main() -> int:
    parser = argparse.ArgumentParser(prog="pyctl.cluster.daemon", description=__doc__)
    parser.add_argument(
        "--data-dir", required=True, metavar="DIR", help="the cluster's directory, as `pyctl up` made it"
    )
    arguments = parser.parse_args()
    try:
        return run(Layout.of(arguments.data_dir))
    except Failure as failure:
        print(f"error: {failure.message}", file=sys.stderr)
        return failure.code


if __name__ == "__main__":
    sys.exit(main())
