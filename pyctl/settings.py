"""What the global options and the environment say: which cluster, which kubeconfig, which namespace.

Precedence: `--data-dir`, `--kubeconfig`, `$PYCTL_DATA_DIR`, `$KUBECONFIG`, and last the default data directory.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyctl.cluster.layout import DEFAULT_DATA_DIR, Layout
from pyctl.failure import Failure

if TYPE_CHECKING:
    from kubeclient.config import ClusterAccess
    from pyctl.api import Api


@dataclass(slots=True)
class Settings:
    """Options as given, "" where they were not; every verb finds it as `ctx.obj`."""

    data_dir: str = ""
    kubeconfig: str = ""
    namespace: str = ""

    @property
    def layout(self) -> Layout:
        """The cluster that this host's verbs (`up`, `down`, `status`) mean."""
        return Layout.of(self.data_dir or os.environ.get("PYCTL_DATA_DIR") or DEFAULT_DATA_DIR)

    @property
    def kubeconfig_path(self) -> Path:
        """The kubeconfig that every other verb reads."""
        if self.data_dir:
            return self.layout.kubeconfig
        if self.kubeconfig:
            return Path(self.kubeconfig)
        if not os.environ.get("PYCTL_DATA_DIR") and os.environ.get("KUBECONFIG"):
            # A list is merged by kubectl; we take the first that exists, as it takes the first to decide.
            candidates = [Path(each) for each in os.environ["KUBECONFIG"].split(os.pathsep) if each]
            return next((each for each in candidates if each.exists()), candidates[0])
        return self.layout.kubeconfig

    def access(self) -> ClusterAccess:
        """How to reach the API server. Raises Failure saying what to do where there is no cluster."""
        from kubeclient.config import KubeconfigError, load_kubeconfig

        path = self.kubeconfig_path
        ours = path == self.layout.kubeconfig
        try:
            if not path.exists():
                raise Failure(
                    f"no cluster here: {path} does not exist",
                    hint="start one with `pyctl up`" if ours else "check --kubeconfig and $KUBECONFIG",
                )
            return load_kubeconfig(path)
        except PermissionError as error:
            raise Failure(f"cannot read {path}: permission denied", hint="run it with sudo") from error
        except KubeconfigError as error:
            raise Failure(
                str(error), hint="it belongs to who ran `pyctl up`; run it with sudo" if ours else ""
            ) from error

    def api(self, *, timeout_seconds: float = 60.0) -> Api:
        """A session with the API server that needs no event loop; no answer but a stream may take longer."""
        from pyctl.api import Api

        return Api.connect(self.access(), self.namespace, timeout_seconds=timeout_seconds)
