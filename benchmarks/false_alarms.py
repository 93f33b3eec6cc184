"""How often equally good methods are called different, and how often better ones are found: the bars of a leaderboard.

    python benchmarks/false_alarms.py [--rounds 2000] [--processes 2] [--boards]

Methods are simulated. An image is hard or easy for all of them, and some more or less for each; its captions share its
ease, and a seed shifts the skill of a run. All that is random is drawn again in each round. Rows go through
`harness.evaluation.statistics.differences` as those of a board do, with fewer swaps. **Alarms**: rounds in which two
methods of one skill have p < 5 %. **Power**: the same where one is better by a skill that is worth about four standard
errors of a difference of five against five seeds. **Family**: rounds in which any two rows of a board of equally good
methods differ significantly after correction for all pairs, by Holm's and by Benjamini and Hochberg's method.

Boards of up to 26 rows come from a model without images, which is faster: rsum has normal errors of training, of
queries and of images with sizes as on the board of scenes, and p is the tail of a normal and a t variable, which 10,000
swaps estimate. **False**: the share of equally good pairs among those that differ significantly, the mean over rounds,
0 where none does; where all rows are equally good it is the share of rounds with any difference. **Found**: the share
of pairs of unequal skill that differ significantly. Writes reports/measurements/false-alarms.md; `--boards` leaves its
table of two rows as it stands.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import combinations
from math import sqrt
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import ndtr
from scipy.stats import false_discovery_control

from harness.evaluation.queries import Hits, recalls
from harness.evaluation.statistics import LEVEL, Spread, differences, false_discovery_rates, tail, training_errors
from harness.files import write_atomic

Floats = NDArray[np.float64]
PAGE = Path(__file__).parents[1] / "reports" / "measurements" / "false-alarms.md"
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
{boards}"""
BOARDS = """## Boards of equally good methods

Any alarm at 5 %, and power: of the differences between one better method and the others; corrected for all pairs by
Holm's method and by Benjamini and Hochberg's (BH), which boards use.

| rows | seeds | sd | any alarm, Holm | any alarm, BH | power, Holm | power, BH |
|---:|---:|---:|---:|---:|---:|---:|
{families}
## Boards of many rows

The model of normal errors, {rounds:,} rounds. False: of the pairs called different, the share of equal ones; where all
rows are equal, the share of boards with any difference. Found: of the pairs of unequal skill. BY: Benjamini and
Yekutieli's method, for any dependence. What is not called alike has standard deviations over seeds between {least:.0f}
and {most:.0f}, drawn for each row and round.

| rows of the board | rows | seeds | false, Holm | false, BH | false, BY | found, Holm | found, BH | found, BY |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
{mixed}
Where all rows of a large board or nearly all are equal, the far tail of p decides, which three seeds know least: more
is false there than 5 %, by Holm's method as well.
"""


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
QUERIES, PICTURES = 3.0, 3.0  # sd of rsum: of a run by its queries, of a row by which images it finds hard
LEAST, MOST, STEP, FAR = 3.0, 30.0, 10.0, 60.0  # sd over seeds, and by how much skills differ, in rsum


def equal(rows: int) -> Floats:
    """Skills of which none differ."""
    return np.zeros(rows)


def half(rows: int) -> Floats:
    """Skills that are equal for one half of the rows, and rise by steps for the other."""
    return STEP * np.maximum(0, np.arange(rows) - rows // 2 + 1)


def all_but_two(rows: int) -> Floats:
    """Skills that are equal but for two, which are far above."""
    return FAR * np.maximum(0, np.arange(rows) - rows + 3)


class Shape(NamedTuple):
    """What the rows of a board of the model are like."""

    name: str
    skills: Callable[[int], Floats]
    sd: tuple[float, float]  # over seeds, the ends of what is drawn


UNEQUAL = (LEAST, MOST)
SHAPES = [
    Shape("all equal, spreads alike", equal, (STEP, STEP)),
    Shape("all equal", equal, UNEQUAL),
    Shape(f"half equal, the others apart by {STEP:.0f}", half, UNEQUAL),
    Shape(f"all equal but two, apart by {FAR:.0f}", all_but_two, UNEQUAL),
]
MIXED = [(shape, rows, seeds) for shape in SHAPES for rows in (6, 12, 26) for seeds in (3, 5)]


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


def run(rng: np.random.Generator, ease: Floats, skill: float) -> Hits:
    """One run: each query has a luck of its own, which is the same for all K."""
    chance = ndtr(ease[:, None] + skill + CUTOFFS)  # (N, 3)
    image = rng.random((IMAGES, 1)) < chance
    captions = (rng.random((IMAGES, CAPTIONS, 1)) < chance[:, None]).sum(axis=1)
    queries = np.tile([1.0, CAPTIONS], (IMAGES, 1))
    return Hits(np.zeros(IMAGES, dtype=np.int64), queries, np.stack([image, captions], axis=1).astype(float))


def significance(case: Case, rounds: int) -> Floats:
    """(rounds, pairs) the p of every pair as boards correct it; of two rows it is p itself."""
    return np.array([false_discovery_rates(p) for p in chances(case, rounds)])


def chances(case: Case, rounds: int, seed: int = 0) -> Floats:
    """(rounds, pairs) the p of every pair, those with the first row first."""
    rng = np.random.default_rng([seed, *case.seeds, *(round(1000 * luck) for luck in case.luck)])
    pairs = [[pair.p for pair in differences(board(rng, case), SWAPS)] for _ in range(rounds)]
    return np.nan_to_num(np.array(pairs), nan=1.0)


def sd(luck: float, rounds: int = 300) -> float:
    """The standard deviation of rsum over seeds."""
    rng = np.random.default_rng(1)
    sums = []
    for _ in range(rounds):
        ((*runs,),) = board(rng, Case((5,), (luck,)))
        sums.append(np.var([float(recalls(hits).sum()) for hits in runs], ddof=1))
    return float(sqrt(np.mean(sums)))


def pair_line(seeds: Sequence[int], luck: Sequence[float], p: Sequence[Floats]) -> str:
    sizes = " and ".join(map(str, seeds))
    spread = " and ".join(f"{sd(one):.1f}" for one in luck)
    shares = (100 * np.mean(values < level) for values, level in ((p[0], 0.05), (p[0], 0.01), (p[1], 0.05)))
    return f"| {sizes} | {spread} | {' | '.join(f'{share:.1f} %' for share in shares)} |\n"


def holm(p: Floats) -> Floats:
    """Adjusted p-values by Holm's step-down method."""
    order = np.argsort(p)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted


def yekutieli(p: Floats) -> Floats:
    """Adjusted p-values by Benjamini and Yekutieli's method."""
    adjusted: Floats = false_discovery_control(p, method="by")
    return adjusted


def family_line(seeds: Sequence[int], luck: Sequence[float], p: Sequence[Floats]) -> str:
    corrected = [
        [np.array([correct(one) for one in of]) < LEVEL for of in p] for correct in (holm, false_discovery_rates)
    ]
    alarms = [alarm.any(axis=1).mean() for alarm, _ in corrected]
    power = [differs[:, : len(seeds) - 1].mean() for _, differs in corrected]
    return f"| {len(seeds)} | {seeds[0]} | {sd(luck[0]):.1f} | {percents([*alarms, *power])} |\n"


def normal_board(rng: np.random.Generator, skills: Floats, sds: Floats, seeds: int) -> Floats:
    """The p of all pairs of rows whose rsum has normal errors."""
    training = np.sqrt(np.maximum(0, sds**2 - QUERIES**2))
    runs = rng.normal(skills, training, (seeds, len(skills))) + rng.normal(0, QUERIES, (seeds, len(skills)))
    means = runs.mean(axis=0) + rng.normal(0, PICTURES, len(skills))
    spreads = [Spread(variance, QUERIES**2, seeds - 1, seeds) for variance in runs.var(axis=0, ddof=1)]
    swaps = 2 * (PICTURES**2 + QUERIES**2 / seeds) - 2 * spreads[0].counted_twice  # the variance of a difference
    pairs = combinations(range(len(skills)), 2)
    return np.array([tail(means[a] - means[b], swaps, *training_errors(spreads[a], spreads[b])) for a, b in pairs])


def false_and_found(shape: Shape, rows: int, seeds: int, rounds: int) -> Floats:
    """(2, 3) the shares by Holm's method, by Benjamini and Hochberg's, and by Benjamini and Yekutieli's."""
    skills, rng = shape.skills(rows), np.random.default_rng([rows, seeds])
    unequal = np.array([skills[a] != skills[b] for a, b in combinations(range(rows), 2)])
    shares = np.zeros((rounds, 2, 3))
    for share in shares:
        sds = np.exp(rng.uniform(*np.log(shape.sd), rows))
        p = normal_board(rng, skills, sds, seeds)
        for method, correct in enumerate((holm, false_discovery_rates, yekutieli)):
            differs = correct(p) < LEVEL
            share[0, method] = (differs & ~unequal).sum() / max(1, differs.sum())
            share[1, method] = (differs & unequal).sum() / max(1, unequal.sum())
    mean: Floats = shares.mean(axis=0)
    return mean


def mixed_line(about: tuple[Shape, int, int], rounds: int) -> str:
    """One line of the table of many rows."""
    shape, rows, seeds = about
    false, found = false_and_found(*about, rounds)
    last = percents(found) if np.ptp(shape.skills(rows)) else "– | – | –"
    return f"| {shape.name} | {rows} | {seeds} | {percents(false)} | {last} |\n"


def percents(shares: Sequence[float] | Floats) -> str:
    return " | ".join(f"{100 * share:.1f} %" for share in shares)


def doubled(abouts: Sequence[tuple[tuple[int, ...], tuple[float, ...]]], better: float) -> list[Case]:
    """Each case with equal methods, and with one that is better."""
    return [Case(*about, skill) for about in abouts for skill in (0.0, better)]


def lines_of_pairs(pool: ProcessPoolExecutor, rounds: int) -> str:
    p = list(pool.map(chances, doubled(PAIRS, PAIR_BETTER), [rounds] * 2 * len(PAIRS)))
    return "".join(pair_line(*about, p[2 * place : 2 * place + 2]) for place, about in enumerate(PAIRS))


def section_of_boards(pool: ProcessPoolExecutor, rounds: int) -> str:
    mixed = pool.map(mixed_line, MIXED, [rounds] * len(MIXED))
    p = list(pool.map(chances, doubled(FAMILIES, FAMILY_BETTER), [rounds] * 2 * len(FAMILIES)))
    families = [family_line(*about, p[2 * place : 2 * place + 2]) for place, about in enumerate(FAMILIES)]
    numbers = {"rounds": rounds, "least": LEAST, "most": MOST}
    return BOARDS.format(**numbers, families="".join(families), mixed="".join(mixed))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--boards", action="store_true", help="only these; the table of two rows stays as it stands")
    args = parser.parse_args()
    with ProcessPoolExecutor(args.processes) as pool:
        boards = section_of_boards(pool, args.rounds)
        if args.boards:
            head, _, _ = PAGE.read_text(encoding="utf-8").partition("## Boards of equally good methods")
            page = head + boards
        else:
            numbers = {"rounds": args.rounds, "error": 100 * sqrt(0.05 * 0.95 / args.rounds), "none": sd(NONE)}
            pairs = lines_of_pairs(pool, args.rounds)
            page = HEAD.format(**numbers, images=IMAGES, captions=CAPTIONS, pairs=pairs, boards=boards)
    write_atomic(PAGE, page)
    Console().print(page, markup=False, highlight=False)


if __name__ == "__main__":
    main()
