"""Puts the runtime together and runs it: `main` serves until SIGTERM, `cleanup` removes all that a root ever made.

The zygote is executed first of all, before gRPC is imported, so the heavy modules are imported inside functions. The
end of the daemon ends no container: shims run on, and the next daemon adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from componentbase import logs
from runtime.config import Config, ConfigError, check
from runtime.zygote import client as zygote

if TYPE_CHECKING:
    from runtime.images.store import ImageStore
    from runtime.parts import Images, Parts

log = logging.getLogger(__name__)

Started = tuple["subprocess.Popen[bytes]", socket.socket]


class StartError(Exception):
    """The runtime cannot run here; the text says what is missing and how to get it."""


def main(config: Config) -> int:
    """Serve until SIGTERM or SIGINT (exit code 0). Exit code 1 with the reason on stderr if that is impossible."""
    logs.setup("runtime", config.log_level)
    try:
        with _locked(config):
            started = zygote.start()
            asyncio.run(_serve(config, started))
    except (StartError, ConfigError) as error:
        print(f"runtime: {error}", file=sys.stderr)
        return 1
    return 0


def cleanup(config: Config) -> int:
    """Remove every sandbox of the root and everything that the runtime made on the host. May be repeated."""
    logs.setup("runtime", config.log_level)
    if not config.root.exists():
        return 0
    try:
        with _locked(config):
            started = zygote.start()
            asyncio.run(_destroy(config, started))
    except (StartError, ConfigError) as error:
        print(f"runtime: {error}", file=sys.stderr)
        return 1
    return 0


@contextlib.contextmanager
def _locked(config: Config) -> Iterator[None]:
    """Check the machine and hold the root: one daemon at a time."""
    check(config)
    if os.geteuid() != 0:
        raise StartError("root is needed to make namespaces, mounts and cgroups: run it with sudo")
    try:
        config.root.mkdir(mode=0o711, parents=True, exist_ok=True)
        fd = os.open(config.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StartError(f"{config.root}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(fd, 32, 0).decode().strip()
            raise StartError(f"another runtime (pid {owner or 'unknown'}) is using {config.root}") from None
        with contextlib.suppress(OSError):  # who it is, is a courtesy: on a full disk there is still much to clean up
            os.ftruncate(fd, 0)
            os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


def _images(config: Config) -> ImageStore:
    from runtime.images.errors import ImageError
    from runtime.images.store import ImageStore

    try:
        return ImageStore(config.root)
    except ImageError as error:
        raise StartError(str(error)) from None


def _parts(config: Config, started: Started, images: Images) -> Parts:
    from componentbase.clock import RealClock
    from runtime.cgroups.interface import CgroupError
    from runtime.cgroups.tree import Tree, detect
    from runtime.events import Events
    from runtime.linux import capabilities
    from runtime.linux.kernel import RealKernel
    from runtime.network.bridge import BridgeNetwork
    from runtime.parts import Parts
    from runtime.snapshots.copy import CopySnapshotter
    from runtime.snapshots.overlay import OverlaySnapshotter

    kernel = RealKernel()
    held = capabilities.held(Path("/proc/self/status").read_text())
    if not held & capabilities.mask(["SYS_ADMIN"]):
        raise StartError("CAP_SYS_ADMIN is needed to make namespaces and mounts: a plain container does not have it")
    try:
        cgroups = Tree(kernel, detect())
    except CgroupError as error:
        raise StartError(str(error)) from None
    for controller in sorted({"cpu", "memory", "pids"} - cgroups.layout.controllers):
        log.warning("no %s cgroup controller: limits of that kind will be refused", controller)
    snapshotter = OverlaySnapshotter if config.snapshotter == "overlay" else CopySnapshotter
    return Parts(
        config=config,
        kernel=kernel,
        clock=RealClock(),
        cgroups=cgroups,
        network=BridgeNetwork(config.root / "network", config.host_name, config.pod_cidr, config.mtu),
        snapshots=snapshotter(kernel, config.root / "snapshots"),
        images=images,
        zygote=zygote.Zygote(started),
        events=Events(),
        held_capabilities=held,
    )


async def _serve(config: Config, started: Started) -> None:
    import grpc

    from pb.cri.v1 import api_pb2_grpc
    from pb.pyctl.runtime.v1 import runtime_pb2_grpc
    from runtime.core import Runtime
    from runtime.images.service import ImageServicer, ImagesServicer
    from runtime.server import RuntimeServicer
    from runtime.streaming.server import StreamingServer

    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    images = _images(config)
    parts = _parts(config, started, images)
    runtime = Runtime(parts)
    parts.network.start()
    await runtime.recover()
    images.retain_pins(container.id for container in runtime.containers())
    streaming = StreamingServer(parts.clock, config.stream_address, config.stream_port)
    await streaming.start()
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 16 << 20)])
    servicer = RuntimeServicer(runtime, streaming)
    api_pb2_grpc.add_RuntimeServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    pulling = ImageServicer(images, parts.clock, config.registry_config, runtime.written)
    api_pb2_grpc.add_ImageServiceServicer_to_server(pulling, server)  # type: ignore[no-untyped-call]
    extra = ImagesServicer(images)
    runtime_pb2_grpc.add_ImagesServicer_to_server(extra, server)  # type: ignore[no-untyped-call]
    _listen(server, config.socket)
    await server.start()
    os.chmod(config.socket, 0o600)
    runtime.begin()
    log.info("serving on %s, root %s, pods in %s", config.socket, config.root, parts.network.range or "no network")
    await stopping.wait()
    parts.events.close()
    await server.stop(grace=1.0)
    if servicer.working:
        await asyncio.wait(servicer.working, timeout=5.0)
    await streaming.stop()
    await pulling.close()
    await extra.close()
    await runtime.disconnect()
    parts.zygote.close()
    config.socket.unlink(missing_ok=True)


def _listen(server: object, path: Path) -> None:
    """Take over the path of a predecessor; the lock on the root says that it is dead."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    server.add_insecure_port(f"unix:{path}")  # type: ignore[attr-defined]


async def _destroy(config: Config, started: Started) -> None:
    from runtime.core import Runtime
    from runtime.parts import NoImages

    parts = _parts(config, started, NoImages())
    runtime = Runtime(parts)
    await runtime.recover()
    await runtime.destroy()
    parts.zygote.close()
    config.socket.unlink(missing_ok=True)
