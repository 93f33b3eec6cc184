"""Where trials fit: what one asks for against what nodes have. Arithmetic alone; no Ray."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from harness.errors import ResourceError
from harness.machine import Node, amount
from harness.trial.results import Assignment


class Places(NamedTuple):
    """What a worker holds for a trial."""

    cpus: float
    gpus: float
    custom: tuple[tuple[str, float], ...] = ()  # of Ray's custom resources

    def __str__(self) -> str:
        """For people."""
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


def places(asked: Places, node: Node) -> int:
    """How many trials that ask for so much a node holds; a share of a GPU never spans two."""
    fit = [whole(node.cpus / asked.cpus)]
    if gpus := asked.gpus:
        fit.append(int(node.gpus) * whole(1 / gpus) if gpus <= 1 else whole(node.gpus / gpus))
    return min([*fit, *(whole(node.custom.get(name, 0.0) / count) for name, count in asked.custom)])


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
