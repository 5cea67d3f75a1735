"""The API server on a TLS socket, as a process: the store's file, signals, a clean end.

On SIGTERM or SIGINT it ends its watches, stops listening, lets running requests finish and closes the store. When the
store fails it gives up with exit code 1: what is true stands in the file, and a restart reads it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from apimachinery.errors import RequestEntityTooLarge
from componentbase import logs, tls
from componentbase.clock import RealClock
from componentbase.http import Response
from componentbase.httpserver import HttpServer, PortTaken

from .app import App, build
from .certificates import Certificates, Unusable, certificates
from .config import Config
from .handlers.answers import failure
from .handlers.context import NodeConnector
from .nodeclient import NoNodes, TlsNodeConnector
from .storage.interface import Store, StoreClosed, StoreUnusable
from .storage.memory import MemoryStore
from .storage.sqlite import SqliteStore

log = logging.getLogger(__name__)

# How long a thread (a checkpoint, a compressor) may keep the interpreter lock from the event loop, and the other way.
SWITCH_SECONDS = 0.0005
STOP_SECONDS = 2.0


def serve(config: Config) -> int:
    """Run until a signal; the exit code."""
    logs.setup("apiserver", config.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(_serve(config))
    except (Unusable, StoreUnusable, PortTaken) as error:
        log.error("%s", error)
        return 1


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not built for every platform
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def open_store(config: Config) -> Store:
    """The store that the configuration names. StoreUnusable, Unusable."""
    engine, _, path = config.store.partition(":")
    if engine == "memory" and not path:
        return MemoryStore()
    if engine == "sqlite":
        return SqliteStore(Path(path) if path else config.data_dir / "state.db")
    raise Unusable(f"--store {config.store}: must be memory, sqlite or sqlite:PATH")


async def _serve(config: Config) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"the data directory {config.data_dir} cannot be made: {error.strerror}") from error
    certified = certificates(config)
    store = open_store(config)
    try:
        app = build(config, store, RealClock(), config.seed or secrets.token_hex(16), nodes=_nodes(certified))
        server = HttpServer(
            app.handle,
            host=config.host,
            port=config.port,
            ssl_context=tls.server_context(
                certified.server.certificate, certified.server.key, client_ca=certified.client_ca
            ),
            streams=_streams,
            on_too_large=_too_large,
        )
        await server.start()
        log.info("listening on https://%s:%d, store %s", config.host, server.port, config.store)
        if certified.kubeconfig is not None:
            certified.write_kubeconfig(server.port)
            log.info("the administrator's kubeconfig is %s", certified.kubeconfig)
        return await _until_stopped(app, server, stop)
    finally:
        await store.close()


async def _until_stopped(app: App, server: HttpServer, stop: asyncio.Event) -> int:
    running = asyncio.create_task(app.run(), name="api server")
    stopping = asyncio.create_task(stop.wait(), name="signal")
    try:
        await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            log.error("gave up: %s", _reason(running.exception()))
            return 1
        log.info("stopping")
        return 0
    finally:
        app.stop()
        await server.stop(STOP_SECONDS)
        for task in (running, stopping):
            task.cancel()
        await asyncio.gather(running, stopping, return_exceptions=True)


def _reason(error: BaseException | None) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if error is not None and not isinstance(error, StoreClosed):
        log.error("the server's own task failed", exc_info=error)
    return str(error)


def _nodes(certified: Certificates) -> NodeConnector:
    if certified.kubelet is None:
        return NoNodes()
    context = tls.client_context(certified.client_ca, certified.kubelet.certificate, certified.kubelet.key)
    return TlsNodeConnector(context)


def _streams(method: str, path: str) -> bool:
    """Bodies that are handed on as they come: what goes to a node (images)."""
    parts = path.strip("/").split("/")
    return parts[:3] == ["api", "v1", "nodes"] and len(parts) > 4 and parts[4] == "proxy"


def _too_large(limit: int) -> Response:
    return failure(RequestEntityTooLarge(f"request body too large: the limit is {limit} bytes"))
