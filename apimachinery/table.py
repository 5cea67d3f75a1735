"""Tables as the server prints them (meta.k8s.io/v1 Table): columns and cells from `Kind`, one row per object.

Every column is always sent; those of priority 1 are shown by `-o wide` only. Cells depend on the time: `now` is an
argument.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from apimachinery.kind import Column, Kind
from apimachinery.times import human_duration, parse_time

Include = Literal["Metadata", "Object", "None"]
API_VERSION = "meta.k8s.io/v1"

# Columns and their descriptions that many kinds share.
NAME = Column(
    "Name",
    format="name",
    description="Name must be unique within a namespace. Is required when creating resources, although some resources "
    "may allow a client to request the generation of an appropriate name automatically.",
)
AGE = Column(
    "Age",
    description="CreationTimestamp is a timestamp representing the server time when this object was created. It is "
    "represented in RFC3339 form and is in UTC.",
)


def table(
    kind: Kind,
    objects: Iterable[Any],
    now: float,
    *,
    metadata: dict[str, Any] | None = None,
    include: Include = "Metadata",
    columns: bool = True,
    api_version: str = API_VERSION,
) -> dict[str, Any]:
    """A Table of objects. metadata is that of the list (resourceVersion, continue). A watch sends the columns only
    with its first event. ValueError for an unknown `include`."""
    if include not in ("Metadata", "Object", "None"):
        raise ValueError(f'unrecognized includeObject value: "{include}"')
    return {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": metadata or {},
        "columnDefinitions": definitions(kind) if columns else None,
        "rows": [row(kind, obj, now, include=include, api_version=api_version) for obj in objects],
    }


def definitions(kind: Kind) -> list[dict[str, Any]]:
    """columnDefinitions of a kind."""
    return [
        {
            "name": column.name,
            "type": column.type,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        }
        for column in kind.columns
    ]


def row(
    kind: Kind, obj: Any, now: float, *, include: Include = "Metadata", api_version: str = API_VERSION
) -> dict[str, Any]:
    """One row: the cells, and with them nothing, the object, or its metadata alone."""
    found: dict[str, Any] = {"cells": cells(kind, obj, now)}
    if include == "Object":
        found["object"] = msgspec.to_builtins(obj)
    elif include == "Metadata":
        metadata = msgspec.to_builtins(obj.metadata)
        found["object"] = {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": metadata}
    return found


def cells(kind: Kind, obj: Any, now: float) -> list[Any]:
    """The cells of one object: by the kind's own function, or name and age."""
    if kind.cells is not None:
        return kind.cells(obj, now)
    return [obj.metadata.name, age(obj.metadata.creationTimestamp, now)]


def age(timestamp: str, now: float) -> str:
    """How long ago, as `5m3s`; `<unknown>` without a time."""
    if not timestamp:
        return "<unknown>"
    # Whole seconds on both sides: an object that was made in this very second is 0s old.
    return human_duration(int(now) - int(parse_time(timestamp)))


def or_none(text: str) -> str:
    """`<none>` for nothing."""
    return text or "<none>"
