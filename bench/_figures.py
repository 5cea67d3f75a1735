"""What every measurement prints: the machine, then rows of our figure, the peer's and the ratio, from one run."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable


def machine() -> str:
    """One line about where the figures come from."""
    with open("/proc/cpuinfo") as file:
        model = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), "unknown CPU")
    with open("/proc/meminfo") as file:
        memory_kib = int(file.readline().split()[1])
    return (
        f"{os.cpu_count()} x {model}, {memory_kib / (1 << 20):.0f} GiB, Linux {platform.release()}, "
        f"Python {platform.python_version()}, {time.strftime('%Y-%m-%d', time.gmtime())}"
    )


def timed_ms(action: Callable[[], object]) -> float:
    """Wall time of one call, in milliseconds."""
    began = time.perf_counter()
    action()
    return (time.perf_counter() - began) * 1000


def spread(samples: list[float]) -> str:
    """Median with the tenth and ninetieth percentile."""
    ordered = sorted(samples)
    low, high = ordered[len(ordered) // 10], ordered[(len(ordered) * 9) // 10]
    return f"{statistics.median(ordered):8.1f}  ({low:.1f} .. {high:.1f})"


def table(title: str, rows: Iterable[tuple[str, list[float] | None, str]], ours: list[float], unit: str = "ms") -> None:
    """Print ours, then each peer with its ratio to ours. rows: name, samples (None: could not run) and a remark."""
    print(f"{title}\n  machine: {machine()}")
    print(f"  {'pyctl':34}{spread(ours)} {unit}")
    for name, samples, remark in rows:
        if samples is None:
            print(f"  {name:34}  could not run: {remark}")
            continue
        ratio = statistics.median(samples) / statistics.median(ours)
        print(f"  {name:34}{spread(samples)} {unit}   {ratio:5.1f} x ours  {remark}")


def proportional_kib(pids: Iterable[int]) -> dict[int, int]:
    """Proportional set size (KiB) of each process that still lives, from smaps_rollup."""
    sizes: dict[int, int] = {}
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup") as file:
                sizes[pid] = next(int(line.split()[1]) for line in file if line.startswith("Pss:"))
        except (FileNotFoundError, ProcessLookupError, StopIteration):
            continue
    return sizes


def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    """Run to the end and fail loudly with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed ({done.returncode}): {done.stderr.strip()}")
    return done
