"""`pyctl status`: what runs, where, and how it is."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import click

from pyctl.api import Document
from pyctl.cluster import layout as layouts
from pyctl.cluster.layout import Layout
from pyctl.cluster.state import Record, State, read_state
from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.printing import columns, duration
from pyctl.settings import Settings

# An API server that hangs is to be told of, not to be waited for.
PATIENCE_SECONDS = 3.0


@verb(name="status", short_help="what runs, where, and how it is")
@click.option("-o", "--output", type=click.Choice(["json"]), default=None, help="How to print.")
def command(settings: Settings, output: str | None) -> int:
    """Show the cluster's parts, its node, and where its things lie. Exit code 1 if the cluster is not up."""
    layout = settings.layout
    state = read_state(layout.run)
    document = report(layout, state)
    if document["running"]:
        document["node"], document["trouble"] = _node(settings, document["node"]["name"])
    if output == "json":
        print(json.dumps(document, indent=2))
    else:
        _show(document)
    return 0 if document["running"] else 1


def report(layout: Layout, state: State) -> dict[str, Any]:
    """What the files and /proc tell."""
    cluster = layouts.load(layout)
    supervisor = state.supervisor if state.running else None
    parts: list[dict[str, Any]] = []
    if state.supervisor is not None:
        parts.append(
            {
                "name": "supervisor",
                "pid": supervisor.pid if supervisor else None,
                "state": "running" if supervisor else "gone",
            }
        )
    parts += [_component(name, record) for name, record in state.components.items()]
    for part in parts:
        part["pssBytes"] = _pss(part["pid"]) if part["pid"] else None
    return {
        "name": layout.name,
        "dataDir": str(layout.data),
        "kubeconfig": str(layout.kubeconfig),
        "server": cluster.server if cluster else "",
        "store": cluster.store if cluster else "",
        "podCIDR": cluster.pod_cidr if cluster else "",
        "version": state.version,
        "running": supervisor is not None,
        "node": {"name": cluster.node_name if cluster else "", "ready": False},
        "trouble": "",
        "components": parts,
    }


def _component(name: str, record: Record) -> dict[str, Any]:
    return {
        "name": name,
        "pid": record.process.pid if record.process is not None and record.alive else None,
        "state": record.state if record.alive or record.process is None else "gone",
        "startedAt": record.started_at,
        "restarts": record.restarts,
        "lastExit": record.last_exit,
    }


def _pss(pid: int) -> int | None:
    """Bytes that this process adds to the host, shared pages divided among those who share them; None if not to be
    seen."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def _node(settings: Settings, name: str) -> tuple[dict[str, Any], str]:
    try:
        node = settings.api(timeout_seconds=PATIENCE_SECONDS).find(f"/api/v1/nodes/{name}")
    except Failure as failure:
        return {"name": name, "ready": False}, failure.message
    if node is None:
        return {"name": name, "ready": False}, f"node {name} is not registered"
    ready: Document = next((each for each in node["status"].get("conditions") or [] if each["type"] == "Ready"), {})
    well = ready.get("status") == "True"
    return {"name": name, "ready": well}, "" if well else f"node {name} is not ready: {ready.get('message', '')}"


def _show(document: dict[str, Any]) -> None:
    if not document["server"]:
        print(f"no cluster in {document['dataDir']}; `pyctl up` makes one", file=sys.stderr)
        return
    node = document["node"]
    facts = {
        "Cluster": document["name"],
        "Data": document["dataDir"],
        "Server": document["server"],
        "Kubeconfig": document["kubeconfig"],
        "Store": document["store"],
        "Pods": document["podCIDR"],
        "Node": f"{node['name']} ({'ready' if node['ready'] else 'not ready' if document['running'] else 'down'})",
    }
    for name, value in facts.items():
        print(f"{name + ':':<14}{value}")
    if document["components"]:
        print()
        for line in columns(
            ("PART", "STATE", "PID", "AGE", "RESTARTS", "MEMORY", "LAST EXIT"), map(_row, document["components"])
        ):
            print(line)
    if document["trouble"]:
        print(f"\ntrouble: {document['trouble']}")
    if not document["running"]:
        text = (
            "the supervisor is gone, its components serve on"
            if any(each["pid"] for each in document["components"])
            else "down"
        )
        print(f"\n{text}; `pyctl up` starts it")


def _row(part: dict[str, Any]) -> tuple[str, ...]:
    size = part["pssBytes"]
    return (
        part["name"],
        part["state"],
        str(part["pid"] or ""),
        duration(time.time() - part["startedAt"]) if part.get("startedAt") and part["pid"] else "",
        str(part.get("restarts", "")),
        f"{size / (1 << 20):.0f} MiB" if size else "",
        part.get("lastExit", ""),
    )
