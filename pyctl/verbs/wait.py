"""`pyctl wait`: return when a condition holds for all objects named."""

from __future__ import annotations

import sys
import time

import click

from pyctl import targets, waiting
from pyctl.api import Document
from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.printing import parse_duration, reference
from pyctl.settings import Settings


@verb(name="wait", short_help="wait until a condition holds")
@click.argument("words", metavar="TYPE NAME... | TYPE/NAME...", nargs=-1)
@click.option("--for", "wanted", required=True, metavar="condition=NAME[=VALUE]|delete|jsonpath={.a.b}=VALUE")
@click.option("-l", "--selector", default="", metavar="SELECTOR", help="All of the type with these labels.")
@click.option("--all", "everything", is_flag=True, help="All of the type in the namespace.")
@click.option("--timeout", default="30s", metavar="DURATION", help="How long to wait at most [default: 30s].")
def command(
    settings: Settings, words: tuple[str, ...], wanted: str, selector: str, everything: bool, timeout: str
) -> int:
    """Wait until a condition holds for every object named.

    \b
    pyctl wait --for=condition=Ready pod/web
    pyctl wait --for=condition=Ready pods -l app=web
    pyctl wait --for=delete pod/web --timeout 1m
    """
    api = settings.api()
    holds, past = _condition(wanted)
    try:
        deadline = time.monotonic() + parse_duration(timeout)
    except ValueError as error:
        raise Failure(f"--timeout: {error}", code=2) from error
    code = 0
    for target in targets.parse(api, words):
        names = targets.names_of(api, target, selector, everything, "wait for")
        if not names:
            print(f"no {target.resource.plural} found", file=sys.stderr)
            code = code if wanted == "delete" else 1
        for name in names:
            left = max(0.0, deadline - time.monotonic())
            if waiting.until(api, target.resource, name, api.namespace, holds, left):
                print(f"{reference(target.resource, name)} {past}", flush=True)
            else:
                print(f"error: {reference(target.resource, name)}: not {wanted} after {timeout}", file=sys.stderr)
                code = 1
    return code


def _condition(wanted: str) -> tuple[waiting.Condition, str]:
    kind, _, rest = wanted.partition("=")
    if wanted == "delete":
        return waiting.gone(""), "deleted"
    if kind == "condition" and rest:
        name, _, value = rest.partition("=")
        return waiting.condition(name, value or "True"), "condition met"
    if kind == "jsonpath" and "=" in rest:
        path, _, value = rest.rpartition("=")
        return _at(path.strip("'{}"), value.strip("'")), "condition met"
    raise Failure(f"--for {wanted!r}: write condition=NAME[=VALUE], delete, or jsonpath={{.a.b}}=VALUE", code=2)


def _at(path: str, value: str) -> waiting.Condition:
    keys = [key for key in path.split(".") if key]

    def holds(current: Document | None) -> bool:
        found: object = current
        for key in keys:
            found = found.get(key) if isinstance(found, dict) else None
        return found is not None and str(found).lower() == value.lower()

    return holds
