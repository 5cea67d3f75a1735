"""What the structs look like, as a small tree that the decoder, the patches and OpenAPI walk.

Derived once per type from the annotations: nothing about a kind's fields is written down twice.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

Scalar = Literal["str", "int", "float", "bool", "bytes", "any", "intorstring", "quantity", "time", "microtime"]
_SCALARS: dict[Any, Scalar] = {str: "str", int: "int", float: "float", bool: "bool", bytes: "bytes", Any: "any"}

_GO_NAMES = {
    "str": "string",
    "float": "float64",
    "bytes": "[]byte",
    "any": "interface {}",
    "intorstring": "IntOrString",
    "quantity": "Quantity",
    "time": "Time",
    "microtime": "MicroTime",
}


@dataclass(slots=True)
class Leaf:
    """A scalar, or anything at all. `low` and `high` bound an int."""

    scalar: Scalar
    low: int | None = None
    high: int | None = None

    @property
    def go_name(self) -> str:
        """What Kubernetes calls the type in its messages."""
        if self.scalar == "int":
            return "int32" if self.high == 2**31 - 1 else "int64"
        names = {
            "str": "string",
            "float": "float64",
            "bytes": "[]byte",
            "any": "interface {}",
            "intorstring": "IntOrString",
        }
        return {**names, "quantity": "Quantity", "time": "Time", "microtime": "MicroTime"}.get(self.scalar, self.scalar)


@dataclass(slots=True)
class ListShape:
    """A list and how a strategic merge patch treats it: merge_key is "" where elements have none."""

    item: Shape
    merge_key: str = ""
    strategies: tuple[str, ...] = ()

    go_name = "list"


@dataclass(slots=True)
class MapShape:
    """A map from strings."""

    value: Shape

    go_name = "map"


@dataclass(slots=True)
class StructShape:
    """A struct: its type and its fields by wire name."""

    type: type[msgspec.Struct]
    fields: dict[str, FieldShape] = field(default_factory=dict)

    @property
    def go_name(self) -> str:
        """Name of the struct."""
        return self.type.__name__


@dataclass(slots=True)
class FieldShape:
    """A field: Python attribute, shape, and how a strategic merge patch treats it."""

    attribute: str
    shape: Shape
    strategies: tuple[str, ...] = ()
    schema: Mapping[str, Any] = field(default_factory=dict)


Shape = Leaf | ListShape | MapShape | StructShape


_SHAPES: dict[type[Any], StructShape] = {}


def shape_of(type_: type[Any]) -> StructShape:
    """Shape of a struct type. Structs may be recursive: a shape is known before its fields are."""
    if type_ in _SHAPES:
        return _SHAPES[type_]
    shape = _SHAPES[type_] = StructShape(type_)
    hints = get_type_hints(type_, include_extras=True)
    for attribute, wire in zip(type_.__struct_fields__, type_.__struct_encode_fields__, strict=True):
        shape.fields[wire] = _field(attribute, hints[attribute])
    return shape


def _field(attribute: str, hint: Any) -> FieldShape:
    found = FieldShape(attribute, _shape(hint))
    for meta in _metas(hint):
        if "patchStrategy" in (meta.extra or {}):
            found.strategies = tuple(meta.extra["patchStrategy"].split(","))
            found.schema = meta.extra_json_schema or {}
            if isinstance(found.shape, ListShape):
                found.shape.merge_key = meta.extra.get("patchMergeKey", "")
                found.shape.strategies = found.strategies
    return found


def _metas(hint: Any) -> list[Any]:
    return [meta for meta in getattr(hint, "__metadata__", ()) if isinstance(meta, msgspec.Meta)]


def _shape(hint: Any) -> Shape:
    if get_origin(hint) is Annotated:
        return _annotated(hint)
    if hint in _SCALARS:
        return Leaf(_SCALARS[hint])
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        members = [argument for argument in arguments if argument is not types.NoneType]
        return Leaf("intorstring") if set(members) == {int, str} else _shape(members[0])
    if origin is list:
        return ListShape(_shape(arguments[0]))
    if origin is dict:
        return MapShape(_shape(arguments[1]))
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return shape_of(hint)
    raise TypeError(f"no shape for {hint!r}")


def _annotated(hint: Any) -> Shape:
    shape = _shape(get_args(hint)[0])
    for meta in _metas(hint):
        if isinstance(shape, Leaf):
            if "leaf" in (meta.extra or {}):
                return Leaf(meta.extra["leaf"])
            if meta.ge is not None:
                return Leaf("int", meta.ge, meta.le)
    return shape
