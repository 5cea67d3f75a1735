"""What the API server itself keeps true while there is no controller for it.

The system namespaces exist; every namespace has a service account `default`; a namespace that is being deleted is
emptied and then finished. All three are idempotent and start from what the cache shows: a restart picks them up again.
"""

from __future__ import annotations

import asyncio
import logging

from apimachinery import codec
from apimachinery.errors import AlreadyExists, NotFound, StatusError
from apimachinery.kind import Kind
from apimachinery.kinds.namespace import KIND as NAMESPACE
from apimachinery.kinds.namespace import Namespace
from apimachinery.kinds.serviceaccount import KIND as SERVICE_ACCOUNT
from apimachinery.kinds.serviceaccount import ServiceAccount
from apimachinery.meta import DeleteOptions, ObjectMeta
from apiserver.cacher.objects import CachedObject
from apiserver.cacher.watcher import Selection
from componentbase.http import User

from .registry import Registry, Writer

log = logging.getLogger(__name__)

SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
ITSELF = User("system:apiserver", ("system:masters",))
FINALIZER = "kubernetes"
# An object that stays although nothing is heard of it is asked again after so many seconds.
PATIENCE_SECONDS = 10.0


async def create_system_namespaces(registry: Registry) -> None:
    """Before the first request is answered."""
    for name in SYSTEM_NAMESPACES:
        namespace = Namespace(metadata=ObjectMeta(name=name, labels={"kubernetes.io/metadata.name": name}))
        try:
            await registry.create(NAMESPACE, "", namespace, Writer(ITSELF))
        except AlreadyExists:
            continue


class NamespaceKeeper:
    """Looks after all namespaces until cancelled."""

    def __init__(self, registry: Registry, kinds: tuple[Kind, ...]) -> None:
        self._registry = registry
        self._kinds = [kind for kind in kinds if kind.namespaced and not kind.virtual]
        self._ending: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            # A watch that falls behind is closed: then all namespaces are looked at again.
            while not self._registry.cacher.stopping:
                await self._follow(tasks)

    async def _follow(self, tasks: asyncio.TaskGroup) -> None:
        cache = self._registry.cacher.of(NAMESPACE)
        watcher = cache.watch(Selection(cache.layout.range()), after=None)
        try:
            for namespace in watcher.initial:
                await self._look_after(namespace, tasks)
            while not watcher.closed:
                await watcher.wait(3600.0)
                for shown_as, event in watcher.take():
                    if shown_as != "DELETED":
                        await self._look_after(event.object, tasks)
        finally:
            watcher.close()

    async def _look_after(self, cached: CachedObject, tasks: asyncio.TaskGroup) -> None:
        namespace: Namespace = cached.decode()
        name = namespace.metadata.name
        if not namespace.metadata.deletionTimestamp:
            await self._give_service_account(name)
        elif name not in self._ending and FINALIZER in namespace.spec.finalizers:
            task = tasks.create_task(self._end(name), name=f"end namespace {name}")
            self._ending[name] = task
            task.add_done_callback(lambda _: self._ending.pop(name, None))

    async def _give_service_account(self, namespace: str) -> None:
        account = ServiceAccount(metadata=ObjectMeta(name="default", namespace=namespace))
        if self._registry.cacher.of(SERVICE_ACCOUNT).get(namespace, "default") is not None:
            return
        try:
            await self._registry.create(SERVICE_ACCOUNT, namespace, account, Writer(ITSELF))
        except AlreadyExists:
            return
        except StatusError as error:
            # Deleted again in the meantime: then there is nothing to give.
            log.info("service account %s/default: %s", namespace, error)

    async def _end(self, name: str) -> None:
        """Delete what the namespace holds, wait until it is gone, then let the namespace go."""
        while True:
            seen = self._registry.cacher.revision
            remaining = await self._delete_content(name)
            if remaining is None:
                break
            cache = self._registry.cacher.of(remaining)
            watcher = cache.watch(Selection(cache.layout.range(name)), after=seen)
            await watcher.wait(PATIENCE_SECONDS)
            watcher.close()
        try:
            await self._registry.update(NAMESPACE, "", name, _without_finalizer, Writer(ITSELF), subresource="finalize")
        except NotFound:
            return
        log.info("namespace %s: gone", name)

    async def _delete_content(self, namespace: str) -> Kind | None:
        """A kind of which something is left, pods first; None when the namespace is empty."""
        await self._registry.cacher.fresh()
        left: Kind | None = None
        for kind in sorted(self._kinds, key=lambda kind: kind.plural != "pods"):
            cache = self._registry.cacher.of(kind)
            for cached in cache.page(Selection(cache.layout.range(namespace))).items:
                name = cached.key.rpartition("/")[2]
                try:
                    saved = await self._registry.delete(kind, namespace, name, DeleteOptions(), Writer(ITSELF))
                except NotFound:
                    continue
                if not saved.removed:
                    left = left or kind
        return left


def _without_finalizer(namespace: Namespace) -> Namespace:
    emptied = codec.clone(namespace)
    emptied.spec.finalizers = [each for each in namespace.spec.finalizers if each != FINALIZER]
    return emptied
