"""`pyctl logs`: what a container wrote, as it wrote it."""

from __future__ import annotations

import math
import sys

import click

from pyctl.api import Api, Document, segment
from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.printing import parse_duration
from pyctl.settings import Settings
from pyctl.targets import pod_name

DEFAULT_CONTAINER = "kubectl.kubernetes.io/default-container"


@verb(name="logs", short_help="print what a container wrote")
@click.argument("pod", metavar="POD")
@click.argument("container_argument", metavar="[CONTAINER]", default="")
@click.option("-c", "--container", default="", metavar="NAME", help="Which container [default: the first].")
@click.option("-f", "--follow", is_flag=True, help="Go on until the container ends.")
@click.option("--tail", type=int, default=-1, metavar="LINES", help="Only the last lines.")
@click.option("-p", "--previous", is_flag=True, help="Of the container before the last restart.")
@click.option("--timestamps", is_flag=True, help="With the time of each line.")
@click.option("--since", default="", metavar="DURATION", help="Only of the last 30s, 5m, 2h.")
@click.option("--limit-bytes", type=int, default=0, metavar="BYTES", help="At most so much.")
def command(
    settings: Settings,
    pod: str,
    container_argument: str,
    container: str,
    follow: bool,
    tail: int,
    previous: bool,
    timestamps: bool,
    since: str,
    limit_bytes: int,
) -> int:
    """Print the log of a container.

    \b
    pyctl logs web -c fetch -f --tail 20
    """
    if container and container_argument:
        raise Failure(f"which container, {container_argument} or {container}? name it once", code=2)
    if tail < -1 or limit_bytes < 0:
        raise Failure(f"--tail {tail}, --limit-bytes {limit_bytes}: must not be negative", code=2)
    api = settings.api()
    path = _pod_path(api, pod)
    query = {"container": choose_container(api.get(path), container or container_argument)}
    for name, given in (("follow", follow), ("previous", previous), ("timestamps", timestamps)):
        if given:
            query[name] = "true"
    if tail >= 0:
        query["tailLines"] = str(tail)
    if limit_bytes:
        query["limitBytes"] = str(limit_bytes)
    if since:
        try:
            query["sinceSeconds"] = str(math.ceil(parse_duration(since)))
        except ValueError as error:
            raise Failure(f"--since: {error}", code=2) from error
    for chunk in api.chunks(f"{path}/log", query):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    return 0


def _pod_path(api: Api, word: str) -> str:
    return f"/api/v1/namespaces/{api.namespace}/pods/{segment(pod_name(word))}"


def choose_container(pod: Document, wanted: str) -> str:
    """The container that was asked for, else the pod's default one, else the first, which is then said."""
    spec = pod.get("spec") or {}
    ordinary = [each["name"] for each in spec.get("containers") or []]
    others = [each["name"] for key in ("initContainers", "ephemeralContainers") for each in spec.get(key) or []]
    name = pod["metadata"]["name"]
    if wanted:
        if wanted not in ordinary + others:
            raise Failure(f"container {wanted} is not in pod {name}; it has {', '.join(ordinary + others)}")
        return wanted
    preferred = (pod["metadata"].get("annotations") or {}).get(DEFAULT_CONTAINER, "")
    if preferred in ordinary:
        return str(preferred)
    if len(ordinary) > 1:
        print(f"container {ordinary[0]} of {', '.join(ordinary)}; -c chooses another", file=sys.stderr)
    return str(ordinary[0])
