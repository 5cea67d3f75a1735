"""What holds for all tests: properties are not timed, and without `--long` they try the same examples every time."""

import os

from hypothesis import HealthCheck, settings

settings.register_profile(
    "house",
    deadline=None,
    derandomize=not os.environ.get("PYCTL_TEST_LONG"),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("house")
