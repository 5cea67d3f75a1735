"""What a starting agent finds in the runtime, sorted by pod. The labels tell whose it is."""

from __future__ import annotations

import asyncio

from nodeagent.cri import CONTAINER_NAME, CRI, POD_UID, CRIError
from nodeagent.podworker.effects import sandbox_ips
from nodeagent.podworker.exits import NANO, exit_of
from nodeagent.podworker.messages import Found, FoundContainer
from nodeagent.podworker.worker import Services
from pb.cri.v1 import api_pb2 as cri


async def find_pods(services: Services) -> dict[str, Found]:
    """By pod uid. Sandboxes and containers without the labels are none of ours. Raises CRIError."""
    runtime = services.runtime
    sandboxes = [each for each in await runtime.list_pod_sandboxes() if each.labels.get(POD_UID)]
    containers = [each for each in await runtime.list_containers() if each.labels.get(CONTAINER_NAME)]
    statuses = await asyncio.gather(*(_status(runtime, each.id) for each in containers))
    newest: dict[str, cri.PodSandbox] = {}
    for sandbox in sorted(sandboxes, key=lambda each: (each.metadata.attempt, each.created_at)):
        newest[sandbox.labels[POD_UID]] = sandbox
    found = {}
    for uid, sandbox in newest.items():
        status = await runtime.pod_sandbox_status(sandbox.id)
        mine = [each for each in statuses if each is not None and each.labels.get(POD_UID) == uid]
        mine.sort(key=lambda each: each.metadata.attempt)
        found[uid] = Found(
            sandbox_id=sandbox.id,
            sandbox_attempt=sandbox.metadata.attempt,
            sandbox_ready=sandbox.state == cri.SANDBOX_READY,
            ips=sandbox_ips(status),
            containers=tuple(_found(services, each) for each in mine),
        )
    return found


async def _status(runtime: CRI, identity: str) -> cri.ContainerStatus | None:
    try:
        return await runtime.container_status(identity)
    except CRIError as error:
        if error.code == "NOT_FOUND":
            return None
        raise


def _found(services: Services, status: cri.ContainerStatus) -> FoundContainer:
    return FoundContainer(
        name=status.labels[CONTAINER_NAME],
        id=status.id,
        attempt=status.metadata.attempt,
        started_at=status.started_at / NANO,
        image_ref=status.image_ref,
        created_only=status.state == cri.CONTAINER_CREATED,
        exit=exit_of(services, status) if status.state == cri.CONTAINER_EXITED else None,
    )
