"""Trials as Ray actors, one actor a place."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from harness.config.sections import Cluster, Resources
from harness.config.sources import PACKAGE, package_hash
from harness.errors import count
from harness.executors.executor import (
    POLL_SECONDS,
    Answer,
    Steps,
    Worker,
    is_over,
    lost,
    overdue,
    writing,
)
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
from harness.executors.ray_session import RaySession, library
from harness.trial.results import Assignment, EpochReport, Failure, State, TrialResult

LAST = object()  # there are no more assignments
SAME_EVERYWHERE = "install the same versions on every node (docs/guide/running-on-a-cluster.md)"


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
        self._session = RaySession(*chosen_address(self._cluster), machine or this_machine())
        self._resources = resources or Resources()
        self._steps = steps
        self._code = package_hash()  # now: the code of this process, which workers must have

    @property
    def description(self) -> str:
        """Which Ray this is and what it offers, as far as that is known without starting it."""
        session = self._session
        named = f"Ray cluster at {session.address} (from {session.named_by})" if session.address else "local Ray"
        if session.address and not session.is_started:
            return named
        nodes = session.nodes
        size = amount(sum(node.cpus for node in nodes), sum(node.gpus for node in nodes))
        machines = f"{count(len(nodes), 'node')}, " if session.address else ""
        return f"{named}: {machines}{size}, {count(self.room, 'trial')} at a time"

    @property
    def room(self) -> int:
        """How many trials run at a time; 0 for a cluster that is not joined yet."""
        session = self._session
        nodes = [] if session.address and not session.is_started else session.nodes
        gpus, _ = share(self._resources.gpus_per_trial, self._resources.device, nodes)
        cpus = self._resources.cpus_per_trial
        custom = tuple(sorted(self._resources.custom.items()))
        return self._room(Places(cpus if cpus > 0 else 1.0, gpus, custom), nodes)

    def check(self, assignments: Sequence[Assignment]) -> None:
        """ResourceError for a request that no single node can ever meet; only a cluster must be asked for it."""
        if self._session.address:
            self._session.start()
        nodes = self._session.nodes
        wanted = [place(assignment, nodes) for assignment in assignments]
        for placed in {(places_of(a), a.device): a for a in wanted}.values():
            refuse_unplaceable(placed, nodes)

    def start(self) -> None:
        """Start the local Ray, or join the cluster."""
        self._session.start()

    def run(self, assignments: Iterable[Assignment | None], answer: Answer) -> Iterator[TrialResult]:
        """Results as trials end, in any order; a trial whose process or node is lost comes back FAILED.

        Where the local Ray itself is lost, all trials under way are, and another one is started for what is left.
        """
        waiting = iter(assignments)
        workers, room = self._workers(), 1
        assignment: Assignment | object | None = None
        try:
            while True:
                if reason := self._session.lost:
                    self._session.stop()  # first: a worker may outlive Ray, and nobody else may write to its trial
                    yield from workers.abandon(reason)
                    workers = self._workers()
                while len(workers) < room and isinstance(assignment := next(waiting, LAST), Assignment):
                    nodes = self._session.nodes  # asked each time: nodes come and go
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
        self._session.stop()

    def _workers(self) -> Workers:
        self._session.start()
        return Workers(Worker if self._cluster.shared else RemoteWorker, self._steps, self._code)

    def _room(self, request: Places, nodes: Sequence[Node]) -> int:
        """How many trials that ask for so much run at a time."""
        fit = sum(places(request, node) for node in nodes)
        limit = self._resources.max_concurrent
        return min(fit, limit) if limit else fit


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

    def __init__(self, kind: type[Worker], steps: Steps | None, code: str) -> None:
        """`kind`: a `RemoteWorker` where nodes do not see the trials' folders; `code`: the hash of the driver's."""
        self._ray = library()
        self._kind = kind
        self._actor = self._ray.remote(kind)
        self._steps, self._code = steps, code
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
            outcome = self._outcome(step, slot)
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
        files = self._kind.files_for(slot.assignment)
        begun = slot.worker.begin.remote(slot.assignment, files)
        self._awaited[begun] = slot._replace(began=time.monotonic())

    def abandon(self, reason: str) -> Iterator[TrialResult]:
        """Give out the trials under way as lost, without a word to Ray."""
        slots, self._free = [*self._awaited.values()], []
        self._awaited.clear()
        for slot in slots:
            message = f"Ray has ended on this machine ({reason}); the trial continues from its last epoch"
            yield lost(slot.assignment, Failure.NODE_LOST, message)

    def release(self) -> None:
        """End the workers that no trial took: another may be waiting for their places."""
        for worker, _ in self._free:
            self._ray.kill(worker)
        self._free.clear()

    def stop(self) -> None:
        """End every worker at once; the last finished epoch of each trial is in its checkpoint."""
        if not self._ray.is_initialized():
            return  # they have ended with it, and any call would start another one
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

    def _outcome(self, step: Any, slot: Slot) -> EpochReport | TrialResult | None:
        """A worker's report or result, its files written; None of a worker that has just arrived."""
        try:
            reply = self._ray.get(step)
        except self._ray.exceptions.RayError as error:
            return lost(slot.assignment, *(cause(error) if slot.began < math.inf else cause_before(error)))
        if slot.began == math.inf:
            return self._refusal(reply, slot.assignment)
        with writing(slot.assignment.folder):
            unpack(reply.files, slot.assignment.folder)
        outcome: EpochReport | TrialResult = reply.outcome
        return outcome

    def _refusal(self, presence: Any, assignment: Assignment) -> TrialResult | None:
        """The end of a trial whose worker has another harness, which may answer anything; None where it is the same."""
        its = presence if isinstance(presence, dict) else {}
        if its.get("code") == self._code:
            return None
        where = f"{its.get('folder', 'of an unknown place')} on {its.get('host', 'its node')}"
        return lost(
            assignment,
            Failure.DATA,
            f"the harness {where} differs from the driver's, {PACKAGE}: install the same version there, or leave this "
            "one as it is while trials run; then run with --retry data",
        )


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
        return Failure.NODE_LOST, "the trial's node was lost"
    return Failure.KILLED, "the trial's process was killed or crashed"


def cause_before(error: Exception) -> tuple[Failure, str]:
    """The failure class of an error before a worker has arrived, such as where its node has no harness."""
    exceptions = library().exceptions
    if isinstance(error, exceptions.RayTaskError) or "creation task" in str(error):
        return Failure.DATA, f"the worker could not begin: {str(error).strip().splitlines()[-1]}; {SAME_EVERYWHERE}"
    return cause(error)
