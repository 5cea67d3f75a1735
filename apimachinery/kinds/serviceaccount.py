"""ServiceAccount: whom the processes of a pod are to the API server."""

from __future__ import annotations

from typing import Annotated, Any

from apimachinery.kind import Column, Kind
from apimachinery.meta import LocalObjectReference, ObjectMeta, ObjectReference, Record, always, fresh, merge_on
from apimachinery.table import AGE, NAME, age


class ServiceAccount(Record, kw_only=True):
    """An identity for pods, the secrets they may mount and the image pull secrets they bring along."""

    apiVersion: str = always("v1")
    kind: str = always("ServiceAccount")
    metadata: ObjectMeta = fresh(ObjectMeta)
    secrets: Annotated[list[ObjectReference], merge_on("name")] = []
    imagePullSecrets: list[LocalObjectReference] = []
    automountServiceAccountToken: bool | None = None


def cells(account: ServiceAccount, now: float) -> list[Any]:
    """Name, number of secrets, age."""
    return [account.metadata.name, len(account.secrets), age(account.metadata.creationTimestamp, now)]


KIND = Kind(
    group="",
    version="v1",
    kind="ServiceAccount",
    plural="serviceaccounts",
    type=ServiceAccount,
    short_names=("sa",),
    columns=(NAME, Column("Secrets", description="Number of secrets that pods of this account may use."), AGE),
    cells=cells,
    description="ServiceAccount binds together a name, a principal and a set of secrets.",
)
