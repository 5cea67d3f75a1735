"""ConfigMaps and Secrets that pods on this node refer to, read from the API server when they are needed.

Keeps nothing: every call asks, several names at once. An object that is not there is None; what else goes wrong is
raised as it came (`StatusError`, `TransportError`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TypeVar

from apimachinery.errors import NotFound
from apimachinery.kinds.configmap import ConfigMap
from apimachinery.kinds.secret import Secret
from kubeclient.rest import Client
from nodeagent.environment import Objects

T = TypeVar("T", ConfigMap, Secret)


class Sources:
    """Reads through `client`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def objects(self, namespace: str, configmaps: Iterable[str], secrets: Iterable[str]) -> Objects:
        """The named objects of one namespace."""
        names, others = sorted(set(configmaps)), sorted(set(secrets))
        if not names and not others:
            return Objects()
        found, hidden = await asyncio.gather(
            asyncio.gather(*(self._get(ConfigMap, name, namespace) for name in names)),
            asyncio.gather(*(self._get(Secret, name, namespace) for name in others)),
        )
        return Objects(dict(zip(names, found, strict=True)), dict(zip(others, hidden, strict=True)))

    async def _get(self, kind: type[T], name: str, namespace: str) -> T | None:
        try:
            return await self._client.get(kind, name, namespace)
        except NotFound:
            return None
