"""Trials as Ray actors, one actor a place. The only file that imports Ray, and only when a trial is to run."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from harness.config.sections import Cluster, Resources
from harness.errors import ResourceError
from harness.executors.executor import POLL_SECONDS, Answer, Reply, Steps, Worker, is_over, lost, overdue, writing
from harness.executors.file_transfer import RemoteWorker, unpack
from harness.executors.placement import (
    Node,
    Places,
    amount,
    place,
    places,
    places_of,
    refuse_unplaceable,
    share,
    this_machine,
)
from harness.trial.results import Assignment, EpochReport, Failure, State, TrialResult

LAST = object()  # there are no more assignments
PING_SECONDS = 5
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
        self._cluster = cluster or Cluster()
        self._address, self._named_by = chosen_address(self._cluster)
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
        cpus = self._resources.cpus_per_trial
        custom = tuple(sorted(self._resources.custom.items()))
        room = self._room(Places(cpus if cpus > 0 else 1.0, gpus, custom), nodes)
        count = f"{len(nodes)} nodes, " if self._address else ""
        return f"{named}: {count}{size}, {room} trial{'s' * (room != 1)} at a time"

    def check(self, assignments: Sequence[Assignment]) -> None:
        """ResourceError for a request that no single node can ever meet; only a cluster must be asked for it."""
        if self._address:
            self._start()
        nodes = self._nodes()
        wanted = [place(assignment, nodes) for assignment in assignments]
        for placed in {(places_of(a), a.device): a for a in wanted}.values():
            refuse_unplaceable(placed, nodes)

    def run(self, assignments: Iterable[Assignment | None], answer: Answer) -> Iterator[TrialResult]:
        """Results as trials end, in any order; a trial whose process or node is lost comes back FAILED."""
        self._start()
        waiting = iter(assignments)
        workers, room = Workers(Worker if self._cluster.shared else RemoteWorker, self._steps), 1
        assignment: Assignment | object | None = None
        try:
            while True:
                while len(workers) < room and isinstance(assignment := next(waiting, LAST), Assignment):
                    nodes = self._nodes()  # asked each time: nodes come and go
                    placed = place(assignment, nodes)
                    workers.start(placed)
                    room = max(1, self._room(places_of(placed), nodes))  # none now: Ray waits for a node to come back
                workers.release()
                if workers:
                    yield from workers.advance(answer)
                elif assignment is LAST:
                    return
                else:
                    time.sleep(POLL_SECONDS)
        finally:
            workers.stop()

    def close(self) -> None:
        """Stop the Ray that was started here, or leave the cluster that was joined; the actors end with it."""
        if self._owned:
            library().shutdown()
        self._started = self._owned = False
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def _room(self, request: Places, nodes: Sequence[Node]) -> int:
        """How many trials that ask for so much run at a time."""
        fit = sum(places(request, node) for node in nodes)
        limit = self._resources.max_concurrent
        return min(fit, limit) if limit else fit

    def _nodes(self) -> list[Node]:
        """The nodes there are; this machine where a local Ray is still to be started."""
        if not self._started:
            return [self._machine]
        alive = [(node["NodeManagerAddress"], node["Resources"]) for node in library().nodes() if node["Alive"]]
        return [Node(name, total.get("CPU", 0.0), total.get("GPU", 0.0), total) for name, total in alive]

    def _start(self) -> None:
        """Start or join Ray once, or use one that this process has joined; ResourceError says why it cannot be."""
        if self._started:
            return
        os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
        self._ping()
        if not library().is_initialized():
            try:
                with own_sigterm():
                    library().init(**self._options(), log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
                raise ResourceError(self._cannot_start(error)) from error
            self._owned = True
        self._started = True

    def _ping(self) -> None:
        """ResourceError where nobody listens at the cluster's address: Ray itself would wait for minutes."""
        host, colon, port = self._address.removeprefix("ray://").rpartition(":")
        if not colon or not port.isdigit():
            return  # a name that Ray resolves itself, such as `auto`
        try:
            socket.create_connection((host, int(port)), timeout=PING_SECONDS).close()
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


class Slot(NamedTuple):
    """A worker, and the trial that it works at."""

    worker: Any
    assignment: Assignment
    began: float  # this attempt, seconds of the monotonic clock; infinite until the worker is there


class Workers:
    """Actors: those at a trial, each with the reply that is awaited from it, and those that wait for the next trial.

    A worker whose trial ended well takes another that asks for the same places, because a new process imports for three
    seconds; after any failure a new process is started.
    """

    def __init__(self, kind: type[Worker], steps: Steps | None) -> None:
        """`kind`: a `RemoteWorker` where nodes do not see the trials' folders."""
        self._ray = library()
        self._kind = kind
        self._actor = self._ray.remote(kind)
        self._steps = steps
        self._awaited: dict[Any, Slot] = {}
        self._free: list[tuple[Any, Places]] = []

    def __len__(self) -> int:
        return len(self._awaited)

    def start(self, assignment: Assignment) -> None:
        """Start or reuse a worker for a trial, with the resources that it asks for."""
        worker = self._free_worker(places_of(assignment)) or self._new_worker(places_of(assignment))
        self._awaited[worker.arrive.remote()] = Slot(worker, assignment, math.inf)

    def advance(self, answer: Answer) -> Iterator[TrialResult]:
        """Wait a moment; answer the reports that came, give out the results, end what takes too long."""
        ready, _ = self._ray.wait(list(self._awaited), timeout=POLL_SECONDS)
        for step in ready:
            slot = self._awaited[step]
            outcome = self._outcome(step, slot.assignment)
            if outcome is None:
                self._begin(slot)
                del self._awaited[step]
            elif isinstance(outcome, EpochReport):
                following = slot.worker.step.remote(answer(outcome))
                del self._awaited[step]  # not before the answer: an interruption in it must find the worker here
                self._awaited[following] = slot
            else:
                del self._awaited[step]
                self._finish(slot, outcome)
                yield outcome
        for step, slot in [*self._awaited.items()]:
            if is_over(slot.assignment, slot.began):
                del self._awaited[step]
                self._ray.kill(slot.worker)
                yield overdue(slot.assignment)

    def _begin(self, slot: Slot) -> None:
        """Hand a worker that has arrived its trial; only now, because waiting for resources costs the trial no time."""
        files = self._kind.files_for(slot.assignment.folder)
        begun = slot.worker.begin.remote(slot.assignment, files)
        self._awaited[begun] = slot._replace(began=time.monotonic())

    def release(self) -> None:
        """End the workers that no trial took: another may be waiting for their places."""
        for worker, _ in self._free:
            self._ray.kill(worker)
        self._free.clear()

    def stop(self) -> None:
        """End every worker at once; the last finished epoch of each trial is in its checkpoint."""
        for slot in self._awaited.values():
            self._ray.kill(slot.worker)
        self._awaited.clear()
        self.release()

    def _free_worker(self, request: Places) -> Any:
        """A worker that holds just these places, if one is free."""
        free = next((free for free in self._free if free[1] == request), None)
        if free is None:
            return None
        self._free.remove(free)
        return free[0]

    def _new_worker(self, request: Places) -> Any:
        amounts = {"num_cpus": request.cpus, "num_gpus": request.gpus, "resources": dict(request.custom)}
        return self._actor.options(**amounts, max_restarts=0, scheduling_strategy="SPREAD").remote(self._steps)

    def _finish(self, slot: Slot, result: TrialResult) -> None:
        if result.state is State.FAILED:
            self._ray.kill(slot.worker)
        else:
            self._free.append((slot.worker, places_of(slot.assignment)))

    def _outcome(self, step: Any, assignment: Assignment) -> EpochReport | TrialResult | None:
        """A worker's report or result, its files written; None of a worker that has just arrived."""
        try:
            reply: Reply | None = self._ray.get(step)
            if reply is None:
                return None
            with writing(assignment.folder):
                unpack(reply.files, assignment.folder)
            return reply.outcome
        except self._ray.exceptions.RayError as error:
            return lost(assignment, *cause(error))


def chosen_address(cluster: Cluster) -> tuple[str, str]:
    """The address of the cluster to join and who named it; empty for a local Ray."""
    if cluster.address:
        return cluster.address, "[cluster] address"
    named = os.environ.get("RAY_ADDRESS", "")
    return ("", "") if named == "local" else (named, "RAY_ADDRESS")


def cause(error: Exception) -> tuple[Failure, str]:
    """The failure class of an error of Ray's, and a message that says what to do."""
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
