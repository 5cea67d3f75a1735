"""ConfigMap: text and bytes that pods read as files or variables."""

from __future__ import annotations

from apimachinery.kind import Kind
from apimachinery.meta import ObjectMeta, Record, always, fresh


class ConfigMap(Record, kw_only=True):
    """`data` holds text; `binaryData` bytes (base64 on the wire). A key is in one of the two."""

    apiVersion: str = always("v1")
    kind: str = always("ConfigMap")
    metadata: ObjectMeta = fresh(ObjectMeta)
    immutable: bool | None = None
    data: dict[str, str] = {}
    binaryData: dict[str, bytes] = {}


KIND = Kind(
    group="",
    version="v1",
    kind="ConfigMap",
    plural="configmaps",
    type=ConfigMap,
    short_names=("cm",),
    description="ConfigMap holds configuration data for pods to consume.",
)
