"""How often equally good methods are called different, and how often better ones are found: the bars of a leaderboard.

    python benchmarks/false_alarms.py [--rounds 2000] [--processes 2]

Methods are simulated. An image is hard or easy for all of them, and some more or less for each; its captions share its
ease, and a seed shifts the skill of a run. All that is random is drawn again in each round. Rows go through
`harness.evaluation.statistics.differences` as those of a board do, with fewer swaps. **Alarms**: rounds in which two
methods of one skill have p < 5 %. **Power**: the same where one is better by a skill that is worth about four standard
errors of a difference of five against five seeds. **Family**: rounds in which any two rows of a board of equally good
methods differ significantly after Holm's correction. Writes reports/measurements/false-alarms.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import ndtr

from harness.evaluation.queries import Hits, recalls
from harness.evaluation.statistics import differences
from harness.files import write_atomic

MEASUREMENTS = Path(__file__).parents[1] / "reports" / "measurements"
IMAGES, CAPTIONS, SWAPS = 200, 5, 1000
CUTOFFS = np.array([-1.0, 0.0, 0.5])  # what R@1, R@5 and R@10 add to the chance of a match
HUGE, LARGE, SMALL, NONE = 0.5, 0.2, 0.05, 0.0  # luck of training, in standard deviations of skill
BAR = 0.015
HEAD = """# False alarms and power

Written by `python benchmarks/false_alarms.py`, which says how it measures: {rounds:,} rounds each, so that the
standard error of 5 % is {error:.1f} %; {images} images of {captions} captions. **sd**: of rsum over the seeds of a
row; what single queries give alone is {none:.1f}. The bar is 5 % ± 1.5. Less is unavoidable where a row has two
seeds: they may lie close together by chance, so that only a difference counts that is large beside the tails of a t
distribution of one degree of freedom. A test that gives 5 % where both rows spread alike gives 8 to 13 % where the
row of two seeds spreads more.

## Two rows

| seeds | sd | alarms at 5 % | at 1 % | power at 5 % |
|---:|---:|---:|---:|---:|
{pairs}
## Boards of equally good methods, after Holm's correction

Power: of the differences between one better method and the others.

| rows | seeds | sd | any alarm at 5 % | power at 5 % |
|---:|---:|---:|---:|---:|
{families}"""


class Case(NamedTuple):
    """Rows with their seeds and the luck of their training; the first is better by a skill."""

    seeds: tuple[int, ...]
    luck: tuple[float, ...]
    better: float = 0.0


PAIRS = [
    *(((n, n), (luck, luck)) for n in (2, 3, 5, 10) for luck in (NONE, SMALL, LARGE)),
    *(((n, n), (LARGE, SMALL)) for n in (2, 3, 5, 10)),
    *(((first, second), (HUGE, NONE)) for first, second in ((2, 2), (3, 3), (3, 5), (3, 10), (4, 4), (5, 5), (10, 10))),
    *(((2, more), luck) for more in (3, 5, 10) for luck in ((LARGE, LARGE), (LARGE, SMALL), (SMALL, LARGE))),
    *(((3, 10), luck) for luck in ((LARGE, LARGE), (LARGE, SMALL), (SMALL, LARGE))),
    *(((5, 10), luck) for luck in ((LARGE, LARGE), (LARGE, SMALL), (SMALL, LARGE))),
]
FAMILIES = [((n,) * rows, (SMALL,) * rows) for rows in (6, 12) for n in (2, 3, 5)]
PAIR_BETTER, FAMILY_BETTER = 0.35, 0.35


def board(rng: np.random.Generator, case: Case) -> list[list[Hits]]:
    """Rows of simulated runs on the same images."""
    shared = rng.normal(size=IMAGES)
    skills = [case.better, *[0.0] * (len(case.seeds) - 1)]
    return [
        [run(rng, shared + own, skill + luck * rng.normal()) for _ in range(seeds)]
        for seeds, luck, skill, own in zip(
            case.seeds, case.luck, skills, rng.normal(size=(len(skills), IMAGES)) / 2, strict=True
        )
    ]


def run(rng: np.random.Generator, ease: NDArray[np.float64], skill: float) -> Hits:
    """One run: each query has a luck of its own, which is the same for all K."""
    chance = ndtr(ease[:, None] + skill + CUTOFFS)  # (N, 3)
    image = rng.random((IMAGES, 1)) < chance
    captions = (rng.random((IMAGES, CAPTIONS, 1)) < chance[:, None]).sum(axis=1)
    queries = np.tile([1.0, CAPTIONS], (IMAGES, 1))
    return Hits(np.zeros(IMAGES, dtype=np.int64), queries, np.stack([image, captions], axis=1).astype(float))


def significance(case: Case, rounds: int, seed: int = 0) -> NDArray[np.float64]:
    """(rounds, pairs) the adjusted p of every pair, those with the first row first; of two rows it is p itself."""
    rng = np.random.default_rng([seed, *case.seeds, *(round(1000 * luck) for luck in case.luck)])
    pairs = [[pair.adjusted for pair in differences(board(rng, case), SWAPS)] for _ in range(rounds)]
    return np.nan_to_num(np.array(pairs), nan=1.0)


def sd(luck: float, rounds: int = 300) -> float:
    """The standard deviation of rsum over seeds."""
    rng = np.random.default_rng(1)
    sums = []
    for _ in range(rounds):
        ((*runs,),) = board(rng, Case((5,), (luck,)))
        sums.append(np.var([float(recalls(hits).sum()) for hits in runs], ddof=1))
    return float(sqrt(np.mean(sums)))


def pair_line(seeds: Sequence[int], luck: Sequence[float], p: Sequence[NDArray[np.float64]]) -> str:
    sizes = " and ".join(map(str, seeds))
    spread = " and ".join(f"{sd(one):.1f}" for one in luck)
    shares = (100 * np.mean(values < level) for values, level in ((p[0], 0.05), (p[0], 0.01), (p[1], 0.05)))
    return f"| {sizes} | {spread} | {' | '.join(f'{share:.1f} %' for share in shares)} |\n"


def family_line(seeds: Sequence[int], luck: Sequence[float], p: Sequence[NDArray[np.float64]]) -> str:
    alarms = 100 * np.mean((p[0] < 0.05).any(axis=1))
    power = 100 * np.mean(p[1][:, : len(seeds) - 1] < 0.05)
    return f"| {len(seeds)} | {seeds[0]} | {sd(luck[0]):.1f} | {alarms:.1f} % | {power:.1f} % |\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    args = parser.parse_args()
    rows = [*((pair, PAIR_BETTER) for pair in PAIRS), *((family, FAMILY_BETTER) for family in FAMILIES)]
    cases = [Case(*about, better) for about, most in rows for better in (0.0, most)]
    with ProcessPoolExecutor(args.processes) as pool:
        values = list(pool.map(significance, cases, [args.rounds] * len(cases)))
    both = [values[place : place + 2] for place in range(0, len(values), 2)]
    lines = [pair_line(*about, p) for about, p in zip(PAIRS, both, strict=False)]
    families = [family_line(*about, p) for about, p in zip(FAMILIES, both[len(PAIRS) :], strict=True)]
    numbers = {"rounds": args.rounds, "error": 100 * sqrt(0.05 * 0.95 / args.rounds), "none": sd(NONE)}
    numbers |= {"images": IMAGES, "captions": CAPTIONS}
    page = HEAD.format(**numbers, pairs="".join(lines), families="".join(families))
    write_atomic(MEASUREMENTS / "false-alarms.md", page)
    Console().print(page, markup=False, highlight=False)


if __name__ == "__main__":
    main()
