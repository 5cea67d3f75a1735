"""What `up` decides and writes before anything runs, and what is found on a host afterwards."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from kubeclient.config import load_kubeconfig
from pyctl.cluster import leftovers, pki, starting
from pyctl.cluster.layout import Layout
from pyctl.cluster.options import Options
from pyctl.cluster.processes import Identity
from pyctl.cluster.state import State
from pyctl.failure import Failure

HOUSE = Path(__file__).parents[3]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(tmp_path / "data", tmp_path / "run")


def test_first_start_writes_all_that_the_components_find(layout: Layout) -> None:
    cluster = starting.prepare(layout, Options(node_name="n1"), State())
    for user in ("admin", "scheduler", "node"):
        path = layout.kubeconfig if user == "admin" else layout.component_kubeconfig(user)
        access = load_kubeconfig(path)
        assert access.server == f"https://127.0.0.1:{cluster.ports['apiserver']}"
        assert access.ssl_context() is not None
        assert path.stat().st_mode & 0o777 == 0o600
    text = subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-ext", "subjectAltName", "-in", layout.pki / "node-server.crt"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "system:node:n1" in text and "IP Address:127.0.0.1" in text
    first_service_address = cluster.service_cidr.replace(".0.0/16", ".0.1")
    assert first_service_address in pki._hosts(cluster)


def test_later_starts_need_no_cryptography(layout: Layout) -> None:
    cluster = starting.prepare(layout, Options(node_name="n1"), State())
    before = (layout.pki / "admin.crt").read_bytes()
    program = (
        "import sys; from pathlib import Path; from pyctl.cluster import starting;"
        "from pyctl.cluster.state import State;"
        "from pyctl.cluster.layout import Layout; from pyctl.cluster.options import Options;"
        "print(starting.prepare(Layout(Path(sys.argv[1]), Path(sys.argv[2])), Options(), State()).node_name);"
        "print('cryptography' in sys.modules)"
    )
    command = [sys.executable, "-c", program, layout.data, layout.run_root]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HOUSE)
    assert done.stdout == f"{cluster.node_name}\nFalse\n"
    assert (layout.pki / "admin.crt").read_bytes() == before


def test_a_full_disk_is_named(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pki, "ensure", full)
    with pytest.raises(Failure, match=f"{layout.data}: no space left on device"):
        starting.prepare(layout, Options(node_name="n1"), State())


def test_a_lost_certificate_is_issued_again(layout: Layout) -> None:
    starting.prepare(layout, Options(node_name="n1"), State())
    (layout.pki / "scheduler.crt").unlink()
    starting.prepare(layout, Options(), State())
    assert (layout.pki / "scheduler.crt").exists()


def test_a_start_that_is_refused_leaves_no_trace(layout: Layout) -> None:
    with pytest.raises(Failure), starting.locked(layout):
        starting.prepare(layout, Options(node_name="Not A Name"), State())
    assert not layout.data.exists() and not layout.run_root.exists()


def test_a_directory_of_somebody_else_is_left_as_it_was(layout: Layout) -> None:
    layout.data.mkdir()
    (layout.data / "theirs").touch()
    with pytest.raises(Failure, match="is not empty"), starting.locked(layout):
        starting.prepare(layout, Options(node_name="n1"), State())
    assert [each.name for each in layout.data.iterdir()] == ["theirs"]


def test_one_at_a_time(layout: Layout) -> None:
    order: list[str] = []
    inside = threading.Event()

    def second() -> None:
        inside.wait()
        with starting.locked(layout):
            order.append("second")

    layout.data.mkdir()
    thread = threading.Thread(target=second)
    thread.start()
    with starting.locked(layout):
        inside.set()
        time.sleep(0.05)  # room for the other to be wrong
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_kubeconfig_belongs_to_who_called_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", "1000")
    monkeypatch.setenv("SUDO_GID", "1001")
    assert pki.invoking_user() == (1000, 1001)
    monkeypatch.delenv("SUDO_UID")
    assert pki.invoking_user() is None


def test_leftovers_are_found_by_name_and_place(layout: Layout, tmp_path: Path) -> None:
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    mounts = [f"1 1 0:1 / {layout.data}/runtime/mnt rw - overlay o rw", f"2 1 0:1 / {layout.data}-else rw - ext4 d rw"]
    (proc / "self").mkdir(parents=True)
    (proc / "self/mountinfo").write_text("\n".join(mounts) + "\n")
    processes = {
        "101": (f"3:memory:/{layout.name}/pod1\n", b"sleep\0001000\0"),
        "102": ("3:memory:/\n", b"python\0-m\0pyctl.cluster.daemon\0--data-dir\0" + os.fsencode(layout.data) + b"\0"),
        "103": ("3:memory:/\n", b"vim\0" + os.fsencode(layout.data) + b"/notes\0"),
    }
    for pid, (groups, arguments) in processes.items():
        (proc / pid).mkdir()
        (proc / pid / "cgroup").write_text(groups)
        (proc / pid / "cmdline").write_bytes(arguments)
    (cgroups / "memory" / layout.name).mkdir(parents=True)
    (cgroups / "memory" / f"{layout.name}0").mkdir()
    found = [each.split(" (")[0] for each in leftovers.find(layout, proc, cgroups)]
    assert found == [
        "process 101",
        "process 102",
        f"mount {layout.data}/runtime/mnt",
        f"cgroup {cgroups}/memory/{layout.name}",
    ]


def test_identities_of_the_living() -> None:
    me = Identity.of(os.getpid())
    assert me is not None and me.alive
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert Identity.of(child.pid) is None
