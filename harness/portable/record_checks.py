"""Whether a result from elsewhere is that of its ranks: every measure is made again, every number is one of a trial."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.config.noise import base_name
from harness.config.sections import SEEDS
from harness.config.selection import DATASET_NAME, FIRST, METHOD_NAME, member_names, reranking_named
from harness.errors import DataError, Location, UsageError
from harness.evaluation import positives
from harness.evaluation.measures import TIED, Measure, mean_measures
from harness.evaluation.positives import SetRanks
from harness.evaluation.ranks import DIRECTIONS, Ranks
from harness.evaluation.records import (
    RANKINGS,
    RANKS,
    TrialRanks,
    fold_ranks,
    is_of,
    read_rankings,
    read_ranks,
    read_sets,
)
from harness.files import has_file, read_bytes
from harness.trial.external import is_external, method_of
from harness.trial.folder import EPOCHS, RESULT
from harness.trial.results import HEADLINE, EpochReport, TrialResult, TrialSpec

AGAIN = "copy the folder again from its project, or leave it out"
ROUNDING = 1e-6  # points, or ranks
COST = re.compile(r"[a-z][a-z0-9_]{0,99}")  # the name of one
SHOWN, LONGEST = 60, 200  # characters of a text in a message, and of a name
LARGEST = 10_000_000  # images or captions of a split: exports name each


def check_record(result: TrialResult, folder: Path) -> None:
    """DataError naming the file of a trial's folder with a name or number of no trial, or one that its ranks deny."""
    refuse_first(name_faults(result.spec), folder / RESULT)
    refuse_first(number_faults(result), folder / RESULT)
    refuse_first(epoch_faults(folder), folder / EPOCHS)
    ranks, sets = ranks_of(folder)
    folds = fold_ranks(ranks)
    refuse_first(rank_faults(ranks, folds, sets), folder / RANKS)
    refuse_first(ranking_faults(ranks, folder), folder / RANKINGS)
    refuse_first(gallery_faults(result.gallery, folds), folder / RESULT)
    own = mean_measures(folds)
    refuse_first(measure_faults(result.measures, own | of_sets(sets)), folder / RESULT)
    refuse_first(unknown_measures("val", result.val, own), folder / RESULT)


def refuse_first(faults: Iterator[str], file: Path) -> None:
    for fault in faults:
        raise DataError(f"{fault}: one of the files was changed; {AGAIN}", Location(file))


def ranks_of(folder: Path) -> tuple[TrialRanks, list[SetRanks]]:
    content = read_bytes(folder / RANKS)
    ranks, sets = read_ranks(content, ties=True), read_sets(content)
    if ranks is None or sets is None:
        raise DataError(f"the file is damaged or of an early version; {AGAIN}", Location(folder / RANKS))
    return ranks, sets


def name_faults(spec: TrialSpec) -> Iterator[str]:
    """The names of a spec that no trial has: neither the tracking store nor a board can be made with them.

    A protocol can have any: cards name theirs freely.
    """
    names = {"method": spec.method, "dataset": spec.dataset, "tested_on": spec.tested_on}
    wrong = {
        "method": not is_method(spec.method),
        "dataset": not re.fullmatch(DATASET_NAME, base_name(spec.dataset)),
        "tested_on": bool(spec.tested_on) and not re.fullmatch(DATASET_NAME, base_name(spec.tested_on)),
    }
    for kind, name in names.items():
        if wrong[kind] or len(name) > LONGEST:
            yield f"{kind} is {shown(name)}, which is no name of one"
    for name in spec.settings:
        if not name.isidentifier() or len(name) > LONGEST:
            yield f"settings has {shown(name)}, which is no name of one"
    if spec.seed not in SEEDS or (spec.limit is not None and spec.limit < 1):
        yield f"seed is {spec.seed}, limit {spec.limit}, which no trial has"


def is_method(name: str) -> bool:
    """Whether a trial can be of a method, an ensemble, a reranking or a model from elsewhere of this name."""
    try:
        if is_external(name):
            return method_of(name) == name
        members = member_names(name) and (FIRST not in name or reranking_named(name))
        return bool(re.fullmatch(METHOD_NAME, name) or members)
    except UsageError:
        return False


def number_faults(result: TrialResult) -> Iterator[str]:
    """The numbers of a result that no trial has, in words."""
    search = result.search.model_dump(exclude={"campaign"}) if result.search else {}
    yield from (f"cost has {shown(name)}, which is no name of one" for name in result.cost if not COST.fullmatch(name))
    for table, values in (
        ("measures", result.measures),
        ("val", result.val),
        ("cost", result.cost),
        ("search", search),
    ):
        yield from table_faults(table, values)
    planned = result.spec.training.epochs
    if not min(planned, 1) <= result.epochs <= planned:
        yield f"epochs is {result.epochs} of {planned} that were planned"
    if not 0 <= result.best_epoch <= result.epochs:
        yield f"best_epoch is {result.best_epoch} of {result.epochs} epochs"
    if result.attempts < 1:
        yield f"attempts is {result.attempts}, and there was one at least"


def table_faults(table: str, values: Mapping[str, float]) -> Iterator[str]:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            yield f"{table} has {shown(name)} = {value}, which is no number from 0"


def epoch_faults(folder: Path) -> Iterator[str]:
    """The same of its epochs, where they are kept."""
    lines = read_bytes(folder / EPOCHS).splitlines() if has_file(folder / EPOCHS) else []
    for number, epoch in enumerate(map(EpochReport.model_validate_json, lines), start=1):
        yield from table_faults(f"line {number}: val", epoch.val)
        if not all(math.isfinite(value) for value in (epoch.loss or 0, epoch.lr or 0, epoch.seconds)):
            yield f"line {number} has a number that is not finite"


def rank_faults(ranks: TrialRanks, folds: Sequence[Ranks], sets: Sequence[SetRanks]) -> Iterator[str]:
    """The ranks that are beyond their gallery, items that no split has, and folds that are not counted from 0."""
    if ranks.pairs.max() >= LARGEST:
        yield f"pairs has the number {ranks.pairs.max()}, and no split has {LARGEST:,} images or captions"
    if ranks.folds.max() >= len(folds):
        yield f"there are {len(folds)} folds, and one has the number {ranks.folds.max()}"
    for fold in folds:
        yield from beyond("", (fold.i2t, fold.t2i), fold.pairs)
    for positives_, i2t, t2i in sets:
        yield from beyond(f"{positives_.name}.", (i2t.ranks, t2i.ranks), ranks.pairs)


def beyond(name: str, ranks: Sequence[np.ndarray], pairs: np.ndarray) -> Iterator[str]:
    """Ranks of both directions that are higher than the gallery of pairs (P, 2) has items."""
    images, captions = (len(np.unique(column)) for column in pairs.T)
    for direction, own, size in zip(DIRECTIONS, ranks, (captions, images), strict=True):
        if own.max() > size:
            yield f"{name}{direction}_rank has {own.max()} in a gallery of {size}"


def ranking_faults(ranks: TrialRanks, folder: Path) -> Iterator[str]:
    """That the first results of queries, where they are kept, are of other queries, of another gallery or unnamed."""
    rankings = read_rankings(read_bytes(folder / RANKINGS)) if has_file(folder / RANKINGS) else None
    if rankings is None:
        return
    if not is_of(rankings, ranks):
        yield f"its queries, or what they have found, are not those of {RANKS} beside it"
    for names, most in zip((rankings.image_ids, rankings.captions), ranks.pairs.max(axis=0), strict=True):
        if 0 < len(names) <= most:
            yield f"it names {len(names):,} images or captions, {RANKS} beside it has more"


def gallery_faults(gallery: Mapping[str, int], folds: Sequence[Ranks]) -> Iterator[str]:
    """That the gallery is neither that of the smallest fold nor that of the first, which earlier versions kept."""
    sizes = [[len(np.unique(column)) for column in fold.pairs.T] for fold in folds]
    smallest, first = (
        {"images": images, "captions": captions, "folds": len(folds)} for images, captions in (min(sizes), sizes[0])
    )
    if gallery not in (smallest, first):
        yield f"gallery is {shown(str(dict(gallery)))}, {RANKS} beside it is of {smallest}"


def of_sets(sets: Sequence[SetRanks]) -> dict[str, float]:
    """The measures of named sets of positives, without their ties: ranks alone do not give these."""
    return {name: value for name, value in positives.measures(sets).items() if not is_tied(name)}


def is_tied(name: str) -> bool:
    measure = Measure.parse(name)
    return measure is not None and measure.kind == TIED


def measure_faults(measures: Mapping[str, float], own: Mapping[str, float]) -> Iterator[str]:
    """The measures that are others than ranks give, or that these do not give at all."""
    sets = {name.partition(".")[0] for name in own if "." in name}
    given = {name: value for name, value in measures.items() if not (is_tied(name) and name.partition(".")[0] in sets)}
    yield from unknown_measures("measures", given, own)
    for name in dict.fromkeys((*HEADLINE, *(name for name in given if name in own))):
        value, stored = own[name], given.get(name, math.nan)
        if not abs(value - stored) <= ROUNDING:
            yield f"measures has {name} {stored:.3f}, {RANKS} beside it gives {name} {value:.3f}"


def unknown_measures(table: str, values: Mapping[str, float], own: Mapping[str, float]) -> Iterator[str]:
    """The measures that ranks do not give, or whose names are none of measures."""
    for name in values:
        if name not in own or Measure.parse(name) is None:
            yield f"{table} has {shown(name)}, which {RANKS} beside it does not give"


def shown(name: str) -> str:
    """A text of any length and any letters, as a message has it."""
    return ascii(name)[:SHOWN]
