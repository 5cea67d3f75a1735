"""The CRI's RuntimeService over gRPC: one method a call, nothing but translation.

Errors are translated to gRPC codes here, once. Calls that we do not offer answer UNIMPLEMENTED by themselves, because
the generated base class does.
"""

# The wire names the methods.
# ruff: noqa: N802
from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc

from pb.cri.v1 import api_pb2 as cri
from pb.cri.v1 import api_pb2_grpc
from runtime import errors, translate
from runtime.container import Container
from runtime.core import Runtime
from runtime.diskusage import DiskUsage
from runtime.events import ListenerTooSlow
from runtime.execution import run_to_end
from runtime.sandbox import Sandbox
from runtime.streaming.server import StreamingServer

log = logging.getLogger(__name__)

NAME = "pyctl"
VERSION = "0.1.0"
OUTPUT_LIMIT_BYTES = 16 * 1024 * 1024

CODES: dict[type[Exception], grpc.StatusCode] = {
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.Unimplemented: grpc.StatusCode.UNIMPLEMENTED,
    # Not UNAVAILABLE, which would say that the runtime itself is gone.
    errors.Unavailable: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Failed: grpc.StatusCode.UNKNOWN,
    ListenerTooSlow: grpc.StatusCode.ABORTED,
}

Context = Any
Request = TypeVar("Request")
Answer = TypeVar("Answer")


def rpc(
    method: Callable[[Any, Request, Context], Awaitable[Answer]],
) -> Callable[[Any, Request, Context], Awaitable[Answer]]:
    """Translate errors. A call that was cut off is finished all the same, so that nothing is left half made."""

    @functools.wraps(method)
    async def call(self: Any, request: Request, context: Context) -> Answer:
        task = asyncio.ensure_future(method(self, request, context))
        self.working.add(task)
        task.add_done_callback(self.working.discard)
        try:
            return await asyncio.shield(task)
        except tuple(CODES) as error:
            await context.abort(CODES[type(error)], str(error))
        except asyncio.CancelledError:
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise
        except Exception as error:
            log.exception("%s failed", method.__name__)
            await context.abort(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}")
        raise AssertionError("abort returned")

    return call


class RuntimeServicer(api_pb2_grpc.RuntimeServiceServicer):
    def __init__(self, runtime: Runtime, streaming: StreamingServer) -> None:
        self._runtime = runtime
        self._streaming = streaming
        self._disk = DiskUsage(runtime.parts.snapshots, runtime.parts.clock)
        self.working: set[asyncio.Future[Any]] = set()

    @rpc
    async def Version(self, request: cri.VersionRequest, context: Context) -> cri.VersionResponse:
        return cri.VersionResponse(
            version=VERSION, runtime_name=NAME, runtime_version=VERSION, runtime_api_version="v1"
        )

    @rpc
    async def Status(self, request: cri.StatusRequest, context: Context) -> cri.StatusResponse:
        parts = self._runtime.parts
        network = parts.network.health()
        missing = {"cpu", "memory", "pids"} - parts.cgroups.layout.controllers
        lacking = f"no cgroup controller for {', '.join(sorted(missing))}: such limits are refused"
        conditions = [
            cri.RuntimeCondition(type="RuntimeReady", status=True),
            cri.RuntimeCondition(
                type="NetworkReady",
                status=network.ready,
                reason="" if network.ready else "NetworkNotReady",
                message=network.message or network.warning,
            ),
            cri.RuntimeCondition(
                type="CgroupControllersComplete",
                status=not missing,
                reason="ControllersMissing" if missing else "",
                message=lacking if missing else "",
            ),
        ]
        answer = cri.StatusResponse(
            status=cri.RuntimeStatus(conditions=conditions),
            runtime_handlers=[
                cri.RuntimeHandler(name=name, features=cri.RuntimeHandlerFeatures(recursive_read_only_mounts=True))
                for name in ("", NAME)
            ],
            features=cri.RuntimeFeatures(supplemental_groups_policy=True),
        )
        if request.verbose:
            answer.info["snapshotter"] = parts.snapshots.name
            answer.info["cgroups"] = "v2" if parts.cgroups.layout.unified else "v1"
            answer.info["cgroupRoot"] = parts.config.cgroup_root
            answer.info["preparedSandbox"] = self._runtime.prepared
            answer.info["zygotePid"] = str(parts.zygote.pid)
        return answer

    @rpc
    async def RuntimeConfig(self, request: cri.RuntimeConfigRequest, context: Context) -> cri.RuntimeConfigResponse:
        return cri.RuntimeConfigResponse(linux=cri.LinuxRuntimeConfiguration(cgroup_driver=cri.CgroupDriver.CGROUPFS))

    @rpc
    async def UpdateRuntimeConfig(
        self, request: cri.UpdateRuntimeConfigRequest, context: Context
    ) -> cri.UpdateRuntimeConfigResponse:
        """The node agent says which range the node got. Ours is chosen at the start and cannot change under pods."""
        wanted = request.runtime_config.network_config.pod_cidr
        own = self._runtime.parts.network.range
        if wanted and wanted != own:
            raise errors.FailedPrecondition(
                f"pod range {wanted} cannot replace {own or 'none'}: start the runtime with --pod-cidr {wanted}"
            )
        return cri.UpdateRuntimeConfigResponse()

    # Sandboxes

    @rpc
    async def RunPodSandbox(self, request: cri.RunPodSandboxRequest, context: Context) -> cri.RunPodSandboxResponse:
        sandbox = await self._runtime.run_sandbox(request.config, request.runtime_handler)
        return cri.RunPodSandboxResponse(pod_sandbox_id=sandbox.id)

    @rpc
    async def StopPodSandbox(self, request: cri.StopPodSandboxRequest, context: Context) -> cri.StopPodSandboxResponse:
        await self._runtime.stop_sandbox(request.pod_sandbox_id)
        return cri.StopPodSandboxResponse()

    @rpc
    async def RemovePodSandbox(
        self, request: cri.RemovePodSandboxRequest, context: Context
    ) -> cri.RemovePodSandboxResponse:
        await self._runtime.remove_sandbox(request.pod_sandbox_id)
        return cri.RemovePodSandboxResponse()

    @rpc
    async def PodSandboxStatus(
        self, request: cri.PodSandboxStatusRequest, context: Context
    ) -> cri.PodSandboxStatusResponse:
        sandbox = self._runtime.sandbox(request.pod_sandbox_id)
        answer = cri.PodSandboxStatusResponse(
            status=translate.sandbox_status(sandbox),
            containers_statuses=[translate.container_status(container) for container in sandbox.containers.values()],
            timestamp=self._runtime.parts.now_ns(),
        )
        if request.verbose:
            answer.info["shimPid"] = str(sandbox.record.shim_pid)
            answer.info["cgroup"] = sandbox.record.cgroup
            answer.info["link"] = sandbox.record.link
        return answer

    @rpc
    async def ListPodSandbox(self, request: cri.ListPodSandboxRequest, context: Context) -> cri.ListPodSandboxResponse:
        wanted = request.filter

        def fits(sandbox: Sandbox) -> bool:
            return (
                sandbox.id.startswith(wanted.id)
                and (not wanted.HasField("state") or translate.sandbox_state(sandbox) == wanted.state.state)
                and translate.labels_match(wanted.label_selector, sandbox.config.labels)
            )

        found = [sandbox for sandbox in self._runtime.sandboxes() if fits(sandbox)]
        return cri.ListPodSandboxResponse(items=[translate.sandbox_item(sandbox) for sandbox in found])

    # Containers

    @rpc
    async def CreateContainer(
        self, request: cri.CreateContainerRequest, context: Context
    ) -> cri.CreateContainerResponse:
        container = await self._runtime.create_container(request.pod_sandbox_id, request.config)
        return cri.CreateContainerResponse(container_id=container.id)

    @rpc
    async def StartContainer(self, request: cri.StartContainerRequest, context: Context) -> cri.StartContainerResponse:
        await self._runtime.container(request.container_id).start()
        return cri.StartContainerResponse()

    @rpc
    async def StopContainer(self, request: cri.StopContainerRequest, context: Context) -> cri.StopContainerResponse:
        container = self._find(request.container_id)
        if container is not None:
            await container.stop(request.timeout)
        return cri.StopContainerResponse()

    @rpc
    async def RemoveContainer(
        self, request: cri.RemoveContainerRequest, context: Context
    ) -> cri.RemoveContainerResponse:
        container = self._find(request.container_id)
        if container is not None:
            await container.remove()
        return cri.RemoveContainerResponse()

    def _find(self, identifier: str) -> Container | None:
        with contextlib.suppress(errors.NotFound):
            return self._runtime.container(identifier)
        return None

    @rpc
    async def ListContainers(self, request: cri.ListContainersRequest, context: Context) -> cri.ListContainersResponse:
        wanted = request.filter

        def fits(container: Container) -> bool:
            return (
                container.id.startswith(wanted.id)
                and container.sandbox.id.startswith(wanted.pod_sandbox_id)
                and (not wanted.HasField("state") or translate.container_state(container) == wanted.state.state)
                and translate.labels_match(wanted.label_selector, container.config.labels)
            )

        found = [container for container in self._runtime.containers() if fits(container)]
        return cri.ListContainersResponse(containers=[translate.container_item(container) for container in found])

    @rpc
    async def ContainerStatus(
        self, request: cri.ContainerStatusRequest, context: Context
    ) -> cri.ContainerStatusResponse:
        container = self._runtime.container(request.container_id)
        answer = cri.ContainerStatusResponse(status=translate.container_status(container))
        if request.verbose:
            answer.info.update(pid=str(container.state.get("pid", 0)), cgroup=container.record.cgroup)
            answer.info["sandboxID"] = container.sandbox.id
        return answer

    @rpc
    async def UpdateContainerResources(
        self, request: cri.UpdateContainerResourcesRequest, context: Context
    ) -> cri.UpdateContainerResourcesResponse:
        self._runtime.container(request.container_id).update(request.linux)
        return cri.UpdateContainerResourcesResponse()

    @rpc
    async def ReopenContainerLog(
        self, request: cri.ReopenContainerLogRequest, context: Context
    ) -> cri.ReopenContainerLogResponse:
        await self._runtime.container(request.container_id).reopen_log()
        return cri.ReopenContainerLogResponse()

    # Processes in containers

    @rpc
    async def ExecSync(self, request: cri.ExecSyncRequest, context: Context) -> cri.ExecSyncResponse:
        execution = self._runtime.container(request.container_id).execution(list(request.cmd))
        timeout = float(request.timeout) if request.timeout > 0 else None

        def given_up(_: Context) -> None:
            if not execution.ended.done():
                self.working.add(killing := asyncio.ensure_future(execution.kill()))
                killing.add_done_callback(self.working.discard)

        context.add_done_callback(given_up)
        result = await run_to_end(execution, timeout, OUTPUT_LIMIT_BYTES)
        if result is None:
            raise errors.DeadlineExceeded(f"command {list(request.cmd)} timed out after {request.timeout} s")
        return cri.ExecSyncResponse(exit_code=result[0], stdout=result[1], stderr=result[2])

    @rpc
    async def Exec(self, request: cri.ExecRequest, context: Context) -> cri.ExecResponse:
        container = self._runtime.container(request.container_id)
        return cri.ExecResponse(url=self._streaming.exec_url(container, request))

    @rpc
    async def Attach(self, request: cri.AttachRequest, context: Context) -> cri.AttachResponse:
        container = self._runtime.container(request.container_id)
        return cri.AttachResponse(url=self._streaming.attach_url(container, request))

    @rpc
    async def PortForward(self, request: cri.PortForwardRequest, context: Context) -> cri.PortForwardResponse:
        raise errors.Unimplemented("port-forward is not offered by this runtime yet")

    # Numbers

    @rpc
    async def ContainerStats(self, request: cri.ContainerStatsRequest, context: Context) -> cri.ContainerStatsResponse:
        return cri.ContainerStatsResponse(stats=await self._stats(self._runtime.container(request.container_id)))

    @rpc
    async def ListContainerStats(
        self, request: cri.ListContainerStatsRequest, context: Context
    ) -> cri.ListContainerStatsResponse:
        wanted = request.filter
        found = [
            container
            for container in self._runtime.containers()
            if container.alive
            and container.id.startswith(wanted.id)
            and container.sandbox.id.startswith(wanted.pod_sandbox_id)
            and translate.labels_match(wanted.label_selector, container.config.labels)
        ]
        self._disk.forget_all_but({container.id for container in self._runtime.containers()})
        return cri.ListContainerStatsResponse(stats=[await self._stats(container) for container in found])

    async def _stats(self, container: Container) -> cri.ContainerStats:
        parts = self._runtime.parts
        written = await self._disk.of(container.id)
        return translate.container_stats(container, container.cgroup().usage(), written, parts.now_ns())

    @rpc
    async def PodSandboxStats(
        self, request: cri.PodSandboxStatsRequest, context: Context
    ) -> cri.PodSandboxStatsResponse:
        return cri.PodSandboxStatsResponse(
            stats=await self._sandbox_stats(self._runtime.sandbox(request.pod_sandbox_id))
        )

    @rpc
    async def ListPodSandboxStats(
        self, request: cri.ListPodSandboxStatsRequest, context: Context
    ) -> cri.ListPodSandboxStatsResponse:
        wanted = request.filter
        found = [
            sandbox
            for sandbox in self._runtime.sandboxes()
            if sandbox.ready
            and sandbox.id.startswith(wanted.id)
            and translate.labels_match(wanted.label_selector, sandbox.config.labels)
        ]
        return cri.ListPodSandboxStatsResponse(stats=[await self._sandbox_stats(sandbox) for sandbox in found])

    async def _sandbox_stats(self, sandbox: Sandbox) -> cri.PodSandboxStats:
        now = self._runtime.parts.now_ns()
        stats = translate.sandbox_stats(sandbox, sandbox.group.group().usage(), now)
        alive = [container for container in sandbox.containers.values() if container.alive]
        stats.linux.containers.extend([await self._stats(container) for container in alive])
        if sandbox.record.link:
            counters = _counters(sandbox.record.link)
            stats.linux.network.timestamp = now
            stats.linux.network.default_interface.CopyFrom(translate.interface_usage("eth0", counters))
        return stats

    # Events

    async def GetContainerEvents(
        self, request: cri.GetEventsRequest, context: Context
    ) -> AsyncIterator[cri.ContainerEventResponse]:
        """Every change at once, with the status of the whole pod at that moment."""
        try:
            async for event in self._runtime.parts.events.listen():
                yield self._event(event.kind.value, event.container, event.sandbox, event.at)
        except ListenerTooSlow as error:
            await context.abort(CODES[ListenerTooSlow], str(error))

    def _event(self, kind: int, container: str, sandbox_id: str, at: int) -> cri.ContainerEventResponse:
        message = cri.ContainerEventResponse(
            container_id=container,
            container_event_type=kind,  # type: ignore[arg-type]
            created_at=at,
        )
        try:
            sandbox = self._runtime.sandbox(sandbox_id)
        except errors.NotFound:
            message.pod_sandbox_status.id = sandbox_id
            message.pod_sandbox_status.state = cri.PodSandboxState.SANDBOX_NOTREADY
            return message
        message.pod_sandbox_status.CopyFrom(translate.sandbox_status(sandbox))
        message.containers_statuses.extend(translate.container_status(each) for each in sandbox.containers.values())
        return message


def _counters(link: str) -> dict[str, int]:
    home = Path("/sys/class/net") / link / "statistics"
    found: dict[str, int] = {}
    for name in ("rx_bytes", "rx_errors", "tx_bytes", "tx_errors"):
        try:
            found[name] = int((home / name).read_text())
        except OSError:
            continue
    return found
