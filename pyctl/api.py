"""A session with the API server for one-shot verbs: paths and JSON in, JSON out, errors as one line.

It owns the blocking transport and what discovery told it (in memory only, for this one command). It knows nothing of
kinds: what a resource is called, and how a table of it looks, the server says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from componentbase.http import Headers, Query, Request
from kubeclient.blocking import BlockingResponse, BlockingTransport
from kubeclient.config import ClusterAccess
from kubeclient.transport import TransportError
from pyctl.failure import Failure

Document = dict[str, Any]

JSON = "application/json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


class ApiError(Failure):
    """The server said no: its `Status`, with the message as it came."""

    def __init__(self, status: Document) -> None:
        reason = status.get("reason") or ""
        message = status.get("message") or reason or "the server gave no reason"
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.http_code = int(status.get("code") or 0)


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource as discovery names it."""

    group: str
    version: str
    plural: str
    singular: str
    kind: str
    namespaced: bool
    short_names: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def shown(self) -> str:
        """How messages name it: `pod`, `deployment.apps`."""
        return f"{self.singular}.{self.group}" if self.group else self.singular

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The resource's path; an empty namespace means all of them."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        tail = "".join(f"/{part}" for part in (name, subresource) if part)
        return f"{root}{place}/{self.plural}{tail}"


@dataclass(slots=True)
class Api:
    """One API server and a namespace to work in."""

    transport: BlockingTransport
    namespace: str = "default"
    server: str = ""
    warn: Callable[[str], None] = lambda text: print(f"Warning: {text}", file=sys.stderr)
    _resources: dict[str, list[Resource]] = field(default_factory=dict)
    _warned: set[str] = field(default_factory=set)

    @classmethod
    def connect(cls, access: ClusterAccess, namespace: str = "", *, timeout_seconds: float = 60.0) -> Api:
        transport = BlockingTransport(access, timeout_seconds=timeout_seconds)
        return cls(transport, namespace or access.namespace or "default", access.server)

    # -- requests ------------------------------------------------------------------------------------------------------

    def send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str | list[str]] | None = None,
        *,
        body: bytes = b"",
        content_type: str = "",
        accept: str = JSON,
        stream: bool = False,
    ) -> BlockingResponse:
        """One request. Raises ApiError for an answer of 400 and above, Failure where there is no answer."""
        headers = Headers({"accept": accept})
        if content_type:
            headers["content-type"] = content_type
        request = Request(method, path, Query.of(query or {}), headers, body, stream=stream)
        try:
            answer = self.transport.request(request)
            if answer.status >= 400:
                raise ApiError(_status(answer))
        except TransportError as error:
            raise unreachable(self.server, error) from error
        for text in _warnings(answer.headers.get("warning", "")):
            if text not in self._warned:
                self._warned.add(text)
                self.warn(text)
        return answer

    def get(self, path: str, query: Mapping[str, str | list[str]] | None = None, *, accept: str = JSON) -> Document:
        return _decoded(self.send("GET", path, query, accept=accept).read())

    def find(self, path: str) -> Document | None:
        """Like `get`, but None for what does not exist."""
        try:
            return self.get(path)
        except ApiError as error:
            if error.http_code == 404:
                return None
            raise

    def write(
        self,
        method: str,
        path: str,
        document: Any,
        query: Mapping[str, str | list[str]] | None = None,
        *,
        content_type: str = JSON,
    ) -> Document:
        """POST, PUT, PATCH or DELETE with a JSON body."""
        body = b"" if document is None else json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        return _decoded(self.send(method, path, query, body=body, content_type=content_type if body else "").read())

    def lines(self, path: str, query: Mapping[str, str | list[str]], *, accept: str = JSON) -> Iterator[bytes]:
        """The lines of a streamed answer, as they come."""
        rest = b""
        for chunk in self.chunks(path, query, accept=accept):
            *whole, rest = (rest + chunk).split(b"\n")
            yield from (line for line in whole if line)
        if rest:
            yield rest

    def chunks(self, path: str, query: Mapping[str, str | list[str]], *, accept: str = "*/*") -> Iterator[bytes]:
        """A streamed answer, as it comes."""
        answer = self.send("GET", path, query, accept=accept, stream=True)
        if isinstance(answer.body, bytes):
            yield answer.body
            return
        try:
            yield from answer.body
        except TransportError as error:
            raise Failure(f"the connection to {self.server} broke: {error}") from error

    def watch(
        self, path: str, query: Mapping[str, str | list[str]], *, accept: str = JSON
    ) -> Iterator[tuple[str, Document]]:
        """(type, object) of each event until the server ends the watch. Raises ApiError for an ERROR event."""
        for line in self.lines(path, {**query, "watch": "true"}, accept=accept):
            event = _decoded(line)
            if event.get("type") == "ERROR":
                raise ApiError(event.get("object") or {})
            yield event.get("type", ""), event.get("object") or {}

    # -- discovery -----------------------------------------------------------------------------------------------------

    def resources(self) -> list[Resource]:
        """All that the server serves, the core group first."""
        return self._discover("/api") + self._discover("/apis")

    def resource(self, name: str) -> Resource:
        """By plural, singular, kind or short name, with or without `.group`. Raises Failure for an unknown one."""
        for door in ("/api", "/apis"):  # most questions are about the core group, and need not ask for the others
            for each in self._discover(door):
                if _is_called(each, name.lower()):
                    return each
        raise Failure(f'the server has no resource type "{name}"', hint="`pyctl api-resources` lists what it has")

    def resource_of(self, api_version: str, kind: str) -> Resource:
        """By `apiVersion` and `kind` of an object. Raises Failure for an unknown one."""
        for each in self._discover("/apis" if "/" in api_version else "/api"):
            if each.api_version == api_version and each.kind == kind:
                return each
        raise Failure(f'no kind "{kind}" in version "{api_version}"', hint="`pyctl api-resources` lists what there is")

    def _discover(self, door: str) -> list[Resource]:
        if door not in self._resources:
            self._resources[door] = list(_resources(self.get(door, accept=DISCOVERY)))
        return self._resources[door]


def unreachable(server: str, error: Exception) -> Failure:
    """What to say when nobody answers; a refused or broken connection most often means that nothing runs."""
    cause = error.__cause__ or error
    reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return Failure(
            f"{server} is not the cluster of this kubeconfig: {reason}", hint="check --kubeconfig and --data-dir"
        )
    if isinstance(cause, TimeoutError):
        return Failure(f"the API server at {server} does not answer in time", hint="`pyctl status` shows its state")
    return Failure(f"the API server at {server} does not answer: {reason}", hint="is it up? `pyctl up` starts it")


def segment(text: str) -> str:
    """A name as one part of a path; the transport encodes it. Raises Failure for what would be another path."""
    if "/" in text or text in ("", ".", ".."):
        raise Failure(f"{text!r} cannot be a name", code=2)
    return text


def _decoded(data: bytes) -> Document:
    try:
        document = json.loads(data)
    except ValueError as error:
        raise Failure(f"the server's answer is not JSON: {data[:200]!r}") from error
    if not isinstance(document, dict):
        raise Failure(f"the server's answer is not an object: {data[:200]!r}")
    return document


def _status(answer: BlockingResponse) -> Document:
    data = answer.read()
    try:
        document = json.loads(data)
        if document.get("kind") == "Status":
            return {"code": answer.status, **document}
    except (ValueError, AttributeError):
        pass
    text = data.decode("utf-8", "replace").strip()
    return {"code": answer.status, "message": f"the server answered {answer.status}: {text[:500]}" if text else ""}


def _warnings(header: str) -> Iterator[str]:
    """The texts of `299 - "text"` entries."""
    for part in header.split('299 - "')[1:]:
        text = part.rpartition('"')[0]
        yield text.replace('\\"', '"').replace("\\\\", "\\")


def _resources(document: Document) -> Iterator[Resource]:
    for group in document.get("items") or []:
        for version in group.get("versions") or []:
            for each in version.get("resources") or []:
                yield Resource(
                    group=(group.get("metadata") or {}).get("name", ""),
                    version=version["version"],
                    plural=each["resource"],
                    singular=each.get("singularResource") or each["resource"],
                    kind=(each.get("responseKind") or {}).get("kind", ""),
                    namespaced=each.get("scope") == "Namespaced",
                    short_names=tuple(each.get("shortNames") or ()),
                    verbs=tuple(each.get("verbs") or ()),
                )


def _is_called(resource: Resource, name: str) -> bool:
    known = (resource.plural, resource.singular, resource.kind.lower(), *resource.short_names)
    if name in known:
        return True
    plain, _, group = name.partition(".")
    return bool(group) and plain in known and group in (resource.group, f"{resource.version}.{resource.group}")
