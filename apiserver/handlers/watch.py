"""GET of a collection with watch=true: a stream of events, one JSON object a line, each flushed at once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass

from apimachinery import codec
from apimachinery.errors import Expired, StatusError
from apiserver.cacher.objects import ADDED, BOOKMARK, ERROR, CachedObject, CacheEvent, frame
from apiserver.cacher.resource import TooOld
from apiserver.cacher.watcher import Watcher
from componentbase.http import Headers, Request, Response

from . import list_options, tables
from .context import Context, Target
from .list_options import ListOptions
from .media import choose_form
from .streams import OwningStream

# A watch without timeoutSeconds lasts 30 to 60 minutes, so that clients do not come back all at once.
SHORTEST_SECONDS = 1800.0
BOOKMARK_SECONDS = 60.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
INITIAL_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Shown:
    """How this watch writes objects and events: as they are, or as tables."""

    object: Callable[[str, CachedObject], bytes]
    event: Callable[[str, CacheEvent], bytes]


async def handle(context: Context, target: Target, request: Request) -> Response:
    options = list_options.parse(target.kind, request.query, watch=True)
    form = choose_form(request.headers.get("accept", ""))
    headers = Headers({"content-type": form.content_type, "cache-control": "no-cache, private"})
    if form.table:
        rows = tables.RowStream(context, target, request, form)
        shown = Shown(rows.object, rows.event)
    else:
        shown = Shown(lambda shown_as, obj: frame(shown_as, obj.data), lambda shown_as, event: event.frame(shown_as))
    try:
        watcher = await _open(context, target, options)
        # The revision of the initial objects: what comes from here on is in the queue.
        loaded = context.cacher.revision
    except TooOld as error:
        return Response(200, headers, _only(_error(Expired(str(error)))))
    stream = _stream(context, target, options, watcher, shown, loaded)
    return Response(200, headers, OwningStream(stream, watcher.close))


async def _open(context: Context, target: Target, options: ListOptions) -> Watcher:
    cacher, cache = context.cacher, context.cacher.of(target.kind)
    selection = options.selection(cache, target.namespace)
    wants_initial = options.send_initial_events
    if wants_initial is None:
        wants_initial = not options.revision
    if options.revision is None:
        await cacher.fresh()
    # A revision that does not come is one of another life of this store: better refused than waited for in silence.
    await context.registry.reach(options.revision or 0)
    if wants_initial:
        return cache.watch(selection, after=None)
    return cache.watch(selection, after=options.revision or cacher.revision)


async def _only(line: bytes) -> AsyncIterator[bytes]:
    yield line


async def _stream(
    context: Context, target: Target, options: ListOptions, watcher: Watcher, shown: Shown, loaded: int
) -> AsyncGenerator[bytes, None]:
    clock = context.clock
    started = clock.monotonic()
    lasting = float(options.timeout_seconds) or context.identities.between(SHORTEST_SECONDS, 2 * SHORTEST_SECONDS)
    ends = started + lasting
    next_bookmark = started + BOOKMARK_SECONDS if options.bookmarks else float("inf")
    try:
        for index in range(0, len(watcher.initial), INITIAL_CHUNK):
            yield b"".join([shown.object(ADDED, obj) for obj in watcher.initial[index : index + INITIAL_CHUNK]])
        watcher.initial.clear()
        if options.send_initial_events and options.bookmarks:
            yield _bookmark(target, loaded, initial_events_end=True)
        while True:
            await watcher.wait(min(ends, next_bookmark) - clock.monotonic())
            if events := watcher.take():
                yield b"".join([shown.event(shown_as, event) for shown_as, event in events])
                continue
            if watcher.closed:
                return
            now = clock.monotonic()
            # The queue is empty: everything up to the cache's revision has been delivered.
            if options.bookmarks and now >= min(ends, next_bookmark):
                next_bookmark = now + BOOKMARK_SECONDS
                yield _bookmark(target, context.cacher.revision)
            if now >= ends:
                return
    finally:
        watcher.close()


def _bookmark(target: Target, revision: int, *, initial_events_end: bool = False) -> bytes:
    kind = target.kind
    meta: dict[str, object] = {"resourceVersion": str(revision)}
    if initial_events_end:
        meta["annotations"] = {INITIAL_EVENTS_END: "true"}
    return frame(BOOKMARK, codec.encode({"kind": kind.kind, "apiVersion": kind.api_version, "metadata": meta}))


def _error(error: StatusError) -> bytes:
    return frame(ERROR, codec.encode(error.status))
