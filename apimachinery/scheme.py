"""The one table of kinds. Adding a kind is one file in `kinds/` and one row here."""

from __future__ import annotations

from typing import Any

from apimachinery.kind import Kind
from apimachinery.kinds import binding, configmap, event, lease, namespace, node, pod, secret, serviceaccount

ROWS: tuple[Kind, ...] = (
    namespace.KIND,
    node.KIND,
    pod.KIND,
    binding.KIND,
    event.KIND,
    lease.KIND,
    configmap.KIND,
    secret.KIND,
    serviceaccount.KIND,
)


class Scheme:
    """Finds kinds by type, by resource and by kind. Immutable once made."""

    def __init__(self, kinds: tuple[Kind, ...]) -> None:
        self.kinds = kinds
        self._by_type = {kind.type: kind for kind in kinds}
        self._by_resource = {(kind.group, kind.version, kind.plural): kind for kind in kinds}
        self._by_kind = {(kind.api_version, kind.kind): kind for kind in kinds}

    def by_type(self, type_: type[Any]) -> Kind:
        """Kind of a struct type. KeyError when it is no kind."""
        return self._by_type[type_]

    def of(self, obj: Any) -> Kind:
        """Kind of an object."""
        return self._by_type[type(obj)]

    def by_resource(self, group: str, version: str, plural: str) -> Kind | None:
        """Kind served at this place, or None."""
        return self._by_resource.get((group, version, plural))

    def by_kind(self, api_version: str, kind: str) -> Kind | None:
        """Kind of `apiVersion` and `kind` of a body, or None."""
        return self._by_kind.get((api_version, kind))

    def by_name(self, name: str) -> Kind | None:
        """Kind that a person means by `pod`, `pods`, `po`, `Pod` or `leases.coordination.k8s.io`, or None."""
        wanted = name.lower()
        for kind in self.kinds:
            if wanted in (kind.plural, kind.singular_name, kind.kind.lower(), kind.resource, *kind.short_names):
                return kind
        return None

    def group_versions(self) -> list[tuple[str, str]]:
        """(group, version) pairs in the order of the table."""
        return list(dict.fromkeys((kind.group, kind.version) for kind in self.kinds))


SCHEME = Scheme(ROWS)
