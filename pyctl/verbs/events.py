"""`pyctl events`: what happened, oldest first."""

from __future__ import annotations

import sys

import click

from pyctl import targets
from pyctl.api import Api, ApiError, Document
from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.printing import TableWriter, age_of
from pyctl.settings import Settings

HEADER = ("LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE")


@verb(name="events", short_help="what happened, oldest first")
@click.option("--for", "about", default="", metavar="TYPE/NAME", help="Only about this object.")
@click.option("-w", "--watch", is_flag=True, help="Go on and print what happens.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Events of all namespaces.")
def command(settings: Settings, about: str, watch: bool, all_namespaces: bool) -> int:
    """Print events, the oldest first.

    \b
    pyctl events --for pod/web
    pyctl events -A -w
    """
    api = settings.api()
    resource = api.resource_of("v1", "Event")
    path = resource.path("" if all_namespaces else api.namespace)
    query = _about(api, about)
    listing = api.get(path, query)
    events = sorted(listing["items"] or [], key=last_seen)
    writer = TableWriter()
    header = ("NAMESPACE", *HEADER) if all_namespaces else HEADER
    _print(writer, [header, *(row(event, all_namespaces) for event in events)] if events or watch else [])
    if not events and not watch:
        print("no events", file=sys.stderr)
    version = listing["metadata"].get("resourceVersion", "")
    while watch:
        try:
            for kind, event in api.watch(path, {**query, "resourceVersion": version}):
                version = event["metadata"].get("resourceVersion") or version
                if kind in ("ADDED", "MODIFIED"):
                    _print(writer, [row(event, all_namespaces)])
        except ApiError as error:
            if error.http_code != 410:
                raise
            version = api.get(path, query)["metadata"].get("resourceVersion", "")
    return 0


def _about(api: Api, word: str) -> dict[str, str]:
    if not word:
        return {}
    chosen = targets.parse(api, [word])[0]
    if not chosen.names:
        raise Failure(f"--for {word!r}: write TYPE/NAME", code=2)
    return {"fieldSelector": f"involvedObject.kind={chosen.resource.kind},involvedObject.name={chosen.names[0]}"}


def last_seen(event: Document) -> str:
    """When it happened last, RFC 3339."""
    return str(
        event.get("lastTimestamp")
        or event.get("eventTime")
        or event.get("firstTimestamp")
        or event["metadata"].get("creationTimestamp", "")
    )


def row(event: Document, with_namespace: bool = False) -> tuple[str, ...]:
    """The cells of one event."""
    about = event.get("involvedObject") or {}
    count = event.get("count") or 1
    message = str(event.get("message", "")).strip().replace("\n", " ")
    cells = (
        age_of(last_seen(event)) + (f" (x{count})" if count > 1 else ""),
        event.get("type", ""),
        event.get("reason", ""),
        f"{str(about.get('kind', '')).lower()}/{about.get('name', '')}",
        message,
    )
    return (event["metadata"].get("namespace", ""), *cells) if with_namespace else cells


def _print(writer: TableWriter, rows: list[tuple[str, ...]]) -> None:
    for line in writer.aligned(rows):
        print(line, flush=True)
