"""OpenAPI v3, derived from the kinds: one document per group and version, and the index of them.

kubectl refuses to create through a server whose PATCH operations do not tell their kind and `fieldValidation`;
`apply` reads the merge keys, and `explain` the schemas."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from apimachinery.kind import Kind
from apimachinery.meta import DeleteOptions, ListMeta, Status
from apimachinery.patch import JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH
from apimachinery.scheme import Scheme
from apimachinery.shapes import FieldShape, Leaf, ListShape, MapShape, Shape, StructShape, shape_of

Json = dict[str, Any]

_META = "io.k8s.apimachinery.pkg.apis.meta.v1"
_GVK = "x-kubernetes-group-version-kind"
# These live beside ObjectMeta here because many kinds use them, and in the core group in Kubernetes.
_CORE = ("ObjectReference", "LocalObjectReference", "TypedLocalObjectReference", "TypedObjectReference")
_LEAVES: dict[str, Json] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number", "format": "double"},
    "bool": {"type": "boolean"},
    "bytes": {"type": "string", "format": "byte"},
    "any": {},
    "intorstring": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.util.intstr.IntOrString"},
    "quantity": {"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.api.resource.Quantity"},
    "time": {"$ref": f"#/components/schemas/{_META}.Time"},
    "microtime": {"$ref": f"#/components/schemas/{_META}.MicroTime"},
}
_SHARED: dict[str, Json] = {
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {
        "oneOf": [{"type": "integer"}, {"type": "string"}],
        "format": "int-or-string",
    },
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "description": "An amount such as 100m, 1.5Gi or 2.",
        "oneOf": [{"type": "string"}, {"type": "number"}],
    },
    f"{_META}.Time": {"description": "RFC 3339, whole seconds.", "type": "string", "format": "date-time"},
    f"{_META}.MicroTime": {"description": "RFC 3339, microseconds.", "type": "string", "format": "date-time"},
    f"{_META}.Patch": {"description": "A patch in the format of the Content-Type.", "type": "object"},
}
_VERBS_ON_OBJECT = {"get": "get", "update": "put", "patch": "patch", "delete": "delete"}
_VERBS_ON_LIST = {"list": "get", "create": "post", "deletecollection": "delete"}
_WRITE_OPTIONS = ("dryRun", "fieldManager", "fieldValidation")
_OPTIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "get": (),
    "put": tuple((name, "string") for name in _WRITE_OPTIONS),
    "patch": (*((name, "string") for name in _WRITE_OPTIONS), ("force", "boolean")),
    "post": tuple((name, "string") for name in _WRITE_OPTIONS),
    "delete": (("dryRun", "string"), ("gracePeriodSeconds", "integer"), ("propagationPolicy", "string")),
}
_LIST_OPTIONS = (
    ("continue", "string"),
    ("fieldSelector", "string"),
    ("labelSelector", "string"),
    ("limit", "integer"),
    ("resourceVersion", "string"),
    ("resourceVersionMatch", "string"),
    ("timeoutSeconds", "integer"),
    ("watch", "boolean"),
)


def documents(scheme: Scheme, *, version: str) -> dict[str, bytes]:
    """Encoded documents by their path below /openapi/v3: `api/v1`, `apis/coordination.k8s.io/v1`. `version` is that
    of the server."""
    return {
        f"apis/{group}/{api_version}" if group else f"api/{api_version}": msgspec.json.encode(
            document(scheme, group, api_version, version=version)
        )
        for group, api_version in scheme.group_versions()
    }


def index(encoded: dict[str, bytes]) -> Json:
    """What GET /openapi/v3 answers. A document's URL changes with its content, so that clients may keep it."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={hashlib.sha256(data).hexdigest().upper()[:32]}"}
            for path, data in encoded.items()
        }
    }


def document(scheme: Scheme, group: str, api_version: str, *, version: str) -> Json:
    """The document of one group and version."""
    schemas = _Schemas(scheme)
    paths: Json = {}
    for kind in scheme.kinds:
        if (kind.group, kind.version) == (group, api_version):
            schemas.add_kind(kind)
            paths.update(_paths(kind, schemas))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "components": {"schemas": dict(sorted(schemas.found.items()))},
    }


class _Schemas:
    """Collects the schemas that a document needs, each once."""

    def __init__(self, scheme: Scheme) -> None:
        self.found: dict[str, Json] = dict(_SHARED)
        self._kinds = {kind.type: kind for kind in scheme.kinds}
        self._groups = {kind.type.__module__: kind for kind in scheme.kinds}

    def add_kind(self, kind: Kind) -> None:
        """The kind, and its list."""
        item = self.ref(shape_of(kind.type))
        if "list" in kind.verbs:
            self.found[f"{self.name(kind.type)}List"] = {
                "description": f"{kind.kind}List is a list of {kind.plural}.",
                "type": "object",
                "required": ["items"],
                "properties": {
                    "apiVersion": {"type": "string"},
                    "kind": {"type": "string"},
                    "items": {"type": "array", "items": item},
                    "metadata": self.ref(shape_of(ListMeta)),
                },
                _GVK: [{"group": kind.group, "version": kind.version, "kind": f"{kind.kind}List"}],
            }

    def name(self, type_: type[Any]) -> str:
        """Kubernetes' name of a struct."""
        if type_.__module__ == "apimachinery.meta" and type_.__name__ not in _CORE:
            return f"{_META}.{type_.__name__}"
        owner = self._groups.get(type_.__module__)
        group = owner.group.partition(".")[0] if owner is not None and owner.group else "core"
        return f"io.k8s.api.{group}.{owner.version if owner is not None else 'v1'}.{type_.__name__}"

    def ref(self, shape: Shape) -> Json:
        """Schema of a shape; structs by reference."""
        if isinstance(shape, Leaf):
            found = dict(_LEAVES[shape.scalar])
            if shape.scalar == "int":
                found["format"] = shape.go_name
            return found
        if isinstance(shape, ListShape):
            return {"type": "array", "items": self.ref(shape.item)}
        if isinstance(shape, MapShape):
            return {"type": "object", "additionalProperties": self.ref(shape.value)}
        name = self.name(shape.type)
        if name not in self.found:
            self.found[name] = {}  # so that a recursive struct ends
            self.found[name] = self._struct(shape)
        return {"$ref": f"#/components/schemas/{name}"}

    def _struct(self, shape: StructShape) -> Json:
        found: Json = {
            "description": (shape.type.__doc__ or "").strip(),
            "type": "object",
            "properties": {name: self._property(known) for name, known in shape.fields.items()},
        }
        needed = [info.encode_name for info in msgspec.structs.fields(shape.type) if _is_required(info)]
        if needed and shape.type not in self._kinds:
            found["required"] = needed
        kind = self._kinds.get(shape.type)
        if kind is not None:
            found["description"] = kind.description or found["description"]
            found[_GVK] = [_gvk(kind)]
        return found

    def _property(self, known: FieldShape) -> Json:
        schema = self.ref(known.shape)
        if known.schema:
            # A reference may have no siblings in OpenAPI 3.0.
            schema = {"allOf": [schema], **known.schema} if "$ref" in schema else {**schema, **known.schema}
        return schema


def _is_required(info: msgspec.structs.FieldInfo) -> bool:
    """Kubernetes requires what it always writes: the scalars that `meta.always` marks."""
    factory = info.default_factory
    return factory is not msgspec.NODEFAULT and not isinstance(factory, type)


def _gvk(kind: Kind) -> Json:
    return {"group": kind.group, "version": kind.version, "kind": kind.kind}


def _paths(kind: Kind, schemas: _Schemas) -> Json:
    item = schemas.ref(shape_of(kind.type))
    listed = {"$ref": f"#/components/schemas/{schemas.name(kind.type)}List"}
    deleted = schemas.ref(shape_of(Status))
    schemas.ref(shape_of(DeleteOptions))
    place = "{namespace}" if kind.namespaced else ""
    shared = [_parameter("name", "string", "path")]
    scope = [_parameter("namespace", "string", "path")] if kind.namespaced else []
    found: Json = {}
    on_list = {
        method: _operation(kind, verb, method, listed if verb == "list" else deleted if method == "delete" else item)
        for verb, method in _VERBS_ON_LIST.items()
        if verb in kind.verbs
    }
    found[kind.base_path(place)] = {**on_list, "parameters": scope}
    if kind.namespaced and "list" in kind.verbs:
        found[kind.base_path()] = {"get": on_list["get"], "parameters": []}
    on_object = {
        method: _operation(kind, verb, method, deleted if method == "delete" else item)
        for verb, method in _VERBS_ON_OBJECT.items()
        if verb in kind.verbs
    }
    if on_object:
        found[kind.path("{name}", place)] = {**on_object, "parameters": shared + scope}
    if kind.has_status:
        methods = {verb: method for verb, method in _VERBS_ON_OBJECT.items() if method != "delete"}
        operations = {method: _operation(kind, verb, method, item) for verb, method in methods.items()}
        found[kind.path("{name}", place, "status")] = {**operations, "parameters": shared + scope}
    return found


def _operation(kind: Kind, verb: str, method: str, answer: Json) -> Json:
    options = _LIST_OPTIONS if verb == "list" else _OPTIONS[method]
    found: Json = {
        "tags": [f"{kind.group.partition('.')[0] or 'core'}_{kind.version}"],
        "x-kubernetes-action": verb,
        _GVK: _gvk(kind),
        "parameters": [_parameter(name, type_) for name, type_ in options],
        "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": answer}}}},
    }
    if method == "patch":
        patch = {"schema": {"$ref": f"#/components/schemas/{_META}.Patch"}}
        found["requestBody"] = {"content": dict.fromkeys((JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH), patch)}
    elif method in ("put", "post"):
        found["requestBody"] = {"content": {"*/*": {"schema": answer}}, "required": True}
    return found


def _parameter(name: str, type_: str, place: str = "query") -> Json:
    found: Json = {"name": name, "in": place, "schema": {"type": type_, "uniqueItems": True}}
    if place == "path":
        found["required"] = True
    return found
