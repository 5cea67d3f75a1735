"""Waiting for the node to be ready, and saying who is to blame when it is not."""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from kubeclient.config import load_kubeconfig
from pyctl.api import Api, ApiError, Document
from pyctl.cluster.layout import Cluster, Layout
from pyctl.cluster.state import State, read_state
from pyctl.failure import Failure

PAUSE_SECONDS = 0.02
TAIL_LINES = 12
# An API server that hangs is asked anew, as long as there is time.
ANSWER_SECONDS = 5.0
# So many ends in a row (in about two seconds) have a cause that waiting does not cure.
HOPELESS_FAILURES = 5


class NotReady(Exception):
    """Not yet: who is to blame, and why. `fatal`: it will not be, however long we wait."""

    def __init__(self, component: str, reason: str, *, fatal: bool = False) -> None:
        super().__init__(reason)
        self.component = component
        self.reason = reason
        self.fatal = fatal


def wait(
    layout: Layout,
    cluster: Cluster,
    process: subprocess.Popen[bytes] | None,
    seconds: float,
    say: Callable[[str], None],
) -> None:
    """Return when the node is ready by this start's own word. Raises Failure with reason and log after `seconds`.

    process: the supervisor, if we have just started it.
    """
    begin = time.monotonic()
    since = time.time()
    api = Api.connect(load_kubeconfig(layout.kubeconfig), timeout_seconds=ANSWER_SECONDS)
    while True:
        state = read_state(layout.run)
        try:
            _check_alive(process)
            check(api, cluster, state)
            say(f"node {cluster.node_name} is ready after {time.monotonic() - begin:.1f} s")
            return
        except NotReady as trouble:
            if trouble.fatal or time.monotonic() - begin >= seconds:
                raise _failure(layout, trouble, time.monotonic() - begin, since) from None
        _pause(process)


def check(api: Api, cluster: Cluster, state: State) -> None:
    """Raise NotReady unless the node is ready and has said so since its agent started."""
    for name, record in state.components.items():
        if record.last_exit.startswith("cannot be loaded"):
            raise NotReady("supervisor", f"{name} {record.last_exit}", fatal=True)
    for name, record in state.components.items():
        if record.failures >= HOPELESS_FAILURES:
            raise NotReady(name, f"{name} keeps failing: it {record.last_exit}, {record.failures} times", fatal=True)
        if not record.alive:
            raise NotReady(name, f"{name} {record.last_exit or 'has not started'}")
    agent = state.components.get("nodeagent")
    if agent is None:
        raise NotReady("supervisor", "the supervisor has not started the components yet")
    try:
        node = api.find(f"/api/v1/nodes/{cluster.node_name}")
        lease = api.find(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{cluster.node_name}")
    except ApiError as error:
        raise NotReady("apiserver", f"the API server says: {error.message}") from error
    except Failure as failure:
        raise NotReady("apiserver", failure.message) from failure
    if node is None:
        raise NotReady("nodeagent", f"node {cluster.node_name} is not registered")
    ready = _ready_condition(node)
    if ready.get("status") != "True":
        why = ready.get("message") or ready.get("reason") or "it has not said why"
        raise NotReady(
            "runtime" if "runtime" in why.lower() else "nodeagent", f"node {cluster.node_name} is not ready: {why}"
        )
    renewed = _seconds(((lease or {}).get("spec") or {}).get("renewTime", ""))
    if renewed < agent.started_at or _seconds(ready.get("lastHeartbeatTime", "")) < int(agent.started_at):
        raise NotReady("nodeagent", f"node {cluster.node_name} has not been heard of since its agent started")


def _ready_condition(node: Document) -> Document:
    conditions = (node.get("status") or {}).get("conditions") or []
    return next((each for each in conditions if each.get("type") == "Ready"), {})


def _seconds(timestamp: str) -> float:
    try:
        return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def _check_alive(process: subprocess.Popen[bytes] | None) -> None:
    if process is not None and process.poll() is not None:
        raise NotReady("supervisor", f"the supervisor exited with {process.returncode}", fatal=True)


def _pause(process: subprocess.Popen[bytes] | None) -> None:
    """A short while, cut shorter by the supervisor's end."""
    if process is None:
        time.sleep(PAUSE_SECONDS)
        return
    import os

    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(PAUSE_SECONDS * 1000)
    finally:
        os.close(descriptor)


def _failure(layout: Layout, trouble: NotReady, seconds: float, since: float) -> Failure:
    log = layout.log_file(trouble.component)
    lines = news(tail(log, 20 * TAIL_LINES), since)[-TAIL_LINES:]
    story = "".join(f"\n    {line}" for line in lines)
    return Failure(
        f"the cluster is not ready after {seconds:.0f} s: {trouble.reason}"
        + (f"\n  the last lines of {log}:{story}" if lines else ""),
        hint="`pyctl status` shows all parts; `pyctl down` stops them",
    )


def tail(path: Path, lines: int) -> list[str]:
    """The last lines of a log, [] if there is none."""
    try:
        with path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 16384))
            return file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError:
        return []


def news(lines: list[str], since: float) -> list[str]:
    """What a log says from `since` (unix seconds) on, each record once however often it stands there; all of it if
    there is nothing so new."""
    records: dict[str, list[str]] = {}
    record: list[str] = []
    for line in lines:
        stamp, _, text = line.partition(" ")
        if time_of := _seconds(stamp):
            record = [line]
            if time_of >= since:
                records.pop(text, None)
                records[text] = record
        else:
            record.append(line)  # a traceback belongs to the line above it
    return [line for each in records.values() for line in each] or lines
