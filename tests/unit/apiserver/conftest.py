"""An API server in this process, on the memory store, and a client of it that speaks plain requests."""

import asyncio
import contextlib
import json

import pytest

from apiserver.app import build
from apiserver.config import Config
from apiserver.storage.memory import MemoryStore
from componentbase.clock import RealClock, run_virtual, virtual_clock
from componentbase.http import Headers, Query, Request, User

ADMIN = User("admin", ("system:masters",))
JSON = "application/json"


class Answer:
    def __init__(self, response, body):
        self.status = response.status
        self.headers = response.headers
        self.body = body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def message(self):
        return self.json["message"]

    @property
    def reason(self):
        return self.json["reason"]

    def expect(self, status):
        assert self.status == status, (self.status, self.body[:2000])
        return self.json


class Client:
    PODS = "/api/v1/namespaces/default/pods"
    CONFIG_MAPS = "/api/v1/namespaces/default/configmaps"
    NODES = "/api/v1/nodes"

    def __init__(self, handle, user=ADMIN):
        self.handle = handle
        self.user = user

    def as_user(self, name, *groups):
        return Client(self.handle, User(name, groups))

    async def raw(self, method, path, body=b"", *, headers=None, **query):
        path, _, text = path.partition("?")
        fields = Headers(headers or {})
        parameters = Query([*Query.parse(text), *((key, str(value)) for key, value in query.items())])
        if isinstance(body, dict | list):
            body = json.dumps(body).encode()
            fields.setdefault("content-type", JSON)
        return await self.handle(Request(method, path, parameters, fields, body, self.user))

    async def send(self, method, path, body=b"", **options):
        response = await self.raw(method, path, body, **options)
        return Answer(response, await response.read())

    async def get(self, path, **options):
        return (await self.send("GET", path, **options)).expect(200)

    async def post(self, path, body, **options):
        return (await self.send("POST", path, body, **options)).expect(201)

    async def put(self, path, body, **options):
        return (await self.send("PUT", path, body, **options)).expect(200)

    async def patch(self, path, body, kind="merge-patch", **options):
        headers = {"content-type": f"application/{kind}+json"}
        return (await self.send("PATCH", path, body, headers=headers, **options)).expect(200)

    async def delete(self, path, body=b"", **options):
        return (await self.send("DELETE", path, body, **options)).expect(200)

    async def bind(self, name, node="n1"):
        body = {"metadata": {"name": name}, "target": {"kind": "Node", "name": node}}
        return await self.post(f"{self.PODS}/{name}/binding", body)

    @contextlib.asynccontextmanager
    async def watch(self, path, **options):
        response = await self.raw("GET", path, watch="true", **options)
        assert response.status == 200, await response.read()
        try:
            yield Watch(response.body)
        finally:
            await response.body.aclose()

    @staticmethod
    def pod(name="a", **spec):
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "main", "image": "busybox:1"}], **spec},
        }

    @staticmethod
    def config_map(name, data=None, **metadata):
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **metadata}, "data": data or {}}


class Watch:
    def __init__(self, body):
        self._body = body
        self._lines = []

    async def next(self):
        """(type, object) of the next event, which must come within five seconds; None at the end of the stream."""
        async with asyncio.timeout(5):
            while not self._lines:
                try:
                    self._lines = [line for line in (await anext(self._body)).split(b"\n") if line]
                except StopAsyncIteration:
                    return None
        event = json.loads(self._lines.pop(0))
        return event["type"], event["object"]

    async def names(self, count):
        """Type and name of the next events."""
        events = [await self.next() for _ in range(count)]
        return [(kind, obj["metadata"].get("name", "")) for kind, obj in events]

    async def silent(self):
        """Nothing has come."""
        await asyncio.sleep(0)
        assert not self._lines
        task = asyncio.ensure_future(anext(self._body))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not task.done(), task.result()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@contextlib.asynccontextmanager
async def running(store, clock, *, seed=1, nodes=None, config=None):
    app = build(config or Config(), store, clock, seed, nodes=nodes)
    task = asyncio.create_task(app.run())
    await app.ready()
    yield app
    app.stop()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await store.close()


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def nodes():
    """How the server reaches node agents; a test file may override it."""
    return None


@pytest.fixture
async def app(store, nodes):
    async with running(store, RealClock(), nodes=nodes) as app:
        yield app


@pytest.fixture
def client(app):
    return Client(app.handle)


@pytest.fixture
def virtually():
    """Runs `scenario(client)` against a server in virtual time."""

    def run(scenario, **options):
        async def main():
            async with running(MemoryStore(), virtual_clock(), **options) as app:
                return await scenario(Client(app.handle))

        return run_virtual(main())

    return run
