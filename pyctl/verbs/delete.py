"""`pyctl delete`: ask for the deletion, and return when the objects are gone."""

from __future__ import annotations

import sys

import click

from pyctl import targets, waiting
from pyctl.api import Api, ApiError, Document, Resource, segment
from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.printing import parse_duration, reference
from pyctl.settings import Settings

Doomed = tuple[Resource, str, str]  # resource, namespace, name


@verb(name="delete", short_help="delete objects, and wait until they are gone")
@click.argument("words", metavar="[TYPE NAME... | TYPE/NAME...]", nargs=-1)
@click.option("-f", "--filename", "paths", multiple=True, metavar="FILE|DIR|-", help="What the files describe.")
@click.option("-R", "--recursive", is_flag=True, help="Also the directories below.")
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="All of the type with these labels.")
@click.option("--all", "everything", is_flag=True, help="All of the type in the namespace.")
@click.option(
    "--grace-period", type=int, default=None, metavar="SECONDS", help="Time for a clean end [default: its own]."
)
@click.option("--now", is_flag=True, help="Like --grace-period 1.")
@click.option("--force", is_flag=True, help="Remove the object at once, whatever its node says.")
@click.option("--wait", type=bool, default=True, metavar="true|false", help="Return when all is gone, or at once.")
@click.option("--timeout", default="", metavar="DURATION", help="How long to wait at most [default: for ever].")
@click.option("--ignore-not-found", is_flag=True, help="What does not exist is no error.")
def command(
    settings: Settings,
    words: tuple[str, ...],
    paths: tuple[str, ...],
    recursive: bool,
    selector: str,
    everything: bool,
    grace_period: int | None,
    now: bool,
    force: bool,
    wait: bool,
    timeout: str,
    ignore_not_found: bool,
) -> int:
    """Delete objects by name, by file, or by label.

    \b
    pyctl delete pod web --now
    pyctl delete -f pod.yaml
    pyctl delete pods -l app=web
    """
    if paths and (words or selector or everything):
        raise Failure("-f does not go together with types and names, -l and --all", code=2)
    if recursive and not paths:
        raise Failure("-R is of use with -f only", code=2)
    if now and grace_period is not None:
        raise Failure("--now does not go together with --grace-period", code=2)
    if force and (now or grace_period):
        raise Failure("--force leaves no time for --now or --grace-period", code=2)
    api = settings.api()
    doomed = _from_files(api, paths, recursive) if paths else _from_words(api, words, selector, everything)
    options: Document = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
    grace = 0 if force else 1 if now else grace_period
    if grace is not None:
        options["gracePeriodSeconds"] = grace
    try:
        patience = parse_duration(timeout) if timeout else None
    except ValueError as error:
        raise Failure(f"--timeout: {error}", code=2) from error
    code, asked = 0, []
    for resource, namespace, name in doomed:
        if not name:
            print(f"error: a {resource.shown} that the server names cannot be deleted by its file", file=sys.stderr)
            code = 1
            continue
        try:
            answer = api.write("DELETE", resource.path(namespace, segment(name)), options)
        except ApiError as error:
            if error.http_code == 404 and ignore_not_found:
                continue
            print(f"error: {error.message}", file=sys.stderr)
            code = 1
            continue
        print(f"{reference(resource, name)} deleted", flush=True)
        asked.append((resource, namespace, name, _uid(answer)))
    if not doomed and not ignore_not_found:
        print("no resources found", file=sys.stderr)
    if wait:
        for resource, namespace, name, uid in asked:
            if not waiting.until(api, resource, name, namespace, waiting.gone(uid), patience):
                print(f"error: {reference(resource, name)} still exists after {timeout}", file=sys.stderr)
                code = 1
    return code


def _uid(answer: Document) -> str:
    if answer.get("kind") == "Status":
        return str((answer.get("details") or {}).get("uid", ""))
    return str(answer["metadata"].get("uid", ""))


def _from_files(api: Api, paths: tuple[str, ...], recursive: bool) -> list[Doomed]:
    from pyctl import documents

    found = []
    for manifest in documents.read(paths, recursive=recursive):
        resource = api.resource_of(manifest.api_version, manifest.kind)
        found.append((resource, manifest.namespace or api.namespace, manifest.name))
    return found


def _from_words(api: Api, words: tuple[str, ...], selector: str, everything: bool) -> list[Doomed]:
    found = []
    for target in targets.parse(api, words):
        names = targets.names_of(api, target, selector, everything, "delete")
        found += [(target.resource, api.namespace, name) for name in names]
    return found
