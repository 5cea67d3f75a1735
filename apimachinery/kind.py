"""`Kind`: everything that the system knows about one kind of object, in one place.

Discovery, OpenAPI, tables, the registry's strategies and the client's paths are derived from it. Each file in
`kinds/` ends in one `KIND = Kind(...)`, and `scheme.py` lists them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from apimachinery import object_meta
from apimachinery.errors import Cause
from apimachinery.names import Faults, dns_subdomain_faults

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the server-printed table. priority 0 is always shown, 1 only by `-o wide`."""

    name: str
    type: str = "string"
    format: str = ""
    description: str = ""
    priority: int = 0


def _nothing(obj: Any) -> None:
    return None


def _unchanged(new: Any, old: Any) -> None:
    return None


def _no_causes(*objects: Any) -> list[Cause]:
    return []


def _no_warnings(obj: Any) -> list[str]:
    return []


def _metadata_fields(obj: Any) -> dict[str, str]:
    return {"metadata.name": obj.metadata.name, "metadata.namespace": obj.metadata.namespace}


@dataclass(frozen=True)
class Kind:
    """One kind of one group and version. All functions are pure but for the object that they are told to complete."""

    group: str
    version: str
    kind: str
    plural: str
    type: type[Any]
    singular: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    namespaced: bool = True
    verbs: tuple[str, ...] = VERBS
    # "status", "binding", "log", ...: a plain name.
    subresources: tuple[str, ...] = ()
    description: str = ""

    # Fills in what the user left out. Runs after every decode of a request body, so it must be idempotent.
    default: Callable[[Any], None] = _nothing
    # What the built-in admission plugins set on a new object, after `default` and before validation.
    admit: Callable[[Any], None] = _nothing
    # Beginning of a create: drops what only the system may set and sets the first status.
    prepare_create: Callable[[Any], None] = _nothing
    # Beginning of an update through the main endpoint or /status: (new, old). When `status` is a subresource, the
    # registry itself keeps the status of the old object on the main endpoint and everything but status and metadata
    # on /status.
    prepare_update: Callable[[Any, Any], None] = _unchanged
    # What is wrong beyond the metadata. Call `causes_on_create` and `causes_on_update`, which add the rules for
    # metadata.
    validate: Callable[[Any], list[Cause]] = _no_causes
    validate_create: Callable[[Any], list[Cause]] = _no_causes  # besides `validate`
    validate_update: Callable[[Any, Any], list[Cause]] = _no_causes  # (new, old), besides `validate`
    validate_status_update: Callable[[Any, Any], list[Cause]] = _no_causes  # (new, old), instead of all these
    # Texts for `Warning` headers: accepted fields on which nothing acts yet, deprecated ones.
    warnings: Callable[[Any], list[str]] = _no_warnings

    columns: tuple[Column, ...] = (Column("Name", format="name"), Column("Age"))
    # (object, now in Unix seconds) -> the cells of its row, in the order of `columns`.
    cells: Callable[[Any, float], list[Any]] | None = None
    # What field selectors may compare; the keys are the same for every object.
    field_values: Callable[[Any], dict[str, str]] = _metadata_fields

    # Faults of a name, as the functions of `names` tell them.
    name_faults: Callable[[str], Faults] = dns_subdomain_faults
    has_generation: bool = False
    # DELETE waits for an agent: sets deletionTimestamp and grace period instead of removing (pods).
    graceful: bool = False
    # PUT on a name that does not exist creates it.
    create_on_update: bool = False
    # An update must name the resourceVersion that it is based on.
    needs_resource_version: bool = False
    # Never stored: a request whose answer is all there is (Binding).
    virtual: bool = False
    # Stored objects vanish after so many seconds (events); None keeps them.
    ttl_seconds: float | None = None
    # Encoded fields that are only ever written by clients and never stored or shown (Secret.stringData).
    write_only: tuple[str, ...] = field(default=())

    @property
    def api_version(self) -> str:
        """`v1` or `coordination.k8s.io/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def resource(self) -> str:
        """`pods` or `leases.coordination.k8s.io`: how messages name the resource."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @cached_property
    def singular_name(self) -> str:
        """`pod`."""
        return self.singular or self.kind.lower()

    @cached_property
    def field_labels(self) -> frozenset[str]:
        """The keys that a field selector on this kind may use."""
        return frozenset(self.field_values(self.type()))

    @property
    def has_status(self) -> bool:
        """Whether status is written through its own subresource."""
        return "status" in self.subresources

    def causes_on_create(self, obj: Any) -> list[Cause]:
        """What is wrong with an object that is about to be created: metadata (namespace and name set) and content."""
        meta = object_meta.validate(obj.metadata, namespaced=self.namespaced, name_faults=self.name_faults)
        return meta + self.validate(obj) + self.validate_create(obj)

    def causes_on_update(self, new: Any, old: Any, *, status: bool = False) -> list[Cause]:
        """What is wrong with an update; `status`: one through the /status subresource."""
        found = object_meta.validate(new.metadata, namespaced=self.namespaced, name_faults=self.name_faults)
        found += object_meta.validate_update(new.metadata, old.metadata)
        if status:
            return found + self.validate_status_update(new, old)
        return found + self.validate(new) + self.validate_update(new, old)

    def base_path(self, namespace: str = "") -> str:
        """URL path of the collection: `/api/v1/namespaces/default/pods`."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        return (
            f"{root}/namespaces/{namespace}/{self.plural}" if self.namespaced and namespace else f"{root}/{self.plural}"
        )

    def path(self, name: str, namespace: str = "", subresource: str = "") -> str:
        """URL path of one object, or of its subresource."""
        path = f"{self.base_path(namespace)}/{name}"
        return f"{path}/{subresource}" if subresource else path
