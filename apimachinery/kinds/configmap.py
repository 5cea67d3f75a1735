"""ConfigMap: text and bytes that pods read as files or variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apimachinery.causes import faulty, forbidden, invalid, too_long
from apimachinery.errors import Cause
from apimachinery.kind import Column, Kind
from apimachinery.meta import ObjectMeta, Record, always, fresh
from apimachinery.names import config_key_faults
from apimachinery.table import AGE, NAME, age

MAX_BYTES = 1024 * 1024


class ConfigMap(Record, kw_only=True):
    """`data` holds text; `binaryData` bytes (base64 on the wire). A key is in one of the two."""

    apiVersion: str = always("v1")
    kind: str = always("ConfigMap")
    metadata: ObjectMeta = fresh(ObjectMeta)
    immutable: bool | None = None
    data: dict[str, str] = {}
    binaryData: dict[str, bytes] = {}


def keys(data: Mapping[str, str | bytes], path: str) -> list[Cause]:
    """Faults of the keys of a ConfigMap or Secret: they are file names."""
    return [cause for key in data for cause in faulty(f"{path}[{key}]", key, config_key_faults(key))]


def size(*data: Mapping[str, str | bytes]) -> int:
    """Bytes of all values."""
    values = (value for part in data for value in part.values())
    return sum(len(value.encode() if isinstance(value, str) else value) for value in values)


def validate(config: ConfigMap) -> list[Cause]:
    """Keys, each in one map only, and at most 1 MiB."""
    found = keys(config.data, "data") + keys(config.binaryData, "binaryData")
    for key in config.data:
        if key in config.binaryData:
            found.append(invalid(f"data[{key}]", key, "duplicate of key present in binaryData"))
    if size(config.data, config.binaryData) > MAX_BYTES:
        found.append(too_long("", MAX_BYTES))
    return found


def validate_update(new: ConfigMap, old: ConfigMap) -> list[Cause]:
    """What is immutable stays so."""
    if not old.immutable:
        return []
    why = "field is immutable when `immutable` is set"
    found = [] if new.immutable else [forbidden("immutable", why)]
    return found + [forbidden(name, why) for name in ("data", "binaryData") if getattr(new, name) != getattr(old, name)]


def cells(config: ConfigMap, now: float) -> list[Any]:
    """Name, number of keys, age."""
    meta = config.metadata
    return [meta.name, len(config.data) + len(config.binaryData), age(meta.creationTimestamp, now)]


KIND = Kind(
    group="",
    version="v1",
    kind="ConfigMap",
    plural="configmaps",
    type=ConfigMap,
    short_names=("cm",),
    validate=validate,
    validate_update=validate_update,
    columns=(NAME, Column("Data", description="Number of keys."), AGE),
    cells=cells,
    description="ConfigMap holds configuration data for pods to consume.",
)
