"""Secret: bytes that are not for everyone's eyes."""

from __future__ import annotations

from typing import Any

from apimachinery.causes import forbidden, invalid, required, too_long
from apimachinery.errors import Cause
from apimachinery.kind import Column, Kind
from apimachinery.kinds.configmap import MAX_BYTES, keys, size
from apimachinery.meta import ObjectMeta, Record, always, fresh
from apimachinery.table import AGE, NAME, age

# What a secret of each well-known type must hold; a secret of another type may hold anything.
REQUIRED_KEYS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"


class Secret(Record, kw_only=True):
    """`data` holds bytes (base64 on the wire). `stringData` is write-only text that defaulting moves into `data`."""

    apiVersion: str = always("v1")
    kind: str = always("Secret")
    metadata: ObjectMeta = fresh(ObjectMeta)
    immutable: bool | None = None
    data: dict[str, bytes] = {}
    stringData: dict[str, str] = {}
    type: str = ""


def default(secret: Secret) -> None:
    """Moves the write-only text into `data`; a secret without a type is Opaque."""
    for key, text in secret.stringData.items():
        secret.data[key] = text.encode()
    secret.stringData = {}
    secret.type = secret.type or "Opaque"


def validate(secret: Secret) -> list[Cause]:
    """Keys, at most 1 MiB, and what its type wants."""
    found = keys(secret.data, "data")
    if size(secret.data) > MAX_BYTES:
        found.append(too_long("data", MAX_BYTES))
    if secret.type == ACCOUNT_TOKEN and not secret.metadata.annotations.get(ACCOUNT_NAME):
        found.append(required(f"metadata.annotations[{ACCOUNT_NAME}]"))
    found += [required(f"data[{key}]") for key in REQUIRED_KEYS.get(secret.type, ()) if key not in secret.data]
    if secret.type == "kubernetes.io/basic-auth" and not {"username", "password"} & secret.data.keys():
        found += [required("data[username]"), required("data[password]")]
    return found


def validate_update(new: Secret, old: Secret) -> list[Cause]:
    """The type stays; what is immutable stays so."""
    found = [] if new.type == old.type else [invalid("type", new.type, "field is immutable")]
    if old.immutable:
        why = "field is immutable when `immutable` is set"
        found += [] if new.immutable else [forbidden("immutable", why)]
        found += [forbidden("data", why)] if new.data != old.data else []
    return found


def cells(secret: Secret, now: float) -> list[Any]:
    """Name, type, number of keys, age."""
    meta = secret.metadata
    return [meta.name, secret.type, len(secret.data), age(meta.creationTimestamp, now)]


def field_values(secret: Secret) -> dict[str, str]:
    """What field selectors may compare."""
    meta = secret.metadata
    return {"metadata.name": meta.name, "metadata.namespace": meta.namespace, "type": secret.type}


KIND = Kind(
    group="",
    version="v1",
    kind="Secret",
    plural="secrets",
    type=Secret,
    default=default,
    validate=validate,
    validate_update=validate_update,
    columns=(NAME, Column("Type", description="What the secret is for."), Column("Data"), AGE),
    cells=cells,
    field_values=field_values,
    write_only=("stringData",),
    description="Secret holds secret data of a certain type.",
)
