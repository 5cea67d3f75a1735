"""Bytes to objects and back, with Kubernetes' rules on top of msgspec's speed.

The first pass is one typed decode that refuses unknown fields, so that the usual body needs no second look. Only
what it cannot tell goes through an untyped pass: `null` (absent in every field), quantities written as numbers,
unknown fields (all of them, with their paths), and values of a wrong type (named with path and value). Duplicate
keys are searched for only when a count of keys says that there are some. Quantities and times come out in their
canonical form."""

from __future__ import annotations

import binascii
import json
import re
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar, overload

import msgspec

from apimachinery.errors import BadRequest
from apimachinery.kind import Kind
from apimachinery.quantity import canonical
from apimachinery.shapes import Leaf, ListShape, MapShape, Shape, StructShape, shape_of
from apimachinery.times import canonical_micro_time, canonical_time

T = TypeVar("T")
S = TypeVar("S", bound=msgspec.Struct)

# Clients written in Go send null for every time that is not set. As text these members can be cut out: an unescaped
# quote that is followed by letters, a quote, a colon and null can only be the beginning of a member.
_TIMES = (
    rb'"(?:creationTimestamp|deletionTimestamp|eventTime|firstTimestamp|last[A-Z][A-Za-z]*|startTime|renewTime)":null'
)
_NULL_TIMES = re.compile(_TIMES + rb",|," + _TIMES + rb"(?=\})")
_SPACED_COLON = re.compile(rb'"\s+:')
_ENCODER = msgspec.json.Encoder()
_UNTYPED = msgspec.json.Decoder()
_LEAVES: dict[str, Callable[[str], str]] = {
    "quantity": canonical, "time": canonical_time, "microtime": canonical_micro_time,
}  # fmt: skip


class Decoded(NamedTuple, Generic[T]):
    """An object, and the paths of the fields that it does not have or that were given twice."""

    object: T
    unknown: list[str]
    duplicates: list[str]

    @property
    def faults(self) -> list[str]:
        """What Strict refuses and Warn warns of, in Kubernetes' words."""
        return field_faults(self.unknown, self.duplicates)


def field_faults(unknown: list[str], duplicates: list[str]) -> list[str]:
    """`unknown field "spec.x"`, `duplicate field "spec.y"`."""
    return [f'unknown field "{path}"' for path in unknown] + [f'duplicate field "{path}"' for path in duplicates]


def strict_error(kind: Kind, faults: list[str]) -> BadRequest:
    """What `fieldValidation=Strict` answers."""
    return BadRequest(f"{_handled(kind)}: strict decoding error: {', '.join(faults)}")


@overload
def decode(kind: type[S], data: bytes, *, content_type: str = ..., duplicates: bool = ...) -> Decoded[S]: ...
@overload
def decode(kind: Kind, data: bytes, *, content_type: str = ..., duplicates: bool = ...) -> Decoded[Any]: ...
def decode(
    kind: Kind | type[Any], data: bytes, *, content_type: str = "application/json", duplicates: bool = True
) -> Decoded[Any]:
    """The object in a JSON or YAML body. `duplicates=False` (fieldValidation=Ignore, trusted bytes) does not look for
    duplicate keys. BadRequest names the place and the value that cannot be read."""
    type_ = kind.type if isinstance(kind, Kind) else kind
    if "yaml" in content_type:
        value, found = _parse_yaml(kind, data)
        return Decoded(*_conform(kind, value), found if duplicates else [])
    unknown: list[str] = []
    obj = _fast(type_, data)
    if obj is None and (without := _NULL_TIMES.sub(b"", data)) != data:
        _untyped(kind, data)  # what was cut out must have been JSON too
        obj = _fast(type_, without)
    if obj is None:
        obj, unknown = _conform(kind, _untyped(kind, data))
    return Decoded(obj, unknown, duplicate_keys(data) if duplicates else [])


def _fast(type_: type[Any], data: bytes) -> Any:
    """The typed pass alone; None when it cannot tell or fails, so that the untyped pass says what and where."""
    try:
        obj = _decoder(type_).decode(data)
        _settler(type_)(obj)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    return obj


def read(type_: type[S], data: bytes) -> S:
    """The object in bytes that the system itself wrote; unknown fields (of a newer version) are dropped."""
    try:
        return _decoder(type_).decode(data)  # type: ignore[no-any-return]
    except msgspec.ValidationError:
        return decode(type_, data, duplicates=False).object


def convert(kind: Kind | type[Any], value: Any) -> Decoded[Any]:
    """As `decode`, from JSON-like Python data."""
    type_ = kind.type if isinstance(kind, Kind) else kind
    try:
        obj = msgspec.convert(value, type_)
        _settler(type_)(obj)
        return Decoded(obj, [], [])
    except (msgspec.ValidationError, ValueError):
        return Decoded(*_conform(kind, value), [])


def to_object(type_: type[S], value: Any) -> S:
    """Object of JSON-like Python data; unknown fields are dropped. BadRequest as in `decode`."""
    return convert(type_, value).object  # type: ignore[no-any-return]


def to_dict(obj: Any) -> dict[str, Any]:
    """JSON-like Python data of an object: what `encode` would write."""
    return msgspec.to_builtins(obj)  # type: ignore[no-any-return]


def encode(obj: Any) -> bytes:
    """JSON of an object or of JSON-like Python data."""
    return _ENCODER.encode(obj)


def clone(obj: S) -> S:
    """A deep copy that shares nothing mutable."""
    return _decoder(type(obj)).decode(_ENCODER.encode(obj))  # type: ignore[no-any-return]


def parse_body(data: bytes, content_type: str = "application/json") -> tuple[Any, list[str]]:
    """JSON-like Python data of a body and the paths of its duplicate keys: for patches. BadRequest on a syntax
    error."""
    if "yaml" in content_type:
        return _parse_yaml(None, data)
    try:
        return _UNTYPED.decode(data), duplicate_keys(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"json parse error: {error}") from None


def duplicate_keys(data: bytes) -> list[str]:
    """Paths of keys that JSON text gives twice in one object.

    Cheap when there are none: decoded and encoded again, the text must have as many `":` as before. Strings may
    hold them too, but the same on both sides; where that may not be so, the long way decides."""
    comparable = b"\\u0022" not in data and _SPACED_COLON.search(data) is None
    if comparable and _ENCODER.encode(_UNTYPED.decode(data)).count(b'":') == data.count(b'":'):
        return []
    found: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> _Pairs:
        return _Pairs(items)

    _walk_duplicates(json.loads(data, object_pairs_hook=pairs), "", found)
    return found


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object as they were written."""


def _walk_duplicates(value: Any, path: str, found: list[str]) -> None:
    if isinstance(value, _Pairs):
        seen: set[str] = set()
        for key, item in value:
            place = f"{path}.{key}" if path else key
            if key in seen and place not in found:
                found.append(place)
            seen.add(key)
            _walk_duplicates(item, place, found)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _walk_duplicates(item, f"{path}[{index}]", found)


def _parse_yaml(kind: Kind | type[Any] | None, data: bytes) -> tuple[Any, list[str]]:
    from apimachinery import yamls  # most processes never see YAML, and its parser is dear to load

    try:
        document = yamls.parse(data)
    except yamls.YamlError as error:
        place = f"{_handled(kind)}: " if kind is not None else ""
        raise BadRequest(f"{place}yaml parse error: {error}") from error
    return document.value, document.duplicates


def _handled(kind: Kind | type[Any]) -> str:
    if isinstance(kind, Kind):
        return f'{kind.kind} in version "{kind.version}" cannot be handled as a {kind.kind}'
    return f"the body cannot be read as a {kind.__name__}"


_DECODERS: dict[type[Any], msgspec.json.Decoder[Any]] = {}


def _decoder(type_: type[Any]) -> msgspec.json.Decoder[Any]:
    found = _DECODERS.get(type_)
    if found is None:
        found = _DECODERS[type_] = msgspec.json.Decoder(type_)
    return found


def _untyped(kind: Kind | type[Any], data: bytes) -> Any:
    try:
        return _UNTYPED.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRequest(f"{_handled(kind)}: json parse error: {error}") from None


# The untyped pass.


def _conform(kind: Kind | type[Any], value: Any) -> tuple[Any, list[str]]:
    type_ = kind.type if isinstance(kind, Kind) else kind
    unknown: list[str] = []
    try:
        conformed = _value(value, shape_of(type_), "", unknown)
        return msgspec.convert(conformed, type_), unknown
    except (_WrongValue, msgspec.ValidationError) as error:
        raise BadRequest(f"{_handled(kind)}: {error}") from None


class _WrongValue(Exception):
    pass


def _wrong(value: Any, shape: Shape, path: str) -> _WrongValue:
    names = {dict: "object", list: "array", str: "string", bool: "bool", int: "number", float: "number"}
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    place = f"field {path}" if path else "the whole body"
    kind = "null" if value is None else names.get(type(value), type(value).__name__)
    return _WrongValue(f"json: cannot unmarshal {kind} into {place} of type {shape.go_name}: value {shown}")


def _value(value: Any, shape: Shape, path: str, unknown: list[str]) -> Any:
    if isinstance(shape, StructShape):
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _wrong(value, shape, path)
        found = {}
        for key, item in value.items():
            place = f"{path}.{key}" if path else str(key)
            known = shape.fields.get(key)
            if known is None:
                unknown.append(place)
            elif item is not None:
                found[key] = _value(item, known.shape, place, unknown)
        return found
    if isinstance(shape, ListShape):
        if not isinstance(value, list):
            raise _wrong(value, shape, path)
        return [_value(item, shape.item, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    if isinstance(shape, MapShape):
        if not isinstance(value, dict):
            raise _wrong(value, shape, path)
        return {key: _value(item, shape.value, f"{path}.{key}", unknown) for key, item in value.items()}
    return _leaf(value, shape, path)


_ZERO: dict[str, Any] = {"int": 0, "float": 0.0, "bool": False, "any": None, "intorstring": 0, "quantity": "0"}


def _leaf(value: Any, shape: Leaf, path: str) -> Any:
    scalar = shape.scalar
    if value is None:  # inside a list or a map: Go's zero value
        return _ZERO.get(scalar, "")
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match scalar:
        case "any":
            return value
        case "bool":
            fits = isinstance(value, bool)
        case "int":
            fits = (
                number and isinstance(value, int) and (shape.low is None or shape.low <= value <= (shape.high or value))
            )
        case "float":
            fits = number
        case "intorstring":
            fits = isinstance(value, str) or (number and isinstance(value, int) and -(2**31) <= value < 2**31)
        case "quantity":
            fits = isinstance(value, str) or number
        case _:
            fits = isinstance(value, str)
    if not fits:
        raise _wrong(value, shape, path)
    if scalar == "quantity" or (scalar in _LEAVES and value):
        try:
            return _LEAVES[scalar](value if isinstance(value, str) else repr(value))
        except ValueError as error:
            raise _WrongValue(f"{path}: {error}: value {json.dumps(value)}") from None
    if scalar == "bytes":
        return _base64(value, shape, path)
    return value


def _base64(value: str, shape: Leaf, path: str) -> str:
    text = value.replace("\n", "").replace("\r", "")
    try:
        binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (ValueError, UnicodeEncodeError) as error:
        raise _WrongValue(f"illegal base64 data in field {path}: {error}") from None
    return text


# Canonical quantities and times, in place, after the typed pass.

_Settle = Callable[[Any], None]


_SETTLERS: dict[type[Any], _Settle] = {}


def _settler(type_: type[Any]) -> _Settle:
    found = _SETTLERS.get(type_)
    if found is None:
        found = _SETTLERS[type_] = _settle_struct(shape_of(type_), ()) or (lambda obj: None)
    return found


def _settle_struct(shape: StructShape, above: tuple[type[Any], ...]) -> _Settle | None:
    if shape.type in above:
        return lambda obj: _settler(shape.type)(obj)
    leaves: list[tuple[str, Callable[[str], str]]] = []
    inner: list[tuple[str, _Settle]] = []
    for known in shape.fields.values():
        if isinstance(known.shape, Leaf):
            if known.shape.scalar in _LEAVES:
                leaves.append((known.attribute, _LEAVES[known.shape.scalar]))
        elif settle := _settle(known.shape, (*above, shape.type)):
            inner.append((known.attribute, settle))
    if not leaves and not inner:
        return None

    def settle_struct(obj: Any) -> None:
        for attribute, make_canonical in leaves:
            if text := getattr(obj, attribute):
                done = make_canonical(text)
                if done != text:
                    setattr(obj, attribute, done)
        for attribute, settle in inner:
            if value := getattr(obj, attribute):
                settle(value)

    return settle_struct


def _settle_list(shape: Shape, above: tuple[type[Any], ...]) -> _Settle | None:
    settle = _settle(shape, above)
    if settle is None:
        return None

    def settle_list(values: list[Any]) -> None:
        for value in values:
            settle(value)

    return settle_list


def _settle(shape: Shape, above: tuple[type[Any], ...]) -> _Settle | None:
    if isinstance(shape, StructShape):
        return _settle_struct(shape, above)
    if isinstance(shape, ListShape):
        return _settle_list(shape.item, above)
    if isinstance(shape, MapShape) and isinstance(shape.value, Leaf) and shape.value.scalar in _LEAVES:
        make_canonical = _LEAVES[shape.value.scalar]

        def settle_map(values: dict[str, str]) -> None:
            for key, text in values.items():
                done = make_canonical(text)
                if done != text:
                    values[key] = done

        return settle_map
    return None
