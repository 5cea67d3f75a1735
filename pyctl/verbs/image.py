"""`pyctl image`: the images on the nodes, through the API server's node proxy."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click

from pyctl.api import Api, ApiError, Document, unreachable
from pyctl.failure import Failure
from pyctl.options import Sections, Verb
from pyctl.printing import columns
from pyctl.settings import Settings

VERBS = {
    "ls": "list the images on the nodes",
    "import": "bring in an archive: docker, OCI, from a file or standard input",
    "pull": "fetch from a registry",
    "build": "make a small image of programs of this host",
    "rm": "remove images",
}
CHUNK_BYTES = 1 << 20


@click.group(
    name="image", cls=Sections, sections={"Images": VERBS}, short_help="list, import, pull, build and remove images"
)
def command() -> None:
    """Images on the nodes, managed through the API server."""


node_option = click.option("--node", default="", metavar="NAME", help="Only on this node [default: all].")


def nodes(api: Api, wanted: str) -> list[str]:
    """The nodes to work on. Raises Failure where there is none."""
    if wanted:
        return [wanted]
    names = [item["metadata"]["name"] for item in api.get("/api/v1/nodes")["items"] or []]
    if not names:
        raise Failure("no node is registered yet", hint="`pyctl status` tells how the cluster is")
    return names


def door(node: str, rest: str = "") -> str:
    """The path of a node's images behind the API server."""
    return f"/api/v1/nodes/{node}/proxy/pyctl/v1/images{rest}"


def ask(api: Api, method: str, path: str, document: Any = None, query: dict[str, str] | None = None) -> Document:
    """One request that may take its time (a pull, a build): no time limit on the answer."""
    body = b"" if document is None else json.dumps(document).encode()
    kind = "application/json" if body else ""
    data = api.send(method, path, query, body=body, content_type=kind, stream=True).read()
    found = json.loads(data) if data.strip() else {}
    return found if isinstance(found, dict) else {"images": found}


@command.command(name="ls", cls=Verb, short_help=VERBS["ls"])
@click.option("-o", "--output", type=click.Choice(["json"]), default=None, help="How to print.")
@node_option
@click.pass_obj
def list_images(settings: Settings, output: str | None, node: str) -> int:
    """List the images on the nodes."""
    api = settings.api()
    found = [(name, each) for name in nodes(api, node) for each in ask(api, "GET", door(name)).get("images") or []]
    if output == "json":
        print(json.dumps([{"node": name, **each} for name, each in found], indent=2))
        return 0
    rows = [
        (reference, _short_id(each.get("id", "")), _size(int(each.get("sizeBytes") or 0)), name)
        for name, each in found
        for reference in each.get("references") or ["<none>"]
    ]
    if not rows:
        print("no images", file=sys.stderr)
        return 0
    for line in columns(("IMAGE", "ID", "SIZE", "NODE"), sorted(rows)):
        print(line)
    return 0


@command.command(name="import", cls=Verb, short_help=VERBS["import"])
@click.argument("file", metavar="FILE|-")
@click.option("-t", "--tag", default="", metavar="NAME", help="Call the image so, in place of the archive's names.")
@node_option
@click.pass_obj
def import_archive(settings: Settings, file: str, tag: str, node: str) -> int:
    """Bring in the images of an archive (docker save, OCI layout; also compressed)."""
    api = settings.api()
    if file != "-" and not Path(file).is_file():
        raise Failure(f"{file}: no such file")
    chosen = nodes(api, node)
    if file == "-" and len(chosen) > 1:
        raise Failure("standard input can be read once only", hint="choose a node with --node, or give a file")
    code = 0
    for name in chosen:
        try:
            answer = asyncio.run(_upload(settings, door(name, "/import"), {"tag": tag} if tag else {}, file))
        except ApiError as error:
            print(f"error: {file}: {error.message} (node {name})", file=sys.stderr)
            code = 1
            continue
        for reference in answer.get("references") or answer.get("ids") or []:
            print(reference)
    return code


async def _upload(settings: Settings, path: str, query: dict[str, str], file: str) -> Document:
    """Send a file of any size, a piece at a time."""
    from componentbase.http import Headers, Query, Request
    from kubeclient.http_transport import HttpTransport
    from kubeclient.transport import TransportError
    from pyctl.remotecommand import refusal

    access = settings.access()
    transport = HttpTransport(access)
    headers = Headers({"content-type": "application/x-tar"})
    # Asked for as a stream: unpacking takes longer than an ordinary answer may.
    request = Request("POST", path, Query.of(dict(query)), headers, _pieces(file), stream=True)
    try:
        answer = await transport.request(request)
        data = await answer.read()
    except TransportError as error:
        raise unreachable(access.server, error) from error
    finally:
        await transport.close()
    if answer.status >= 400:
        raise ApiError(refusal(answer.status, data))
    document: Document = json.loads(data)
    return document


async def _pieces(file: str) -> AsyncIterator[bytes]:
    source = sys.stdin.buffer if file == "-" else open(file, "rb")  # noqa: SIM115, ASYNC230
    try:
        while piece := source.read(CHUNK_BYTES):
            yield piece
    finally:
        if file != "-":
            source.close()


@command.command(name="pull", cls=Verb, short_help=VERBS["pull"])
@click.argument("image", metavar="NAME")
@node_option
@click.pass_obj
def pull(settings: Settings, image: str, node: str) -> int:
    """Fetch an image from its registry."""
    return _each(settings, node, "/pull", {"image": image}, "reference", image)


@command.command(name="build", cls=Verb, short_help=VERBS["build"])
@click.option(
    "--from-host",
    "programs",
    multiple=True,
    required=True,
    metavar="PROGRAM",
    help="A program's name or path; may be repeated.",
)
@click.option("-t", "--tag", required=True, metavar="NAME", help="What to call the image.")
@node_option
@click.pass_obj
def build(settings: Settings, programs: tuple[str, ...], tag: str, node: str) -> int:
    """Make a small image of programs of the node's host and the libraries they link; `python` brings its standard
    library.

    \b
    pyctl image build --from-host python -t local/python
    """
    return _each(settings, node, "/build", {"programs": list(programs), "tag": tag}, "reference", tag)


@command.command(name="rm", cls=Verb, short_help=VERBS["rm"])
@click.argument("images", metavar="NAME|ID...", nargs=-1, required=True)
@node_option
@click.pass_obj
def remove(settings: Settings, images: tuple[str, ...], node: str) -> int:
    """Remove images from the nodes."""
    api = settings.api()
    code = 0
    for image in images:
        removed = 0
        trouble = ""
        for name in nodes(api, node):
            try:
                ask(api, "DELETE", door(name, f"/{image}"))
                removed += 1
            except ApiError as error:
                trouble = f"{error.message} (node {name})"
        if removed:
            print(image)
        else:
            print(f"error: {trouble}", file=sys.stderr)
            code = 1
    return code


def _each(settings: Settings, node: str, rest: str, body: Document, key: str, default: str) -> int:
    """Ask every chosen node; print what the first that did it calls the outcome."""
    api = settings.api()
    code, said = 0, False
    for name in nodes(api, node):
        try:
            answer = ask(api, "POST", door(name, rest), body)
        except ApiError as error:
            print(f"error: {error.message} (node {name})", file=sys.stderr)
            code = 1
            continue
        for warning in answer.get("warnings") or []:
            print(f"Warning: {warning}", file=sys.stderr)
        if not said:
            print(answer.get(key) or default)
            said = True
    return code


def _short_id(text: str) -> str:
    return text.removeprefix("sha256:")[:12]


def _size(count: int) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024  # type: ignore[assignment]
    return f"{count:.1f} GiB"
