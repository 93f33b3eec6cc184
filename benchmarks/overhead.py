"""What the harness itself costs: starting a command, a trial beside its training and scoring, a report of many trials.

    python benchmarks/overhead.py [--runs 5] [--stored 2000]

Commands are timed as whole processes, in a folder of their own. A trial's share comes from `chance` on the embedded
data, which has nothing to train: the seconds that further trials add, times the trials that run side by side. Workers
start once a place, which the whole command with a single trial shows. Stored trials are made up. Writes
reports/measurements/overhead.md.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from harness.executors.placement import this_machine
from harness.files import write_atomic
from harness.tracking.tracker import Tracker
from harness.trial.results import State

ROOT = Path(__file__).parents[1]
MEASUREMENTS = ROOT / "reports" / "measurements"
COMMAND = (str(Path(sys.executable).parent / "harness"),)
ROWS, IMAGES = 150, 1000  # of a large board, each row of three seeds
FEW, MORE = 4, 44  # trials; no fewer than places, so that both start as many workers
HEAD = """# What the harness itself costs

Written by `python benchmarks/overhead.py`, which says how it measures; {machine}.

| what | median | fastest | slowest | bar |
|---|---:|---:|---:|---:|
"""


def seconds(arguments: list[str], folder: Path) -> float:
    """One command, start to end, silent."""
    start = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*COMMAND, *arguments], cwd=folder, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def new_project(folder: Path) -> None:
    """A harness.toml of its own: without one, a folder belongs to the project above it."""
    folder.mkdir(exist_ok=True)
    seconds(["init"], folder)


def a_trial(folder: Path, first: int) -> float:
    """Seconds of a place that one more trial takes."""
    taken = []
    for count in (FEW, MORE):
        seeds = ",".join(str(seed) for seed in range(first, first + count))
        taken.append(seconds(["run", "--methods", "chance", "--seeds", seeds], folder))
        first += count
    return (taken[1] - taken[0]) / (MORE - FEW) * this_machine().cpus


def first_report(folder: Path) -> float:
    """A report that reads the store through MLflow and makes every board."""
    for left in (folder / "runs" / "cache", folder / "reports"):
        shutil.rmtree(left, ignore_errors=True)
    return seconds(["report"], folder)


def store(folder: Path, trials: int) -> None:
    """A tracking store of made-up trials: five methods, four datasets, as many seeds as it takes."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from sample_results import folder_of, result_of, spec_of

    specs = [
        spec_of(("bssan", "caan", "scan_t2i", "scan_i2t", "vsepp")[n % 5], n // 20, dataset=f"data{n // 5 % 4}")
        for n in range(trials)
    ]
    tracker = Tracker(f"sqlite:///{folder / 'runs' / 'mlflow.db'}", folder / "runs" / "artifacts")
    tracker.open_campaign("main", specs)
    for number, spec in enumerate(specs):
        result = result_of(spec, 200.0 + number % 97)
        tracker.result(result, folder_of(folder / "runs", result))
    tracker.close_campaign(State.DONE)


def board(folder: Path) -> None:
    """A tracking store with one board of made-up ranks: the later a row, the worse."""
    sys.path.insert(0, str(ROOT / "tests" / "support"))
    from sample_results import log_ranks, ranks_of, spec_of

    tracker = Tracker(f"sqlite:///{folder / 'runs' / 'mlflow.db'}", folder / "runs" / "artifacts")
    for number in range(ROWS):
        for seed in range(3):
            arrays = ranks_of(spec_of(seed=3 * number + seed), images=IMAGES, worst=200 + 4 * number)
            log_ranks(tracker, folder / "runs", spec_of(f"m{number:03}", seed), arrays)


def row(what: str, taken: list[float], bar: str) -> str:
    """A row of the table."""
    cells = (f"{value:.2f} s" for value in (statistics.median(taken), min(taken), max(taken)))
    return f"| {' | '.join([what, *cells, bar])} |"


def rows(runs: int, stored: int, folder: Path) -> list[str]:
    """The table, measured."""
    there = ["run", "--methods", "chance", "--seeds", "0"]
    seconds(there, folder)
    made = [
        row(f"`harness {' '.join(arguments)}`", [seconds(arguments, folder) for _ in range(runs)], bar)
        for arguments, bar in (
            (["--help"], "0.5 s"),
            (["list"], "0.5 s"),
            (["describe", "caan"], ""),
            (["status"], ""),
            (["report"], ""),
        )
    ]
    searched = ["search", "--methods", "chance"]  # which has nothing to search: one trial
    seconds(searched, folder)
    for words, bar in ((there, "3 s"), (searched, "5 s")):
        made.append(row(f"`harness {words[0]}`, nothing to do", [seconds(words, folder) for _ in range(runs)], bar))
    singles = [seconds(["run", "--methods", "chance", "--seeds", str(seed)], folder) for seed in range(1, 1 + runs)]
    made.append(row("`harness run` of one trial without training", singles, ""))
    trials = [a_trial(folder, 100 * number) for number in range(1, 1 + max(1, runs // 2))]
    made.append(row("a trial, beside training", trials, "2 s"))
    many, large = folder / "many", folder / "large"
    new_project(many)
    store(many, stored)
    firsts = [first_report(many) for _ in range(max(1, runs // 2))]
    made.append(row(f"`harness report` of {stored:,} trials, all that is kept of them deleted", firsts, ""))
    checks = [seconds(["report", "--check"], many) for _ in range(runs)]
    made.append(row(f"`harness report --check` of {stored:,} trials, which makes every board", checks, "10 s"))
    again = [seconds(["report"], many) for _ in range(runs)]
    made.append(row(f"`harness report` of {stored:,} trials, unchanged", again, ""))
    new_project(large)
    board(large)
    for other, case, bar in (
        ("m001", "not significant", "2 s"),
        ("m020", "only as a pair alone, for which most pairs are tested", "5 s"),
        ("m149", "significant", "2 s"),
    ):
        compared = [seconds(["compare", "m000", other], large) for _ in range(runs)]
        made.append(row(f"`harness compare` on a board of {ROWS} rows, {case}", compared, bar))
    return made


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--stored", type=int, default=2000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        new_project(Path(folder))
        table = rows(args.runs, args.stored, Path(folder))
    machine = f"{this_machine().cpus:g} CPUs, {args.runs} runs"
    write_atomic(MEASUREMENTS / "overhead.md", HEAD.format(machine=machine) + "".join(f"{line}\n" for line in table))
    Console(width=150, highlight=False).print("\n".join(table))


if __name__ == "__main__":
    main()
