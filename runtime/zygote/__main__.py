"""The fork server's entry: `python -I -S .../runtime/zygote/__main__.py SOCKET_FD`, stand-alone by its path.

It runs twice. First it imports everything (so that byte code exists), makes a mount namespace in which the whole
machine is read-only and executes itself again from there: /proc/PID/exe of every later child then is a file that
nobody can write through (CVE-2019-5736). The second time it shrinks that namespace to an empty root and serves.
"""

from __future__ import annotations

import os
import sys

_HERE = os.path.abspath(__file__)
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(_HERE))))

from runtime.zygote import server  # noqa: E402


def main() -> int:
    socket_fd = int(sys.argv[1])
    if "--sealed" not in sys.argv:
        server.seal()
        os.set_inheritable(socket_fd, True)
        os.execv(sys.executable, [sys.executable, "-I", "-S", _HERE, str(socket_fd), "--sealed"])
    return server.serve(socket_fd)


if __name__ == "__main__":
    sys.exit(main())
