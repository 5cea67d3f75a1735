"""Which form of an answer the client wants: its Accept header against what is served."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from apimachinery.errors import NotAcceptable

JSON = "application/json"
SERVED = ("application/json", "application/json;as=Table;g=meta.k8s.io;v=v1")


class MediaType(NamedTuple):
    """One entry of an Accept header."""

    name: str
    parameters: dict[str, str]


class Form(NamedTuple):
    """How objects are to be shown: as they are, or as rows of a Table of this version."""

    table: str = ""

    @property
    def content_type(self) -> str:
        return f"{JSON};as=Table;g=meta.k8s.io;v={self.table}" if self.table else JSON


PLAIN = Form()


@lru_cache(maxsize=256)
def accepted(header: str) -> tuple[MediaType, ...]:
    """The entries of an Accept header, best first; an absent header accepts everything."""
    if not header.strip():
        return (MediaType("*/*", {}),)
    entries: list[tuple[float, int, MediaType]] = []
    for index, text in enumerate(header.split(",")):
        name, *rest = (part.strip() for part in text.split(";"))
        parameters = dict(part.split("=", 1) for part in rest if "=" in part)
        quality = parameters.pop("q", "1")
        entries.append((-_number(quality), index, MediaType(name.lower(), parameters)))
    return tuple(entry for quality, _, entry in sorted(entries, key=lambda each: each[:2]) if quality < 0)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


@lru_cache(maxsize=256)
def choose_form(header: str) -> Form:
    """The form of objects. NotAcceptable when nothing that is served is accepted."""
    for entry in accepted(header):
        if entry.name not in (JSON, "*/*", "application/*"):
            continue
        shown_as = entry.parameters.get("as", "")
        if not shown_as:
            return PLAIN
        version = entry.parameters.get("v", "")
        if shown_as == "Table" and entry.parameters.get("g") == "meta.k8s.io" and version in ("v1", "v1beta1"):
            return Form(version)
    raise not_acceptable(SERVED)


def not_acceptable(served: tuple[str, ...]) -> NotAcceptable:
    return NotAcceptable(
        f"only the following media types are accepted: {', '.join(served)}",
    )
