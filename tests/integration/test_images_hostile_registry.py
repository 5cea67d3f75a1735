"""A registry that lies, breaks off, redirects and asks for passwords: what a pull may and may not do with it."""

import base64
import contextlib
import gzip
import json
import os

import pytest
from aiohttp import web

from componentbase.clock import RealClock
from componentbase.tls import Authority, server_context
from runtime.images.auth import Credentials
from runtime.images.errors import Exhausted, ImageError, InvalidContent, NotFound, Unauthorized, Unavailable
from runtime.images.pull import Puller
from runtime.images.store import ImageStore
from runtime.images.unpack import Limits
from runtime.images.workers import Workers
from tests.unit.images.parts import ARCHITECTURE, INDEX, MANIFEST, Picture, descriptor, digest, entry, layer, simple

pytestmark = pytest.mark.root

USER = Credentials("user", "secret")
BASIC = "Basic " + base64.b64encode(b"user:secret").decode()


class Impatient(RealClock):
    """Waits for nothing, and counts how often it was asked to."""

    def __init__(self):
        self.waits = []

    async def sleep(self, seconds):
        self.waits.append(seconds)


class Server:
    """Serves blobs and manifests by a table of answers; keeps what it was asked, with the Authorization it saw."""

    def __init__(self, *pictures, tag="v1"):
        self.answers = {}
        self.seen = []
        self.gate = None
        for picture in pictures:
            for name, data in picture.blobs.items():
                self.answers[f"blobs/{name}"] = data
            self.answers[f"manifests/{digest(picture.manifest)}"] = picture.manifest
            self.answers[f"manifests/{tag}"] = picture.manifest

    async def handle(self, request):
        path = request.path.removeprefix("/v2/app/")
        self.seen.append((path, request.headers.get("Authorization", ""), request.headers.get("Range", "")))
        if self.gate is not None and (refused := await self.gate(request, path)) is not None:
            return refused
        answer = self.answers.get(path)
        if callable(answer):
            answer = await answer(request)
        if answer is None:
            document = {"errors": [{"code": "UNKNOWN", "message": "no such\nthing"}]}
            return web.json_response(document, status=404)
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type="application/octet-stream")
        return answer

    def authorizations(self):
        return {authorization for _, authorization, _ in self.seen}


@pytest.fixture
async def start():
    """Starts servers; answers host:port."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(server, ssl_context=None):
            runner = web.AppRunner(web.Application())
            runner.app.router.add_route("*", "/{path:.*}", server.handle)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl_context, shutdown_timeout=0)
            await site.start()
            server.name = f"127.0.0.1:{runner.addresses[0][1]}"
            return server.name

        yield start


@pytest.fixture
async def puller(tmp_path):
    workers = Workers()

    class Node:
        store = ImageStore(tmp_path / "runtime", Limits(layer_bytes=1 << 20, image_bytes=1 << 21))
        clock = Impatient()
        config = tmp_path / "certs.d"

        async def pull(self, name, shown=None):
            return await Puller(self.store, self.config, self.clock, workers).pull(name, shown)

        def nothing_left(self):
            self.store.collect()
            assert self.store.images() == [] and list(self.store.content.digests()) == []
            assert self.store.layers.chains() == [] and os.listdir(self.store.home / "ingest") == []

        def hosts(self, registry, text):
            folder = self.config / registry
            folder.mkdir(parents=True)
            (folder / "hosts.toml").write_text(text)

    yield Node()
    workers.close()


def redirect(target):
    async def answer(request):
        return web.Response(status=307, headers={"Location": target})

    return answer


async def test_an_honest_registry(start, puller):
    picture = simple()
    name = await start(Server(picture))
    image = await puller.pull(f"{name}/app:v1")
    assert image.id == picture.id and (image.layers[0] / "etc/greeting").read_text() == "hello\n"


# Lies.


def other_manifest(server, picture):
    server.answers[f"manifests/{digest(picture.manifest)}"] = simple(b"other").manifest


def wrong_header(server, picture):
    async def answer(request):
        return web.Response(body=picture.manifest, headers={"Docker-Content-Digest": digest(b"else")})

    server.answers["manifests/v1"] = answer


def wrong_type(server, picture):
    async def answer(request):
        return web.Response(body=picture.manifest, content_type=INDEX)

    server.answers["manifests/v1"] = answer


def html(server, picture):
    async def answer(request):
        return web.Response(text="<html>please log in</html>", content_type="text/html")

    server.answers["manifests/v1"] = answer


def both(server, picture):
    document = json.loads(picture.manifest) | {"manifests": []}
    server.answers["manifests/v1"] = json.dumps(document).encode()


def huge_manifest(server, picture):
    server.answers["manifests/v1"] = b" " * (5 << 20)


def other_config(server, picture):
    server.answers[f"blobs/{picture.id}"] = b"x" * len(picture.config)


def longer_blob(server, picture):
    name = digest(picture.layers[0])
    server.answers[f"blobs/{name}"] = picture.layers[0] + b"more"


def shorter_blob(server, picture):
    name = digest(picture.layers[0])
    server.answers[f"blobs/{name}"] = picture.layers[0][:-1]


def redirect_to_a_file(server, picture):
    server.answers[f"blobs/{picture.id}"] = redirect("file:///etc/passwd")


@pytest.mark.parametrize(
    "lie, match",
    [
        (wrong_header, "was promised"),
        (wrong_type, "something else"),
        (html, "not JSON"),
        (both, "two things"),
        (huge_manifest, "sent more than"),
        (other_config, "was promised"),
        (longer_blob, "larger than"),
        (shorter_blob, "were promised"),
        (redirect_to_a_file, "redirects to"),
    ],
)
async def test_lies(start, puller, lie, match):
    picture = simple()
    server = Server(picture)
    lie(server, picture)
    name = await start(server)
    with pytest.raises(InvalidContent, match=match) as caught:
        await puller.pull(f"{name}/app:v1")
    assert f"image {name}/app:v1: " in str(caught.value)
    puller.nothing_left()


async def test_another_manifest_than_asked_for(start, puller):
    picture = simple()
    server = Server(picture)
    other_manifest(server, picture)
    name = await start(server)
    with pytest.raises(InvalidContent, match="was promised"):
        await puller.pull(f"{name}/app@{digest(picture.manifest)}")
    puller.nothing_left()


async def test_a_hostile_layer_leaves_nothing(start, puller, tmp_path):
    (tmp_path / "canary").write_text("untouched")
    name = await start(Server(Picture(layer(entry("fine")), layer(entry("../" * 10 + f"{tmp_path}/canary", b"x")))))
    with pytest.raises(InvalidContent, match="leads upwards"):
        await puller.pull(f"{name}/app:v1")
    assert (tmp_path / "canary").read_text() == "untouched"
    puller.nothing_left()


async def test_bombs(start, puller):
    name = await start(Server(Picture(layer(entry("big", bytes(1 << 22))))))
    with pytest.raises(Exhausted, match="expands to more"):
        await puller.pull(f"{name}/app:v1")
    puller.nothing_left()


async def test_a_promise_of_too_much_is_not_even_fetched(start, puller):
    picture = simple()
    document = json.loads(picture.manifest)
    document["layers"][0]["size"] = 1 << 40
    server = Server(picture)
    server.answers["manifests/v1"] = json.dumps(document).encode()
    name = await start(server)
    with pytest.raises(Exhausted, match="at most"):
        await puller.pull(f"{name}/app:v1")
    assert [path for path, *_ in server.seen] == ["manifests/v1"]


async def test_urls_in_a_manifest_are_never_fetched(start, puller):
    trap, picture = Server(), simple()
    trap_name = await start(trap)
    document = json.loads(picture.manifest)
    document["layers"][0]["urls"] = [f"http://{trap_name}/layer"]
    server = Server(picture)
    server.answers["manifests/v1"] = json.dumps(document).encode()
    del server.answers[f"blobs/{digest(picture.layers[0])}"]
    name = await start(server)
    with pytest.raises(NotFound, match="HTTP 404"):
        await puller.pull(f"{name}/app:v1")
    assert trap.seen == []


# Platforms.


def indexed(picture, *, depth=1):
    """Servers' answers for an index of indexes around a picture."""
    answers, inner = {}, descriptor(picture.manifest, MANIFEST)
    for _ in range(depth):
        inner["platform"] = {"os": "linux", "architecture": ARCHITECTURE}
        alien = {"mediaType": MANIFEST, "digest": digest(b"alien"), "size": 5}
        alien["platform"] = {"os": "linux", "architecture": "pdp11"}
        document = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [alien, inner]}).encode()
        inner = descriptor(document, INDEX)
        answers[f"manifests/{digest(document)}"] = answers["manifests/v1"] = document
    return answers


async def test_the_platform_of_this_machine(start, puller):
    picture = simple()
    server = Server(picture)
    server.answers |= indexed(picture)
    name = await start(server)
    image = await puller.pull(f"{name}/app:v1")
    top = digest(server.answers["manifests/v1"])
    assert image.id == picture.id and image.digests == [f"{name}/app@{top}"]
    assert puller.store.resolve(f"{name}/app@{top}").id == picture.id


async def test_indexes_without_end(start, puller):
    picture = simple()
    server = Server(picture)
    server.answers |= indexed(picture, depth=5)
    name = await start(server)
    with pytest.raises(InvalidContent, match="nested"):
        await puller.pull(f"{name}/app:v1")


async def test_an_image_for_another_machine(start, puller):
    server = Server(simple(architecture="pdp11"))
    name = await start(server)
    with pytest.raises(InvalidContent, match="image is for linux/pdp11, this machine is"):
        await puller.pull(f"{name}/app:v1")
    assert len(server.seen) == 2, "layers were fetched although the configuration does not fit"


# Broken connections.


def breaking(data, *, ranges, pieces=3):
    """Answers a blob in pieces, breaking off after each; `ranges`: whether a Range is obeyed."""

    async def answer(request):
        offset = int(request.headers.get("Range", "bytes=0-")[6:-1]) if ranges else 0
        response = web.StreamResponse(status=206 if offset else 200)
        response.content_length = len(data) - offset
        if offset:
            response.headers["Content-Range"] = f"bytes {offset}-{len(data) - 1}/{len(data)}"
        answer.calls += 1
        await response.prepare(request)
        end = offset + len(data) // pieces + 1 if ranges else len(data) * answer.calls // pieces
        await response.write(data[offset:end])
        if end < len(data):
            request.transport.close()
        return response

    answer.calls = 0
    return answer


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_broken_blob_goes_on(start, puller, ranges):
    picture = Picture(layer(entry("f", os.urandom(300_000))))
    server = Server(picture)
    answer = server.answers[f"blobs/{digest(picture.layers[0])}"] = breaking(picture.layers[0], ranges=ranges)
    name = await start(server)
    assert (await puller.pull(f"{name}/app:v1")).id == picture.id
    assert answer.calls == 3
    asked = [part for path, _, part in server.seen if digest(picture.layers[0]) in path]
    assert asked[0] == "" and all(part.startswith("bytes=") and part != "bytes=0-" for part in asked[1:])


async def test_another_part_than_asked_for(start, puller):
    picture = Picture(layer(entry("f", os.urandom(300_000))))
    data = picture.layers[0]
    honest = breaking(data, ranges=True)

    async def answer(request):
        if "Range" not in request.headers:
            return await honest(request)
        return web.Response(
            status=206, body=data[5:], headers={"Content-Range": f"bytes 5-{len(data) - 1}/{len(data)}"}
        )

    server = Server(picture)
    server.answers[f"blobs/{digest(data)}"] = answer
    name = await start(server)
    with pytest.raises(InvalidContent, match="another part"):
        await puller.pull(f"{name}/app:v1")
    puller.nothing_left()


async def test_it_gives_up_when_nothing_comes(start, puller):
    async def answer(request):
        request.transport.close()
        return web.Response()

    server = Server(simple())
    server.answers["manifests/v1"] = answer
    name = await start(server)
    with pytest.raises(Unavailable, match="connection broke"):
        await puller.pull(f"{name}/app:v1")
    assert puller.clock.waits == [0.2, 0.4, 0.8]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_busy_registry_is_asked_again(start, puller, status):
    picture, server = simple(), Server(simple())

    async def gate(request, path):
        return web.Response(status=status) if len(server.seen) % 3 else None

    server.gate = gate
    name = await start(server)
    assert (await puller.pull(f"{name}/app:v1")).id == picture.id
    server.gate = None

    async def always(request):
        return web.json_response({"errors": [{"message": "too\r\nbusy"}]}, status=status)

    server.answers["manifests/v1"] = always
    with pytest.raises(Unavailable, match=rf"HTTP {status} .*\(too\?\?busy\)"):
        await puller.pull(f"{name}/app:v1")


# Redirects and credentials.


async def test_redirects_lose_credentials(start, puller):
    """As object stores behind registries are used: they must not see the registry's password."""
    picture = simple()
    storage = Server(picture)
    storage_name = await start(storage)
    server = Server(picture)
    for data in (*picture.layers, picture.config):
        server.answers[f"blobs/{digest(data)}"] = redirect(f"http://{storage_name}/v2/app/blobs/{digest(data)}")

    async def gate(request, path):
        if request.headers.get("Authorization") != BASIC:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    server.gate = gate
    name = await start(server)
    await puller.pull(f"{name}/app:v1", USER)
    assert len(storage.seen) == 2 and storage.authorizations() == {""}
    assert BASIC in server.authorizations()


async def test_a_redirect_target_that_asks_for_a_password(start, puller):
    picture, storage = simple(), Server()

    async def gate(request, path):
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="give it to me"'})

    storage.gate = gate
    storage_name = await start(storage)
    server = Server(picture)
    server.answers[f"blobs/{picture.id}"] = redirect(f"http://{storage_name}/x")
    name = await start(server)
    with pytest.raises(Unauthorized, match=r"HTTP 401"):
        await puller.pull(f"{name}/app:v1", USER)
    assert storage.authorizations() == {""}


async def test_redirects_without_end(start, puller):
    server = Server(simple())
    name = await start(server)
    server.answers["manifests/v1"] = redirect(f"http://{name}/v2/app/manifests/v1")
    with pytest.raises(Unavailable, match="redirects"):
        await puller.pull(f"{name}/app:v1")
    assert len(server.seen) == 10


def tokens(server, *, user=None, uses=100):
    """Lets the server demand bearer tokens, each good for some uses, from a realm on itself."""
    issued = []

    async def gate(request, path):
        if path == "/token":
            if user is not None and request.headers.get("Authorization") != user:
                return web.json_response({"details": "incorrect username or password"}, status=401)
            assert request.query["scope"] == "repository:app:pull" and request.query["service"] == "s"
            issued.append(uses)
            return web.json_response({"token": f"t{len(issued) - 1}"})
        given = request.headers.get("Authorization", "")
        number = int(given.removeprefix("Bearer t")) if given.startswith("Bearer t") else -1
        if number < 0 or issued[number] <= 0:
            realm = f'Bearer realm="http://{server.name}/token",service="s",scope="repository:app:pull"'
            return web.Response(status=401, headers={"WWW-Authenticate": realm})
        issued[number] -= 1
        return None

    server.gate = gate
    return issued


async def test_anonymous_tokens(start, puller):
    server = Server(simple())
    issued = tokens(server)
    name = await start(server)
    await puller.pull(f"{name}/app:v1")
    assert len(issued) == 1
    assert [path for path, *_ in server.seen][:3] == ["manifests/v1", "/token", "manifests/v1"]


async def test_tokens_for_a_user(start, puller):
    server = Server(simple())
    tokens(server, user=BASIC)
    name = await start(server)
    with pytest.raises(Unauthorized, match=r"token server .* HTTP 401"):
        await puller.pull(f"{name}/app:v1")
    await puller.pull(f"{name}/app:v1", USER)
    assert {authorization for path, authorization, _ in server.seen if path != "/token"} == {"", "Bearer t0"}


async def test_a_token_that_expires_is_renewed(start, puller):
    server = Server(simple())
    issued = tokens(server, uses=1)
    name = await start(server)
    await puller.pull(f"{name}/app:v1")
    assert len(issued) == 3


async def test_a_registry_token_is_used_as_it_is(start, puller):
    server = Server(simple())

    async def gate(request, path):
        return None if request.headers.get("Authorization") == "Bearer mine" else web.Response(status=401)

    server.gate = gate
    name = await start(server)
    await puller.pull(f"{name}/app:v1", Credentials(registry_token="mine"))
    with pytest.raises(Unauthorized, match=r"HTTP 401.*wants credentials"):
        await puller.pull(f"{name}/app:v1")


async def test_wrong_credentials(start, puller):
    server = Server(simple())

    async def gate(request, path):
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    server.gate = gate
    name = await start(server)
    with pytest.raises(Unauthorized, match=r"HTTP 401.*credentials were refused"):
        await puller.pull(f"{name}/app:v1", USER)
    for shown in (None, Credentials("user", "secret", server="other.example")):
        with pytest.raises(Unauthorized, match=r"HTTP 401.*wants credentials"):
            await puller.pull(f"{name}/app:v1", shown)
    assert len([1 for _, authorization, _ in server.seen if authorization]) == 1


async def test_mirrors_never_see_credentials(start, puller):
    picture = simple()
    mirror, upstream = Server(), Server(picture)

    async def demand(request, path):
        if request.headers.get("Authorization") != BASIC:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    mirror.gate = upstream.gate = demand
    mirror_name, upstream_name = await start(mirror), await start(upstream)
    puller.hosts("r.example", f'server = "http://{upstream_name}"\n[host."http://{mirror_name}"]\n')
    await puller.pull("r.example/app:v1", USER)
    assert mirror.seen and mirror.authorizations() == {""}
    assert BASIC in upstream.authorizations()


async def test_a_lying_mirror_is_passed_over(start, puller):
    picture = simple()
    mirror, upstream = Server(picture), Server(picture)
    mirror.answers[f"blobs/{picture.id}"] = b"x" * len(picture.config)
    mirror.answers[f"blobs/{digest(picture.layers[0])}"] = gzip.compress(b"lies")
    mirror_name, upstream_name = await start(mirror), await start(upstream)
    puller.hosts("r.example", f'server = "http://{upstream_name}"\n[host."http://{mirror_name}"]\n')
    assert (await puller.pull("r.example/app:v1")).id == picture.id


async def test_capabilities(start, puller):
    picture = simple()
    mirror, upstream = Server(picture), Server(picture)
    mirror_name, upstream_name = await start(mirror), await start(upstream)
    puller.hosts(
        "r.example", f'server = "http://{upstream_name}"\n[host."http://{mirror_name}"]\ncapabilities = ["pull"]\n'
    )
    await puller.pull("r.example/app:v1")
    assert [path for path, *_ in upstream.seen] == ["manifests/v1"] and len(mirror.seen) == 2


async def test_all_hosts_are_named_when_none_serves(start, puller):
    mirror_name, upstream_name = await start(Server()), await start(Server())
    puller.hosts("r.example", f'server = "http://{upstream_name}"\n[host."http://{mirror_name}"]\n')
    with pytest.raises(NotFound) as caught:
        await puller.pull("r.example/app:v1")
    assert mirror_name in str(caught.value) and upstream_name in str(caught.value)
    assert "(no such?thing)" in str(caught.value)


# TLS.


@pytest.fixture
def tls(tmp_path):
    authority = Authority.load_or_create(tmp_path / "pki")
    pair = authority.issue("registry", common_name="registry", hosts=("127.0.0.1",), server=True)
    return authority.certificate_path, server_context(pair.certificate, pair.key)


async def test_tls_needs_trust(start, puller, tls):
    ca, context = tls
    name = await start(Server(simple()), context)
    url = f"https://{name}"
    puller.hosts("untrusted.example", f'server = "{url}"\n')
    with pytest.raises(Unavailable, match="certificate is not trusted"):
        await puller.pull("untrusted.example/app:v1")
    puller.hosts("trusted.example", f'server = "{url}"\nca = "{ca}"\n')
    await puller.pull("trusted.example/app:v1")
    puller.hosts("skip.example", f'server = "{url}"\nskip_verify = true\n')
    await puller.pull("skip.example/app:v1")


async def test_no_way_down_from_https(start, puller, tls):
    ca, context = tls
    picture, plain = simple(), Server(simple())
    plain_name = await start(plain)
    server = Server(picture)
    server.answers[f"blobs/{picture.id}"] = redirect(f"http://{plain_name}/v2/app/blobs/{picture.id}")
    name = await start(server, context)
    puller.hosts("r.example", f'server = "https://{name}"\nca = "{ca}"\n')
    with pytest.raises(InvalidContent, match="plain http"):
        await puller.pull("r.example/app:v1")
    assert plain.seen == []


async def test_plain_http_where_tls_is_expected(start, puller):
    name = await start(Server(simple()))
    puller.hosts("r.example", f'server = "https://{name}"\n')
    with pytest.raises(Unavailable, match=r"hosts\.toml"):
        await puller.pull("r.example/app:v1")


async def test_a_broken_hosts_file_is_named(puller):
    puller.hosts("r.example", "server =")
    with pytest.raises(ImageError, match=r"image r.example/app:v1: .*hosts\.toml"):
        await puller.pull("r.example/app:v1")
