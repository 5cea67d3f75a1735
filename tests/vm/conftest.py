"""One virtual machine for all tests of a session."""

import os

import pytest

from . import image
from .machine import Machine


@pytest.fixture(scope="session")
def vm():
    if not os.environ.get("PYCTL_TEST_LONG"):
        pytest.skip("boots a virtual machine: script/test --long (sets PYCTL_TEST_LONG)")
    if os.geteuid() != 0:
        pytest.skip("needs root to build the machine's disk")
    if missing := image.missing_packages():
        pytest.skip(f"needs the Debian packages {' '.join(missing)} (debootstrap then fetches {image.KERNEL})")
    with Machine(image.get()) as machine:
        machine.boot()
        yield machine
