"""Waiting for one object, through a watch: no polling, and no change missed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from pyctl.api import Api, ApiError, Document, Resource, segment

Condition = Callable[[Document | None], bool]


def until(
    api: Api, resource: Resource, name: str, namespace: str, holds: Condition, seconds: float | None = None
) -> bool:
    """Wait until `holds(object)` (None: it does not exist); False if it did not within `seconds`."""
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        current = api.find(resource.path(namespace, segment(name)))
        if holds(current):
            return True
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        # What does not exist has no version of its own: then the watch begins with the list's.
        path = resource.path(namespace)
        query = {"fieldSelector": f"metadata.name={name}"}
        version = (current or api.get(path, query))["metadata"].get("resourceVersion", "")
        if left is not None:
            query["timeoutSeconds"] = str(max(1, math.ceil(left)))
        try:
            for kind, event in api.watch(path, {**query, "resourceVersion": version}):
                if kind != "BOOKMARK" and holds(None if kind == "DELETED" else event):
                    return True
        except ApiError as error:
            if error.http_code != 410:
                raise


def gone(uid: str) -> Condition:
    """The object of this uid exists no more, or another has its name."""
    return lambda current: current is None or bool(uid and current["metadata"].get("uid") != uid)


def condition(kind: str, status: str = "True") -> Condition:
    """`status.conditions` has the type with the status, both compared as kubectl does: without regard to case."""

    def holds(current: Document | None) -> bool:
        conditions = ((current or {}).get("status") or {}).get("conditions") or []
        return any(
            str(each.get("type", "")).lower() == kind.lower() and str(each.get("status", "")).lower() == status.lower()
            for each in conditions
        )

    return holds
