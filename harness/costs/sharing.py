"""How loaded the machine is on which something is timed, and whether others compute on the same processors."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from harness.config.sections import CONTEXT_MB

OTHERS = 0.5  # of a CPU that others may take before a time counts as not taken alone
FULL = 1.0  # load per CPU beyond which a GPU's host threads may have to wait


class Load(NamedTuple):
    per_cpu: float  # the load average of a minute over the machine's CPUs
    is_shared: bool  # whether others compute on the processors that the trial computes on


def load_now(device: torch.device) -> Load | None:
    """The machine's load; None where the system does not tell.

    On a CPU others are there where the load is above the process's own threads, on a GPU where more of its memory is
    taken than by this process, or where the CPUs are overloaded.
    """
    try:
        waiting, cpus = os.getloadavg()[0], os.cpu_count() or 1
    except OSError:
        return None
    if device.type == "cuda":
        return Load(waiting / cpus, waiting / cpus > FULL or has_other_processes(device))
    return Load(waiting / cpus, waiting > torch.get_num_threads() + OTHERS)


def has_other_processes(device: torch.device) -> bool:
    """Whether more of a GPU's memory is taken than this process accounts for; seen in a container, too."""
    free, total = torch.cuda.mem_get_info(device)
    return total - free > torch.cuda.memory_reserved(device) + CONTEXT_MB * 2**20


def load_costs(loads: Sequence[Load | None]) -> dict[str, float]:
    """`load`, the median of some looks, and `shared`: 1 where others were there in most of them or in the last."""
    known = [load for load in loads if load]
    if not known:
        return {}
    is_mostly = np.mean([load.is_shared for load in known]) > 0.5
    shared = float(is_mostly or known[-1].is_shared)
    return {"load": float(np.median([load.per_cpu for load in known])), "shared": shared}
