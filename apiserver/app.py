"""The API server without sockets: the parts put together, and the tasks that keep them going.

`build` makes an `App` on any store and clock; `App.handle` is a plain handler, so a client in the same process needs no
socket; `App.run` must run beside it. `main` puts an App on a TLS socket (see `server`).
"""

from __future__ import annotations

import asyncio
import logging

from apimachinery.errors import BadRequest, InternalError, ServiceUnavailable, StatusError
from apimachinery.scheme import SCHEME, Scheme
from componentbase.clock import Clock
from componentbase.http import Request, Response

from .admission.chain import Chain
from .admission.namespaces import NamespaceLifecycle
from .admission.pods import BuiltIn, Priority, ServiceAccount
from .cacher.cacher import CacheBehind, Cacher
from .config import Config
from .filters.authentication import identify
from .filters.authorization import attributes_of, authorize, refusal
from .filters.inflight import InFlight
from .handlers.answers import failure
from .handlers.context import ANONYMOUS, Context, NodeConnector, Target
from .handlers.health import handle as health
from .handlers.router import route
from .handlers.target import resolve
from .nodeclient import NoNodes
from .registry.bootstrap import NamespaceKeeper, create_system_namespaces
from .registry.expiry import Compactor, Expiry
from .registry.identity import Identities
from .registry.registry import Registry
from .storage.interface import Store, StoreClosed

log = logging.getLogger(__name__)


class App:
    """One API server. `handle` answers requests whose `user` the transport has set; `run` ends only with an error."""

    def __init__(
        self, config: Config, store: Store, clock: Clock, seed: int | str, nodes: NodeConnector, scheme: Scheme
    ) -> None:
        self._scheme = scheme
        self._store = store
        self._clock = clock
        self._cacher = Cacher(store, clock, scheme.kinds)
        identities = Identities(seed)
        admission = Chain([NamespaceLifecycle(self._cacher), ServiceAccount(self._cacher), Priority(), BuiltIn()])
        registry = Registry(store, self._cacher, clock, identities, admission)
        self._registry = registry
        self._context = Context(scheme, registry, self._cacher, clock, identities, nodes)
        self._in_flight = InFlight(config.max_in_flight)
        self._ready = asyncio.Event()

    # ---- answering

    async def handle(self, request: Request) -> Response:
        """Answer one request; every failure is a Status."""
        started = self._clock.monotonic()
        try:
            response = await self._answer(request)
        except StatusError as error:
            response = failure(error)
        except (StoreClosed, CacheBehind) as error:
            response = failure(ServiceUnavailable(f"the store is not available: {error}", retry_after=1))
        except RecursionError:
            response = failure(BadRequest("the body of the request is nested too deeply"))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            response = failure(InternalError("an internal error was logged by the API server"))
        level = logging.WARNING if response.status >= 500 else logging.DEBUG
        if log.isEnabledFor(level):
            milliseconds = (self._clock.monotonic() - started) * 1000
            user = request.user.name if request.user else "-"
            log.log(level, "%s %s %s %d %.1fms", user, request.method, request.target, response.status, milliseconds)
        return response

    async def _answer(self, request: Request) -> Response:
        identify(request)
        if not self._ready.is_set():
            if (early := health(self._cacher, request)) is not None:
                return early
            await self._ready.wait()
        target = resolve(self._scheme, request)
        user = request.user or ANONYMOUS
        attributes = attributes_of(target, request)
        decision = authorize(user, attributes)
        if not decision.allowed:
            raise refusal(user, attributes, decision)
        return await self._in_flight(target, request, lambda: self._route(target, request))

    async def _route(self, target: Target | None, request: Request) -> Response:
        return await route(self._context, target, request)

    # ---- living

    async def run(self) -> None:
        """Load the store, create what every cluster has, then keep it. Raises StoreClosed when the store fails."""
        await self._cacher.start()
        kinds = self._scheme.kinds
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._cacher.run(), name="watch cache")
            await create_system_namespaces(self._registry)
            tasks.create_task(NamespaceKeeper(self._registry, kinds).run(), name="namespaces")
            tasks.create_task(Compactor(self._store, self._clock).run(), name="compaction")
            for kind in kinds:
                if kind.ttl_seconds is not None and not kind.virtual:
                    tasks.create_task(Expiry(self._registry, kind).run(), name=f"expiry of {kind.plural}")
            self._ready.set()

    async def ready(self) -> None:
        """Wait until requests are answered."""
        await self._ready.wait()

    def stop(self) -> None:
        """End all watches, so that connections can be closed."""
        self._cacher.stop()


def build(
    config: Config,
    store: Store,
    clock: Clock,
    seed: int | str = 0,
    *,
    nodes: NodeConnector | None = None,
    scheme: Scheme = SCHEME,
) -> App:
    """An API server on this store; it opens no socket and starts no thread."""
    return App(config, store, clock, seed, nodes or NoNodes(), scheme)


def main(config: Config) -> int:
    """Serve until SIGTERM; 0 then, 1 when it could not start or had to give up."""
    from .server import serve

    return serve(config)
