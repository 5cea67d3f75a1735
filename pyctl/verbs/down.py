"""`pyctl down`: end what `up` began."""

from __future__ import annotations

import click

from pyctl.cluster.preflight import require_root
from pyctl.options import verb
from pyctl.settings import Settings
from pyctl.verbs.up import say


@verb(name="down", short_help="end all pods, stop the cluster, leave nothing behind")
@click.option("--purge", is_flag=True, help="Delete the data directory too: objects, images, certificates, logs.")
@click.option(
    "--grace-period",
    type=click.IntRange(0),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="The most that a pod's own grace may take.",
)
def command(settings: Settings, purge: bool, grace_period: int) -> int:
    """End all pods, stop the cluster, and return when nothing of it is left on this host.

    Objects stay in the data directory, and pods start again with the next `up`, unless --purge deletes it all.
    """
    require_root("pyctl down")
    from pyctl.cluster import teardown

    teardown.stop(settings.layout, grace_seconds=grace_period, purge=purge, say=say)
    return 0
