"""What the scheduler can be told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_SCHEDULER_NAME = "default-scheduler"


@dataclass(frozen=True)
class Config:
    """Settings of one scheduler."""

    kubeconfig: Path
    # A policy of `scheduler.policies` by its name, or a Python file that defines POLICY.
    policy: str = "default"
    # Decides ties and the jitter of retries.
    seed: int = 0
    # Only pods whose spec.schedulerName this is are scheduled.
    scheduler_name: str = DEFAULT_SCHEDULER_NAME
    log_level: str = "info"
