"""Trials as Ray actors, one actor a trial. The only file that imports Ray, and only when a trial is to run."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.config import Cluster, Resources
from harness.errors import ResourceError
from harness.executors import Answer, Running, Steps
from harness.folders import read_epochs, write_result, write_spec
from harness.machine import Node, amount, this_machine
from harness.results import Assignment, EpochReport, Failure, State, TrialResult

POLL_SECONDS = 0.25  # Ctrl-C is noticed between two looks
KNOCK_SECONDS = 5
OBJECT_STORE_BYTES = 80 * 2**20  # reports are small; Ray takes no less than 75 MiB
SOCKET_FOLDER = Path("/tmp")  # Ray's socket paths end at 107 bytes, so not below a long TMPDIR
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",  # `uv run` would package the working folder for every worker
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # else Ray prints on stdout about lost workers, which their results say better
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a trial is told its device; this default is changing in Ray
}


class RayExecutor:
    """Trials side by side on a local Ray or on an existing cluster, whichever the configuration names."""

    def __init__(
        self,
        cluster: Cluster | None = None,
        resources: Resources | None = None,
        steps: Steps | None = None,
        machine: Node | None = None,
    ) -> None:
        """Nothing is started yet; `machine` is what a local Ray may use, all of this machine where not given."""
        self._address, self._named_by = chosen_address(cluster or Cluster())
        self._resources = resources or Resources()
        self._steps = steps
        self._machine = machine or this_machine()
        self._started = False
        self._owned = False
        self._folder: Path | None = None

    @property
    def description(self) -> str:
        """Which Ray this is and what it offers, as far as that is known without starting it."""
        named = f"Ray cluster at {self._address} (from {self._named_by})" if self._address else "local Ray"
        if self._address and not self._started:
            return named
        nodes = self._nodes()
        size = amount(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes))
        gpus, _ = share(self._resources.gpus_per_trial, self._resources.device, nodes)
        asked = self._resources.cpus_per_trial
        room = self._room(asked if asked > 0 else 1.0, gpus, nodes)
        count = f"{len(nodes)} nodes, " if self._address else ""
        return f"{named}: {count}{size}, {room} trial{'s' * (room != 1)} at a time"

    def check(self, assignments: Sequence[Assignment]) -> None:
        """ResourceError for a request that no single node can ever meet; only a cluster must be asked for it."""
        if self._address:
            self._start()
        nodes = self._nodes()
        for placed in {(a.cpus, a.gpus, a.device): place(a, nodes) for a in assignments}.values():
            refuse_unplaceable(placed, nodes)

    def run(self, assignments: Iterable[Assignment], answer: Answer) -> Iterator[TrialResult]:
        """Results as trials end, in any order; a trial whose process or node is lost comes back FAILED."""
        self._start()
        nodes = self._nodes()
        waiting = iter(assignments)
        crew, room = Crew(self._steps), 1
        try:
            while True:
                while len(crew) < room and (assignment := next(waiting, None)):
                    placed = place(assignment, nodes)
                    crew.start(placed)
                    room = self._room(placed.cpus, placed.gpus, nodes)
                if not crew:
                    return
                yield from crew.advance(answer)
        finally:
            crew.dismiss()

    def close(self) -> None:
        """Stop the Ray that was started here, or leave the cluster that was joined; the actors end with it."""
        if self._owned:
            library().shutdown()
        self._started = self._owned = False
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _room(self, cpus: float, gpus: float, nodes: Sequence[Node]) -> int:
        """How many trials that ask for so much run at a time."""
        fit = sum(places(cpus, gpus, node) for node in nodes)
        limit = self._resources.max_concurrent
        return min(fit, limit) if limit else fit

    def _nodes(self) -> list[Node]:
        """The nodes there are; this machine where a local Ray is still to be started."""
        if not self._started:
            return [self._machine]
        return [
            Node(node["NodeManagerAddress"], node["Resources"].get("CPU", 0.0), node["Resources"].get("GPU", 0.0))
            for node in library().nodes()
            if node["Alive"]
        ]

    def _start(self) -> None:
        """Start or join Ray once, or use one that this process has joined; ResourceError says why it cannot be."""
        if self._started:
            return
        os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
        self._knock()
        if not library().is_initialized():
            try:
                with own_sigterm():
                    library().init(**self._options(), log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
                raise ResourceError(self._cannot_start(error)) from error
            self._owned = True
        self._started = True

    def _knock(self) -> None:
        """ResourceError where nobody listens at the cluster's address: Ray itself would wait for minutes."""
        host, colon, port = self._address.removeprefix("ray://").rpartition(":")
        if not colon or not port.isdigit():
            return  # a name that Ray resolves itself, such as `auto`
        try:
            socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()
        except OSError as error:
            raise ResourceError(self._cannot_start(error)) from error

    def _options(self) -> dict[str, Any]:
        if self._address:
            return {"address": self._address}
        self._folder = Path(tempfile.mkdtemp(prefix="itm-", dir=SOCKET_FOLDER))
        return {
            "address": "local",
            "num_cpus": int(self._machine.cpus),
            "num_gpus": int(self._machine.gpus),
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": str(self._folder),
        }

    def _cannot_start(self, error: Exception) -> str:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if self._address:
            return (
                f"the Ray cluster at {self._address} (from {self._named_by}) cannot be joined: {reason}; check the "
                "address, run the same Ray and Python versions there, or unset it for a local Ray"
            )
        return f"a local Ray cannot be started: {reason}; run with --here to do without"


class Crew:
    """The actors under way, each with the step that is awaited from it."""

    def __init__(self, steps: Steps | None) -> None:
        self._ray = library()
        self._steps = steps
        self._actor_class = self._ray.remote(Running)
        self._awaited: dict[Any, tuple[Any, Assignment]] = {}

    def __len__(self) -> int:
        return len(self._awaited)

    def start(self, assignment: Assignment) -> None:
        """An actor for one trial, with the places that it asks for."""
        places = self._actor_class.options(num_cpus=assignment.cpus, num_gpus=assignment.gpus, max_restarts=0)
        actor = places.remote(assignment, self._steps)
        self._awaited[actor.step.remote()] = (actor, assignment)

    def advance(self, answer: Answer) -> Iterator[TrialResult]:
        """Wait a moment; answer the reports that came, give out the results."""
        ready, _ = self._ray.wait(list(self._awaited), timeout=POLL_SECONDS)
        for step in ready:
            actor, assignment = self._awaited[step]
            outcome = self._outcome(step, assignment)
            if isinstance(outcome, EpochReport):
                following = actor.step.remote(answer(outcome))
                del self._awaited[step]  # not before the answer: an interruption in it must find the actor here
                self._awaited[following] = (actor, assignment)
            else:
                del self._awaited[step]
                self._ray.kill(actor)
                yield outcome

    def dismiss(self) -> None:
        """End every actor at once; the last finished epoch of each is in its checkpoint."""
        for actor, _ in self._awaited.values():
            self._ray.kill(actor)
        self._awaited.clear()

    def _outcome(self, step: Any, assignment: Assignment) -> EpochReport | TrialResult:
        try:
            outcome: EpochReport | TrialResult = self._ray.get(step)
            return outcome
        except self._ray.exceptions.RayError as error:
            return lost(assignment, *cause(error))


def chosen_address(cluster: Cluster) -> tuple[str, str]:
    """The address of the cluster to join and who named it; empty for a local Ray."""
    if cluster.address:
        return cluster.address, "[cluster] address"
    named = os.environ.get("RAY_ADDRESS", "")
    return ("", "") if named == "local" else (named, "RAY_ADDRESS")


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


def places(cpus: float, gpus: float, node: Node) -> int:
    """How many trials that ask for so much a node holds; a share of a GPU never spans two."""
    by_cpu = whole(node.cpus / cpus)
    if not gpus:
        return by_cpu
    return min(by_cpu, int(node.gpus) * whole(1 / gpus) if gpus <= 1 else whole(node.gpus / gpus))


def whole(ratio: float) -> int:
    """The whole part of a ratio of decimal fractions: 14 / 0.56 is 25, although floating point falls short of it."""
    return math.floor(ratio + 1e-9)


def refuse_unplaceable(placed: Assignment, nodes: Sequence[Node]) -> None:
    """ResourceError for a request that no node can ever meet, with the request and the largest node."""
    request = amount(placed.cpus, placed.gpus)
    if placed.gpus > 1 and placed.gpus % 1:
        raise ResourceError(f"a trial asks for {request}; Ray gives a share of one GPU or whole GPUs (gpus_per_trial)")
    if placed.device == "cuda" and not placed.gpus:
        raise ResourceError(
            "device cuda with gpus_per_trial 0: Ray gives this trial no GPU; set gpus_per_trial above 0"
        )
    if not any(places(placed.cpus, placed.gpus, node) for node in nodes):
        largest = max(nodes, key=lambda node: (node.gpus, node.cpus))
        raise ResourceError(
            f"a trial asks for {request}, but the largest node ({largest.name}) has "
            f"{amount(largest.cpus, largest.gpus)}; lower resources.cpus_per_trial or resources.gpus_per_trial, "
            "or join a cluster that has them ([cluster] address)"
        )


def cause(error: Exception) -> tuple[Failure, str]:
    """The failure class of what Ray reports, and a line for people."""
    exceptions = library().exceptions
    if isinstance(error, exceptions.OutOfMemoryError):
        advice = "run fewer trials at a time (resources.max_concurrent) or lower training.batch_size"
        return Failure.OOM_HOST, f"the node ran out of memory and Ray ended the trial; {advice}"
    if isinstance(error, exceptions.RayTaskError):
        return Failure.BUG, f"the worker failed outside the trial: {str(error).strip().splitlines()[-1]}"
    unreachable = exceptions.NodeDiedError | exceptions.ActorUnavailableError
    if isinstance(error, unreachable) or "node has died" in str(error):  # Ray says it in words alone
        return Failure.NODE_LOST, "the trial's node was lost; the same command continues it from its last epoch"
    return (
        Failure.KILLED,
        "the trial's process was killed or crashed; the same command continues it from its last epoch",
    )


def lost(assignment: Assignment, failure: Failure, message: str) -> TrialResult:
    """The result of a trial that cannot speak for itself, written into its folder in its place."""
    result = TrialResult(
        spec=assignment.spec,
        state=State.FAILED,
        failure=failure,
        message=message,
        epochs=len(read_epochs(assignment.folder)),
    )
    write_spec(assignment.folder, assignment.spec)
    write_result(assignment.folder, result)
    return result


def library() -> Any:
    """Ray, imported when it is first used: that takes a second."""
    import ray

    return ray


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Keep this process's SIGTERM handler: ray.init replaces it by one that exits with 15."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, handler)
