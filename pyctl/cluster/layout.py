"""Where a cluster keeps its things, and what they are called on the host.

Everything derives from the real path of the data directory: files below it, sockets in `/run/pyctl-<hash>`, and one
name (`pyctl-<hash>`) for bridge, table and cgroups; so clusters with different data directories live side by side.
Ports and ranges are chosen once (see `ports`), kept in `cluster.json`, and never change by themselves.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyctl.failure import Failure

DEFAULT_DATA_DIR = Path("/var/lib/pyctl")
FORMAT = 1
STORES = ("sqlite", "memory")


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths and names of one cluster; nothing here touches the disk."""

    data: Path
    run_root: Path = Path("/run")

    @classmethod
    def of(cls, data_dir: str | os.PathLike[str], run_root: Path = Path("/run")) -> Layout:
        """The layout below the real path of `data_dir`, which need not exist yet."""
        return cls(Path(os.path.realpath(data_dir)), run_root)

    @property
    def hash(self) -> str:
        import hashlib  # here: verbs that only ask the API server do without it

        return hashlib.sha256(os.fsencode(self.data)).hexdigest()[:8]

    @property
    def name(self) -> str:
        """The name of bridge, nftables table, cgroups and socket directory; 14 characters (a link may have 15)."""
        return f"pyctl-{self.hash}"

    @property
    def cluster_file(self) -> Path:
        return self.data / "cluster.json"

    @property
    def lock_file(self) -> Path:
        return self.data / "lock"

    @property
    def pki(self) -> Path:
        return self.data / "pki"

    @property
    def kubeconfig(self) -> Path:
        return self.data / "kubeconfig"

    def component_kubeconfig(self, component: str) -> Path:
        return self.data / f"{component}.kubeconfig"

    @property
    def database(self) -> Path:
        return self.data / "state.db"

    @property
    def runtime_root(self) -> Path:
        return self.data / "runtime"

    @property
    def nodeagent_root(self) -> Path:
        return self.data / "nodeagent"

    @property
    def logs(self) -> Path:
        return self.data / "log"

    def log_file(self, component: str) -> Path:
        return self.logs / f"{component}.log"

    @property
    def run(self) -> Path:
        return self.run_root / self.name

    @property
    def runtime_socket(self) -> Path:
        return self.run / "runtime.sock"

    @property
    def supervisor_socket(self) -> Path:
        return self.run / "supervisor.sock"

    @property
    def supervisor_state(self) -> Path:
        return self.run / "supervisor.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """What was decided at the first start, as it stands in `cluster.json`."""

    node_name: str
    ports: dict[str, int]  # by component: apiserver, nodeagent
    pod_cidr: str
    service_cidr: str
    store: str = "sqlite"
    registry_config: str = ""
    format: int = FORMAT
    version: str = ""

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.ports['apiserver']}"


def is_ours(layout: Layout) -> bool:
    """Whether the data directory carries our mark: a `cluster.json` that says so."""
    try:
        return bool(json.loads(layout.cluster_file.read_bytes())["kind"] == "PyctlCluster")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load(layout: Layout) -> Cluster | None:
    """The cluster of this data directory, None where none was started yet.

    Raises Failure for a directory of another version, or one whose file is not readable.
    """
    try:
        text = layout.cluster_file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Failure(
            f"cannot read {layout.cluster_file}: {error.strerror}", hint="try again as root (sudo)"
        ) from error
    try:
        document: dict[str, Any] = json.loads(text)
        found = document["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise Failure(
            f"{layout.cluster_file} is damaged: {error or 'no format in it'}",
            hint="put it back from a copy, or choose another --data-dir",
        ) from error
    if found != FORMAT:
        raise Failure(
            f"{layout.data} has layout {found}, of pyctl {document.get('version', 'unknown')}; this one has {FORMAT}",
            hint="use that version, choose another --data-dir, or remove the old one with `pyctl down --purge`",
        )
    names = {each.name for each in dataclasses.fields(Cluster)}
    try:
        return Cluster(**{key: value for key, value in document.items() if key in names})
    except TypeError as error:
        raise Failure(
            f"{layout.cluster_file} is damaged: {str(error).removeprefix('Cluster.__init__() ')}",
            hint="put it back from a copy, or choose another --data-dir",
        ) from error


def save(layout: Layout, cluster: Cluster) -> None:
    """Write `cluster.json` at once."""
    write_file(
        layout.cluster_file,
        json.dumps({"kind": "PyctlCluster", **dataclasses.asdict(cluster)}, indent=2) + "\n",
        mode=0o644,
    )


def write_file(path: Path, text: str, *, mode: int, owner: tuple[int, int] | None = None) -> None:
    """Replace `path` at once: nobody reads half a file, nor one with a wider mode or another owner than asked for."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            if owner is not None:
                os.fchown(descriptor, *owner)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def make_directories(layout: Layout, cluster: Cluster) -> None:
    """The data directory, passable for the owner of the kubeconfig, and what only root may read in it.

    Raises Failure where the path is taken by something that is not a cluster's.
    """
    check_free(layout)
    layout.data.mkdir(parents=True, exist_ok=True)
    layout.data.chmod(0o711)
    save(layout, cluster)  # first of all: from here on the directory is known to be ours
    for path in (layout.pki, layout.runtime_root, layout.nodeagent_root):
        path.mkdir(exist_ok=True)
        path.chmod(0o700)
    layout.logs.mkdir(exist_ok=True)
    layout.run.mkdir(parents=True, exist_ok=True)
    layout.run.chmod(0o755)


def check_free(layout: Layout) -> None:
    """Raise Failure if something that is not ours lives at the path of the data directory."""
    if not layout.data.exists():
        return
    if not layout.data.is_dir():
        raise Failure(f"{layout.data} is not a directory", hint="choose another --data-dir")
    strangers = [each.name for each in layout.data.iterdir() if each.name != layout.lock_file.name]
    if layout.cluster_file.name in strangers:
        load(layout)  # says what is wrong with it
    if strangers and not is_ours(layout):
        raise Failure(
            f"{layout.data} is not empty and has no cluster.json of pyctl in it",
            hint="choose another --data-dir",
        )
