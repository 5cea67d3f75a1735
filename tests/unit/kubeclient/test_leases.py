"""The heartbeat makes its lease, keeps it fresh, and comes back after anything."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from apimachinery.meta import OwnerReference
from componentbase.clock import run_virtual, virtual_clock
from kubeclient.leases import LeaseHeartbeat
from kubeclient.rest import Client
from tests.unit.kubeclient import scripted

PATH = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"


def echo(request: Any) -> Any:
    body = msgspec.json.decode(request.body)
    body["metadata"]["resourceVersion"] = "7"
    return scripted.answer(body)(request)


def beat(*steps: Any, seconds: float = 35.0) -> list[tuple[str, str, Any]]:
    async def main() -> list[tuple[str, str, Any]]:
        clock = virtual_clock()
        transport = scripted.ScriptedTransport(*steps)
        owner = OwnerReference(apiVersion="v1", kind="Node", name="n1", uid="u1")
        task = asyncio.ensure_future(LeaseHeartbeat(Client(transport), clock, "n1", owner=owner).run())
        await clock.sleep(seconds)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return [
            (each.method, each.path, msgspec.json.decode(each.body) if each.body else None)
            for each in transport.requests
        ]

    return run_virtual(main())


def test_it_makes_the_lease_and_renews_it_every_quarter() -> None:
    sent = beat(scripted.failure(404, "NotFound"), echo, echo, echo, echo)
    assert [each[:2] for each in sent] == [
        ("GET", f"{PATH}/n1"), ("POST", PATH), *[("PUT", f"{PATH}/n1")] * 3,
    ]  # fmt: skip
    made = sent[1][2]
    assert made["metadata"]["ownerReferences"] == [{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u1"}]
    assert made["spec"]["holderIdentity"] == "n1"
    assert made["spec"]["leaseDurationSeconds"] == 40
    assert [each[2]["spec"]["renewTime"] for each in sent[1:]] == [
        f"2025-01-01T00:00:{second:02}.000000Z" for second in (0, 10, 20, 30)
    ]
    assert sent[2][2]["metadata"]["resourceVersion"] == "7"


def test_a_conflict_reads_again_and_a_deleted_lease_is_made_again() -> None:
    existing = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "n1", "namespace": "kube-node-lease", "resourceVersion": "9"},
        "spec": {"holderIdentity": "other", "leaseTransitions": 2},
    }
    sent = beat(
        scripted.answer(existing),
        scripted.failure(409, "Conflict"),
        scripted.answer(existing),
        echo,
        scripted.failure(404, "NotFound"),
        scripted.failure(404, "NotFound"),
        echo,
        seconds=15,
    )
    assert [each[0] for each in sent] == ["GET", "PUT", "GET", "PUT", "PUT", "GET", "POST"]
    taken = sent[3][2]["spec"]
    assert (taken["holderIdentity"], taken["leaseTransitions"]) == ("n1", 3)
    assert taken["acquireTime"] == taken["renewTime"]


def test_it_tries_on_while_the_server_is_away() -> None:
    sent = beat(*[scripted.unreachable] * 6, scripted.failure(404, "NotFound"), echo, echo, seconds=60)
    assert len(sent) >= 9
    assert sent[7][0] == "POST"
