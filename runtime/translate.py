"""From what the runtime knows to the messages of the CRI; pure."""

from __future__ import annotations

from typing import Any

from pb.cri.v1 import api_pb2 as cri
from runtime.cgroups.interface import Usage
from runtime.container import Container
from runtime.sandbox import Sandbox

_STATES = {
    "creating": cri.ContainerState.CONTAINER_UNKNOWN,
    "created": cri.ContainerState.CONTAINER_CREATED,
    "starting": cri.ContainerState.CONTAINER_CREATED,
    "running": cri.ContainerState.CONTAINER_RUNNING,
    "exited": cri.ContainerState.CONTAINER_EXITED,
}


def container_state(container: Container) -> int:
    return int(_STATES[container.state["state"]])


def sandbox_state(sandbox: Sandbox) -> int:
    return int(cri.PodSandboxState.SANDBOX_READY if sandbox.ready else cri.PodSandboxState.SANDBOX_NOTREADY)


def sandbox_item(sandbox: Sandbox) -> cri.PodSandbox:
    return cri.PodSandbox(
        id=sandbox.id,
        metadata=sandbox.config.metadata,
        state=sandbox_state(sandbox),  # type: ignore[arg-type]
        created_at=sandbox.record.created_at,
        labels=sandbox.config.labels,
        annotations=sandbox.config.annotations,
        runtime_handler=sandbox.record.handler,
    )


def sandbox_status(sandbox: Sandbox) -> cri.PodSandboxStatus:
    options = sandbox.config.linux.security_context.namespace_options
    status = cri.PodSandboxStatus(
        id=sandbox.id,
        metadata=sandbox.config.metadata,
        state=sandbox_state(sandbox),  # type: ignore[arg-type]
        created_at=sandbox.record.created_at,
        linux=cri.LinuxPodSandboxStatus(namespaces=cri.Namespace(options=options)),
        labels=sandbox.config.labels,
        annotations=sandbox.config.annotations,
        runtime_handler=sandbox.record.handler,
    )
    status.network.ip = sandbox.record.address
    return status


def container_item(container: Container) -> cri.Container:
    return cri.Container(
        id=container.id,
        pod_sandbox_id=container.sandbox.id,
        metadata=container.config.metadata,
        image=container.config.image,
        image_ref=container.record.image_id,
        image_id=container.record.image_id,
        state=container_state(container),  # type: ignore[arg-type]
        created_at=container.record.created_at,
        labels=container.config.labels,
        annotations=container.config.annotations,
    )


def container_status(container: Container) -> cri.ContainerStatus:
    state = container.state
    status = cri.ContainerStatus(
        id=container.id,
        metadata=container.config.metadata,
        state=container_state(container),  # type: ignore[arg-type]
        created_at=container.record.created_at,
        started_at=state.get("startedAt", 0),
        finished_at=state.get("finishedAt", 0),
        exit_code=state.get("exitCode", 0),
        image=container.config.image,
        image_ref=container.record.image_id,
        image_id=container.record.image_id,
        reason=state.get("reason", ""),
        message=state.get("message", ""),
        labels=container.config.labels,
        annotations=container.config.annotations,
        mounts=container.config.mounts,
        log_path=container.record.log_path,
        resources=cri.ContainerResources(linux=container.config.linux.resources),
        stop_signal=container.config.stop_signal,
    )
    user = state.get("user")
    if user:
        status.user.linux.uid = user["uid"]
        status.user.linux.gid = user["gid"]
        status.user.linux.supplemental_groups.extend(user["groups"])
    return status


def labels_match(wanted: Any, labels: Any) -> bool:
    return all(labels.get(name) == value for name, value in wanted.items())


def cpu_usage(usage: Usage, now_ns: int) -> cri.CpuUsage:
    message = cri.CpuUsage(timestamp=now_ns)
    _set(message.usage_core_nano_seconds, usage.cpu_nanoseconds)
    return message


def memory_usage(usage: Usage, now_ns: int) -> cri.MemoryUsage:
    message = cri.MemoryUsage(timestamp=now_ns)
    _set(message.working_set_bytes, usage.memory_working_set)
    _set(message.usage_bytes, usage.memory_usage)
    _set(message.rss_bytes, usage.memory_rss)
    _set(message.page_faults, usage.page_faults)
    _set(message.major_page_faults, usage.major_page_faults)
    if usage.memory_limit is not None and usage.memory_working_set is not None:
        _set(message.available_bytes, max(usage.memory_limit - usage.memory_working_set, 0))
    return message


def _set(field: cri.UInt64Value, value: int | None) -> None:
    if value is not None:
        field.value = value
        field.SetInParent()


def container_stats(container: Container, usage: Usage, written: tuple[int, int], now_ns: int) -> cri.ContainerStats:
    stats = cri.ContainerStats(
        attributes=cri.ContainerAttributes(
            id=container.id,
            metadata=container.config.metadata,
            labels=container.config.labels,
            annotations=container.config.annotations,
        ),
        cpu=cpu_usage(usage, now_ns),
        memory=memory_usage(usage, now_ns),
    )
    stats.writable_layer.timestamp = now_ns
    stats.writable_layer.fs_id.mountpoint = str(container.parts.config.root)
    stats.writable_layer.used_bytes.value = written[0]
    stats.writable_layer.inodes_used.value = written[1]
    if usage.swap_usage is not None:
        stats.swap.timestamp = now_ns
        stats.swap.swap_usage_bytes.value = usage.swap_usage
    return stats


def sandbox_stats(sandbox: Sandbox, usage: Usage, now_ns: int) -> cri.PodSandboxStats:
    stats = cri.PodSandboxStats(
        attributes=cri.PodSandboxAttributes(
            id=sandbox.id,
            metadata=sandbox.config.metadata,
            labels=sandbox.config.labels,
            annotations=sandbox.config.annotations,
        )
    )
    stats.linux.cpu.CopyFrom(cpu_usage(usage, now_ns))
    stats.linux.memory.CopyFrom(memory_usage(usage, now_ns))
    stats.linux.process.timestamp = now_ns
    _set(stats.linux.process.process_count, usage.processes)
    return stats


def interface_usage(name: str, counters: dict[str, int]) -> cri.NetworkInterfaceUsage:
    """The pod's eth0 from its host end, whose received bytes are the pod's sent ones."""
    usage = cri.NetworkInterfaceUsage(name=name)
    usage.rx_bytes.value = counters.get("tx_bytes", 0)
    usage.rx_errors.value = counters.get("tx_errors", 0)
    usage.tx_bytes.value = counters.get("rx_bytes", 0)
    usage.tx_errors.value = counters.get("rx_errors", 0)
    return usage
