"""A container runtime in memory: pods start, run and end by the clock, and nothing is executed.

Works in virtual time: no thread, socket or process. Times come from `Timing`, spread by a seeded generator that
belongs to this engine alone, so that the same seed gives the same life. A container runs until it is stopped, unless
an annotation of its pod says how long (`RUN_SECONDS`) and with which code it ends (`EXIT_CODE`). Tests may `crash`
containers and take the runtime `away`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass

from componentbase.clock import Clock
from nodeagent.cri import CRIError, RuntimeAway
from pb.cri.v1 import api_pb2 as cri

RUN_SECONDS = "hollow.pyctl.io/run-seconds"
EXIT_CODE = "hollow.pyctl.io/exit-code"
NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds that things take; `spread` widens each to both sides by that share."""

    sandbox: float = 0.02
    start: float = 0.01
    pull: float = 1.0
    stop: float = 0.05
    spread: float = 0.2


@dataclass(slots=True)
class _Container:
    config: cri.ContainerConfig
    status: cri.ContainerStatus
    sandbox_id: str
    run_seconds: float | None
    exit_code: int


@dataclass(slots=True)
class _Sandbox:
    config: cri.PodSandboxConfig
    status: cri.PodSandboxStatus


class HollowCRI:
    """One node's runtime. `prefix` numbers its pods' addresses: `<prefix>.x.y`. Images are there unless in
    `missing`."""

    def __init__(
        self,
        clock: Clock,
        *,
        seed: int | str = 0,
        timing: Timing | None = None,
        prefix: str = "10.64",
        pulled: bool = True,
    ) -> None:
        self._clock = clock
        self._random = random.Random(f"hollow/{seed}")
        self._timing = timing or Timing()
        self._prefix = prefix
        self._all_pulled = pulled
        self._number = 0
        self._sandboxes: dict[str, _Sandbox] = {}
        self._containers: dict[str, _Container] = {}
        self._images: dict[str, cri.Image] = {}
        self._listeners: list[asyncio.Queue[cri.ContainerEventResponse | None]] = []
        self._ends: set[asyncio.Task[None]] = set()
        self.missing: set[str] = set()
        self.away = False
        self.pod_cidr = ""

    # For tests and experiments.

    def go_away(self) -> None:
        """As if the runtime was killed: calls fail, streams break, containers run on."""
        self.away = True
        for queue in self._listeners:
            queue.put_nowait(None)

    def come_back(self) -> None:
        self.away = False

    def crash(self, container_id: str, exit_code: int = 1, reason: str = "Error") -> None:
        """The container ends by itself."""
        self._end(container_id, exit_code, reason)

    def running(self) -> list[str]:
        """Ids of running containers."""
        return [each for each, c in self._containers.items() if c.status.state == cri.CONTAINER_RUNNING]

    # The CRI.

    async def close(self) -> None:
        for task in list(self._ends):
            task.cancel()
        await asyncio.gather(*self._ends, return_exceptions=True)

    async def version(self) -> cri.VersionResponse:
        self._check()
        return cri.VersionResponse(
            version="0.1.0", runtime_name="hollow", runtime_version="1", runtime_api_version="v1"
        )

    async def status(self) -> cri.RuntimeStatus:
        self._check()
        conditions = [cri.RuntimeCondition(type=name, status=True) for name in ("RuntimeReady", "NetworkReady")]
        return cri.RuntimeStatus(conditions=conditions)

    async def update_pod_cidr(self, cidr: str) -> None:
        self._check()
        self.pod_cidr = cidr

    async def run_pod_sandbox(self, config: cri.PodSandboxConfig, handler: str = "") -> str:
        await self._take(self._timing.sandbox)
        identity = self._identity("s")
        ip = f"{self._prefix}.{self._number // 250 % 256}.{self._number % 250 + 2}"
        status = cri.PodSandboxStatus(
            id=identity,
            metadata=config.metadata,
            state=cri.SANDBOX_READY,
            created_at=self._nanos(),
            network=cri.PodSandboxNetworkStatus(ip=ip),
            labels=config.labels,
            annotations=config.annotations,
        )
        self._sandboxes[identity] = _Sandbox(config, status)
        return identity

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        self._check()
        sandbox = self._sandboxes.get(sandbox_id)
        if sandbox is None:
            return
        sandbox.status.state = cri.SANDBOX_NOTREADY
        for identity, each in self._containers.items():
            if each.sandbox_id == sandbox_id and each.status.state == cri.CONTAINER_RUNNING:
                self._end(identity, 137, "Error")

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        await self.stop_pod_sandbox(sandbox_id)
        self._sandboxes.pop(sandbox_id, None)
        self._containers = {key: each for key, each in self._containers.items() if each.sandbox_id != sandbox_id}

    async def pod_sandbox_status(self, sandbox_id: str) -> cri.PodSandboxStatus:
        self._check()
        return self._sandbox(sandbox_id).status

    async def list_pod_sandboxes(self, labels: dict[str, str] | None = None) -> list[cri.PodSandbox]:
        self._check()
        return [
            cri.PodSandbox(
                id=each.status.id,
                metadata=each.status.metadata,
                state=each.status.state,
                created_at=each.status.created_at,
                labels=each.status.labels,
                annotations=each.status.annotations,
            )
            for each in self._sandboxes.values()
            if _matches(each.status.labels, labels)
        ]

    async def create_container(
        self, sandbox_id: str, config: cri.ContainerConfig, sandbox_config: cri.PodSandboxConfig
    ) -> str:
        self._check()
        sandbox = self._sandbox(sandbox_id)
        for each in self._containers.values():
            if each.sandbox_id == sandbox_id and each.status.metadata == config.metadata:
                raise CRIError("ALREADY_EXISTS", f"container {config.metadata.name} attempt {config.metadata.attempt}")
        identity = self._identity("c")
        status = cri.ContainerStatus(
            id=identity,
            metadata=config.metadata,
            state=cri.CONTAINER_CREATED,
            created_at=self._nanos(),
            image=config.image,
            image_ref=config.image.image,
            labels=config.labels,
            annotations=config.annotations,
        )
        annotations = sandbox.config.annotations
        seconds = annotations.get(RUN_SECONDS)
        code = int(annotations.get(EXIT_CODE, "0"))
        self._containers[identity] = _Container(
            config, status, sandbox_id, float(seconds) if seconds is not None else None, code
        )
        return identity

    async def start_container(self, container_id: str) -> None:
        await self._take(self._timing.start)
        container = self._container(container_id)
        container.status.state = cri.CONTAINER_RUNNING
        container.status.started_at = self._nanos()
        self._tell(container_id, cri.CONTAINER_STARTED_EVENT)
        if container.run_seconds is not None:
            end = asyncio.get_running_loop().create_task(self._run(container_id, container.run_seconds))
            self._ends.add(end)
            end.add_done_callback(self._ends.discard)

    async def _run(self, container_id: str, seconds: float) -> None:
        await self._clock.sleep(seconds)
        container = self._containers.get(container_id)
        if container is not None:
            self._end(container_id, container.exit_code, "Error" if container.exit_code else "Completed")

    async def stop_container(self, container_id: str, grace_seconds: int) -> None:
        await self._take(self._timing.stop)
        self._end(container_id, 143, "Error")

    async def remove_container(self, container_id: str) -> None:
        self._check()
        self._containers.pop(container_id, None)

    async def container_status(self, container_id: str) -> cri.ContainerStatus:
        self._check()
        return self._container(container_id).status

    async def list_containers(self, labels: dict[str, str] | None = None) -> list[cri.Container]:
        self._check()
        return [
            cri.Container(
                id=each.status.id,
                pod_sandbox_id=each.sandbox_id,
                metadata=each.status.metadata,
                image=each.status.image,
                state=each.status.state,
                created_at=each.status.created_at,
                labels=each.status.labels,
                annotations=each.status.annotations,
            )
            for each in self._containers.values()
            if _matches(each.status.labels, labels)
        ]

    async def container_events(self) -> AsyncIterator[cri.ContainerEventResponse]:
        self._check()
        queue: asyncio.Queue[cri.ContainerEventResponse | None] = asyncio.Queue()
        self._listeners.append(queue)
        try:
            while True:
                event = await queue.get()
                if event is None:
                    raise RuntimeAway("the hollow runtime is away")
                yield event
        finally:
            self._listeners.remove(queue)

    async def reopen_container_log(self, container_id: str) -> None:
        self._check()

    async def exec_sync(self, container_id: str, command: list[str], timeout_seconds: int) -> cri.ExecSyncResponse:
        self._check()
        self._container(container_id)
        return cri.ExecSyncResponse(exit_code=0)

    async def list_container_stats(self) -> list[cri.ContainerStats]:
        self._check()
        return []

    async def exec(self, request: cri.ExecRequest) -> str:
        raise CRIError("UNIMPLEMENTED", "a hollow container has nothing to run a command in")

    async def attach(self, request: cri.AttachRequest) -> str:
        raise CRIError("UNIMPLEMENTED", "a hollow container has nothing to attach to")

    async def port_forward(self, request: cri.PortForwardRequest) -> str:
        raise CRIError("UNIMPLEMENTED", "a hollow pod has no network")

    async def image_status(self, image: str) -> cri.Image | None:
        self._check()
        if image in self.missing:
            return None
        if self._all_pulled and image not in self._images:
            self._images[image] = _image(image)
        return self._images.get(image)

    async def pull_image(
        self, image: str, sandbox_config: cri.PodSandboxConfig, auth: cri.AuthConfig | None = None
    ) -> str:
        await self._take(self._timing.pull)
        if image in self.missing:
            raise CRIError("NOT_FOUND", f"{image}: not found")
        self._images[image] = _image(image)
        return image

    async def list_images(self) -> list[cri.Image]:
        self._check()
        return list(self._images.values())

    async def remove_image(self, image: str) -> None:
        self._check()
        self._images.pop(image, None)

    # Inside.

    def _check(self) -> None:
        if self.away:
            raise RuntimeAway("the hollow runtime is away")

    async def _take(self, seconds: float) -> None:
        self._check()
        spread = self._timing.spread
        await self._clock.sleep(seconds * (1 - spread + 2 * spread * self._random.random()))
        self._check()

    def _identity(self, kind: str) -> str:
        self._number += 1
        return f"{kind}{self._number:08x}{self._random.getrandbits(64):016x}"

    def _nanos(self) -> int:
        return int(self._clock.now() * NANO)

    def _sandbox(self, identity: str) -> _Sandbox:
        if identity not in self._sandboxes:
            raise CRIError("NOT_FOUND", f"sandbox {identity} not found")
        return self._sandboxes[identity]

    def _container(self, identity: str) -> _Container:
        if identity not in self._containers:
            raise CRIError("NOT_FOUND", f"container {identity} not found")
        return self._containers[identity]

    def _end(self, identity: str, exit_code: int, reason: str) -> None:
        container = self._containers.get(identity)
        if container is None or container.status.state == cri.CONTAINER_EXITED:
            return
        status = container.status
        status.state = cri.CONTAINER_EXITED
        status.exit_code, status.reason, status.finished_at = exit_code, reason, self._nanos()
        self._tell(identity, cri.CONTAINER_STOPPED_EVENT)

    def _tell(self, identity: str, kind: cri.ContainerEventType) -> None:
        if self.away:
            return
        status = self._containers[identity].status
        for queue in self._listeners:
            queue.put_nowait(
                cri.ContainerEventResponse(
                    container_id=identity,
                    container_event_type=kind,
                    created_at=self._nanos(),
                    containers_statuses=[status],
                )
            )


def _matches(have: object, wanted: dict[str, str] | None) -> bool:
    return not wanted or all(have.get(key) == value for key, value in wanted.items())  # type: ignore[attr-defined]


def _image(name: str) -> cri.Image:
    return cri.Image(id=f"sha256:{name}", repo_tags=[name], size=1 << 20)
