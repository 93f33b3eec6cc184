"""Where trials fit: what one asks for against what nodes have. No Ray."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from harness.errors import ResourceError, first_line
from harness.processors import cpus_here
from harness.trial.results import Assignment

SMI_SECONDS = 20.0  # that nvidia-smi may take


class Places(NamedTuple):
    """What a worker holds for a trial."""

    cpus: float
    gpus: float
    custom: tuple[tuple[str, float], ...] = ()  # of Ray's custom resources

    def __str__(self) -> str:
        """CPUs, GPUs and custom resources in words."""
        return ", ".join([amount(self.cpus, self.gpus), *(f"{count:g} {name}" for name, count in self.custom)])


def places_of(assignment: Assignment) -> Places:
    """What a worker must hold for a trial."""
    return Places(assignment.cpus, assignment.gpus, tuple(sorted(assignment.custom.items())))


def place(assignment: Assignment, nodes: Sequence[Node]) -> Assignment:
    """The assignment with its share of a GPU and its device decided."""
    gpus, device = share(assignment.gpus, assignment.device, nodes)
    return assignment.model_copy(update={"gpus": gpus, "device": device})


def share(gpus: float, device: str, nodes: Sequence[Node]) -> tuple[float, str]:
    """The GPUs and the device of a trial: gpus -1 is one GPU where any node has one.

    A trial without a GPU is told `cpu`, because Ray does not hide the GPUs of others from it; one with a GPU sees
    only its own, so that a device number means nothing there.
    """
    if gpus < 0:
        gpus = float(device.startswith("cuda") or (device == "auto" and any(node.gpus >= 1 for node in nodes)))
    if device == "auto" and not gpus:
        device = "cpu"
    return gpus, "cuda" if device.startswith("cuda") else device


def places(request: Places, node: Node) -> int:
    """How many trials that ask for so much a node holds; a share of a GPU never spans two."""
    fit = [whole(node.cpus / request.cpus)]
    if gpus := request.gpus:
        fit.append(int(node.gpus) * whole(1 / gpus) if gpus <= 1 else whole(node.gpus / gpus))
    return min([*fit, *(whole(node.custom.get(name, 0.0) / count) for name, count in request.custom)])


def whole(ratio: float) -> int:
    """The whole part of a ratio of decimal fractions: 14 / 0.56 is 25, although floating point falls short of it."""
    return math.floor(ratio + 1e-9)


def refuse_unplaceable(placed: Assignment, nodes: Sequence[Node]) -> None:
    """ResourceError for a request that no node can ever meet, with the request and the largest node."""
    request = places_of(placed)
    if placed.gpus > 1 and placed.gpus % 1:
        raise ResourceError(f"a trial asks for {request}; Ray gives a share of one GPU or whole GPUs (gpus_per_trial)")
    if placed.device == "cuda" and not placed.gpus:
        raise ResourceError(
            "device cuda with gpus_per_trial 0: Ray gives this trial no GPU; set gpus_per_trial above 0"
        )
    if not any(places(request, node) for node in nodes):
        largest = max(nodes, key=lambda node: (node.gpus, node.cpus))
        offered = tuple((name, largest.custom.get(name, 0.0)) for name, _ in request.custom)
        raise ResourceError(
            f"a trial asks for {request}, but the largest node ({largest.name}) has "
            f"{Places(largest.cpus, largest.gpus, offered)}; lower resources.cpus_per_trial or "
            "resources.gpus_per_trial, or join a cluster that has them ([cluster] address)"
        )


class Node(NamedTuple):
    """What one machine offers in total."""

    name: str
    cpus: float
    gpus: float
    custom: Mapping[str, float] = {}  # Ray's custom resources, by name


def this_machine() -> Node:
    """This machine as a node."""
    return Node("this machine", cpus_here(), gpus_here())


@cache
def gpus_here() -> int:
    """The NVIDIA GPUs that this process may use: what nvidia-smi lists, within CUDA_VISIBLE_DEVICES."""
    program = shutil.which("nvidia-smi")
    if not program:
        return 0
    listed = nvidia_smi(program, "-L")
    devices = [line.partition("UUID: ")[2].rstrip(")") or line for line in listed.splitlines() if line[:4] == "GPU "]
    parts = re.findall(r"^ +MIG .*UUID: (MIG-[\w/-]+)", listed, re.MULTILINE)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return len(devices) if visible is None else len(visible_devices(visible, devices, parts))


def nvidia_smi(program: str, *flags: str) -> str:
    """What NVIDIA's program prints; ResourceError where it hangs or cannot be run."""
    try:
        return subprocess.run(
            [program, *flags], capture_output=True, text=True, timeout=SMI_SECONDS, check=False
        ).stdout
    except (subprocess.TimeoutExpired, OSError) as error:
        message = f"{program} does not answer: {first_line(error)}; restart the machine or its driver"
        raise ResourceError(message) from error


def visible_devices(names: str, devices: Sequence[str], parts: Sequence[str]) -> set[str]:
    """The UUIDs of devices, and of parts of them (MIG), that CUDA_VISIBLE_DEVICES names by number or UUID.

    As CUDA reads it: the first name that is none of a device ends the list, and a device is there once.
    """
    visible: set[str] = set()
    for name in (name.strip() for name in names.split(",")):
        uuids = [uuid for uuid in (*devices, *parts) if name.startswith(("GPU-", "MIG-")) and uuid.startswith(name)]
        if re.fullmatch(r"[0-9]{1,4}", name):
            uuids = [*devices[int(name) : int(name) + 1]]
        if len(uuids) != 1:
            break
        visible |= {*uuids}
    return visible


def amount(cpus: float, gpus: float) -> str:
    """CPUs and GPUs in words."""
    return f"{cpus:g} CPU{'s' * (cpus != 1)} and {gpus:g} GPU{'s' * (gpus != 1)}"
