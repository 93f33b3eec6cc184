"""How much two workers do in the time of one: trials of one thread through Ray, one at a time and two at a time.

    python benchmarks/side_by_side.py [--runs 5] [--trials 6]

A trial is real arithmetic and no more: matrix products of one torch thread, a few seconds long. Throughput is epochs a
second from the moment when every worker is at its first trial. Both ways take the same trials in turn, so that what
else the machine does meets both; of every way the median run counts. Beside them the same trials run in bare processes
without the harness and Ray: what the machine itself gives at that time. Writes reports/measurements/side-by-side.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from harness.config.cards import DatasetCard, MethodCard, read_card
from harness.config.sections import Resources, Training
from harness.executors.placement import this_machine
from harness.executors.ray_cluster import RayExecutor
from harness.files import write_atomic
from harness.trial.folder import write_result
from harness.trial.results import Assignment, EpochReport, State, TrialResult, TrialSpec

ROOT = Path(__file__).parents[1]
MEASUREMENTS = ROOT / "reports" / "measurements"
BAR = 1.8
EPOCHS = 6
HEAD = """# Two trials side by side

Written by `python benchmarks/side_by_side.py`, which says how it measures; {cpus} CPUs, {runs} runs of
{trials} trials of one thread. The machine's load was {before:.1f} when it began and {after:.1f} when it ended, at most
2 of it by the benchmark itself: where bare processes do not reach the bar either, others were at work, and the ratio
says nothing of the harness.

| epochs a second | one at a time | two at a time | ratio | bar |
|---|---:|---:|---:|---:|
"""


def arithmetic(assignment: Assignment) -> Generator[EpochReport, bool | None, TrialResult]:
    """A trial that multiplies matrices; the setting `products` is the length of an epoch."""
    torch.set_num_threads(assignment.threads)
    spec = assignment.spec
    yield EpochReport(key=spec.key, epoch=0, epochs=EPOCHS, phase="start")
    for epoch in range(1, EPOCHS + 1):
        multiply(int(spec.settings["products"]))
        yield EpochReport(key=spec.key, epoch=epoch, epochs=EPOCHS)
    result = TrialResult(spec=spec, state=State.DONE, epochs=EPOCHS)
    write_result(assignment.folder, result)
    return result


def multiply(products: int) -> float:
    """Products of matrices that fit into a core's own cache; the seconds that they took."""
    torch.set_num_threads(1)
    matrix = torch.full((192, 192), 1 / 192)
    start = time.perf_counter()
    for _ in range(products):
        matrix = matrix @ matrix
    return time.perf_counter() - start


def bare_trial(products: int) -> None:
    """The same work without the harness."""
    for _ in range(EPOCHS):
        multiply(products)


def assignments(folder: Path, count: int, products: int) -> list[Assignment]:
    """Trials that nothing tells apart but their seeds."""
    specs = (
        TrialSpec(
            method="arithmetic",
            dataset="none",
            protocol="none",
            seed=seed,
            settings={"products": products},
            training=Training(epochs=EPOCHS),
            data_fingerprint="",
            protocol_version=1,
            source="",
        )
        for seed in range(count)
    )
    method, dataset = ROOT / "methods" / "chance.toml", ROOT / "datasets" / "scenes" / "card.toml"  # never read
    cards = {"method_card": read_card(MethodCard, method), "dataset_card": read_card(DatasetCard, dataset)}
    return [Assignment(spec=spec, folder=folder / spec.key, data=folder, cache=folder, **cards) for spec in specs]


class Rate:
    """Takes every report; epochs a second since as many trials have begun as run side by side."""

    def __init__(self, places: int) -> None:
        self._left = places
        self._began = self._last = 0.0
        self._epochs = 0

    def __call__(self, report: EpochReport) -> bool:
        now = time.perf_counter()
        if report.phase == "start":
            self._left -= 1
            if not self._left:
                self._began, self._epochs = now, 0
        else:
            self._last, self._epochs = now, self._epochs + 1
        return True

    @property
    def value(self) -> float:
        return self._epochs / (self._last - self._began)


def through_ray(trials: list[Assignment], places: int) -> float:
    """Epochs a second through the harness."""
    rate = Rate(places)
    executor = RayExecutor(resources=Resources(max_concurrent=places), steps=arithmetic)
    results = list(executor.run(trials, rate))
    assert all(result.state is State.DONE for result in results), results
    return rate.value


def bare(count: int, products: int, places: int) -> float:
    """Epochs a second of as many trials in bare processes."""
    with ProcessPoolExecutor(places, get_context("spawn")) as pool:
        list(pool.map(multiply, [products] * places))  # they have started
        start = time.perf_counter()
        list(pool.map(bare_trial, [products] * count))
        return count * EPOCHS / (time.perf_counter() - start)


def row(what: str, rates: dict[int, list[float]], bar: str) -> str:
    """A row of the table."""
    one, two = (statistics.median(rates[places]) for places in (1, 2))
    return f"| {what} | {one:.2f} | {two:.2f} | {two / one:.2f} | {bar} |"


def measured(run: Callable[[int], float], runs: int) -> dict[int, list[float]]:
    """Epochs a second with one place and with two, in turn."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(runs):
        for places in (1, 2) if number % 2 else (2, 1):
            rates[places].append(run(places))
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--trials", type=int, default=6)
    given = parser.parse_args()
    before = os.getloadavg()[0]
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # where Ray's workers find this file
    products = int(500 / multiply(1000))  # an epoch of about half a second
    with tempfile.TemporaryDirectory() as folder:
        trials = assignments(Path(folder), given.trials, products)
        rest = RayExecutor(steps=arithmetic)  # starts Ray once, for all runs
        assert not list(rest.run([], lambda _report: True))
        rows = [
            row("bare processes", measured(lambda places: bare(given.trials, products, places), given.runs), ""),
            row("the harness", measured(lambda places: through_ray(trials, places), given.runs), f"{BAR}"),
        ]
        rest.close()
    cpus = f"{this_machine().cpus:g}"
    after = os.getloadavg()[0]
    head = HEAD.format(cpus=cpus, runs=given.runs, trials=given.trials, before=before, after=after)
    write_atomic(MEASUREMENTS / "side-by-side.md", head + "\n".join(rows) + "\n")
    print("\n".join(rows))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    import side_by_side  # under its own name, which Ray's workers can import; `__main__` they cannot

    side_by_side.main()
