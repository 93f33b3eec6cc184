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
from harness.executors.executor import POLL_SECONDS, Answer, Steps, Worker, is_over, lost, overdue, writing
from harness.executors.file_transfer import Courier, Parcel, pack, unpack
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
        asked = self._resources.cpus_per_trial
        custom = tuple(sorted(self._resources.custom.items()))
        room = self._room(Places(asked if asked > 0 else 1.0, gpus, custom), nodes)
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
        crew, room = Crew(self._steps, self._cluster.shared), 1
        assignment: Assignment | object | None = None
        try:
            while True:
                while len(crew) < room and isinstance(assignment := next(waiting, LAST), Assignment):
                    nodes = self._nodes()  # anew: nodes come and go
                    placed = place(assignment, nodes)
                    crew.start(placed)
                    room = max(1, self._room(places_of(placed), nodes))  # none now: Ray waits for a node to come back
                crew.let_go()
                if crew:
                    yield from crew.advance(answer)
                elif assignment is LAST:
                    return
                else:
                    time.sleep(POLL_SECONDS)
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

    def _room(self, asked: Places, nodes: Sequence[Node]) -> int:
        """How many trials that ask for so much run at a time."""
        fit = sum(places(asked, node) for node in nodes)
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


class Post(NamedTuple):
    """A worker at a trial."""

    worker: Any
    assignment: Assignment
    began: float  # this attempt, seconds of the monotonic clock; infinite until the worker is there


class Crew:
    """The workers: those at a trial, each with the step that is awaited from it, and those that wait for the next one.

    A worker whose trial ended well takes another that asks for the same places, because a new process imports for three
    seconds; after any failure a new process is started.
    """

    def __init__(self, steps: Steps | None, shared: bool = True) -> None:
        """`shared`: the workers see the trials' folders; else the files travel with what is sent."""
        self._ray = library()
        self._steps = steps
        self._shared = shared
        self._worker_class = self._ray.remote(Worker if shared else Courier)
        self._awaited: dict[Any, Post] = {}
        self._free: list[tuple[Any, Places]] = []

    def __len__(self) -> int:
        return len(self._awaited)

    def start(self, assignment: Assignment) -> None:
        """A worker for one trial, with the places that it asks for."""
        worker = self._free_worker(places_of(assignment)) or self._new_worker(places_of(assignment))
        self._awaited[worker.arrive.remote()] = Post(worker, assignment, math.inf)

    def advance(self, answer: Answer) -> Iterator[TrialResult]:
        """Wait a moment; answer the reports that came, give out the results, end what takes too long."""
        ready, _ = self._ray.wait(list(self._awaited), timeout=POLL_SECONDS)
        for step in ready:
            post = self._awaited[step]
            outcome = self._outcome(step, post.assignment)
            if outcome is None:
                self._begin(post)
                del self._awaited[step]
            elif isinstance(outcome, EpochReport):
                step_on = post.worker.step if self._shared else post.worker.answer
                following = step_on.remote(answer(outcome))
                del self._awaited[step]  # not before the answer: an interruption in it must find the worker here
                self._awaited[following] = post
            else:
                del self._awaited[step]
                self._release(post, outcome)
                yield outcome
        for step, post in [*self._awaited.items()]:
            if is_over(post.assignment, post.began):
                del self._awaited[step]
                self._ray.kill(post.worker)
                yield overdue(post.assignment)

    def _begin(self, post: Post) -> None:
        """Hand a worker that has arrived its trial; only now, because waiting for places costs the trial no time."""
        if self._shared:
            begun = post.worker.begin.remote(post.assignment)
        else:
            begun = post.worker.start.remote(post.assignment, pack(post.assignment.folder))
        self._awaited[begun] = post._replace(began=time.monotonic())

    def let_go(self) -> None:
        """End the workers that no trial took: another may be waiting for their places."""
        for worker, _ in self._free:
            self._ray.kill(worker)
        self._free.clear()

    def dismiss(self) -> None:
        """End every worker at once; the last finished epoch of each trial is in its checkpoint."""
        for post in self._awaited.values():
            self._ray.kill(post.worker)
        self._awaited.clear()
        self.let_go()

    def _free_worker(self, asked: Places) -> Any:
        """A worker that holds just these places, if one is free."""
        found = next((free for free in self._free if free[1] == asked), None)
        if found is None:
            return None
        self._free.remove(found)
        return found[0]

    def _new_worker(self, asked: Places) -> Any:
        amounts = {"num_cpus": asked.cpus, "num_gpus": asked.gpus, "resources": dict(asked.custom)}
        return self._worker_class.options(**amounts, max_restarts=0, scheduling_strategy="SPREAD").remote(self._steps)

    def _release(self, post: Post, result: TrialResult) -> None:
        if result.state is State.FAILED:
            self._ray.kill(post.worker)
        else:
            self._free.append((post.worker, places_of(post.assignment)))

    def _outcome(self, step: Any, assignment: Assignment) -> EpochReport | TrialResult | None:
        """What a step brought; None of a worker that has just arrived."""
        try:
            sent: EpochReport | TrialResult | Parcel | None = self._ray.get(step)
            if isinstance(sent, Parcel):
                with writing(assignment.folder):
                    unpack(sent.files, assignment.folder)
                return sent.outcome
            return sent
        except self._ray.exceptions.RayError as error:
            return lost(assignment, *cause(error))


def chosen_address(cluster: Cluster) -> tuple[str, str]:
    """The address of the cluster to join and who named it; empty for a local Ray."""
    if cluster.address:
        return cluster.address, "[cluster] address"
    named = os.environ.get("RAY_ADDRESS", "")
    return ("", "") if named == "local" else (named, "RAY_ADDRESS")


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
