"""The live cluster as the scheduler believes it to be: what the API server told, plus what was decided and is not yet
told.

A decision is assumed at once, so that the next one counts it; the API server's own word (the pod with its node)
confirms it, a failed bind forgets it. Owns the snapshot and is the only one to change it. Finished pods hold nothing.
"""

from __future__ import annotations

from apimachinery.kinds.node import Node
from scheduler.podinfo import PodInfo
from scheduler.snapshot import Snapshot


class Cache:
    """Pods by key with the node that they are on or assumed to be on."""

    def __init__(self, seed: int) -> None:
        self._snapshot = Snapshot(seed)
        self._placed: dict[str, tuple[PodInfo, str]] = {}
        self._assumed: set[str] = set()

    def snapshot(self) -> Snapshot:
        """The present state; live, not a copy."""
        return self._snapshot

    def set_node(self, node: Node) -> list[str]:
        """Take over a node's state; the names of what changed."""
        return self._snapshot.set_node(node)

    def remove_node(self, name: str) -> None:
        self._snapshot.remove_node(name)

    def assume(self, pod: PodInfo, node_name: str) -> None:
        """`pod` was given to the node, which the API server does not know yet."""
        self._place(pod, node_name)
        self._assumed.add(pod.key)

    def forget(self, pod: PodInfo) -> None:
        """The assumption did not come true. Does nothing once the API server has said where the pod is."""
        if pod.key in self._assumed:
            self.remove(pod.key)

    def is_assumed(self, pod: PodInfo) -> bool:
        """Whether this very pod, not another of its name, is on its way to a node."""
        return pod.key in self._assumed and self._placed[pod.key][0].uid == pod.uid

    def set_pod(self, pod: PodInfo) -> bool:
        """The API server says that the pod is on its node. True if it holds less than before, so that others may
        fit."""
        self._assumed.discard(pod.key)
        if pod.finished:
            return self.remove(pod.key)
        before = self._placed.get(pod.key)
        if before is not None and before[1] == pod.node_name and before[0].requests == pod.requests:
            self._placed[pod.key] = (before[0], pod.node_name)
            return False
        self._place(pod, pod.node_name)
        return before is not None

    def remove(self, key: str) -> bool:
        """The pod is gone. True if it held something."""
        self._assumed.discard(key)
        held = self._placed.pop(key, None)
        if held is None:
            return False
        self._snapshot.remove_pod(*held)
        return True

    def _place(self, pod: PodInfo, node_name: str) -> None:
        self.remove(pod.key)
        self._placed[pod.key] = (pod, node_name)
        self._snapshot.add_pod(pod, node_name)
