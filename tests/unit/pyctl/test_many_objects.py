"""`wait` and `delete` of more than one object, and of what has no name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.unit.pyctl.server import Server

PODS = "/api/v1/namespaces/default/pods"


def test_wait_for_all_with_a_label(server: Server, pyctl: Callable) -> None:
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    for name in ("a", "b"):
        server.put(f"{PODS}/{name}", status=ready)
    outcome = pyctl("wait", "--for=condition=Ready", "pods", "-l", "app=web")
    assert (outcome.code, outcome.out) == (0, "pod/a condition met\npod/b condition met\n")
    assert any(request.query.first("labelSelector") == "app=web" for request in server.sent)
    assert pyctl("wait", "--for=condition=Ready", "pods", "--all").code == 0


def test_wait_for_what_is_not_there(server: Server, pyctl: Callable) -> None:
    outcome = pyctl("wait", "--for=condition=Ready", "pods", "--all")
    assert (outcome.code, outcome.err) == (1, "no pods found\n")
    assert pyctl("wait", "--for=delete", "pods", "--all").code == 0
    assert pyctl("wait", "--for=delete", "pods").code == 2
    assert pyctl("wait", "--for=delete", "pods", "a", "--all").code == 2


def test_what_the_server_named_is_told_and_the_rest_deleted(server: Server, pyctl: Callable, tmp_path: Path) -> None:
    server.put(f"{PODS}/b")
    head = "apiVersion: v1\nkind: Pod\nmetadata: "
    (tmp_path / "two.yaml").write_text(f"{head}{{generateName: a-}}\n---\n{head}{{name: b}}\n")
    outcome = pyctl("delete", "-f", str(tmp_path / "two.yaml"))
    assert (outcome.code, outcome.out) == (1, "pod/b deleted\n")
    assert outcome.err == "error: a pod that the server names cannot be deleted by its file\n"
