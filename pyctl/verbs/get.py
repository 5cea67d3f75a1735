"""`pyctl get`: the server's tables, or the objects themselves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import click

from pyctl import targets
from pyctl.api import JSON, TABLE, Api, ApiError, Document, Resource, segment
from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.printing import TableWriter, as_list, as_table, reference, to_json, to_yaml, without_bookkeeping
from pyctl.settings import Settings

PAGE = "500"


@dataclass(slots=True)
class Wish:
    """What was asked for, but for the types and names."""

    output: str
    everywhere: bool
    labels: str
    fields: str
    watch: bool
    headers: bool
    show_labels: bool
    ignore_missing: bool

    @property
    def table(self) -> bool:
        return self.output in ("", "wide")

    @property
    def accept(self) -> str:
        return TABLE if self.table else JSON

    def query(self, name: str = "") -> dict[str, str]:
        fields = ",".join(each for each in (self.fields, f"metadata.name={name}" if name else "") if each)
        return {key: value for key, value in (("labelSelector", self.labels), ("fieldSelector", fields)) if value}

    def writer(self, prefix: str = "") -> TableWriter:
        return TableWriter(self.output == "wide", self.everywhere, self.show_labels, self.headers, prefix)


@verb(name="get", short_help="list objects, or show some")
@click.argument("words", metavar="TYPE [NAME...] | TYPE/NAME...", nargs=-1)
@click.option("-o", "--output", type=click.Choice(["wide", "yaml", "json", "name"]), default=None, help="How to print.")
@click.option("-w", "--watch", is_flag=True, help="Go on and print what changes.")
@click.option("-A", "--all-namespaces", is_flag=True, help="Objects of all namespaces.")
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="Only with these labels: app=web,tier!=cache.")
@click.option("--field-selector", default="", metavar="SELECTOR", help="Only with these fields: status.phase=Running.")
@click.option("--no-headers", is_flag=True, help="Rows without the header.")
@click.option("--show-labels", is_flag=True, help="Labels as the last column.")
@click.option("--ignore-not-found", is_flag=True, help="What does not exist is no error.")
def command(
    settings: Settings,
    words: tuple[str, ...],
    output: str | None,
    watch: bool,
    all_namespaces: bool,
    selector: str,
    field_selector: str,
    no_headers: bool,
    show_labels: bool,
    ignore_not_found: bool,
) -> int:
    """List objects of one or several types, or show those named.

    \b
    pyctl get pods -A -o wide
    pyctl get pod web -o yaml
    pyctl get pods,nodes
    """
    api = settings.api()
    wish = Wish(
        output or "", all_namespaces, selector, field_selector, watch, not no_headers, show_labels, ignore_not_found
    )
    wanted = targets.parse(api, words)
    if watch:
        return follow(api, wanted, wish)
    return show_tables(api, wanted, wish) if wish.table else show_objects(api, wanted, wish)


def show_tables(api: Api, wanted: list[targets.Target], wish: Wish) -> int:
    """Print one table a type. A name that does not exist spoils only the exit code."""
    code, printed = 0, False
    for target in wanted:
        whole: Document = {"kind": "Table", "columnDefinitions": [], "rows": []}
        for answer in _answers(api, target, wish):
            if isinstance(answer, ApiError):
                print(f"error: {answer.message}", file=sys.stderr)
                code = 1
                continue
            table = as_table(answer)
            whole["columnDefinitions"] = whole["columnDefinitions"] or table.get("columnDefinitions") or []
            whole["rows"] += table.get("rows") or []
        lines = wish.writer(f"{target.resource.shown}/" if len(wanted) > 1 else "").lines(whole)
        if lines and printed:
            print()
        for line in lines:
            print(line)
        printed = printed or bool(lines)
    if not printed and not code:
        _say_nothing_found(api, wanted, wish)
    return code


def show_objects(api: Api, wanted: list[targets.Target], wish: Wish) -> int:
    """Print objects as YAML or JSON (a `List`, but for one that was asked for by name), or their names."""
    code = 0
    items: list[tuple[Resource, Document]] = []
    for target in wanted:
        for answer in _answers(api, target, wish):
            if isinstance(answer, ApiError):
                print(f"error: {answer.message}", file=sys.stderr)
                code = 1
                continue
            items += [(target.resource, item) for item in _items(answer, target)]
    if wish.output == "name":
        for resource, item in items:
            print(reference(resource, item["metadata"]["name"]))
        return code
    alone = len(items) == 1 and sum(len(target.names) for target in wanted) == 1
    cleaned = [without_bookkeeping(item) for _, item in items]
    if items or not code:
        _print(cleaned[0] if alone else as_list(cleaned), wish.output)
    return code


def follow(api: Api, wanted: list[targets.Target], wish: Wish) -> int:
    """List, and then print each change until interrupted."""
    if len(wanted) != 1 or len(wanted[0].names) > 1:
        raise Failure("only one type or one object can be watched", code=2)
    target = wanted[0]
    name = target.names[0] if target.names else ""
    writer = wish.writer()
    path = _path(api, target.resource, wish)
    version = ""
    for page in _pages(api, path, wish.query(name), wish.accept):
        version = page["metadata"].get("resourceVersion", "")
        _show_change(target, page, writer, wish)
    while True:
        try:
            query = {**wish.query(name), "resourceVersion": version, "allowWatchBookmarks": "true"}
            for kind, event in api.watch(path, query, accept=wish.accept):
                version = _version_of(event) or version
                if kind != "BOOKMARK":
                    _show_change(target, event, writer, wish)
        except ApiError as error:
            if error.http_code != 410:
                raise
            # The history that we would need is gone; what happens from now on is what can still be shown.
            version = api.get(path, {**wish.query(name), "limit": "1"})["metadata"].get("resourceVersion", "")


def _show_change(target: targets.Target, document: Document, writer: TableWriter, wish: Wish) -> None:
    if wish.table:
        for line in writer.lines(as_table(document)):
            print(line)
    else:
        for item in _items(document, target):
            if wish.output == "name":
                print(reference(target.resource, item["metadata"]["name"]))
            else:
                if wish.output == "yaml":
                    print("---")
                _print(without_bookkeeping(item), wish.output)
    sys.stdout.flush()


def _version_of(event: Document) -> str:
    rows = event.get("rows") or []
    holder = rows[-1].get("object") or {} if rows else event
    return str((holder.get("metadata") or {}).get("resourceVersion", ""))


def _answers(api: Api, target: targets.Target, wish: Wish) -> Iterator[Document | ApiError]:
    if not target.names:
        yield from _pages(api, _path(api, target.resource, wish), wish.query(), wish.accept)
        return
    if wish.everywhere and target.resource.namespaced:
        raise Failure("an object cannot be named across all namespaces", hint="leave -A out, or the name", code=2)
    if wish.labels or wish.fields:
        raise Failure("a name and a selector do not go together", code=2)
    for name in target.names:
        try:
            yield api.get(target.resource.path(api.namespace, segment(name)), accept=wish.accept)
        except ApiError as error:
            if error.http_code != 404:
                raise
            if not wish.ignore_missing:
                yield error


def _pages(api: Api, path: str, query: dict[str, str], accept: str) -> Iterator[Document]:
    more = ""
    while True:
        page = api.get(path, {**query, "limit": PAGE, **({"continue": more} if more else {})}, accept=accept)
        yield page
        more = (page.get("metadata") or {}).get("continue", "")
        if not more:
            return


def _path(api: Api, resource: Resource, wish: Wish) -> str:
    return resource.path("" if wish.everywhere else api.namespace)


def _items(answer: Document, target: targets.Target) -> list[Document]:
    if "items" not in answer:
        return [answer]
    kind = {"apiVersion": target.resource.api_version, "kind": target.resource.kind}
    return [{**kind, **item} for item in answer["items"] or []]


def _print(document: Document, output: str) -> None:
    sys.stdout.write(to_yaml(document) if output == "yaml" else to_json(document))


def _say_nothing_found(api: Api, wanted: list[targets.Target], wish: Wish) -> None:
    if wish.ignore_missing and any(target.names for target in wanted):
        return
    inside = not wish.everywhere and any(target.resource.namespaced for target in wanted)
    print(f"no resources found in namespace {api.namespace}" if inside else "no resources found", file=sys.stderr)
