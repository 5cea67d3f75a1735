"""ServiceAccount: whom the processes of a pod are to the API server."""

from __future__ import annotations

from typing import Annotated

from apimachinery.kind import Kind
from apimachinery.meta import LocalObjectReference, ObjectMeta, ObjectReference, Record, always, fresh, merge_on


class ServiceAccount(Record, kw_only=True):
    """An identity for pods, the secrets they may mount and the image pull secrets they bring along."""

    apiVersion: str = always("v1")
    kind: str = always("ServiceAccount")
    metadata: ObjectMeta = fresh(ObjectMeta)
    secrets: Annotated[list[ObjectReference], merge_on("name")] = []
    imagePullSecrets: list[LocalObjectReference] = []
    automountServiceAccountToken: bool | None = None


KIND = Kind(
    group="",
    version="v1",
    kind="ServiceAccount",
    plural="serviceaccounts",
    type=ServiceAccount,
    short_names=("sa",),
    description="ServiceAccount binds together a name, a principal and a set of secrets.",
)
