"""`python -m pyctl` is `pyctl`."""

from __future__ import annotations

from pyctl.main import main

main()
