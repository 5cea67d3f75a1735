"""What differs between kinds beyond their row in the scheme, and the decision what a DELETE does.

Pure: an object, the options and the time go in, a plan comes out; the registry carries it out.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from apimachinery.kind import Kind
from apimachinery.kinds.pod import KIND as POD
from apimachinery.times import format_time, parse_time

DEFAULT_GRACE_SECONDS = 30


class Removal(Enum):
    """What a DELETE comes to."""

    REMOVE = "remove"  # the object goes now
    MARK = "mark"  # deletionTimestamp was set or moved: write the object
    PENDING = "pending"  # it is being deleted already: nothing to write


class Strategy:
    """The rules of most kinds."""

    # A DELETE that removes the object answers with it instead of with a Status.
    returns_deleted = False

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def grace_seconds(self, obj: Any, asked: int | None) -> int:
        """How long the object may live on after a DELETE; 0: not at all."""
        return 0

    def begin_deletion(self, obj: Any) -> None:
        """Called when an object gets its deletionTimestamp but stays."""

    def held(self, obj: Any) -> bool:
        """Whether finalizers keep the object."""
        return bool(obj.metadata.finalizers)

    def vanishes(self, obj: Any) -> bool:
        """Whether an object with deletionTimestamp is to be removed in the write that made it so."""
        meta = obj.metadata
        return bool(meta.deletionTimestamp) and not meta.deletionGracePeriodSeconds and not self.held(obj)


class PodStrategy(Strategy):
    """A pod that runs on a node is removed by its agent, with grace 0, once the containers are gone."""

    returns_deleted = True

    def grace_seconds(self, obj: Any, asked: int | None) -> int:
        if not obj.spec.nodeName or obj.status.phase in ("Succeeded", "Failed"):
            return 0
        own = obj.spec.terminationGracePeriodSeconds
        return asked if asked is not None else DEFAULT_GRACE_SECONDS if own is None else int(own)


class NamespaceStrategy(Strategy):
    """A namespace is held by `spec.finalizers` until its content is gone."""

    def begin_deletion(self, obj: Any) -> None:
        obj.status.phase = "Terminating"

    def held(self, obj: Any) -> bool:
        return bool(obj.metadata.finalizers or obj.spec.finalizers)


class ReturnsDeleted(Strategy):
    """Kinds whose DELETE answers with the object, because clients read it as one."""

    returns_deleted = True


STRATEGIES: dict[str, type[Strategy]] = {
    "pods": PodStrategy,
    "namespaces": NamespaceStrategy,
    "serviceaccounts": ReturnsDeleted,
    "persistentvolumeclaims": ReturnsDeleted,
}


def strategy_for(kind: Kind) -> Strategy:
    return STRATEGIES.get(kind.resource, Strategy)(kind)


def plan_removal(strategy: Strategy, obj: Any, asked_seconds: int | None, now: float) -> Removal:
    """Decide about a DELETE at `now` (Unix seconds) and change `obj`'s metadata accordingly."""
    meta = obj.metadata
    if asked_seconds is not None and asked_seconds < 0:
        asked_seconds = 1
    if meta.deletionTimestamp:
        return _shorten(strategy, obj, asked_seconds)
    grace = strategy.grace_seconds(obj, asked_seconds) if strategy.kind.graceful else 0
    if grace == 0 and not strategy.held(obj) and strategy.kind is not POD:
        return Removal.REMOVE
    meta.deletionTimestamp = format_time(now + grace)
    meta.deletionGracePeriodSeconds = grace
    if meta.generation:
        meta.generation += 1
    if strategy.vanishes(obj):
        return Removal.REMOVE
    strategy.begin_deletion(obj)
    return Removal.MARK


def _shorten(strategy: Strategy, obj: Any, asked_seconds: int | None) -> Removal:
    """A later DELETE may only bring the end nearer."""
    meta = obj.metadata
    pending = meta.deletionGracePeriodSeconds
    if pending and asked_seconds is not None and asked_seconds < pending:
        meta.deletionTimestamp = format_time(parse_time(meta.deletionTimestamp) - pending + asked_seconds)
        meta.deletionGracePeriodSeconds = asked_seconds
        return Removal.REMOVE if strategy.vanishes(obj) else Removal.MARK
    return Removal.REMOVE if strategy.vanishes(obj) else Removal.PENDING
