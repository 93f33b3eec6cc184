"""The processors that this process may use."""

from __future__ import annotations

import math
import os
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cpus_here() -> int:
    """The CPUs that this process may use: its affinity, and in a container the container's quota, rounded up."""
    allowed = len(os.sched_getaffinity(0))
    quota, period = CPU_QUOTA.read_text().split() if CPU_QUOTA.is_file() else ("max", "1")
    return allowed if quota == "max" else min(allowed, math.ceil(int(quota) / int(period)))
