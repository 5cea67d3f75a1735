"""`python -m scheduler`: one scheduler, alone or as a part of a cluster."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from componentbase.logs import LEVELS
from scheduler.config import DEFAULT_SCHEDULER_NAME, Config

DESCRIPTION = """\
Gives pods to nodes, by a policy that is an ordered set of filter and score plugins.

  python -m scheduler --kubeconfig ~/cluster/scheduler.kubeconfig
  python -m scheduler --kubeconfig ~/cluster/scheduler.kubeconfig --policy ./mine.py --name mine

The second one runs beside the first: it schedules the pods whose spec.schedulerName is "mine", with the POLICY that the
file defines. It needs nothing else to be there; while the API server is away it waits and tries again.
"""


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="python -m scheduler", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = found.add_argument
    add("--kubeconfig", type=Path, required=True, metavar="FILE", help="how to reach the API server, and as whom")
    add("--policy", default="default", metavar="NAME|FILE.py", help="the policy (default: %(default)s)")
    add("--seed", type=int, default=0, help="decides ties; equal seeds decide alike (default: %(default)s)")
    named = "schedule the pods whose spec.schedulerName this is (default: %(default)s)"
    add("--name", dest="scheduler_name", default=DEFAULT_SCHEDULER_NAME, help=named)
    add("--log-level", choices=LEVELS, default="info", help="how much is logged on stderr (default: %(default)s)")
    return found


def config_of(arguments: list[str]) -> Config:
    """The configuration that a command line means; exits with 2 when it means none."""
    return Config(**vars(parser().parse_args(arguments)))


if __name__ == "__main__":
    # Columns are short: a pool of numpy threads would only cost memory. Before numpy is loaded.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from scheduler.app import main

    sys.exit(main(config_of(sys.argv[1:])))
