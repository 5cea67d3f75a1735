"""GET of a collection."""

from __future__ import annotations

from typing import NamedTuple

from apimachinery import codec
from apimachinery.errors import Expired
from apiserver.cacher.resource import Page
from apiserver.cacher.watcher import Selection
from apiserver.storage.interface import Compacted
from componentbase.http import Request, Response

from . import list_options, tables
from .answers import list_answer
from .context import Context, Target
from .list_options import EXACT, INCONSISTENT, NOT_OLDER_THAN, ListOptions, decode_token, encode_token
from .media import choose_form


class Found(NamedTuple):
    """A page, the revision that it shows, and the token of the next one."""

    page: Page
    revision: int
    token: str


async def handle(context: Context, target: Target, request: Request) -> Response:
    options = list_options.parse(target.kind, request.query, watch=False)
    form = choose_form(request.headers.get("accept", ""))
    selection = options.selection(context.cacher.of(target.kind), target.namespace)
    found = await find(context, target, options, selection)
    meta = list_metadata(found, selection)
    if form.table:
        return tables.list_answer(context, target, request, form, found.page.items, meta)
    kind = target.kind
    head = b'{"kind":"%bList","apiVersion":"%b","metadata":%b,"items":[' % (
        kind.kind.encode(), kind.api_version.encode(), codec.encode(meta),
    )  # fmt: skip
    return list_answer(request, head, [item.data for item in found.page.items])


def list_metadata(found: Found, selection: Selection) -> dict[str, object]:
    meta: dict[str, object] = {"resourceVersion": str(found.revision)}
    if found.token:
        meta["continue"] = found.token
        # With a selector nobody knows how many are left without looking.
        if selection.whole:
            meta["remainingItemCount"] = found.page.remaining
    return meta


async def find(context: Context, target: Target, options: ListOptions, selection: Selection) -> Found:
    """The page that the options ask for. Expired, Timeout."""
    cacher, cache, limit = context.cacher, context.cacher.of(target.kind), options.limit
    prefix = cache.layout.range(target.namespace)
    start = ""
    exact: int | None = None
    if options.token:
        exact, start = decode_token(options.token, prefix)
        if exact == INCONSISTENT:
            await cacher.fresh()
            exact = cacher.revision
    elif options.match == EXACT or (options.revision and limit and options.match != NOT_OLDER_THAN):
        exact = options.revision
    if exact is None:
        if options.revision is None:
            await cacher.fresh()
        else:
            await context.registry.reach(options.revision)
        page, revision = cache.page(selection, limit=limit), cacher.revision
    else:
        revision = exact
        await context.registry.reach(exact)
        try:
            page = await cacher.page_at(target.kind, selection, exact, start=start, limit=limit)
        except Compacted:
            raise _expired(start, prefix) from None
    return Found(page, revision, encode_token(revision, page.next_key, prefix) if page.next_key else "")


def _expired(start: str, prefix: str) -> Expired:
    """410; in the middle of a paged list with a token that goes on at the newest state."""
    if not start:
        return Expired("The resourceVersion for the provided list is too old.")
    error = Expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list "
        "without the continue parameter, or use the continue token in this response to retrieve the remainder of the "
        "results. Continuing with the provided token results in an inconsistent list - objects that were created, "
        "modified, or deleted between the time the first chunk was returned and now may show up in the list."
    )
    error.status["metadata"] = {"continue": encode_token(INCONSISTENT, start, prefix)}
    return error
