"""Secret: bytes that are not for everyone's eyes."""

from __future__ import annotations

from apimachinery.kind import Kind
from apimachinery.meta import ObjectMeta, Record, always, fresh


class Secret(Record, kw_only=True):
    """`data` holds bytes (base64 on the wire). `stringData` is write-only text that defaulting moves into `data`."""

    apiVersion: str = always("v1")
    kind: str = always("Secret")
    metadata: ObjectMeta = fresh(ObjectMeta)
    immutable: bool | None = None
    data: dict[str, bytes] = {}
    stringData: dict[str, str] = {}
    type: str = ""


KIND = Kind(
    group="",
    version="v1",
    kind="Secret",
    plural="secrets",
    type=Secret,
    write_only=("stringData",),
    description="Secret holds secret data of a certain type.",
)
