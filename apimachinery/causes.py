"""The causes of an Invalid error, worded as Kubernetes words them: `spec.x: Required value`, `Invalid value: "y":
why`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import msgspec

from apimachinery.errors import Cause


def required(field: str, detail: str = "") -> Cause:
    """The field must be there."""
    return Cause(reason="FieldValueRequired", message=_with("Required value", detail), field=field)


def invalid(field: str, value: Any, detail: str) -> Cause:
    """The value breaks a rule."""
    return Cause(reason="FieldValueInvalid", message=f"Invalid value: {shown(value)}: {detail}", field=field)


def type_invalid(field: str, value: Any, detail: str) -> Cause:
    """The value is of another type."""
    return Cause(reason="FieldValueTypeInvalid", message=f"Invalid value: {shown(value)}: {detail}", field=field)


def not_supported(field: str, value: Any, supported: Iterable[str]) -> Cause:
    """The value is none of the known ones."""
    known = ", ".join(f'"{one}"' for one in sorted(supported))
    message = f"Unsupported value: {shown(value)}: supported values: {known}"
    return Cause(reason="FieldValueNotSupported", message=message, field=field)


def forbidden(field: str, detail: str) -> Cause:
    """The field may not be set here, or not be changed."""
    return Cause(reason="FieldValueForbidden", message=_with("Forbidden", detail), field=field)


def duplicate(field: str, value: Any) -> Cause:
    """Another element has the same value."""
    return Cause(reason="FieldValueDuplicate", message=f"Duplicate value: {shown(value)}", field=field)


def not_found(field: str, value: Any) -> Cause:
    """The value names nothing."""
    return Cause(reason="FieldValueNotFound", message=f"Not found: {shown(value)}", field=field)


def too_long(field: str, limit: int) -> Cause:
    """More than `limit` bytes."""
    message = f"Too long: may not be more than {limit} bytes"
    return Cause(reason="FieldValueTooLong", message=message, field=field)


def too_many(field: str, count: int, limit: int) -> Cause:
    """More than `limit` elements."""
    message = f"Too many: {count}: must have at most {limit} item{'' if limit == 1 else 's'}"
    return Cause(reason="FieldValueTooMany", message=message, field=field)


def faulty(field: str, value: Any, faults: Iterable[str]) -> list[Cause]:
    """An `invalid` for each fault that a function of `names` found."""
    return [invalid(field, value, fault) for fault in faults]


def shown(value: Any) -> str:
    """A value inside a message: strings in quotes, structs as JSON."""
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False)


def _with(text: str, detail: str) -> str:
    return f"{text}: {detail}" if detail else text


def one_of(field: str, value: str, supported: Iterable[str], *, needed: bool = True) -> list[Cause]:
    """A required word (unless `needed` is False) out of a known few."""
    known = tuple(supported)
    if value in known:
        return []
    if not value:
        return [required(field)] if needed else []
    return [not_supported(field, value, known)]


def within(field: str, value: int | None, low: int, high: int) -> list[Cause]:
    """A number, if given, between two bounds that it may reach."""
    if value is None or low <= value <= high:
        return []
    return [invalid(field, value, f"must be between {low} and {high}, inclusive")]


def not_negative(field: str, value: int | None) -> list[Cause]:
    """A number, if given, that is 0 or more."""
    return [invalid(field, value, "must be greater than or equal to 0")] if value is not None and value < 0 else []
