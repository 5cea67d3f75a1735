"""Kubeconfig files: what is read, what is refused, what is written."""

from __future__ import annotations

import base64
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeclient.config import ClusterAccess, KubeconfigError, load_kubeconfig, write_kubeconfig


def document(**changes: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "clusters": [{"name": "c", "cluster": {"server": "https://10.0.0.1:6443/"}}],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u", "namespace": "work"}},
            {"name": "two", "context": {"cluster": "c"}},
        ],
    } | changes


def written(tmp_path: Path, content: Any) -> Path:
    path = tmp_path / "config"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_the_current_context_is_read(tmp_path: Path) -> None:
    access = load_kubeconfig(written(tmp_path, document()))
    assert access == ClusterAccess(server="https://10.0.0.1:6443", token="secret", namespace="work")


def test_another_context_may_be_asked_for(tmp_path: Path) -> None:
    access = load_kubeconfig(written(tmp_path, document()), context="two")
    assert (access.token, access.namespace) == ("", "")


def test_files_are_relative_to_the_kubeconfig_and_inline_data_wins(tmp_path: Path) -> None:
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "ca.crt").write_bytes(b"from file")
    user = {
        "client-certificate": "pki/ca.crt",
        "client-key-data": base64.b64encode(b"inline").decode(),
        "client-key": "nowhere",
    }
    cluster = {"server": "https://h:1", "certificate-authority": "pki/ca.crt"}
    content = document(users=[{"name": "u", "user": user}], clusters=[{"name": "c", "cluster": cluster}])
    access = load_kubeconfig(written(tmp_path, content))
    assert (access.ca, access.cert, access.key) == (b"from file", b"from file", b"inline")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "kubeconfig"),
        ("- 1", "not a mapping"),
        (document(**{"current-context": ""}), "no current-context"),
        (document(**{"current-context": "none"}), "no context is named 'none'"),
        (document(clusters=[]), "no cluster is named 'c'"),
        (document(users="x"), "users is not a list"),
        (document(users=[{"name": "u", "user": {"exec": {"command": "aws"}}}]), "user field 'exec' is not supported"),
        (document(users=[{"name": "u", "user": {"client-certificate": "gone.crt"}}]), "gone.crt: No such file"),
        (document(users=[{"name": "u", "user": {"client-key-data": "?"}}]), "client-key-data is not base64"),
        (document(users=[{"name": "u", "user": {"client-key-data": "YQ=="}}]), "both are needed"),
        (document(clusters=[{"name": "c", "cluster": {"server": "ftp://x"}}]), "'ftp://x' is not an http"),
        (
            document(clusters=[{"name": "c", "cluster": {"server": "https://x", "proxy-url": "http://p"}}]),
            "'proxy-url' is not supported",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_file_and_the_reason(tmp_path: Path, content: Any, says: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(KubeconfigError) as caught:
        load_kubeconfig(path)
    assert says in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="nothing-here does not exist"):
        load_kubeconfig(tmp_path / "nothing-here")


def test_what_is_written_is_read_back_and_private(tmp_path: Path) -> None:
    access = ClusterAccess(
        server="https://127.0.0.1:6443", ca=b"ca", cert=b"cert", key=b"key", namespace="n", server_name="kubernetes"
    )
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, access, cluster="mine", user="me")
    assert load_kubeconfig(path) == access
    assert load_kubeconfig(path, context="me@mine") == access
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_bad_certificates_are_told_with_the_server() -> None:
    with pytest.raises(KubeconfigError, match="https://h:1"):
        ClusterAccess(server="https://h:1", ca=b"not a certificate").ssl_context()


def test_secrets_are_not_in_the_repr() -> None:
    shown = repr(ClusterAccess(server="https://h", key=b"PRIVATE", token="TOKEN"))
    assert "PRIVATE" not in shown
    assert "TOKEN" not in shown


def test_one_shot_commands_load_nothing_heavy() -> None:
    heavy = ["aiohttp", "asyncio", "numpy", "grpc", "rich", "apimachinery.kinds.pod", "msgspec", "http.client"]
    program = (
        "import sys, kubeclient.blocking, kubeclient.config\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    root = Path(__file__).parents[3]
    shown = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
