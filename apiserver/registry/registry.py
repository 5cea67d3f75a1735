"""The verbs, once for all kinds: what may be written, and how it is written without losing anybody's change.

It owns the compare-and-swap loop: an update is a function from the object as it is to the object as it shall be, and is
asked again when somebody else was faster. It promises Kubernetes' rules of metadata, status and deletion. Decoding
bodies and choosing how to answer is left to the handlers, storing to the store, reading to the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from apimachinery import codec, object_meta
from apimachinery.errors import AlreadyExists, BadRequest, Cause, Conflict, Invalid, NotFound, Timeout
from apimachinery.kind import Kind
from apimachinery.meta import DeleteOptions
from apimachinery.times import format_time
from apiserver.admission.chain import Attributes, Chain, Operation
from apiserver.cacher.cacher import Cacher
from apiserver.cacher.objects import CachedObject
from apiserver.storage.interface import FutureRevision, KeyExists, RevisionMismatch, Store
from componentbase.clock import Clock
from componentbase.http import User

from .identity import Identities
from .strategy import Removal, Strategy, plan_removal, strategy_for

NAME_TRIES = 8

# From the object as it is to the object as it shall be: another struct, the argument stays untouched. It is called
# again after a lost race, so it has no side effects.
Change = Callable[[Any], Any]


@dataclass(slots=True)
class Writer:
    """Who writes, and how. `warnings` collects texts for the answer's Warning headers."""

    user: User
    dry_run: bool = False
    warnings: list[str] = field(default_factory=list)


class Saved(NamedTuple):
    """An object as it was stored (or would be): its struct and its bytes, with resourceVersion.

    `removed`: the write removed it, and this is its last state.
    """

    obj: Any
    data: bytes
    created: bool = False
    removed: bool = False


class Registry:
    def __init__(self, store: Store, cacher: Cacher, clock: Clock, identities: Identities, admission: Chain) -> None:
        self.cacher = cacher
        self.clock = clock
        self._store = store
        self._identities = identities
        self._admission = admission
        self._strategies: dict[str, Strategy] = {}

    def strategy(self, kind: Kind) -> Strategy:
        found = self._strategies.get(kind.resource)
        if found is None:
            found = self._strategies[kind.resource] = strategy_for(kind)
        return found

    # ---- read

    async def read(self, kind: Kind, namespace: str, name: str, *, not_older_than: int | None = None) -> CachedObject:
        """The newest state, or any one not older than a revision (0: whatever the cache has). NotFound."""
        if not_older_than is None:
            await self.cacher.fresh()
        elif not_older_than:
            await self.reach(not_older_than)
        found = self.cacher.of(kind).get(namespace, name)
        if found is None:
            raise NotFound.of(kind.plural, name, kind.group)
        return found

    async def reach(self, revision: int) -> None:
        """Wait for a revision that a client names. Timeout when it does not come."""
        try:
            await self.cacher.reach(revision)
        except FutureRevision as error:
            text = f"Too large resource version: {error.revision}, current: {error.current}"
            cause = Cause(reason="ResourceVersionTooLarge", message="Too large resource version")
            raise Timeout(text, causes=[cause], retry_after=1) from None

    # ---- create

    async def create(self, kind: Kind, namespace: str, obj: Any, writer: Writer) -> Saved:
        """Store a new object."""
        await self.cacher.fresh()
        meta = obj.metadata
        self._place(kind, namespace, obj)
        if meta.resourceVersion:
            raise BadRequest("resourceVersion should not be set on objects to be created")
        tries = NAME_TRIES if meta.generateName and not meta.name else 1
        prefix = meta.generateName
        self._stamp(kind, obj)
        for attempt in range(tries):
            if tries > 1:
                meta.name = self._identities.name(prefix)
            if attempt == 0:
                await self._admit_new(kind, namespace, obj, writer)
            saved = await self._insert(kind, namespace, obj, writer)
            if saved is not None:
                return saved
        if tries > 1:
            text = f'{kind.resource} "{meta.name}" already exists, the server was not able to generate a unique name'
            raise AlreadyExists(text, name=meta.name, kind=kind.plural, group=kind.group, retry_after=1)
        raise AlreadyExists.of(kind.plural, meta.name, kind.group)

    def _place(self, kind: Kind, namespace: str, obj: Any) -> None:
        if obj.metadata.namespace and obj.metadata.namespace != namespace:
            raise BadRequest("the namespace of the provided object does not match the namespace sent on the request")
        obj.metadata.namespace = namespace if kind.namespaced else ""

    def _stamp(self, kind: Kind, obj: Any) -> None:
        """What only the system may say about a new object."""
        meta = obj.metadata
        meta.uid = self._identities.uid()
        meta.creationTimestamp = format_time(self.clock.now())
        meta.deletionTimestamp = ""
        meta.deletionGracePeriodSeconds = None
        meta.selfLink = ""
        meta.managedFields = []
        meta.generation = 1 if kind.has_generation else None

    async def _admit_new(self, kind: Kind, namespace: str, obj: Any, writer: Writer) -> None:
        attributes = self._attributes("CREATE", kind, namespace, obj.metadata.name, "", writer)
        kind.default(obj)
        await self._admission.mutate(attributes, obj, None)
        kind.prepare_create(obj)
        self._refuse(kind, obj, kind.causes_on_create(obj))
        await self._admission.validate(attributes, obj, None)
        writer.warnings += kind.warnings(obj)

    async def _insert(self, kind: Kind, namespace: str, obj: Any, writer: Writer) -> Saved | None:
        """Store under the object's name; None when the name is taken."""
        cache = self.cacher.of(kind)
        key = cache.layout.key(namespace, obj.metadata.name)
        data = codec.encode(obj)
        if writer.dry_run:
            return None if cache.at_key(key) is not None else Saved(obj, data, created=True)
        try:
            revision = await self._store.create(key, data)
        except KeyExists:
            return None
        obj.metadata.resourceVersion = str(revision)
        return Saved(obj, cache.layout.splice(data, revision), created=True)

    # ---- update

    async def update(
        self, kind: Kind, namespace: str, name: str, change: Change, writer: Writer, *, subresource: str = ""
    ) -> Saved:
        """Write `change` of the object. NotFound, Conflict, Invalid. An update that changes nothing writes nothing."""
        cache = self.cacher.of(kind)
        while True:
            await self.cacher.fresh()
            current = cache.get(namespace, name)
            if current is None:
                raise NotFound.of(kind.plural, name, kind.group)
            old = current.decode()
            new = change(old)
            await self._prepare_update(kind, namespace, name, new, old, subresource, writer)
            saved = await self._replace(kind, current, old, new, writer)
            if saved is not None:
                writer.warnings += kind.warnings(new) if not subresource else []
                return saved

    async def _prepare_update(
        self, kind: Kind, namespace: str, name: str, new: Any, old: Any, subresource: str, writer: Writer
    ) -> None:
        self._check_identity(kind, namespace, name, new, old)
        _keep_metadata(new.metadata, old.metadata)
        if subresource != "binding":
            _keep_other_half(kind, new, old, subresource)
        attributes = self._attributes("UPDATE", kind, namespace, name, subresource, writer)
        kind.default(new)
        await self._admission.mutate(attributes, new, old)
        if subresource in ("", "status"):
            kind.prepare_update(new, old)
        if kind.has_generation and new.spec != old.spec:
            new.metadata.generation = (old.metadata.generation or 0) + 1
        if subresource in ("", "status"):
            causes = kind.causes_on_update(new, old, status=subresource == "status")
        else:
            causes = object_meta.validate_update(new.metadata, old.metadata)
        self._refuse(kind, new, causes)
        await self._admission.validate(attributes, new, old)

    def _check_identity(self, kind: Kind, namespace: str, name: str, new: Any, old: Any) -> None:
        meta = new.metadata
        if meta.name and meta.name != name:
            raise BadRequest(f"the name of the object ({meta.name}) does not match the name on the URL ({name})")
        meta.name = name
        self._place(kind, namespace, new)
        if meta.uid and meta.uid != old.metadata.uid:
            why = f"Precondition failed: UID in precondition: {meta.uid}, UID in object meta: {old.metadata.uid}"
            raise Conflict.of(kind.plural, name, why, kind.group)
        if meta.resourceVersion and meta.resourceVersion != old.metadata.resourceVersion:
            raise Conflict.stale(kind.plural, name, kind.group)
        if not meta.resourceVersion and kind.needs_resource_version:
            cause = Cause(
                reason="FieldValueInvalid",
                message='Invalid value: "": must be specified for an update',
                field="metadata.resourceVersion",
            )
            raise Invalid(kind.kind, name, [cause], group=kind.group)

    async def _replace(self, kind: Kind, current: CachedObject, old: Any, new: Any, writer: Writer) -> Saved | None:
        """Store `new` in place of `current`; None when somebody else was faster."""
        layout = current.layout
        new.metadata.resourceVersion = ""
        data = codec.encode(new)
        removed = self.strategy(kind).vanishes(new)
        unchanged = layout.splice(data, current.revision) == current.data
        if writer.dry_run or (unchanged and not removed):
            new.metadata.resourceVersion = str(current.revision)
            return Saved(new, layout.splice(data, current.revision), removed=removed)
        try:
            if removed:
                revision = await self._store.delete(current.key, expected=current.revision)
            else:
                revision = await self._store.update(current.key, data, expected=current.revision)
        except RevisionMismatch:
            return None
        new.metadata.resourceVersion = str(revision)
        return Saved(new, layout.splice(data, revision), removed=removed)

    # ---- delete

    async def delete(self, kind: Kind, namespace: str, name: str, options: DeleteOptions, writer: Writer) -> Saved:
        """Remove an object, or mark it when an agent or a finalizer has to have its say. NotFound, Conflict."""
        cache = self.cacher.of(kind)
        strategy = self.strategy(kind)
        while True:
            await self.cacher.fresh()
            current = cache.get(namespace, name)
            if current is None:
                raise NotFound.of(kind.plural, name, kind.group)
            obj = current.decode()
            self._check_preconditions(kind, name, obj, options)
            attributes = self._attributes("DELETE", kind, namespace, name, "", writer)
            await self._admission.validate(attributes, None, obj)
            plan = plan_removal(strategy, obj, options.gracePeriodSeconds, self.clock.now())
            saved = await self._carry_out(plan, current, obj, writer)
            if saved is not None:
                return saved

    def _check_preconditions(self, kind: Kind, name: str, obj: Any, options: DeleteOptions) -> None:
        wanted = options.preconditions
        if wanted is None:
            return
        meta = obj.metadata
        if wanted.uid and wanted.uid != meta.uid:
            why = f"Precondition failed: UID in precondition: {wanted.uid}, UID in object meta: {meta.uid}"
            raise Conflict.of(kind.plural, name, why, kind.group)
        if wanted.resourceVersion and wanted.resourceVersion != meta.resourceVersion:
            why = (
                f"Precondition failed: ResourceVersion in precondition: {wanted.resourceVersion}, "
                f"ResourceVersion in object meta: {meta.resourceVersion}"
            )
            raise Conflict.of(kind.plural, name, why, kind.group)

    async def _carry_out(self, plan: Removal, current: CachedObject, obj: Any, writer: Writer) -> Saved | None:
        layout = current.layout
        obj.metadata.resourceVersion = ""
        data = codec.encode(obj)
        revision = current.revision
        removed = plan is Removal.REMOVE
        if plan is not Removal.PENDING and not writer.dry_run:
            try:
                if removed:
                    revision = await self._store.delete(current.key, expected=current.revision)
                else:
                    revision = await self._store.update(current.key, data, expected=current.revision)
            except RevisionMismatch:
                return None
        obj.metadata.resourceVersion = str(revision)
        return Saved(obj, layout.splice(data, revision), removed=removed)

    # ---- shared

    def _attributes(
        self, operation: Operation, kind: Kind, namespace: str, name: str, subresource: str, writer: Writer
    ) -> Attributes:
        return Attributes(operation, kind, namespace, name, subresource, writer.user, writer.dry_run, writer.warnings)

    def _refuse(self, kind: Kind, obj: Any, causes: list[Cause]) -> None:
        if causes:
            raise Invalid(kind.kind, obj.metadata.name, causes, group=kind.group)


def _keep_metadata(new: Any, old: Any) -> None:
    """What no client may change is silently kept."""
    new.uid = old.uid
    new.creationTimestamp = old.creationTimestamp
    new.deletionTimestamp = old.deletionTimestamp
    new.deletionGracePeriodSeconds = old.deletionGracePeriodSeconds
    new.generation = old.generation
    new.generateName = old.generateName
    new.selfLink = ""
    new.managedFields = []


def _keep_other_half(kind: Kind, new: Any, old: Any, subresource: str) -> None:
    """Only /status writes status, and nothing else but metadata."""
    if subresource != "status":
        if kind.has_status:
            new.status = old.status
        return
    for name in new.__struct_fields__:
        if name not in ("apiVersion", "kind", "metadata", "status"):
            setattr(new, name, getattr(old, name))
