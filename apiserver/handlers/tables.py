"""Objects as rows, in the columns of their kind: what `kubectl get` shows.

A row carries the object's metadata unless the client asks for the whole object or for none (`includeObject`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from apimachinery import codec, table
from apimachinery.errors import BadRequest
from apimachinery.kind import Kind
from apiserver.cacher.objects import CachedObject, CacheEvent, frame
from componentbase.http import Request, Response

from . import answers
from .context import Context, Target
from .media import Form


def list_answer(
    context: Context, target: Target, request: Request, form: Form, items: Sequence[CachedObject], meta: dict[str, Any]
) -> Response:
    kind, now, include = target.kind, context.clock.now(), _include(request)
    rows = [_row(kind, item.decode(), now, include, form) for item in items]
    return answers.list_answer(request, _head(kind, form, meta, definitions=True), rows, content_type=form.content_type)


def object_answer(
    context: Context,
    target: Target,
    request: Request,
    form: Form,
    obj: Any,
    *,
    status: int = 200,
    warnings: Iterable[str] = (),
) -> Response:
    row = _row(target.kind, obj, context.clock.now(), _include(request), form)
    meta = {"resourceVersion": obj.metadata.resourceVersion}
    data = _head(target.kind, form, meta, definitions=True) + row + b"]}\n"
    return answers.json_answer(data, status=status, warnings=warnings, content_type=form.content_type)


class RowStream:
    """Events of a watch as tables of one row; only the first names the columns."""

    def __init__(self, context: Context, target: Target, request: Request, form: Form) -> None:
        self._kind = target.kind
        self._clock = context.clock
        self._form = form
        self._include = _include(request)
        self._first = True

    def object(self, shown_as: str, obj: CachedObject) -> bytes:
        decoded = obj.decode()
        meta = {"resourceVersion": decoded.metadata.resourceVersion}
        head = _head(self._kind, self._form, meta, definitions=self._first)
        self._first = False
        row = _row(self._kind, decoded, self._clock.now(), self._include, self._form)
        return frame(shown_as, head + row + b"]}")

    def event(self, shown_as: str, event: CacheEvent) -> bytes:
        return self.object(shown_as, event.shown(shown_as))


def _include(request: Request) -> table.Include:
    match request.query.first("includeObject") or "Metadata":
        case "Metadata":
            return "Metadata"
        case "Object":
            return "Object"
        case "None":
            return "None"
        case other:
            raise BadRequest(f'unrecognized includeObject value: "{other}"')


def _head(kind: Kind, form: Form, meta: dict[str, Any], *, definitions: bool) -> bytes:
    head = {
        "kind": "Table",
        "apiVersion": f"meta.k8s.io/{form.table}",
        "metadata": meta,
        "columnDefinitions": table.definitions(kind) if definitions else None,
    }
    return codec.encode(head)[:-1] + b',"rows":['


def _row(kind: Kind, obj: Any, now: float, include: table.Include, form: Form) -> bytes:
    return codec.encode(table.row(kind, obj, now, include=include, api_version=f"meta.k8s.io/{form.table}"))
