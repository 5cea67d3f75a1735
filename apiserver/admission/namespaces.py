"""NamespaceLifecycle: nothing is created where there is no namespace or where it is being emptied, and the namespaces
that the system lives in stay."""

from __future__ import annotations

from typing import Any

from apimachinery.errors import NotFound
from apimachinery.kinds.namespace import KIND as NAMESPACE
from apiserver.cacher.cacher import Cacher

from .chain import Attributes, Plugin

PERMANENT = ("default", "kube-system", "kube-public")


class NamespaceLifecycle(Plugin):
    def __init__(self, cacher: Cacher) -> None:
        self._cacher = cacher

    async def mutate(self, attributes: Attributes, obj: Any, old: Any | None) -> None:
        """Changes nothing, but must come before everybody who looks for something in the namespace."""
        if attributes.operation != "CREATE" or not attributes.kind.namespaced:
            return
        name = attributes.namespace
        # The registry has made the cache fresh for this write.
        found = self._cacher.of(NAMESPACE).get("", name)
        if found is None:
            raise NotFound.of("namespaces", name)
        # Without a look at the bytes this would decode the namespace for every create.
        if b'"deletionTimestamp":"' in found.data and found.decode().metadata.deletionTimestamp:
            why = f"unable to create new content in namespace {name} because it is being terminated"
            raise attributes.forbidden(why, "NamespaceTerminating", "metadata.namespace")

    async def validate(self, attributes: Attributes, obj: Any | None, old: Any | None) -> None:
        if attributes.operation == "DELETE" and attributes.kind is NAMESPACE and attributes.name in PERMANENT:
            raise attributes.forbidden("this namespace may not be deleted")
