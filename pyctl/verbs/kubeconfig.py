"""`pyctl kubeconfig`: the path, for `export KUBECONFIG=$(pyctl kubeconfig)`."""

from __future__ import annotations

from pyctl.failure import Failure
from pyctl.options import verb
from pyctl.settings import Settings


@verb(name="kubeconfig", short_help="print the path of the kubeconfig")
def command(settings: Settings) -> int:
    """Print the path of the kubeconfig.

    \b
    export KUBECONFIG=$(pyctl kubeconfig)
    """
    path = settings.kubeconfig_path
    if not path.exists():
        raise Failure(f"{path} does not exist", hint="`pyctl up` writes it")
    print(path)
    return 0
