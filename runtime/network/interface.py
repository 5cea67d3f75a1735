"""`PodNetwork`: how a pod's network namespace gets its interface and addresses.

Life cycle: `start` once per daemon, `attach` once per sandbox, `detach` any number of times, even for sandboxes that
were never attached; `reconcile` tells which sandboxes still live, so that everything else of ours can go; `destroy`
removes all that the engine ever made on the host.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from runtime.linux.netlink import Route


class NetworkError(Exception):
    """The pod network cannot do what it should; the text says what is missing."""


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """What a sandbox got. `link` is the host's end, whose counters are the pod's mirrored."""

    address: str
    gateway: str
    link: str


@dataclass(frozen=True, kw_only=True)
class Health:
    """`ready`: pods can be attached. `warning`: what does not work although they can."""

    ready: bool
    message: str = ""
    warning: str = ""


class PodNetwork(Protocol):
    @property
    def range(self) -> str: ...
    def start(self) -> None: ...
    def attach(self, sandbox: str, namespace_fd: int, inside: Route) -> Attachment: ...
    def detach(self, sandbox: str) -> None: ...
    def reconcile(self, living: Collection[str]) -> None: ...
    def health(self) -> Health: ...
    def destroy(self) -> None: ...
