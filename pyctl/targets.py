"""What the words of a command line mean: `TYPE NAME...`, `TYPE1,TYPE2`, `TYPE/NAME ...`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pyctl.api import Api, Resource
from pyctl.failure import Failure


@dataclass(frozen=True, slots=True)
class Target:
    """One type and the names asked for; no names means all of them."""

    resource: Resource
    names: tuple[str, ...] = ()


def parse(api: Api, words: Sequence[str]) -> list[Target]:
    """Raises Failure (usage) for words that say nothing sensible, and for types the server does not know."""
    if not words:
        raise Failure("which type? for example `pods` or `pod/NAME`", hint="`pyctl api-resources` lists them", code=2)
    if any("/" in word for word in words):
        grouped: dict[Resource, list[str]] = {}
        for word in words:
            kind, slash, name = word.partition("/")
            if not (kind and slash and name) or "/" in name:
                raise Failure(f"{word!r}: where one word is TYPE/NAME, all must be", code=2)
            grouped.setdefault(api.resource(kind), []).append(name)
        return [Target(resource, tuple(names)) for resource, names in grouped.items()]
    types = [part for part in words[0].split(",") if part]
    if len(types) > 1 and len(words) > 1:
        raise Failure("names can follow one type only", hint="write TYPE/NAME for each", code=2)
    return [Target(api.resource(each), tuple(words[1:])) for each in types]


def names_of(api: Api, target: Target, selector: str, everything: bool, verb: str) -> list[str]:
    """The names of the target, or of all that `-l` or `--all` mean. Raises Failure (usage) where neither says any."""
    if target.names:
        if selector or everything:
            raise Failure("names do not go together with -l and --all", code=2)
        return list(target.names)
    if not (selector or everything):
        raise Failure(f"{verb} what? name objects, or use -l or --all", code=2)
    listing = api.get(target.resource.path(api.namespace), {"labelSelector": selector} if selector else {})
    return [item["metadata"]["name"] for item in listing["items"] or []]


def pod_name(word: str) -> str:
    """The name in `NAME` or `pod/NAME`."""
    kind, slash, name = word.rpartition("/")
    if slash and kind not in ("pod", "pods", "po"):
        raise Failure(f"{word!r}: only pods have containers", hint="write the pod's name, or pod/NAME", code=2)
    return name
