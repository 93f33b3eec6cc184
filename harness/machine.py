"""What this machine offers to trials, found without torch and without Ray."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Node(NamedTuple):
    """What one machine offers in total."""

    name: str
    cpus: float
    gpus: float
    custom: Mapping[str, float] = {}  # Ray's custom resources, by name


def this_machine() -> Node:
    """This machine as a node."""
    return Node("this machine", cpus_here(), gpus_here())


def cpus_here() -> int:
    """The CPUs that this process may use: its affinity, and in a container the container's quota, rounded up."""
    allowed = len(os.sched_getaffinity(0))
    quota, period = CPU_QUOTA.read_text().split() if CPU_QUOTA.is_file() else ("max", "1")
    return allowed if quota == "max" else min(allowed, math.ceil(int(quota) / int(period)))


@cache
def gpus_here() -> int:
    """The NVIDIA GPUs that this process may use: what nvidia-smi lists, within CUDA_VISIBLE_DEVICES."""
    program = shutil.which("nvidia-smi")
    if not program:
        return 0
    listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=False).stdout
    found = sum(line.startswith("GPU ") for line in listed.splitlines())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return found if visible is None else min(found, sum(bool(name.strip()) for name in visible.split(",")))


def amount(cpus: float, gpus: float) -> str:
    """CPUs and GPUs for people."""
    return f"{cpus:g} CPU{'s' * (cpus != 1)} and {gpus:g} GPU{'s' * (gpus != 1)}"
