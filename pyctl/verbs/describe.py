"""`pyctl describe`: an object told in words, and what happened to it."""

from __future__ import annotations

import sys

import click

from pyctl import targets
from pyctl.api import Api, ApiError, Document, Resource, segment
from pyctl.descriptions import describe, joined
from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.settings import Settings


@verb(name="describe", short_help="tell all about an object, with its events")
@click.argument("words", metavar="TYPE [NAME...] | TYPE/NAME...", nargs=-1)
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="Only with these labels.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of all namespaces.")
def command(settings: Settings, words: tuple[str, ...], selector: str, all_namespaces: bool) -> int:
    """Tell all about objects, with the events about them.

    \b
    pyctl describe pod web
    pyctl describe nodes
    """
    api = settings.api()
    code, blocks = 0, []
    for target in targets.parse(api, words):
        kind = {"apiVersion": target.resource.api_version, "kind": target.resource.kind}
        if target.names:
            if selector or all_namespaces:
                raise Failure("a name does not go together with -l and -A", code=2)
            for name in target.names:
                try:
                    item = api.get(target.resource.path(api.namespace, segment(name)))
                except ApiError as error:
                    print(f"error: {error.message}", file=sys.stderr)
                    code = 1
                    continue
                blocks.append(_block(api, target.resource, item))
        else:
            query = {"labelSelector": selector} if selector else {}
            listing = api.get(target.resource.path("" if all_namespaces else api.namespace), query)
            blocks += [_block(api, target.resource, {**kind, **item}) for item in listing["items"] or []]
    if blocks:
        print(joined(blocks))
    elif not code:
        print("no resources found", file=sys.stderr)
    return code


def _block(api: Api, resource: Resource, item: Document) -> list[str]:
    metadata = item["metadata"]
    wanted = {"involvedObject.name": metadata["name"], "involvedObject.kind": resource.kind}
    namespace = metadata.get("namespace", "")
    query = {"fieldSelector": ",".join(f"{key}={value}" for key, value in wanted.items())}
    events = api.get(f"/api/v1/namespaces/{namespace}/events" if namespace else "/api/v1/events", query)
    # A namesake that was deleted has events too; nodes' events carry the name where the uid would be.
    mine = (metadata.get("uid"), metadata["name"], "", None)
    return describe(item, [each for each in events["items"] or [] if each["involvedObject"].get("uid") in mine])
