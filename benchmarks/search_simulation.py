"""A search at the scale of a cluster, without one: made-up trials on made-up places, through the real driver.

    python benchmarks/search_simulation.py [--trials 10000,1500] [--slots 500] [--sampler random,tpe] [--pruner median]

One search a sampler, with as many trials as stand in its place, each in a process of its own. The studies, the tracking
store, attempts, retries and the trials' folders are real; the clock of the places is not, and a trial trains nothing:
its seconds and its val rsum are drawn from its key and settings. Some attempts lose their process and are repeated,
some trials become nonfinite. What the trials write is their workers' work and is not counted as the driver's. Writes
reports/measurements/simulation.md.
"""

from __future__ import annotations

import argparse
import itertools
import os
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from places import EPOCHS_EACH, Clock, Places
from rich.console import Console

from harness.campaign.driver import run_all
from harness.campaign.plan import PlanInputs
from harness.config.project import built_in
from harness.config.registry import discover
from harness.config.sections import Failures, Search, Training, Tunable
from harness.config.selection import Selection
from harness.executors.placement import this_machine
from harness.files import write_atomic
from harness.search.campaign import SearchTrials
from harness.search.plan import search_plans
from harness.terminal.view import LineView
from harness.tracking.store import default_uri
from harness.tracking.tracker import Tracker
from harness.trial.results import Assignment, EpochReport, TrialResult, TrialSpec

MEASUREMENTS = Path(__file__).parents[1] / "reports" / "measurements"
METHOD, DATASET = "caan", "scenes"
TENTHS = 10
BARE = 200  # trials whose entries are written once more
SPACE = {
    "training.lr": Tunable(type="float", low=1e-4, high=1e-2, log=True),
    "training.drop_words": Tunable(type="float", low=0.0, high=0.5),
}
HEAD = """# A search at the scale of a cluster

Written by `python benchmarks/search_simulation.py`, which says how it measures; {machine}.
The bar: 10,000 trials in less than 30 minutes and 1 GB. **Driver**: CPU time of the driver's process beside what the
trials write themselves; of it **Optuna**, a trial's share of the study, and **log**, a trial's share of the tracking
store. **Bare**: what MLflow's own calls cost for the same entries, three calls for each of the last {bare} trials, with
nothing of ours around them. **Wall** is the clock's time, **MB** the most memory. The clock of the places runs a
thousand times too fast: a real campaign has minutes for what is done here in a tenth of a second.

| search | trials | places | epochs | again | driver | each | epoch | Optuna | log | bare | wall | MB |
|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|
{searches}
CPU time a trial of each tenth of the search in turn; where it grows, something looks at all trials before.

| search | {numbers} |
|---|{rule}
"""


class Measured(NamedTuple):
    """What a search has cost the driver."""

    sampler: str
    pruner: str
    trials: int
    slots: int
    epochs: int
    repeated: int
    driver: float  # seconds, of which
    studies: float
    tracking: float
    bare: float  # seconds per trial
    wall: float
    megabytes: float
    marks: tuple[float, ...]  # the driver's seconds at the end of each tenth


class Watched(SearchTrials):
    """A search that keeps its own time, and the driver's as tenths of it end."""

    def watch(self, places: Places) -> None:
        """From now on; what is done at these places is not the driver's."""
        self.clock, self.marks = Clock(), list[float]()
        self._places, self._began, self._count = places, time.process_time(), 0

    def assignments(self) -> Iterator[Assignment]:
        """Trials as places free up."""
        source = super().assignments()
        while True:
            with self.clock:
                assignment = next(source, None)
            if assignment is None:
                return
            yield assignment

    def answer(self, report: EpochReport) -> bool:
        """Whether a trial is to go on."""
        with self.clock:
            return super().answer(report)

    def ended(self, result: TrialResult) -> None:
        """A trial has ended for good."""
        with self.clock:
            super().ended(result)
        self._count += 1
        if self._count * TENTHS // self.total > len(self.marks):
            self.marks.append(self.driver_seconds)

    @property
    def driver_seconds(self) -> float:
        """CPU time of this process so far, but for the trials'."""
        return time.process_time() - self._began - self._places.clock.seconds


class TimedTracker(Tracker):
    """A tracker that keeps its own time, in the thread that it is used from."""

    clock = Clock()

    def begin(self, spec: TrialSpec) -> None:
        """Open the trial's run."""
        with self.clock:
            super().begin(spec)

    def epoch(self, report: EpochReport) -> None:
        """Log an epoch."""
        with self.clock:
            super().epoch(report)

    def result(self, result: TrialResult, folder: Path) -> None:
        """Log a result."""
        with self.clock:
            super().result(result, folder)


def measured(sampler: str, trials: int, slots: int, pruner: str) -> Measured:
    """One search in a folder of its own, start to end."""
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        asked = {"sampler": sampler, "pruner": pruner, "trials": trials, "space": {METHOD: SPACE}}
        config = built_in().model_copy(
            update={
                "root": Path(folder),
                "search": Search.model_validate(asked),
                "training": Training(epochs=EPOCHS_EACH),
            }
        )
        registry = discover(config)
        inputs = PlanInputs(config, registry, limit=None)
        plans = search_plans(config, registry, Selection((METHOD,), (DATASET,)), inputs)
        places, work = Places(slots), Watched(config, "simulated", plans)
        tracker = TimedTracker(default_uri(config))
        work.watch(places)
        began = time.perf_counter()
        run_all(work, places, tracker, LineView(Console(file=nowhere, width=150)), Failures(wait_seconds=0))
        driver = work.driver_seconds
        wall = time.perf_counter() - began
        megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        floor = bare(default_uri(config), Path(folder))
    counts = (trials, slots, places.epochs, places.repeated)
    seconds = (driver, work.clock.seconds, tracker.clock.seconds, floor, wall)
    return Measured(sampler, pruner, *counts, *seconds, megabytes, tuple(work.marks))


def bare(uri: str, folder: Path) -> float:
    """CPU seconds per trial in MLflow's own calls: the entries of some trials written again to a store of their own."""
    from mlflow import MlflowClient
    from mlflow.entities import Param, RunTag

    full, empty, clock = MlflowClient(uri), MlflowClient(f"sqlite:///{folder / 'bare.db'}"), Clock()
    experiment = empty.create_experiment("bare")
    filled = [full.get_experiment_by_name("harness").experiment_id]
    for run in full.search_runs(filled, "tags.`harness.kind` = 'trial'", max_results=BARE):
        metrics = [one for name in run.data.metrics for one in full.get_metric_history(run.info.run_id, name)]
        params = [Param(name, value) for name, value in run.data.params.items()]
        last = [RunTag(name, text) for name, text in run.data.tags.items() if name.startswith("env.")]
        first = {name: text for name, text in run.data.tags.items() if not name.startswith("env.")}
        with clock:
            made = empty.create_run(experiment, tags=first).info.run_id
            empty.log_batch(made, metrics, params, last)
            empty.set_terminated(made)
    return clock.seconds / (BARE)


def in_a_process(*search: Any) -> Measured:
    """The same in a process of its own, whose memory is its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measured, *search).result()


def page(searches: Sequence[Measured]) -> str:
    """The report."""
    rows, tenths = [], []
    for one in searches:
        counts = (f"{one.trials:,}", f"{one.slots:,}", f"{one.epochs:,}", f"{one.repeated:,}")
        each = (f"{1000 * one.driver / one.trials:.0f} ms", f"{1000 * one.driver / one.epochs:.1f} ms")
        shares = (one.studies / one.trials, one.tracking / one.trials, one.bare)
        parts = (f"{1000 * part:.0f} ms" for part in shares)
        cost = (f"{one.driver:.0f} s", *each, *parts, f"{one.wall:.0f} s", f"{one.megabytes:.0f}")
        rows.append(f"| {' | '.join([f'{one.sampler}, {one.pruner}', *counts, *cost])} |\n")
        spans = [after - before for before, after in itertools.pairwise([0.0, *one.marks])]
        cells = (f"{1000 * TENTHS * span / one.trials:.0f} ms" for span in spans)
        tenths.append(f"| {one.sampler}, {one.trials:,} | {' | '.join(cells)} |\n")
    machine = f"{this_machine().cpus:g} CPUs, trials of at most {EPOCHS_EACH} epochs"
    numbers = " | ".join(str(tenth) for tenth in range(1, TENTHS + 1))
    parts = {"searches": "".join(rows), "numbers": numbers, "rule": "---:|" * TENTHS}
    return HEAD.format(machine=machine, bare=BARE, **parts) + "".join(tenths)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", default="10000,1500", help="a number a sampler")
    parser.add_argument("--slots", type=int, default=500)
    parser.add_argument("--sampler", default="random,tpe")
    parser.add_argument("--pruner", default="median")
    args = parser.parse_args()
    searches = zip(args.sampler.split(","), map(int, args.trials.split(",")), strict=True)
    text = page([in_a_process(sampler, trials, args.slots, args.pruner) for sampler, trials in searches])
    write_atomic(MEASUREMENTS / "simulation.md", text)
    print(text)


if __name__ == "__main__":
    main()
