"""`pyctl exec`: a command in a running container, with its streams, its terminal and its exit code."""

from __future__ import annotations

import asyncio
import sys

import click

from pyctl.api import segment
from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.settings import Settings
from pyctl.targets import pod_name
from pyctl.verbs.logs import choose_container


@verb(name="exec", short_help="run a command in a container")
@click.argument("pod", metavar="POD")
@click.argument("words", metavar="-- COMMAND [ARGUMENT...]", nargs=-1)
@click.option("-c", "--container", default="", metavar="NAME", help="Which container [default: the first].")
@click.option("-i", "--stdin", is_flag=True, help="Pass standard input on.")
@click.option("-t", "--tty", is_flag=True, help="Give the command a terminal.")
def command(settings: Settings, pod: str, words: tuple[str, ...], container: str, stdin: bool, tty: bool) -> int:
    """Run a command in a container. The exit code is the command's.

    \b
    pyctl exec web -- ls /
    pyctl exec -it web -c serve -- sh
    """
    if not words:
        raise Failure("which command? it stands behind --", hint="for example `pyctl exec web -- ls /`", code=2)
    api = settings.api()
    path = f"/api/v1/namespaces/{api.namespace}/pods/{segment(pod_name(pod))}"
    chosen = choose_container(api.get(path), container)
    if tty and not sys.stdin.isatty():
        print("standard input is not a terminal, so the command gets none", file=sys.stderr)
        tty = False
    from pyctl.remotecommand import Session, run

    flags = {"stdin": stdin, "stdout": True, "stderr": not tty, "tty": tty}
    query: dict[str, str | list[str]] = {"container": chosen, "command": list(words)}
    query.update({name: "true" for name, given in flags.items() if given})
    try:
        return asyncio.run(run(settings.access(), Session(f"{path}/exec", query, stdin=stdin, tty=tty)))
    except ConnectionError as error:
        raise Failure(f"the connection to the container broke: {error}") from error
