"""How instructions are done: calls to the runtime, the volumes and the API server, each ending in a fact.

An effect never raises: what goes wrong becomes a fact, or, where something simply has to be done (stop, remove,
delete), is tried again until it is. While the runtime is away nothing is blamed on the pod.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from apimachinery.errors import Conflict, NotFound, StatusError
from apimachinery.kinds.pod import Container, Pod
from kubeclient.backoff import Backoff
from kubeclient.transport import TransportError
from nodeagent import cri as names
from nodeagent.cri import CRIError, RuntimeAway
from nodeagent.cri_config import container_config, sandbox_config
from nodeagent.dns import dns_config
from nodeagent.environment import ConfigError, environment, referenced, skipped_keys
from nodeagent.images import ImageError
from nodeagent.podworker import messages as m
from nodeagent.podworker.exits import NANO, exit_of
from nodeagent.podworker.worker import Effect, PodWorker
from nodeagent.volumes.interface import VolumeError
from pb.cri.v1 import api_pb2 as cri

log = logging.getLogger(__name__)

START_ERROR_CODE = 128


async def persist(work: PodWorker, what: str, action: Callable[[], Awaitable[None]]) -> None:
    """Do it again until it is done. What is gone already is done."""
    backoff = Backoff(0.2, 10.0, seed=f"{what}/{work.pod.metadata.uid}")
    while True:
        try:
            await action()
            return
        except CRIError as error:
            if error.code == "NOT_FOUND":
                return
            level = logging.DEBUG if isinstance(error, RuntimeAway) else logging.WARNING
            log.log(level, "pod %s: %s: %s", work.key, what, error)
        except (OSError, StatusError) as error:
            log.warning("pod %s: %s: %s", work.key, what, error)
        await work.services.clock.sleep(backoff.next_seconds())


def pod_sandbox_config(work: PodWorker, attempt: int) -> cri.PodSandboxConfig:
    """The configuration of the pod's sandbox on this node."""
    services, pod = work.services, work.pod
    return sandbox_config(
        pod,
        attempt,
        services.node.facts(),
        dns_config(pod, services.node.resolv_conf()),
        log_directory=services.logs.directory(pod),
        cgroup=services.cgroups.path(pod.metadata.uid),
    )


async def prepare_volumes(work: PodWorker, instruction: m.PrepareVolumes) -> None:
    try:
        await work.services.volumes.prepare(work.pod, work.place)
    except VolumeError as error:
        work.post(m.VolumesFailed(str(error), error.permanent))
    except Exception as error:
        log.exception("pod %s: volumes", work.key)
        work.post(m.VolumesFailed(f"volumes cannot be prepared: {error}"))
    else:
        work.post(m.VolumesReady())


async def teardown_volumes(work: PodWorker, instruction: m.TeardownVolumes) -> None:
    try:
        await work.services.volumes.teardown(work.pod.metadata.uid)
    except OSError as error:
        # Removing the pod tries it again, and goes on until it works.
        log.warning("pod %s: volumes: %s", work.key, error)


async def run_sandbox(work: PodWorker, instruction: m.RunSandbox) -> None:
    runtime, attempt = work.services.runtime, instruction.attempt
    try:
        config = pod_sandbox_config(work, attempt)
        try:
            identity = await runtime.run_pod_sandbox(config)
        except RuntimeAway:
            raise
        except CRIError:
            # Perhaps an earlier call got through although its answer did not.
            found = await _sandbox_of_attempt(work, attempt)
            if found is None:
                raise
            identity = found
        status = await runtime.pod_sandbox_status(identity)
    except RuntimeAway as error:
        work.post(m.SandboxFailed(attempt, error.message, quiet=True))
    except CRIError as error:
        work.post(m.SandboxFailed(attempt, error.message))
    except Exception as error:
        log.exception("pod %s: sandbox", work.key)
        work.post(m.SandboxFailed(attempt, str(error)))
    else:
        work.post(m.SandboxReady(attempt, identity, sandbox_ips(status)))


async def _sandbox_of_attempt(work: PodWorker, attempt: int) -> str | None:
    for each in await work.services.runtime.list_pod_sandboxes({names.POD_UID: work.pod.metadata.uid}):
        if each.metadata.attempt == attempt and each.state == cri.SANDBOX_READY:
            return each.id
    return None


def sandbox_ips(status: cri.PodSandboxStatus) -> tuple[str, ...]:
    """A sandbox's addresses, the primary one first; none in the host's network."""
    network = status.network
    return tuple(ip for ip in (network.ip, *(each.ip for each in network.additional_ips)) if ip)


async def stop_sandbox(work: PodWorker, instruction: m.StopSandbox) -> None:
    await persist(work, "stop sandbox", lambda: work.services.runtime.stop_pod_sandbox(instruction.id))
    work.post(m.SandboxStopped(instruction.id))


async def ensure_image(work: PodWorker, instruction: m.EnsureImage) -> None:
    name, services = instruction.container, work.services
    container = work.machine.containers[name].spec

    def tell(type: str, reason: str, message: str) -> None:
        work.record(type, reason, message, name)

    while not work.gone:
        try:
            wanted = [each.name for each in work.pod.spec.imagePullSecrets]
            objects = await services.sources.objects(work.pod.metadata.namespace, [], wanted)
            secrets = [each for each in objects.secrets.values() if each is not None]
            config = pod_sandbox_config(work, work.machine.sandbox.attempt)
            image = await services.images.ensure(container, config, secrets, tell)
        except (RuntimeAway, TransportError, StatusError):
            await services.clock.sleep(0.5)
            continue
        except ImageError as error:
            work.post(m.ImageFailed(name, error.reason, str(error)))
        except Exception as error:
            log.exception("pod %s: image of %s", work.key, name)
            work.post(m.ImageFailed(name, "ImageInspectError", str(error)))
        else:
            work.images[name] = image
            work.post(m.ImageReady(name, image.id))
        return


async def start_container(work: PodWorker, instruction: m.StartContainer) -> None:
    name, attempt = instruction.container, instruction.attempt
    container = work.machine.containers[name].spec
    try:
        config = await _container_config(work, container, instruction)
        identity = await _create(work, instruction, config)
    except ConfigError as error:
        work.post(m.StartFailed(name, attempt, "CreateContainerConfigError", str(error)))
    except (RuntimeAway, TransportError, StatusError) as error:
        # The node or the control plane has a bad moment; the pod is not to blame.
        work.post(m.StartFailed(name, attempt, "", str(error), quiet=True))
    except CRIError as error:
        work.post(m.StartFailed(name, attempt, "CreateContainerError", error.message))
    except Exception as error:
        log.exception("pod %s: container %s", work.key, name)
        work.post(m.StartFailed(name, attempt, "CreateContainerError", str(error)))
    else:
        work.post(m.ContainerCreated(name, attempt, identity))
        await _start(work, name, attempt, identity)


async def _container_config(work: PodWorker, container: Container, i: m.StartContainer) -> cri.ContainerConfig:
    services, pod, place = work.services, work.pod, work.place
    configmaps, secrets = referenced(container)
    objects = await services.sources.objects(pod.metadata.namespace, configmaps, secrets)
    env = environment(container, pod, objects, place)
    if skipped := skipped_keys(container, objects):
        text = f"Keys [{', '.join(skipped)}] are invalid environment variable names and were skipped"
        work.record("Warning", "InvalidEnvironmentVariableNames", text, container.name)
    mounts = await services.volumes.mounts(pod, container, env)
    mounts += services.volumes.container_files(pod, container, i.attempt, place)
    image = work.images.get(container.name)
    return container_config(pod, container, i.attempt, image, i.image_ref, services.node.facts(), env, mounts)


async def _create(work: PodWorker, i: m.StartContainer, config: cri.ContainerConfig) -> str:
    runtime = work.services.runtime
    sandbox = pod_sandbox_config(work, work.machine.sandbox.attempt)
    try:
        return await runtime.create_container(i.sandbox_id, config, sandbox)
    except RuntimeAway:
        raise
    except CRIError:
        # An earlier call may have got through although its answer did not; then its number is taken.
        labels = {names.POD_UID: work.pod.metadata.uid, names.CONTAINER_NAME: i.container}
        leftovers = [each for each in await runtime.list_containers(labels) if each.metadata.attempt == i.attempt]
        if not leftovers:
            raise
        for each in leftovers:
            await runtime.remove_container(each.id)
        return await runtime.create_container(i.sandbox_id, config, sandbox)


async def _start(work: PodWorker, name: str, attempt: int, identity: str) -> None:
    """Start it and look at what became of it; while the runtime is away, wait: the call may have got through."""
    runtime, refusal = work.services.runtime, ""
    try:
        await runtime.start_container(identity)
    except RuntimeAway:
        pass
    except CRIError as error:
        refusal = error.message
    status = None
    while status is None:
        try:
            status = await runtime.container_status(identity)
        except RuntimeAway:
            await work.services.clock.sleep(0.5)
        except CRIError as error:
            refusal = refusal or error.message
            break
    if status is not None and not refusal and status.state in (cri.CONTAINER_RUNNING, cri.CONTAINER_EXITED):
        work.post(m.ContainerStarted(name, attempt, identity, status.started_at / NANO, status.image_ref))
        if status.state == cri.CONTAINER_EXITED:
            work.post(m.ContainerExited(name, exit_of(work.services, status)))
    else:
        now = work.services.clock.now()
        code = status.exit_code if status is not None and status.exit_code else START_ERROR_CODE
        text = refusal or "the container was created but never started"
        exit_ = m.Exit(identity, code, "StartError", text, 0.0, now)
        work.post(m.ContainerExited(name, exit_, failed_start="RunContainerError"))


async def stop_container(work: PodWorker, instruction: m.StopContainer) -> None:
    runtime, identity = work.services.runtime, instruction.id

    async def stop() -> None:
        await runtime.stop_container(identity, instruction.grace_seconds)

    await persist(work, f"stop container {instruction.container}", stop)
    status: list[cri.ContainerStatus] = []

    async def look() -> None:
        status.append(await runtime.container_status(identity))

    await persist(work, f"status of container {instruction.container}", look)
    if status:
        exit_ = exit_of(work.services, status[0])
    else:
        now = work.services.clock.now()
        exit_ = m.Exit(identity, 137, "ContainerStatusUnknown", "the runtime has lost it", 0.0, now)
    work.post(m.ContainerExited(instruction.container, exit_))


async def remove_container(work: PodWorker, instruction: m.RemoveContainer) -> None:
    runtime, name = work.services.runtime, instruction.container

    async def remove() -> None:
        attempt = (await runtime.container_status(instruction.id)).metadata.attempt
        await runtime.remove_container(instruction.id)
        # A container that was never started has its number taken again, and with it the name of its log.
        if attempt != work.machine.containers[name].attempt:
            work.services.logs.remove(work.pod, name, attempt)

    await persist(work, f"remove container {name}", remove)


async def remove_pod(work: PodWorker, instruction: m.RemovePod) -> None:
    uid, services = work.pod.metadata.uid, work.services

    async def remove() -> None:
        for each in await services.runtime.list_pod_sandboxes({names.POD_UID: uid}):
            await services.runtime.stop_pod_sandbox(each.id)
            await services.runtime.remove_pod_sandbox(each.id)
        await services.volumes.remove(uid)
        await services.logs.remove_all(work.pod)
        services.cgroups.remove(uid)

    await persist(work, "remove", remove)
    work.post(m.Removed())


async def delete_from_api(work: PodWorker, instruction: m.DeleteFromApi) -> None:
    meta = work.pod.metadata

    async def delete() -> None:
        await work.reporter.flush()
        try:
            await work.services.client.delete(Pod, meta.name, meta.namespace, grace_seconds=0, uid=meta.uid)
        except (NotFound, Conflict):
            pass  # gone, or another pod has its name by now

    await persist(work, "delete", delete)
    work.post(m.ApiDeleted())


EFFECTS: dict[type, Effect] = {
    m.PrepareVolumes: prepare_volumes,
    m.TeardownVolumes: teardown_volumes,
    m.RunSandbox: run_sandbox,
    m.StopSandbox: stop_sandbox,
    m.EnsureImage: ensure_image,
    m.StartContainer: start_container,
    m.StopContainer: stop_container,
    m.RemoveContainer: remove_container,
    m.RemovePod: remove_pod,
    m.DeleteFromApi: delete_from_api,
}
