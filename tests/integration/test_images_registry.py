"""A real registry on loopback, filled by skopeo, and our image services over gRPC on a Unix socket."""

import asyncio
import json
import os
import select
import shutil
import socket
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from componentbase.clock import RealClock
from pb.cri.v1 import api_pb2 as cri
from pb.cri.v1 import api_pb2_grpc as cri_grpc
from pb.pyctl.runtime.v1 import runtime_pb2, runtime_pb2_grpc
from runtime.images.elf import parse_elf
from runtime.images.service import ImageServicer, ImagesServicer
from runtime.images.store import ImageStore
from tests.unit.images.parts import Picture, directory, entry, layer, symlink

BUSYBOX = "/bin/busybox"
MISSING = [name for name in ("docker-registry", "skopeo") if shutil.which(name) is None]
BUSYBOX_BYTES = os.path.getsize(BUSYBOX) if os.path.exists(BUSYBOX) else 0
# Its static one: linked programs would need their libraries in the image.
if not os.path.exists(BUSYBOX) or parse_elf(BUSYBOX).interpreter:
    MISSING.append("busybox-static")
pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(bool(MISSING), reason=f"needs the Debian packages {', '.join(MISSING)}"),
]

CONFIG = """
version: 0.1
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http:
  addr: 127.0.0.1:{port}
log: {{level: error}}
"""


class Registry:
    """A docker-registry process; `blobs` finds its files."""

    def __init__(self, root: Path):
        self.root = root
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        config = root / "config.yml"
        config.write_text(CONFIG.format(root=root / "data", port=self.port))
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.name = f"127.0.0.1:{self.port}"

    def wait(self):
        """Until it accepts connections; a process that ended raises."""
        for _ in range(2000):
            assert self.process.poll() is None, "docker-registry ended"
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            # Nothing tells when another program begins to listen: look again after five milliseconds.
            select.select([], [], [], 0.005)
        raise AssertionError("docker-registry does not listen")

    def blob(self, digest: str) -> Path:
        hexadecimal = digest.removeprefix("sha256:")
        return self.root / f"data/docker/registry/v2/blobs/sha256/{hexadecimal[:2]}/{hexadecimal}/data"

    def stop(self):
        self.process.terminate()
        self.process.wait(10)


@pytest.fixture(scope="module")
def registry(tmp_path_factory):
    registry = Registry(tmp_path_factory.mktemp("registry"))
    try:
        registry.wait()
        yield registry
    finally:
        registry.stop()


@pytest.fixture(scope="module")
def busybox():
    """busybox-static with a few applets, in two layers."""
    data = Path(BUSYBOX).read_bytes()
    tools = [symlink(f"bin/{name}", "busybox") for name in ("sh", "ls", "cat", "httpd", "wget")]
    return Picture(
        layer(directory("bin/"), entry("bin/busybox", data, mode=0o755), *tools),
        layer(directory("etc/"), entry("etc/passwd", b"root:x:0:0:root:/:/bin/sh\n"), entry("bin/.wh.wget")),
        process={"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "User": "1002"},
    )


def skopeo_copy(*arguments):
    done = subprocess.run(
        ["skopeo", "--insecure-policy", "copy", *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def push(registry, picture, name, tmp_path, *options):
    archive = tmp_path / "push.tar"
    archive.write_bytes(picture.layout("app:v1"))
    skopeo_copy(
        "--dest-tls-verify=false",
        "--preserve-digests",
        *options,
        f"oci-archive:{archive}",
        f"docker://{registry.name}/{name}",
    )


def manifest_digest(registry, name):
    """What skopeo says the tag means."""
    done = subprocess.run(
        ["skopeo", "inspect", "--tls-verify=false", f"docker://{registry.name}/{name}"],
        check=True, capture_output=True,
    )  # fmt: skip
    return json.loads(done.stdout)["Digest"]


@pytest.fixture(scope="module")
def pushed(registry, busybox, tmp_path_factory):
    """The reference of busybox in the registry, by tag; several tags."""
    tmp_path = tmp_path_factory.mktemp("push")
    for tag in ("v1", "v2"):
        push(registry, busybox, f"test/busybox:{tag}", tmp_path)
    return f"{registry.name}/test/busybox"


class Node:
    """The services of one runtime, as a client sees them."""

    def __init__(self, channel, store):
        self.images = cri_grpc.ImageServiceStub(channel)
        self.own = runtime_pb2_grpc.ImagesStub(channel)
        self.store = store

    async def pull(self, name, **auth):
        request = cri.PullImageRequest(image=cri.ImageSpec(image=name), auth=cri.AuthConfig(**auth))
        return (await self.images.PullImage(request)).image_ref

    async def refused(self, name, **auth):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.pull(name, **auth)
        return caught.value.code(), caught.value.details()

    async def status(self, name, verbose=False):
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=name), verbose=verbose)
        return await self.images.ImageStatus(request)

    async def remove(self, name):
        await self.images.RemoveImage(cri.RemoveImageRequest(image=cri.ImageSpec(image=name)))

    async def list(self, name=""):
        request = cri.ListImagesRequest(filter=cri.ImageFilter(image=cri.ImageSpec(image=name)))
        return list((await self.images.ListImages(request)).images)


@asynccontextmanager
async def running_node(root, config=None):
    store = ImageStore(root)
    server = grpc.aio.server()
    images, own = ImageServicer(store, RealClock(), config), ImagesServicer(store)
    cri_grpc.add_ImageServiceServicer_to_server(images, server)
    runtime_pb2_grpc.add_ImagesServicer_to_server(own, server)
    server.add_insecure_port(f"unix:{root}/images.sock")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"unix:{root}/images.sock") as channel:
            yield Node(channel, store)
    finally:
        await server.stop(None)
        await images.close()
        await own.close()


@pytest.fixture
async def node(tmp_path):
    async with running_node(tmp_path) as node:
        yield node


SCRIPT = """
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
root=$1/root
shift 2
exec chroot "$root" "$@"
"""


def run(store, name, *command):
    """Runs a command over an overlay of the image's layers, in a mount namespace of its own."""
    lower = ":".join(str(path) for path in reversed(store.resolve(name).layers))
    mounted = store.home / "mnt"
    mounted.mkdir(exist_ok=True)
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", SCRIPT, "sh", mounted, lower, *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


async def test_pull_by_tag_and_run(node, pushed, busybox):
    assert await node.pull(f"{pushed}:v1") == busybox.id
    image = (await node.status(f"{pushed}:v1")).image
    assert list(image.repo_tags) == [f"{pushed}:v1"] and list(image.repo_digests) == [
        f"{pushed}@{next(name for name, data in busybox.blobs.items() if data == busybox.manifest)}"
    ]
    assert image.uid.value == 1002 and image.username == "" and image.size > BUSYBOX_BYTES
    done = run(node.store, f"{pushed}:v1", "/bin/sh", "-c", "ls /bin; cat /etc/passwd")
    assert done.stdout.split() == ["busybox", "cat", "httpd", "ls", "sh", "root:x:0:0:root:/:/bin/sh"], done.stderr


async def test_pull_by_digest_has_no_tag(node, registry, pushed, busybox):
    digest = manifest_digest(registry, "test/busybox:v1")
    assert await node.pull(f"{pushed}@{digest}") == busybox.id
    image = (await node.status(f"{pushed}@{digest}")).image
    assert list(image.repo_tags) == [] and list(image.repo_digests) == [f"{pushed}@{digest}"]


async def test_status_is_the_same_by_every_name(node, registry, pushed, busybox):
    await node.pull(f"{pushed}:v1")
    await node.pull(f"{pushed}:v2")
    digest = manifest_digest(registry, "test/busybox:v1")
    answers = [await node.status(name) for name in (f"{pushed}:v1", f"{pushed}:v2", f"{pushed}@{digest}", busybox.id)]
    assert all(answer == answers[0] for answer in answers)
    assert list(answers[0].image.repo_tags) == [f"{pushed}:v1", f"{pushed}:v2"]
    info = json.loads((await node.status(busybox.id, verbose=True)).info["info"])
    assert info["imageSpec"]["config"]["Cmd"] == ["/bin/sh"]
    assert await node.list() == await node.list(f"{pushed}:v2") == [answers[0].image]
    assert await node.list("missing") == []
    for name in ("missing", "sha256:" + "0" * 64, "0" * 64):
        assert not (await node.status(name)).HasField("image")
    for name in ("", "Not A Name"):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.status(name)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_removing_one_tag_removes_the_image(node, pushed):
    for tag in ("v1", "v2"):
        await node.pull(f"{pushed}:{tag}")
    await asyncio.gather(*(node.remove(f"{pushed}:v1") for _ in range(5)))
    assert await node.list() == [] and not (await node.status(f"{pushed}:v2")).HasField("image")
    usage = (await node.images.ImageFsInfo(cri.ImageFsInfoRequest())).image_filesystems[0]
    assert usage.used_bytes.value == 0 and usage.fs_id.mountpoint == str(node.store.home)


async def test_pulling_at_once_downloads_once(node, pushed, busybox):
    assert set(await asyncio.gather(*(node.pull(f"{pushed}:v{1 + n % 2}") for n in range(6)))) == {busybox.id}
    assert len(await node.list()) == 1


async def test_usage_counts_what_was_pulled(node, pushed):
    await node.pull(f"{pushed}:v1")
    usage = (await node.images.ImageFsInfo(cri.ImageFsInfoRequest())).image_filesystems[0]
    assert usage.used_bytes.value > BUSYBOX_BYTES and usage.inodes_used.value >= 10 and usage.timestamp > 0


async def test_a_deadline_that_is_too_short(node, pushed):
    request = cri.PullImageRequest(image=cri.ImageSpec(image=f"{pushed}:v1"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.images.PullImage(request, timeout=0.001)
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


async def test_mirror_by_hosts_toml(tmp_path, registry, pushed, busybox):
    config = tmp_path / "certs.d"
    (config / "docker.io").mkdir(parents=True)
    (config / "docker.io" / "hosts.toml").write_text(
        f'[host."http://{registry.name}"]\ncapabilities = ["pull", "resolve"]\n'
    )
    async with running_node(tmp_path, config) as node:
        assert await node.pull("test/busybox:v1") == busybox.id
        image = (await node.status("docker.io/test/busybox:v1")).image
        assert list(image.repo_tags) == ["docker.io/test/busybox:v1"]
        assert image.repo_digests[0].startswith("docker.io/test/busybox@sha256:")


async def test_a_dead_mirror_is_passed_over(tmp_path, registry, pushed, busybox):
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = free.getsockname()[1]
    config = tmp_path / "certs.d"
    (config / "example.com").mkdir(parents=True)
    (config / "example.com" / "hosts.toml").write_text(
        f'server = "http://127.0.0.1:{registry.port}"\n[host."http://127.0.0.1:{dead}"]\n'
    )
    async with running_node(tmp_path, config) as node:
        assert await node.pull("example.com/test/busybox:v1") == busybox.id


async def test_a_corrupted_blob_is_refused(node, registry, tmp_path):
    # Random, so that no other test's blob is touched.
    picture = Picture(layer(entry("secret", os.urandom(100_000))))
    push(registry, picture, "test/corrupt:v1", tmp_path)
    path = registry.blob(next(iter(picture.blobs)))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    code, details = await node.refused(f"{registry.name}/test/corrupt:v1")
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert f"{registry.name}/test/corrupt:v1" in details and "was promised" in details
    assert await node.list() == []
    node.store.collect()
    assert list(node.store.content.digests()) == [] and os.listdir(node.store.home / "ingest") == []


async def test_a_truncated_blob_is_refused(node, registry, tmp_path):
    picture = Picture(layer(entry("secret", os.urandom(100_000))))
    push(registry, picture, "test/truncated:v1", tmp_path)
    path = registry.blob(next(iter(picture.blobs)))
    path.write_bytes(path.read_bytes()[:-100])
    code, details = await node.refused(f"{registry.name}/test/truncated:v1")
    # How it ends depends on what the registry says of the length; that it ends, and names the blob's host, does not.
    assert code in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.UNKNOWN) and registry.name in details
    assert await node.list() == [] and os.listdir(node.store.home / "ingest") == []


async def test_errors_name_reference_registry_and_status(node, registry, pushed):
    code, details = await node.refused(f"{registry.name}/test/missing:v1")
    assert code == grpc.StatusCode.NOT_FOUND
    assert f"image {registry.name}/test/missing:v1" in details and "HTTP 404" in details and "not found" in details
    code, details = await node.refused(f"{pushed}@sha256:{'0' * 64}")
    assert code == grpc.StatusCode.NOT_FOUND and "HTTP 404" in details
    with socket.create_server(("127.0.0.1", 0)) as free:
        dead = f"127.0.0.1:{free.getsockname()[1]}"
    code, details = await node.refused(f"{dead}/app:v1")
    assert code == grpc.StatusCode.UNKNOWN and "connection refused" in details and dead in details
    code, details = await node.refused("Not A Reference")
    assert code == grpc.StatusCode.INVALID_ARGUMENT and "Not A Reference" in details


async def test_docker_manifests_as_skopeo_converts_them(node, registry, busybox, tmp_path):
    archive = tmp_path / "push.tar"
    archive.write_bytes(busybox.layout("app:v1"))
    skopeo_copy(
        "--dest-tls-verify=false",
        "--format",
        "v2s2",
        f"oci-archive:{archive}",
        f"docker://{registry.name}/test/docker:v1",
    )
    await node.pull(f"{registry.name}/test/docker:v1")
    assert run(node.store, f"{registry.name}/test/docker:v1", "/bin/cat", "/etc/passwd").returncode == 0


async def test_zstd_layers(node, registry, busybox, tmp_path):
    push(registry, busybox, "test/plain:v1", tmp_path)
    archive = tmp_path / "push.tar"
    skopeo_copy(
        "--dest-tls-verify=false",
        "--dest-compress-format",
        "zstd",
        f"oci-archive:{archive}",
        f"docker://{registry.name}/test/zstd:v1",
    )
    await node.pull(f"{registry.name}/test/zstd:v1")
    assert run(node.store, f"{registry.name}/test/zstd:v1", "/bin/ls").returncode == 0


# Our own service on the same socket.


async def chunks(data, tag="", size=100_000):
    for at in range(0, len(data), size):
        yield runtime_pb2.ImportRequest(tag=tag if at == 0 else "", chunk=data[at : at + size])


async def test_import_and_save_with_skopeo(node, registry, busybox, tmp_path):
    imported = await node.own.Import(chunks(busybox.layout("app:v1"), tag="local/busybox:v9"))
    assert list(imported.references) == ["docker.io/local/busybox:v9"] and list(imported.ids) == [busybox.id]
    saved = tmp_path / "saved.tar"
    with saved.open("wb") as file:
        async for part in node.own.Save(runtime_pb2.SaveRequest(references=["local/busybox:v9"])):
            file.write(part.chunk)
    for kind in ("oci-archive", "docker-archive"):
        skopeo_copy("--dest-tls-verify=false", f"{kind}:{saved}", f"docker://{registry.name}/test/{kind}:v1")
        assert await node.pull(f"{registry.name}/test/{kind}:v1")


async def test_import_of_what_skopeo_saves(node, registry, pushed, busybox, tmp_path):
    for number, kind in enumerate(("docker-archive", "oci-archive")):
        saved = tmp_path / f"{number}.tar"
        skopeo_copy("--src-tls-verify=false", f"docker://{pushed}:v1", f"{kind}:{saved}:example.com/from-skopeo:{kind}")
        imported = await node.own.Import(chunks(saved.read_bytes()))
        assert list(imported.references) == [f"example.com/from-skopeo:{kind}"]
        assert run(node.store, f"example.com/from-skopeo:{kind}", "/bin/ls").returncode == 0


async def test_build_from_host(node):
    request = runtime_pb2.BuildFromHostRequest(programs=["ls", "sh"], tag="local/tools")
    built = await node.own.BuildFromHost(request)
    assert built.reference == "docker.io/local/tools:latest" and built.id.startswith("sha256:")
    done = run(node.store, "local/tools", "/bin/sh", "-c", "ls /etc/passwd")
    assert done.stdout == "/etc/passwd\n", done.stderr
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await node.own.BuildFromHost(runtime_pb2.BuildFromHostRequest(programs=["no-such-program"], tag="x"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND and "no-such-program" in caught.value.details()


async def test_bad_streams(node, busybox):
    for data, code in ((b"rubbish" * 1000, grpc.StatusCode.FAILED_PRECONDITION),):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await node.own.Import(chunks(data))
        assert caught.value.code() == code
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in node.own.Save(runtime_pb2.SaveRequest(references=["gone"])):
            pass
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND


async def test_a_client_that_goes_away_in_the_middle(node, busybox):
    data = busybox.layout("app:v1")
    half = asyncio.Event()

    async def halting():
        async for part in chunks(data[: len(data) // 2]):
            yield part
        half.set()
        await asyncio.Event().wait()

    call = node.own.Import(halting())
    await half.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    # The service is free again, and nothing of the half is left.
    await node.own.Import(chunks(data))
    assert len(await node.list()) == 1 and os.listdir(node.store.home / "ingest") == []
