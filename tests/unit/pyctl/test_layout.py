"""Names and directories of a cluster, and what is kept in them."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

import pytest

from pyctl.cluster import layout as layouts
from pyctl.cluster import options as choices
from pyctl.cluster import ports
from pyctl.cluster.layout import Cluster, Layout
from pyctl.cluster.options import Options
from pyctl.failure import Failure

CLUSTER = Cluster(
    node_name="n1",
    ports={"apiserver": 6443, "nodeagent": 10250},
    pod_cidr="10.244.0.0/24",
    service_cidr="10.96.0.0/16",
    version="0.1.0",
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout.of(tmp_path / "data", tmp_path / "run")


def test_names_derive_from_the_real_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    one, other = Layout.of(tmp_path / "real"), Layout.of(tmp_path / "link")
    assert one == other
    assert Layout.of(tmp_path / "else").name != one.name
    assert len(one.name) <= 15, "a bridge of this name is made"


def test_what_was_decided_is_kept(layout: Layout) -> None:
    layouts.make_directories(layout, CLUSTER)
    assert layouts.load(layout) == CLUSTER
    assert layouts.is_ours(layout)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (layout.data, layout.pki)}
    assert modes == {layout.data: 0o711, layout.pki: 0o700}, "passable for the kubeconfig's owner, and closed behind it"


def test_no_cluster_yet(layout: Layout) -> None:
    assert layouts.load(layout) is None


@pytest.mark.parametrize("text", ["{nonsense", "[]", "{}", '{"format": 1}'])
def test_a_damaged_file_is_named(layout: Layout, text: str) -> None:
    layout.data.mkdir()
    layout.cluster_file.write_text(text)
    with pytest.raises(Failure, match=r"cluster.json is damaged"):
        layouts.load(layout)


def test_a_directory_of_another_version(layout: Layout) -> None:
    layouts.make_directories(layout, CLUSTER)
    document = json.loads(layout.cluster_file.read_text())
    layout.cluster_file.write_text(json.dumps({**document, "format": 7, "version": "9.9"}))
    with pytest.raises(Failure, match=r"has layout 7, of pyctl 9.9"):
        layouts.load(layout)


def test_a_strangers_directory_is_left_alone(layout: Layout) -> None:
    layout.data.mkdir()
    (layout.data / "thesis.tex").write_text("years of work")
    with pytest.raises(Failure, match=r"not empty and has no cluster.json"):
        layouts.make_directories(layout, CLUSTER)
    assert [each.name for each in layout.data.iterdir()] == ["thesis.tex"]


def test_first_start_chooses_what_is_free(layout: Layout) -> None:
    cluster = choices.first(layout, Options(node_name="n1"), "0.1.0")
    assert all(ports.is_free(port) for port in cluster.ports.values())
    assert len(set(cluster.ports.values())) == 2
    assert cluster.store == "sqlite"


def test_later_starts_keep_it() -> None:
    assert choices.again(CLUSTER, Options(), "0.1.0") == CLUSTER
    assert choices.again(CLUSTER, Options(api_port=7000), "0.1.0").ports == {"apiserver": 7000, "nodeagent": 10250}
    with pytest.raises(Failure, match="called n1 since the first start; it cannot become n2"):
        choices.again(CLUSTER, Options(node_name="n2"), "0.1.0")


@pytest.mark.parametrize("name", ["Big", "a_b", "-a", "a-", ""])
def test_bad_node_names(name: str) -> None:
    with pytest.raises(Failure, match="cannot be a node's name"):
        choices._node_name(name)


def test_a_taken_port_names_the_port_and_who_has_it() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert ports.choose(port) != port
        with pytest.raises(
            Failure, match=rf"port {port} \(the API server's\) is already taken by .* \(pid \d+\)"
        ) as info:
            ports.require_free(port, "the API server's", "--api-port")
    assert "--api-port" in info.value.hint
    assert ports.is_free(port)


def test_ranges_avoid_what_the_host_has(tmp_path: Path) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/route").write_text(
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n"
        "eth0 00000000 0100A8C0 0003 0 0 0 00000000 0 0 0\n"
        "eth0 0000F40A 00000000 0001 0 0 0 0000FFFF 0 0 0\n"
    )
    used = ports.used_networks(tmp_path)
    assert [(device, str(network)) for device, network in used] == [("eth0", "10.244.0.0/16")]
    pods, services = ports.choose_ranges([network for _, network in used])
    assert (pods, services) == ("10.245.0.0/24", "10.96.0.0/16")
    with pytest.raises(Failure, match=r"10.244.3.0/24 overlaps 10.244.0.0/16 of device eth0"):
        ports.require_range_free("10.244.3.0/24", "pyctl-12345678", used)
    ports.require_range_free("10.244.3.0/24", "eth0", used)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.1/24", "fe80::/64", "10.0.0.0/30", "pods"])
def test_bad_pod_ranges(text: str) -> None:
    with pytest.raises(Failure, match=f"--pod-cidr '{text}'"):
        ports.parse_pod_range(text)
