"""When a start counts as done, and who is to blame when it is not."""

from __future__ import annotations

import dataclasses
import os
import time
from pathlib import Path
from typing import Any

import pytest

from pyctl.api import Api
from pyctl.cluster import health
from pyctl.cluster.health import NotReady
from pyctl.cluster.layout import Cluster
from pyctl.cluster.processes import Identity
from pyctl.cluster.state import Record, State
from tests.unit.pyctl.server import Server

CLUSTER = Cluster(node_name="n1", ports={"apiserver": 1}, pod_cidr="10.0.0.0/24", service_cidr="10.96.0.0/16")
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1"
STARTED = 1_700_000_000.5
ME = Identity.of(os.getpid())


def stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"


def state(**changes: Record) -> State:
    alive = Record(ME, "running", STARTED, 0, "", "")
    parts = dict.fromkeys(("apiserver", "scheduler", "nodeagent", "runtime"), alive)
    return State(ME, "0.1.0", {**parts, **changes})


def register(server: Server, *, status: str = "True", message: str = "", heard: float = STARTED + 1) -> None:
    condition: dict[str, Any] = {
        "type": "Ready",
        "status": status,
        "message": message,
        "lastHeartbeatTime": stamp(heard),
    }
    server.put("/api/v1/nodes/n1", status={"conditions": [condition]})
    server.put(LEASE, spec={"renewTime": stamp(heard)})


def check(server: Server, now: State) -> None:
    health.check(Api(server, "default", "https://127.0.0.1:1"), CLUSTER, now)  # type: ignore[arg-type]


def test_ready(server: Server) -> None:
    register(server)
    check(server, state())


def test_ready_as_it_was_before_the_agent_started_does_not_count(server: Server) -> None:
    register(server, heard=STARTED - 0.2)  # the same second, and yet the last run's word
    with pytest.raises(NotReady, match="not been heard of since its agent started") as info:
        check(server, state())
    assert info.value.component == "nodeagent"


def test_who_is_to_blame(server: Server) -> None:
    gone = dataclasses.replace(state().components["apiserver"], process=None, last_exit="exited with 1")
    with pytest.raises(NotReady, match="apiserver exited with 1") as info:
        check(server, state(apiserver=gone))
    assert info.value.component == "apiserver"

    with pytest.raises(NotReady, match="node n1 is not registered") as info:
        check(server, state())
    assert info.value.component == "nodeagent"

    register(server, status="False", message="container runtime is not ready: no bridge")
    with pytest.raises(NotReady, match="node n1 is not ready: container runtime is not ready: no bridge") as info:
        check(server, state())
    assert info.value.component == "runtime"

    broken = dataclasses.replace(gone, last_exit="cannot be loaded: No module named 'grpc'")
    with pytest.raises(NotReady, match="cannot be loaded") as info:
        check(server, state(runtime=broken))
    assert info.value.component == "supervisor" and info.value.fatal, "waiting on would not help"


def test_one_that_fails_again_and_again_is_not_waited_for(server: Server) -> None:
    looping = dataclasses.replace(state().components["apiserver"], failures=5, last_exit="exited with 1")
    with pytest.raises(NotReady, match="apiserver keeps failing: it exited with 1, 5 times") as info:
        check(server, state(apiserver=looping))
    assert info.value.fatal


def test_the_end_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    assert health.tail(log, 3) == []
    log.write_text("".join(f"line {number}\n" for number in range(5000)))
    assert health.tail(log, 2) == ["line 4998", "line 4999"]


def test_a_log_is_told_from_the_start_on_and_nothing_twice() -> None:
    old = [f"{stamp(STARTED - 9)} INFO listening", f"{stamp(STARTED - 8)} ERROR broken", "  a line of its traceback"]
    new = [
        line
        for second in (1, 2)
        for line in (f"{stamp(STARTED + second)} INFO here", f"{stamp(STARTED + second)} ERROR broken", "  because")
    ]
    assert health.news(old + new, STARTED) == [new[3], new[4], "  because"]
    assert health.news(old, STARTED) == old, "better old news than none"
