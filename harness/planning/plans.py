"""What a planned campaign can detect on each of its datasets, from the rows that the tracking store has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import comb, sqrt
from typing import NamedTuple

from scipy.special import chdtri

from harness.board.evidence import Load, comparable, hits
from harness.board.standings import Board, Standing, boards_of
from harness.campaign.current import current
from harness.config.cards import ProtocolCard
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.selection import Selection
from harness.errors import UsageError, count
from harness.evaluation.measures import MOST_RSUM
from harness.evaluation.statistics import LEVEL, Row, is_tested
from harness.planning.components import Components, image_variance, seed_variances, unrelated_variance
from harness.planning.power import PlannedTest, images_for, seeds_for
from harness.tracking.result_store import ResultStore
from harness.tracking.store import default_uri, is_absent

POWER = 0.8
PUBLISHED_SD = 2.9  # over seeds: the geometric mean of 1.6 and 5.4, of ten seeds on Flickr30K (arXiv 2203.03853)
FEW_DEGREES = 10  # of freedom, below which the spread over seeds is hardly known
LEAST_SD = 0.001  # over seeds: of two runs whose rsum differs by less than it is shown with
UNLUCKY = 0.1  # of spreads are larger than what is said of those
SOURCES = ("ranked", "incomplete")  # sections of a board whose rows say how much rsum varies


class Assumed(NamedTuple):
    """What is taken as known, whatever the store has; None: the store decides."""

    seed_sd: float | None = None
    image_sd: float | None = None


NOTHING_ASSUMED = Assumed()


class Requirement(NamedTuple):
    """What finding a difference takes at one level."""

    level: float
    power: float  # with the planned seeds and images
    detectable: float | None  # with these, at the power that is wanted; None: no difference that rsum can have
    seeds: int | None  # for the difference, on these images; None: more than can be looked for
    images: int | None  # for the difference, with these seeds


UNKNOWN = Requirement(LEVEL, 0.0, None, None, None)


@dataclass(frozen=True)
class PowerPlan:
    """A campaign on one dataset and protocol: what it can tell of two of its methods."""

    dataset: str
    protocol: str
    methods: tuple[str, ...]
    seeds: int
    images: int
    difference: float  # of rsum, that is to be detected
    wanted: float  # power
    components: Components
    known_from: tuple[str, ...]
    assumed: tuple[str, ...]  # what the store lacks, and what was taken in its place
    alone: Requirement = UNKNOWN  # two rows by themselves
    among_all: Requirement | None = None  # as the only difference among the pairs of all methods; None for two methods

    @property
    def pairs(self) -> int:
        """The pairs of methods that a board of the campaign has."""
        return comb(len(self.methods), 2)


def power_plans(
    config: Config,
    registry: Registry,
    selection: Selection,
    difference: float,
    power: float = POWER,
    assumed: Assumed = NOTHING_ASSUMED,
) -> list[PowerPlan]:
    """One per dataset of a selection; UsageError for numbers that make no plan, and where nothing is known at all."""
    selection = selection.completed(config.campaign)
    check_numbers(selection, difference, power, assumed)
    uri = default_uri(config)
    if is_absent(uri):
        return plans_of(registry, selection, [], lambda _: None, difference, power, assumed)
    store = ResultStore(uri)
    boards = boards_of(store.runs(), registry.methods, current(config, registry))
    return plans_of(registry, selection, boards, partial(hits, store), difference, power, assumed)


def plans_of(
    registry: Registry,
    selection: Selection,
    boards: Sequence[Board],
    load: Load,
    difference: float,
    power: float,
    assumed: Assumed,
) -> list[PowerPlan]:
    """The plans of a completed selection, from boards and the hits of their runs."""
    methods = tuple(registry.select_methods(selection.methods))
    if len(methods) < 2:
        raise UsageError(f"--methods {', '.join(methods)}: a difference is of two methods; name two or more")
    plans = []
    for name in registry.select_datasets(selection.datasets):
        protocol = registry.dataset(name).protocol(selection.protocol)
        seeds, images = variances(boards, name, protocol, methods, load, assumed)
        texts = [(part.text, part.is_assumed) for part in (seeds, images)]
        bare = PowerPlan(
            dataset=name,
            protocol=protocol.name,
            methods=methods,
            seeds=len(dict.fromkeys(selection.seeds)),
            images=protocol.images,
            difference=difference,
            wanted=power,
            components=Components(*seeds.values, *images.values),
            known_from=tuple(text for text, is_assumed in texts if not is_assumed),
            assumed=tuple(text for text, is_assumed in texts if is_assumed),
        )
        among_all = requirement(bare, LEVEL / bare.pairs) if bare.pairs > 1 else None
        plans.append(replace(bare, alone=requirement(bare, LEVEL), among_all=among_all))
    return plans


def check_numbers(selection: Selection, difference: float, power: float, assumed: Assumed) -> None:
    """UsageError for a number that makes no plan."""
    if not 0 < difference <= MOST_RSUM:
        raise UsageError(f"--detect {difference:g}: give a difference of rsum above 0, at most {MOST_RSUM:g}")
    if not LEVEL < power < 1:
        raise UsageError(f"--power {power:g}: give a probability above {LEVEL:g} and below 1, such as 0.8")
    if len(dict.fromkeys(selection.seeds)) < 2:
        raise UsageError("--seeds: a row of one seed is never tested; give two or more, such as 0-2")
    seed_sd, image_sd = assumed
    if seed_sd is not None and not LEAST_SD <= seed_sd <= MOST_RSUM:  # a row whose seeds are all alike is never tested
        raise UsageError(f"--seed-sd {seed_sd:g}: give a standard deviation of rsum from {LEAST_SD:g} to {MOST_RSUM:g}")
    if image_sd is not None and not 0 <= image_sd <= MOST_RSUM:
        raise UsageError(f"--image-sd {image_sd:g}: give a standard deviation of rsum from 0 to {MOST_RSUM:g}")


def requirement(plan: PowerPlan, level: float) -> Requirement:
    components, seeds, images = plan.components, plan.seeds, plan.images
    test = PlannedTest(components, seeds, images, level)
    return Requirement(
        level,
        test.power(plan.difference),
        test.detectable(plan.wanted),
        seeds_for(components, images, plan.difference, plan.wanted, level),
        images_for(components, seeds, plan.difference, plan.wanted, level),
    )


class Variances(NamedTuple):
    """Some of the `Components`, and where they are from."""

    values: tuple[float, ...]
    text: str
    is_assumed: bool = False


class Sources(NamedTuple):
    """Trained rows of one board that answered the same queries, with their methods."""

    board: str
    rows: tuple[tuple[str, Row], ...]
    is_own: bool  # whether the board is the planned one

    @property
    def all(self) -> list[Row]:
        return [row for _, row in self.rows]


def variances(
    boards: Sequence[Board],
    dataset: str,
    protocol: ProtocolCard,
    methods: Sequence[str],
    load: Load,
    assumed: Assumed,
) -> tuple[Variances, Variances]:
    """Those of seeds and of images on a dataset and protocol, from the rows that say most of it.

    UsageError where nothing says how far images differ.
    """
    known = by_nearness(boards, (dataset, protocol.name), methods, load)
    images = image_part(known, assumed.image_sd)
    if images is None:
        raise UsageError(
            f"no trained row of {dataset}/{protocol.name} or of another board has ranks in the tracking store, so "
            "nothing says how far images differ: run two methods with two seeds (harness run --seeds 0,1), or give "
            "--image-sd, and --seed-sd where you know it"
        )
    return seed_part(known, assumed.seed_sd, protocol.images), images


def by_nearness(boards: Sequence[Board], place: tuple[str, str], methods: Sequence[str], load: Load) -> list[Sources]:
    """The rows of the planned methods on their board, all of that board, those of every other one."""
    every = [sources(board, load, (board.dataset, board.protocol) == place) for board in boards]
    own = [one for one in every if one.is_own]
    planned = [one._replace(rows=tuple(row for row in one.rows if row[0] in methods)) for one in own]
    return [*planned, *own, *(one for one in every if not one.is_own)]


def sources(board: Board, load: Load, is_own: bool) -> Sources:
    rows = [row for section in SOURCES for row in getattr(board, section) if is_trained(row)]
    loaded = {place: [load(run) for run in row.run_ids] for place, row in enumerate(rows)}
    whole = comparable({place: [one for one in row if one] for place, row in loaded.items() if row and all(row)})
    named = tuple((rows[place].method, row) for place, row in whole.items())
    return Sources(f"{board.dataset}/{board.protocol}", named, is_own)


def is_trained(row: Standing) -> bool:
    return bool(row.remark) or not row.is_untrained


def seed_part(known: Iterable[Sources], assumed_sd: float | None, images: int) -> Variances:
    """`training` and `luck`, from the first rows that have a spread over seeds."""
    for one in known:
        tested = [row for row in one.all if is_tested(row)]
        if known_variances := seed_variances(tested):
            if assumed_sd is not None:
                luck = min(known_variances[1], assumed_sd**2 * images)  # more would spread runs wider than is assumed
                return Variances((assumed_sd**2 - luck / images, luck), f"seeds: --seed-sd {assumed_sd:g}")
            runs = sum(map(len, tested))
            text = f"seeds: {runs} runs of {count(len(tested), 'row')} of {one.board}"
            text += "" if one.is_own else ", as no row of its own has two seeds"
            return Variances(known_variances, text + doubt(runs - len(tested)), not one.is_own)
    if assumed_sd is not None:
        return Variances((assumed_sd**2, 0.0), f"seeds: --seed-sd {assumed_sd:g}")
    text = (
        f"seeds: no row of two seeds in the store; a standard deviation of {PUBLISHED_SD} of rsum, the geometric mean "
        "of 1.6 and 5.4, of ten seeds on Flickr30K (arXiv 2203.03853)"
    )
    return Variances((PUBLISHED_SD**2, 0.0), text, is_assumed=True)


def doubt(degrees: int) -> str:
    """What so few degrees of freedom leave open of the spread over seeds; empty for enough of them."""
    if degrees >= FEW_DEGREES:
        return ""
    factor = sqrt(degrees / chdtri(degrees, 1 - UNLUCKY))
    return f"; so few that the spread may well be {factor:.1f} times as large"


def image_part(known: Sequence[Sources], assumed_sd: float | None) -> Variances | None:
    """`images`, from the first board that has two rows, else the bound that one row gives; None without any row."""
    if assumed_sd is not None:
        return Variances((assumed_sd**2,), f"images: --image-sd {assumed_sd:g}")
    for one in known:
        if (variance := image_variance(one.all)) is not None:
            text = f"images: {count(comb(len(one.rows), 2), 'pair')} of rows of {one.board}"
            text += "" if one.is_own else ", as no two rows of its own can be compared"
            return Variances((variance,), text, not one.is_own)
    for one in known:
        for row in one.all:
            text = (
                "images: no two rows to compare; two methods whose answers to an image have nothing in common, each "
                f"as good as the one row of {one.board}; two that are alike need fewer images"
            )
            return Variances((unrelated_variance(row),), text, is_assumed=True)
    return None
