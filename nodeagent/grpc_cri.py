"""CRI over gRPC on a Unix socket. One channel, which connects again by itself whenever the runtime comes back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from nodeagent.cri import CRIError, RuntimeAway
from pb.cri.v1 import api_pb2 as cri
from pb.cri.v1 import api_pb2_grpc

CALL_SECONDS = 120.0
MESSAGE_LIMIT_BYTES = 16 << 20
OPTIONS = [
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    # gRPC's default waits up to two minutes before it tries a dead socket again.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.enable_http_proxy", 0),
]
AWAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}


def endpoint_path(endpoint: str) -> str:
    """`unix:///run/x.sock` or `/run/x.sock` as gRPC's target. Raises ValueError for anything else."""
    path = endpoint.removeprefix("unix://")
    if not path.startswith("/"):
        raise ValueError(f"CRI endpoint {endpoint!r}: must be unix:///path/to/socket")
    return f"unix:{path}"


class GrpcCRI:
    """A runtime behind `endpoint`. Must be made inside the event loop that uses it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.channel = grpc.aio.insecure_channel(endpoint_path(endpoint), options=OPTIONS)
        self._runtime: Any = api_pb2_grpc.RuntimeServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self._images: Any = api_pb2_grpc.ImageServiceStub(self.channel)  # type: ignore[no-untyped-call]

    async def close(self) -> None:
        await self.channel.close(grace=None)

    async def version(self) -> cri.VersionResponse:
        answer: cri.VersionResponse = await _call(self._runtime.Version, cri.VersionRequest(version="v1"), 10.0)
        return answer

    async def status(self) -> cri.RuntimeStatus:
        answer: cri.StatusResponse = await _call(self._runtime.Status, cri.StatusRequest(), 10.0)
        return answer.status

    async def update_pod_cidr(self, cidr: str) -> None:
        network = cri.RuntimeConfig(network_config=cri.NetworkConfig(pod_cidr=cidr))
        await _call(self._runtime.UpdateRuntimeConfig, cri.UpdateRuntimeConfigRequest(runtime_config=network))

    async def run_pod_sandbox(self, config: cri.PodSandboxConfig, handler: str = "") -> str:
        request = cri.RunPodSandboxRequest(config=config, runtime_handler=handler)
        answer: cri.RunPodSandboxResponse = await _call(self._runtime.RunPodSandbox, request)
        return answer.pod_sandbox_id

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        await _call(self._runtime.StopPodSandbox, cri.StopPodSandboxRequest(pod_sandbox_id=sandbox_id))

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await _call(self._runtime.RemovePodSandbox, cri.RemovePodSandboxRequest(pod_sandbox_id=sandbox_id))

    async def pod_sandbox_status(self, sandbox_id: str) -> cri.PodSandboxStatus:
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id)
        answer: cri.PodSandboxStatusResponse = await _call(self._runtime.PodSandboxStatus, request)
        return answer.status

    async def list_pod_sandboxes(self, labels: dict[str, str] | None = None) -> list[cri.PodSandbox]:
        request = cri.ListPodSandboxRequest(filter=cri.PodSandboxFilter(label_selector=labels or {}))
        answer: cri.ListPodSandboxResponse = await _call(self._runtime.ListPodSandbox, request)
        return list(answer.items)

    async def create_container(
        self, sandbox_id: str, config: cri.ContainerConfig, sandbox_config: cri.PodSandboxConfig
    ) -> str:
        request = cri.CreateContainerRequest(pod_sandbox_id=sandbox_id, config=config, sandbox_config=sandbox_config)
        answer: cri.CreateContainerResponse = await _call(self._runtime.CreateContainer, request)
        return answer.container_id

    async def start_container(self, container_id: str) -> None:
        await _call(self._runtime.StartContainer, cri.StartContainerRequest(container_id=container_id))

    async def stop_container(self, container_id: str, grace_seconds: int) -> None:
        request = cri.StopContainerRequest(container_id=container_id, timeout=grace_seconds)
        await _call(self._runtime.StopContainer, request, CALL_SECONDS + grace_seconds)

    async def remove_container(self, container_id: str) -> None:
        await _call(self._runtime.RemoveContainer, cri.RemoveContainerRequest(container_id=container_id))

    async def container_status(self, container_id: str) -> cri.ContainerStatus:
        request = cri.ContainerStatusRequest(container_id=container_id)
        answer: cri.ContainerStatusResponse = await _call(self._runtime.ContainerStatus, request)
        return answer.status

    async def list_containers(self, labels: dict[str, str] | None = None) -> list[cri.Container]:
        request = cri.ListContainersRequest(filter=cri.ContainerFilter(label_selector=labels or {}))
        answer: cri.ListContainersResponse = await _call(self._runtime.ListContainers, request)
        return list(answer.containers)

    async def container_events(self) -> AsyncIterator[cri.ContainerEventResponse]:
        try:
            async for event in self._runtime.GetContainerEvents(cri.GetEventsRequest()):
                yield event
        except grpc.aio.AioRpcError as error:
            raise translate(error) from error

    async def reopen_container_log(self, container_id: str) -> None:
        await _call(self._runtime.ReopenContainerLog, cri.ReopenContainerLogRequest(container_id=container_id))

    async def exec_sync(self, container_id: str, command: list[str], timeout_seconds: int) -> cri.ExecSyncResponse:
        request = cri.ExecSyncRequest(container_id=container_id, cmd=command, timeout=timeout_seconds)
        seconds = timeout_seconds + CALL_SECONDS if timeout_seconds else None
        answer: cri.ExecSyncResponse = await _call(self._runtime.ExecSync, request, seconds)
        return answer

    async def list_container_stats(self) -> list[cri.ContainerStats]:
        answer: cri.ListContainerStatsResponse = await _call(
            self._runtime.ListContainerStats, cri.ListContainerStatsRequest()
        )
        return list(answer.stats)

    async def exec(self, request: cri.ExecRequest) -> str:
        answer: cri.ExecResponse = await _call(self._runtime.Exec, request)
        return answer.url

    async def attach(self, request: cri.AttachRequest) -> str:
        answer: cri.AttachResponse = await _call(self._runtime.Attach, request)
        return answer.url

    async def port_forward(self, request: cri.PortForwardRequest) -> str:
        answer: cri.PortForwardResponse = await _call(self._runtime.PortForward, request)
        return answer.url

    async def image_status(self, image: str) -> cri.Image | None:
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=image))
        answer: cri.ImageStatusResponse = await _call(self._images.ImageStatus, request)
        return answer.image if answer.HasField("image") and answer.image.id else None

    async def pull_image(
        self, image: str, sandbox_config: cri.PodSandboxConfig, auth: cri.AuthConfig | None = None
    ) -> str:
        request = cri.PullImageRequest(image=cri.ImageSpec(image=image), auth=auth, sandbox_config=sandbox_config)
        # A large image takes as long as it takes.
        answer: cri.PullImageResponse = await _call(self._images.PullImage, request, None)
        return answer.image_ref

    async def list_images(self) -> list[cri.Image]:
        answer: cri.ListImagesResponse = await _call(self._images.ListImages, cri.ListImagesRequest())
        return list(answer.images)

    async def remove_image(self, image: str) -> None:
        await _call(self._images.RemoveImage, cri.RemoveImageRequest(image=cri.ImageSpec(image=image)))


async def _call(method: Any, request: Any, timeout_seconds: float | None = CALL_SECONDS) -> Any:
    try:
        return await method(request, timeout=timeout_seconds)
    except grpc.aio.AioRpcError as error:
        raise translate(error) from error


def translate(error: grpc.aio.AioRpcError) -> CRIError:
    """A gRPC failure as the seam's own error."""
    message = error.details() or error.code().name
    return RuntimeAway(message) if error.code() in AWAY else CRIError(error.code().name, message)
