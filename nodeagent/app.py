"""The node agent as a process: wires the agent to gRPC, the disk, cgroups and TLS, and serves until SIGTERM.

Stopping the agent leaves every container running; the next one finds them again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
from functools import partial
from pathlib import Path

from componentbase import logs
from componentbase.clock import RealClock
from componentbase.httpserver import HttpServer, PortTaken
from kubeclient.config import ClusterAccess, KubeconfigError, load_kubeconfig
from kubeclient.http_transport import HttpTransport
from kubeclient.rest import Client
from nodeagent.agent import Agent, Surroundings
from nodeagent.capacity import Capacity, read_capacity, read_pressure
from nodeagent.config import Config
from nodeagent.grpc_cri import GrpcCRI
from nodeagent.logs.files import PodLogs
from nodeagent.machine import primary_ip, read_machine
from nodeagent.node import Identity
from nodeagent.podcgroups import PodCgroups
from nodeagent.server.front import Front
from nodeagent.server.images import ImageRoutes, RuntimeBuilder
from nodeagent.server.routes import Routes, streams_body
from nodeagent.volumes.manager import DiskVolumes

log = logging.getLogger(__name__)

ROOT = Path("/")
# Nobody is there (RFC 5737): only asks the routing table for the way out.
ELSEWHERE = "192.0.2.1"


def main(config: Config) -> int:
    """Serve until SIGTERM or SIGINT; 0 then, 1 when the configuration cannot be used."""
    logs.setup("nodeagent", config.log_level)
    logging.getLogger("grpc").setLevel(logging.WARNING)
    try:
        access = load_kubeconfig(config.kubeconfig)
        prepare_directories(config)
        context = server_context(config, access)
    except (KubeconfigError, OSError, ValueError) as error:
        log.error("cannot start: %s", error)
        return 1
    try:
        asyncio.run(serve(config, access, context))
    except asyncio.CancelledError:
        return 0
    except PortTaken as error:
        log.error("cannot start: %s", error.strerror)
        return 1
    return 0


def prepare_directories(config: Config) -> None:
    """Make the data directory; pods' files are for root alone. Raises OSError."""
    for name in ("", "pods", "logs"):
        directory = config.data_dir / name
        directory.mkdir(parents=True, exist_ok=True)
    (config.data_dir / "pods").chmod(0o711)


def server_context(config: Config, access: ClusterAccess) -> ssl.SSLContext | None:
    """TLS of the agent's own API, None when it is not served. Raises OSError and ValueError."""
    if config.tls_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(config.tls_certificate, config.tls_key)
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = ssl.CERT_REQUIRED
    if config.client_ca is not None:
        context.load_verify_locations(config.client_ca)
    elif access.ca:
        context.load_verify_locations(cadata=access.ca.decode("ascii"))
    else:
        raise ValueError("neither a client authority nor one in the kubeconfig: nobody could be let in")
    return context


async def serve(config: Config, access: ClusterAccess, context: ssl.SSLContext | None) -> None:
    """The life of the agent; ends by cancellation."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    clock = RealClock()
    transport = HttpTransport(access, user_agent="pyctl-nodeagent")
    runtime = GrpcCRI(config.cri_endpoint)
    capacity = partial(measure, config)

    def make_agent(port: int) -> Agent:
        return Agent(
            identity(config, port),
            Client(transport),
            runtime,
            clock,
            Surroundings(
                capacity=capacity,
                allocatable=lambda: capacity().minus(config.reserved),
                pressure=lambda: read_pressure(ROOT, config.cgroup_parent, config.data_dir, capacity()),
                resolv_conf=host_resolv_conf,
            ),
            lambda sources: DiskVolumes(config.data_dir / "pods", sources, clock, lambda: capacity().memory_bytes),
            logs=PodLogs(config.data_dir / "logs"),
            cgroups=PodCgroups(ROOT, config.cgroup_parent),
            seed=config.node_name,
        )

    server: HttpServer | None = None
    try:
        if context is None:
            log.warning("no certificate was given: logs, exec and images of this node cannot be reached")
            await make_agent(0).run()
            return
        front = Front()
        server = HttpServer(
            front.handle, host=config.address, port=config.port, ssl_context=context, streams=streams_body
        )
        await server.start()
        agent = make_agent(server.port)
        front.routes = Routes(agent, ImageRoutes(runtime, RuntimeBuilder(runtime), agent.images_changed), clock)
        log.info("node %s serves on %s:%d", config.node_name, config.address, server.port)
        await agent.run()
    finally:
        if server is not None:
            await server.stop(grace_seconds=0.5)
        await runtime.close()
        await transport.close()


def identity(config: Config, port: int) -> Identity:
    """Who this node is. port: where its agent listens."""
    return Identity(
        name=config.node_name,
        hostname=config.node_name,
        ip=config.node_ip or primary_ip(ELSEWHERE),
        machine=read_machine(ROOT),
        port=port,
        pod_cidr=config.pod_cidr,
        labels=config.node_labels,
    )


def measure(config: Config) -> Capacity:
    """What the machine and the pods' cgroups give now."""
    return read_capacity(
        ROOT,
        config.cgroup_parent,
        config.data_dir,
        affinity=len(os.sched_getaffinity(0)),
        max_pods=config.max_pods,
    )


def host_resolv_conf() -> str:
    """The host's resolver configuration, "" without one."""
    try:
        return Path("/etc/resolv.conf").read_text()
    except OSError:
        return ""
