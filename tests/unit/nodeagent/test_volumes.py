"""Volumes on disk: atomic replacement, payloads, safe subPaths, hostPath types, refusals. Nothing is mounted."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from apimachinery.kinds.configmap import ConfigMap
from apimachinery.kinds.pod import Pod, Volume
from apimachinery.kinds.pod_container import VolumeMount
from apimachinery.kinds.pod_volumes import (
    ConfigMapProjection,
    ConfigMapVolumeSource,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    KeyToPath,
    NFSVolumeSource,
    ObjectFieldSelector,
    ProjectedVolumeSource,
    SecretProjection,
    SecretVolumeSource,
    ServiceAccountTokenProjection,
    VolumeProjection,
)
from apimachinery.kinds.secret import Secret
from componentbase.clock import RealClock
from nodeagent.environment import ConfigError, Objects, Place
from nodeagent.volumes import atomic, hostpath, payload, subpath
from nodeagent.volumes.atomic import File
from nodeagent.volumes.interface import VolumeError
from nodeagent.volumes.manager import DiskVolumes
from tests.unit.nodeagent.pods import container, pod

OBJECTS = Objects(
    {"cm": ConfigMap(data={"a": "1", "b": "2"}, binaryData={"bin": b"\x00"})}, {"s": Secret(data={"p": b"x"})}
)
PLACE = Place(("10.1.0.2",), "10.0.0.1")


def mode(path: str) -> int:
    return os.stat(path).st_mode & 0o777


def there(path: object) -> bool:
    return os.path.lexists(str(path))


def content(directory: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in directory.iterdir() if not each.name.startswith("..")}


def test_files_are_replaced_at_once(tmp_path: Path) -> None:
    volume = tmp_path / "v"
    assert atomic.write(volume, {"a": File(b"1"), "dir/b": File(b"2", 0o600)}, "1")
    assert (volume / "a").read_bytes() == b"1" and (volume / "dir/b").stat().st_mode & 0o777 == 0o600
    first = os.readlink(volume / "..data")
    assert not atomic.write(volume, {"a": File(b"1"), "dir/b": File(b"2", 0o600)}, "2")
    assert os.readlink(volume / "..data") == first
    with (volume / "a").open("rb") as still_open:
        assert atomic.write(volume, {"a": File(b"new"), "c": File(b"3")}, "3")
        assert still_open.read() == b"1"
    assert content(volume) == {"a": b"new", "c": b"3"}
    assert not (volume / first).exists()


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../x", "a/../../x", "..data", "..x/y", "a" * 256])
def test_paths_that_lead_out_are_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="invalid path"):
        atomic.write(tmp_path / "v", {path: File(b"")}, "1")


def volume(**source: Any) -> Volume:
    return Volume(name="v", **source)


def files(given: Volume, subject: Pod | None = None) -> dict[str, bytes]:
    return {name: file.data for name, file in payload.files(given, subject or pod(), OBJECTS, PLACE).items()}


def test_payloads() -> None:
    assert files(volume(configMap=ConfigMapVolumeSource(name="cm"))) == {"a": b"1", "b": b"2", "bin": b"\x00"}
    items = [KeyToPath(key="a", path="deep/x", mode=0o400)]
    found = payload.files(volume(configMap=ConfigMapVolumeSource(name="cm", items=items)), pod(), OBJECTS, PLACE)
    assert found == {"deep/x": File(b"1", 0o400)}
    assert files(volume(secret=SecretVolumeSource(secretName="s"))) == {"p": b"x"}
    assert files(volume(secret=SecretVolumeSource(secretName="no", optional=True))) == {}


def test_projected_payload_joins_its_sources() -> None:
    name = DownwardAPIVolumeFile(path="name", fieldRef=ObjectFieldSelector(fieldPath="metadata.name"))
    labels = DownwardAPIVolumeFile(path="labels", fieldRef=ObjectFieldSelector(fieldPath="metadata.labels"))
    sources = [
        VolumeProjection(configMap=ConfigMapProjection(name="cm", items=[KeyToPath(key="a", path="a")])),
        VolumeProjection(secret=SecretProjection(name="s")),
        VolumeProjection(downwardAPI=DownwardAPIProjection(items=[name, labels])),
    ]
    subject = pod()
    subject.metadata.labels = {"b": 'q"', "a": "1"}
    found = files(volume(projected=ProjectedVolumeSource(sources=sources)), subject)
    assert found == {"a": b"1", "p": b"x", "name": b"p", "labels": b'a="1"\nb="q\\""'}


@pytest.mark.parametrize(
    ("given", "message", "permanent"),
    [
        (volume(configMap=ConfigMapVolumeSource(name="no")), 'configmap "no" not found', False),
        (
            volume(configMap=ConfigMapVolumeSource(name="cm", items=[KeyToPath(key="z", path="z")])),
            "references non-existent key: z",
            False,
        ),
        (
            volume(
                projected=ProjectedVolumeSource(
                    sources=[VolumeProjection(serviceAccountToken=ServiceAccountTokenProjection(path="t"))]
                )
            ),
            "serviceAccountToken is not supported",
            True,
        ),
    ],
)
def test_payloads_that_cannot_be_made(given: Volume, message: str, permanent: bool) -> None:
    with pytest.raises(VolumeError, match=message) as info:
        files(given)
    assert info.value.permanent is permanent


class NoSources:
    async def objects(self, namespace: str, configmaps: object, secrets: object) -> Objects:
        return OBJECTS


def disk(root: Path) -> DiskVolumes:
    return DiskVolumes(root, NoSources(), RealClock(), lambda: 1 << 30)  # type: ignore[arg-type]


async def test_disk_volumes_from_making_to_removal(tmp_path: Path) -> None:
    mounts = [
        VolumeMount(name="v", mountPath="/cm"),
        VolumeMount(name="e", mountPath="/e", readOnly=True, mountPropagation="HostToContainer"),
    ]
    subject = pod(container(volumeMounts=mounts))
    subject.spec.volumes = [
        volume(configMap=ConfigMapVolumeSource(name="cm")),
        Volume(name="e", emptyDir=EmptyDirVolumeSource()),
        Volume(name="unused", emptyDir=EmptyDirVolumeSource()),
    ]
    volumes = disk(tmp_path)
    await volumes.prepare(subject, PLACE)
    made = await volumes.mounts(subject, subject.spec.containers[0], {})
    assert [(each.container_path, each.readonly, each.propagation) for each in made] == [
        ("/cm", True, "None"),
        ("/e", True, "HostToContainer"),
    ]
    assert (Path(made[0].host_path) / "a").read_text() == "1"
    assert mode(made[1].host_path) == 0o777
    assert not there(volumes.directory("uid-p", subject.spec.volumes[2]))
    (Path(made[1].host_path) / "kept").write_bytes(b"")
    await volumes.prepare(subject, PLACE)
    assert content(Path(made[1].host_path)) == {"kept": b""}
    assert volumes.pod_uids() == {"uid-p"}
    await volumes.teardown("uid-p")
    assert not there(made[1].host_path)
    await volumes.remove("uid-p")
    assert volumes.pod_uids() == set()


async def test_nothing_is_deleted_while_something_is_mounted_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bind mount of a directory of the host may be below, and its files must outlive the pod."""
    subject = pod(container(volumeMounts=[VolumeMount(name="e", mountPath="/e")]))
    subject.spec.volumes = [Volume(name="e", emptyDir=EmptyDirVolumeSource())]
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    volumes = disk(tmp_path / "link")
    await volumes.prepare(subject, PLACE)
    [made] = await volumes.mounts(subject, subject.spec.containers[0], {})
    # The kernel lists mounts by their real paths, so that is where they must be made and looked for.
    assert made.host_path.startswith(f"{tmp_path}/real/")
    (Path(made.host_path) / "precious").write_bytes(b"")

    async def refuse(target: Path) -> None:
        pass

    monkeypatch.setattr(subpath, "unmount", refuse)
    monkeypatch.setattr(subpath, "mounts_below", lambda directory: [made.host_path])
    for clear in (volumes.teardown, volumes.remove):
        with pytest.raises(OSError, match="still mounted"):
            await clear("uid-p")
    assert there(f"{made.host_path}/precious")


async def test_unsupported_volume_is_refused_by_name(tmp_path: Path) -> None:
    subject = pod()
    subject.spec.volumes = [Volume(name="share", nfs=NFSVolumeSource(server="x", path="/"))]
    expected = 'MountVolume.SetUp failed for volume "share" : volumes of type nfs are not supported'
    with pytest.raises(VolumeError, match=expected) as info:
        await disk(tmp_path).prepare(subject, PLACE)
    assert info.value.permanent


async def test_sub_path_expressions_must_be_known(tmp_path: Path) -> None:
    subject = pod(container(volumeMounts=[VolumeMount(name="e", mountPath="/e", subPathExpr="$(NOPE)")]))
    subject.spec.volumes = [Volume(name="e", emptyDir=EmptyDirVolumeSource())]
    with pytest.raises(ConfigError, match="NOPE"):
        await disk(tmp_path).mounts(subject, subject.spec.containers[0], {})


def test_termination_message_and_hosts(tmp_path: Path) -> None:
    volumes = disk(tmp_path)
    subject = pod(container(terminationMessagePath="/dev/termination-log"))
    made = volumes.container_files(subject, subject.spec.containers[0], 2, PLACE)
    assert [each.container_path for each in made] == ["/dev/termination-log", "/etc/hosts"]
    assert "10.1.0.2\tp\n" in Path(made[1].host_path).read_text()
    Path(made[0].host_path).write_bytes(b"x" * 5000)
    assert len(volumes.termination_message("uid-p", "c", 2)) == 4096
    assert volumes.termination_message("uid-p", "c", 9) == b""
    hosted = pod(container(), hostNetwork=True)
    assert volumes.container_files(hosted, hosted.spec.containers[0], 0, PLACE) == []


def opened(root: Path, relative: str, *, make: bool = False) -> str:
    descriptor = subpath.open_inside(root, relative, make=make)
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


def test_sub_paths_stay_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "v", tmp_path / "secret"
    (root / "a/b").mkdir(parents=True)
    outside.mkdir()
    (root / "file").touch()
    (root / "inner").symlink_to("a/b")
    (root / "outer").symlink_to("../secret")
    (root / "absolute").symlink_to("/etc")
    assert opened(root, "a/b") == str(root / "a/b")
    assert opened(root, "file") == str(root / "file")
    assert opened(root, "inner") == str(root / "a/b")
    assert opened(root, "new/dir", make=True) == str(root / "new/dir")
    for bad in ("outer", "absolute", "../secret", "a/../../secret", "/etc", "outer/x"):
        with pytest.raises(subpath.SubPathError):
            opened(root, bad, make=True)
    with pytest.raises(subpath.SubPathError, match="No such file"):
        opened(root, "none")
    with pytest.raises(subpath.SubPathError, match="ot a directory"):
        opened(root, "file/x", make=True)


def test_a_link_that_appears_during_the_walk_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "v"
    root.mkdir()
    (root / "swapped").symlink_to("/etc")
    # As if the path had been a plain directory when it was resolved.
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: str(path) if "swapped" in str(path) else real(path))
    with pytest.raises(subpath.SubPathError, match="not a directory"):
        opened(root, "swapped/passwd")


@pytest.mark.parametrize(("kind", "made"), [("DirectoryOrCreate", "dir"), ("FileOrCreate", "file"), ("", "dir")])
def test_host_paths_are_made(tmp_path: Path, kind: str, made: str) -> None:
    target = tmp_path / "new"
    hostpath.check(str(target), kind)
    assert target.is_dir() if made == "dir" else target.is_file()


@pytest.mark.parametrize(
    ("kind", "message"),
    [("Directory", "is not a directory"), ("Socket", "is not a socket"), ("CharDevice", "is not a character device")],
)
def test_host_paths_are_checked(tmp_path: Path, kind: str, message: str) -> None:
    (tmp_path / "file").touch()
    hostpath.check(str(tmp_path / "file"), "File")
    with pytest.raises(VolumeError, match=message):
        hostpath.check(str(tmp_path / "file"), kind)
    with pytest.raises(VolumeError, match="does not exist"):
        hostpath.check(str(tmp_path / "none"), kind)
    with pytest.raises(VolumeError, match="not known"):
        hostpath.check(str(tmp_path), "Nonsense")
    assert HostPathVolumeSource(path="/x").type is None
