"""What `status` tells of clusters that run, are gone, or never were."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kubeclient.config import ClusterAccess
from pyctl.cluster import layout as layouts
from pyctl.cluster.layout import Cluster, Layout
from pyctl.cluster.processes import Identity
from pyctl.main import run
from pyctl.settings import Settings
from pyctl.verbs import status
from tests.unit.pyctl.server import Server

CLUSTER = Cluster(
    node_name="n1", ports={"apiserver": 7001, "nodeagent": 7002}, pod_cidr="10.9.0.0/24", service_cidr="10.96.0.0/16"
)


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    it = Layout.of(tmp_path / "data", tmp_path / "run")
    monkeypatch.setattr(Settings, "layout", property(lambda self: it))
    return it


def write_state(layout: Layout, supervisor: Identity | None, apiserver: Identity | None, **record: Any) -> None:
    known = {"state": "running", "started_at": 0.0, "restarts": 2, "last_exit": "exited with 1", "fingerprint": ""}
    part = {**known, **record, "process": dataclasses.asdict(apiserver) if apiserver else None}
    whole = dataclasses.asdict(supervisor) if supervisor else None
    document = {"version": "0.1.0", "supervisor": whole, "components": {"apiserver": part}}
    (layout.run / "supervisor.json").write_text(json.dumps(document))


def dead() -> Identity:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = Identity.of(child.pid)
    child.communicate()
    assert identity is not None
    return identity


def test_no_cluster(layout: Layout, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["status"]) == 1
    assert capfd.readouterr() == ("", f"no cluster in {layout.data}; `pyctl up` makes one\n")


def test_a_running_one(layout: Layout, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    layouts.make_directories(layout, CLUSTER)
    me = Identity.of(os.getpid())
    write_state(layout, me, me)
    server.put("/api/v1/nodes/n1", status={"conditions": [{"type": "Ready", "status": "True"}]})
    assert run(["status"]) == 0
    text = capfd.readouterr().out
    assert "n1 (ready)" in text and "https://127.0.0.1:7001" in text and "MiB" in text and "exited with 1" in text
    assert run(["status", "-o", "json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert document["name"] == layout.name and document["node"] == {"name": "n1", "ready": True}
    assert [(each["name"], each["pid"]) for each in document["components"]] == [
        ("supervisor", os.getpid()),
        ("apiserver", os.getpid()),
    ]


def test_trouble_is_told(layout: Layout, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    layouts.make_directories(layout, CLUSTER)
    write_state(layout, Identity.of(os.getpid()), None, state="waiting to restart")
    assert run(["status"]) == 0
    text = capfd.readouterr().out
    assert "waiting to restart" in text and "trouble: node n1 is not registered" in text and "n1 (not ready)" in text


def test_a_supervisor_that_was_killed(layout: Layout, capfd: pytest.CaptureFixture[str]) -> None:
    layouts.make_directories(layout, CLUSTER)
    write_state(layout, dead(), Identity.of(os.getpid()))
    assert run(["status"]) == 1
    assert "the supervisor is gone, its components serve on; `pyctl up` starts it" in capfd.readouterr().out
    write_state(layout, dead(), dead())
    assert run(["status"]) == 1
    assert "\ndown; `pyctl up` starts it" in capfd.readouterr().out


def test_an_api_server_that_hangs_is_not_waited_for(
    layout: Layout, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        layouts.make_directories(layout, dataclasses.replace(CLUSTER, ports={"apiserver": port, "nodeagent": 1}))
        write_state(layout, Identity.of(os.getpid()), Identity.of(os.getpid()))
        monkeypatch.setattr(Settings, "access", lambda self: ClusterAccess(f"http://127.0.0.1:{port}"))
        monkeypatch.setattr(status, "PATIENCE_SECONDS", 0.05)
        assert run(["status"]) == 0
    text = capfd.readouterr().out
    assert f"trouble: the API server at http://127.0.0.1:{port} does not answer in time" in text
    assert "apiserver" in text
