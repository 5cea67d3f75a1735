"""The second way to an image: packed by us, pushed with skopeo to a real registry, pulled by tag and by digest."""

import contextlib
import hashlib
import io
import json
import pathlib
import shutil
import socket
import subprocess
import tarfile
import time
import urllib.request

import pytest

pytestmark = [pytest.mark.root, pytest.mark.e2e]


@contextlib.contextmanager
def serving_registry(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
    )
    log = (folder / "log").open("w")
    process = subprocess.Popen(["docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/", timeout=1)
                break
            except OSError:
                assert process.poll() is None and time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)
        log.close()


def docker_archive(path: pathlib.Path) -> None:
    """busybox-static as a one-layer `docker save` archive."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        binary = pathlib.Path("/usr/bin/busybox").read_bytes()
        entry = tarfile.TarInfo("bin/busybox")
        entry.size, entry.mode = len(binary), 0o755
        tar.addfile(entry, io.BytesIO(binary))
        for applet in ("sh", "sleep", "echo"):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    digest = hashlib.sha256(layer.getvalue()).hexdigest()
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": ["PATH=/bin", "GREETING=from the image"], "Cmd": ["sleep", "100000"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        }
    ).encode()
    manifest = [{"Config": "config.json", "RepoTags": ["packed/busybox:1"], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for name, data in (
            ("config.json", config),
            ("layer.tar", layer.getvalue()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def test_pushed_pulled_and_run_by_tag_and_by_digest(cluster, tmp_path):
    for program, package in (
        ("docker-registry", "docker-registry"),
        ("skopeo", "skopeo"),
        ("busybox", "busybox-static"),
    ):
        if shutil.which(program) is None:
            pytest.skip(f"needs the Debian package {package}")
    archive = tmp_path / "busybox.tar"
    docker_archive(archive)
    with serving_registry(tmp_path) as registry:
        digest_file = tmp_path / "digest"
        subprocess.run(
            [
                "skopeo", "copy", "--insecure-policy", "--dest-tls-verify=false", "--digestfile", str(digest_file),
                f"docker-archive:{archive}", f"docker://{registry}/packed/busybox:1",
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )  # fmt: skip
        digest = digest_file.read_text().strip()
        references = {"by-tag": f"{registry}/packed/busybox:1", "by-digest": f"{registry}/packed/busybox@{digest}"}
        for name, image in references.items():
            cluster.run_pod(name, "sh", "-c", "echo $GREETING; exec sleep 100000", image=image)
            assert cluster.pyctl("logs", name).stdout == "from the image\n"
            status = cluster.pod(name)["status"]["containerStatuses"][0]
            assert digest in status["imageID"] or status["imageID"].startswith("sha256:")
            cluster.pyctl("delete", "pod", name)
        listed = cluster.pyctl("image", "ls").stdout
        assert f"{registry}/packed/busybox" in listed
        cluster.pyctl("image", "rm", references["by-tag"])
