"""Rows of leaderboards, from the runs of the store: one board per dataset and protocol, one row per method and recipe.

A recipe is ranked when all its seeds, begun or expected, are done with the data, protocol, source and versions that the
project's files have now; where there is no result of these, with the newest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import nan
from statistics import fmean, stdev

from harness.board.validity import Validity, common_training, differences, fidelity, judge, unlike_paper, unlike_papers
from harness.config.cards import SELECTION, MethodCard
from harness.errors import named
from harness.evaluation.protocols import saturated_recalls
from harness.tracking.commands import command
from harness.tracking.runs import Run, grouped, latest, place, replaced
from harness.trial.ensembles import composite_remark, is_composite, is_reranking, member_keys
from harness.trial.external import is_external, remark
from harness.trial.results import (
    EVALUATION_VERSION,
    RECALLS,
    TRAINING_VERSION,
    Current,
    TrialSpec,
    shortfalls,
)

MEANS = (
    *("rsum", *RECALLS, "i2t_tied", "t2i_tied"),
    *("best_val_rsum", "train_pairs_per_second", "score_pairs_per_second", "parameters"),
    *("bytes_per_image", "bytes_per_caption", "i2t_query_ms", "t2i_query_ms"),
    *("device_seconds", "peak_memory_mb", "load", "shared"),
)
UNKNOWN = Current()
MACHINE = ("device", "cpu", "cores", "threads", "torch")
SPENT = ("trials", "epochs", "seconds", "device_seconds")  # what a search has cost
RIVALS = {  # by section, the sections whose rows decide what a name must say; what is never ranked decides no rank's
    **{"ranked": ("ranked",), "ensembles": ("ensembles",), "incomplete": ("ranked", "incomplete")},
    **{"stale": ("stale",), "limited": ("limited",)},
}
SECTIONS = tuple(RIVALS)
WHAT = {  # kinds of rows that are made of other rows' scores
    "ensemble": "the mean of the scores of several models, all of the same seed",
    "reranking": "PROPOSER@K:METHOD, where a model orders the first K items that another, of the same seed, proposes "
    "to every query, and what follows keeps the proposer's order",
}


@dataclass(frozen=True)
class Standing:
    """One method with one recipe: what its seeds gave together."""

    method: str
    recipe: str
    differs: str  # from the method's other recipes beside it, and from the training of the board
    runs: tuple[Run, ...]  # all that the store has of it, done or not
    means: Mapping[str, float]  # nan where a seed lacks it
    sd: float  # of rsum over seeds (n - 1); nan for fewer than two
    machines: tuple[str, ...]
    commits: tuple[str, ...]
    dirty: bool
    source: str
    command: str
    reason: str  # why it is not ranked
    search: Mapping[str, float]  # SPENT in the search for its settings; empty: none
    campaign: str  # of that search
    fidelity: str  # of the method's card; empty where there is none
    unlike_paper: tuple[str, ...]  # settings with another value than the card has from its paper

    @property
    def mark(self) -> str:
        """What stands beside the name of a row that would be misread without; empty for most."""
        return self.fidelity if self.fidelity in ("reconstruction", "zero-shot") else ""

    @property
    def done(self) -> tuple[Run, ...]:
        """The runs that its numbers are of."""
        return tuple(run for run in self.runs if run.is_done)

    @property
    def seeds(self) -> tuple[int, ...]:
        """Those that are done."""
        return tuple(run.spec.seed for run in self.done)

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The done runs' ids in the store."""
        return tuple(run.run_id for run in self.done)

    @property
    def n(self) -> int:
        """Seeds that are done."""
        return len(self.seeds)

    @property
    def verified(self) -> tuple[int, ...]:
        """The seeds whose results were made again and came back."""
        return tuple(run.spec.seed for run in self.done if run.is_verified)

    @property
    def remark(self) -> str:
        """What tells a row of scores that came in files, and an ensemble, from the others; empty for our methods."""
        return remark(self.runs[0].spec) or composite_remark(self.runs[0].spec)

    @property
    def is_timed_beside_others(self) -> bool:
        """Whether others computed on the processors of any of its runs while these were timed."""
        return any(run.numbers.get("shared", 0.0) > 0 for run in self.done)

    @property
    def noise(self) -> str:
        """The wrong pairs that it was trained on, in words; empty without any."""
        return "" if self.is_untrained and not self.is_composite else self.runs[0].spec.noise

    @property
    def is_composite(self) -> bool:
        """Whether it is an ensemble or a reranking, and no single model."""
        return is_composite(self.runs[0].spec)

    @property
    def kind(self) -> str:
        """What it is where it is no single model; empty for one."""
        return "" if not self.is_composite else "reranking" if is_reranking(self.runs[0].spec) else "ensemble"

    @property
    def is_papers(self) -> bool:
        """Whether it was trained by the recipe of its paper."""
        return self.runs[0].spec.trained_as == "paper"

    @property
    def is_untrained(self) -> bool:
        return all(run.numbers.get("epochs") == 0 for run in self.runs)

    @property
    def place(self) -> tuple[float, str, str]:
        """Sorts a section: best mean first, then by name."""
        return (-self.means["rsum"] if self.seeds else 0.0, self.method, self.recipe)


@dataclass(frozen=True)
class Board:
    """One dataset and protocol; every run of the store stands in one of its sections."""

    dataset: str
    protocol: str
    valid: Validity
    tested_on: str  # the dataset that its rows are tested on, where they were trained on this one and that is another
    gallery: Mapping[str, int]  # of the rows that are ranked or ensembles
    training: Mapping[str, str]  # that most of the ranked rows share, as `-s` takes it; empty where none is trained
    val_images: int  # of the split val; 0 where that is not known
    machines: tuple[str, ...]  # of the rows that are ranked or ensembles: notes and plots name each by its place here
    resized: tuple[str, ...]  # splits and protocols that have another size than those that papers report on
    ranked: tuple[Standing, ...]
    ensembles: tuple[Standing, ...]  # complete ones and rerankings, never ranked among single models
    incomplete: tuple[Standing, ...]
    stale: tuple[Standing, ...]
    limited: tuple[Standing, ...]

    @property
    def version(self) -> int:
        """Of the protocol."""
        return self.valid.protocol_version

    @property
    def data(self) -> str:
        """The fingerprint of its dataset."""
        return self.valid.data_fingerprint

    @property
    def tests(self) -> str:
        """The fingerprint of the dataset that is tested on, where that is another."""
        return self.valid.test_fingerprint

    @property
    def overtaken(self) -> str:
        """Which results of a later version of harness make those of this one stale, and what to do; else empty."""
        rows = (*self.ranked, *self.ensembles) if self.stale else ()
        return overtaking(run.spec for row in rows for run in row.done)

    @property
    def transfer(self) -> str:
        """What a test on another dataset means, a sentence without its full stop; empty for every other board."""
        if not self.tested_on:
            return ""
        return (
            f"trained on {self.dataset}, selected on its val, with its vocabulary, and tested on {self.tested_on}: "
            f"compare with no row that was trained on {self.tested_on}"
        )

    @property
    def ranked_dataset(self) -> str:
        """The dataset whose images and captions are ranked."""
        return self.tested_on or self.dataset

    @property
    def is_searched(self) -> bool:
        return any(row.search for row in self.ranked)

    @property
    def is_configured(self) -> bool:
        """Whether any row has other settings than its card."""
        return self.is_searched or any(row.unlike_paper for row in self.ranked)

    @property
    def saturated(self) -> tuple[str, ...]:
        """The R@K that say nothing, because any scores reach 100 in so small a gallery."""
        return tuple(saturated_recalls(self.gallery)) if self.gallery else ()

    @property
    def composites(self) -> str:
        """The heading of the ensembles: what stands there."""
        return " and ".join(f"{kind}s" for kind in self._kinds).capitalize()

    @property
    def composites_are(self) -> str:
        """What the rows under that heading are."""
        if len(self._kinds) == 1:
            return f"each is {WHAT[self._kinds[0]]}"
        return "; ".join(f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} is {WHAT[kind]}" for kind in self._kinds)

    @property
    def _kinds(self) -> list[str]:
        return [kind for kind in WHAT if any(row.kind == kind for row in (*self.ranked, *self.ensembles))]

    @property
    def of_ensembles(self) -> Board:
        """The board of the ensembles alone, as if they were ranked."""
        none: tuple[Standing, ...] = ()
        return replace(self, ranked=self.ensembles, ensembles=none, incomplete=none, stale=none, limited=none)

    def is_unequal(self, row: Standing) -> bool:
        searched = [other.search for other in self.ranked if other.search]
        return bool(row.search) and any(shortfalls(row.search, searched))


def boards_of(runs: Iterable[Run], methods: Mapping[str, MethodCard], current: Current = UNKNOWN) -> list[Board]:
    """The boards of runs, by dataset and protocol, without a search's trials; `methods` give known defaults."""
    ranked = sorted((run for run in runs if run.spec.protocol != SELECTION), key=place)
    parts = grouped(ranked, lambda run: (run.spec.dataset, run.spec.protocol, run.spec.tested_on))
    return [board_of(part, methods, current) for part in parts]


def board_of(runs: Sequence[Run], methods: Mapping[str, MethodCard], current: Current = UNKNOWN) -> Board:
    full = [run for run in runs if run.spec.limit is None]
    newest = latest(full or runs)
    valid = Validity.of(full, newest, current)
    judged: dict[str, list[tuple[Sequence[Run], str]]] = {section: [] for section in SECTIONS}
    old = replaced(runs)  # each stands for itself
    for recipe in grouped(runs, lambda run: (run.spec.method, run.recipe, old.get(run.key, ""))):
        section, why = judge(recipe, full, valid, current, old)
        judged[section].append((recipe, why))
    rows = {}
    known = {run.key: run for run in runs}
    training = common_training([recipe[0] for recipe, _ in judged["ranked"]])
    for section, beside in RIVALS.items():
        rivals = [recipe for name in beside for recipe, _ in judged[name]]
        usual = training if "ranked" in beside else {}
        standings = [standing(recipe, why, rivals, methods, known, usual, current) for recipe, why in judged[section]]
        rows[section] = tuple(sorted(standings, key=lambda row: row.place))
    shown = (*rows["ranked"], *rows["ensembles"])
    return Board(
        dataset=newest.spec.dataset,
        protocol=newest.spec.protocol,
        valid=valid,
        tested_on=newest.spec.tested_on,
        gallery=gallery_of(shown),
        training=training,
        machines=tuple(sorted({machine for row in shown for machine in row.machines})),
        val_images=current.val_images(newest.spec.dataset),
        resized=() if newest.spec.tested_on else current.resized(newest.spec.dataset),
        **rows,
    )


def gallery_of(rows: Iterable[Standing]) -> Mapping[str, int]:
    """The gallery that rows of one board share, as the first run says that knows it; empty without such a row."""
    results = (run.result for row in rows for run in row.done)
    return next((result.gallery for result in results if result and result.gallery), {})


def overtaking(specs: Iterable[TrialSpec]) -> str:
    """Which results a later version of harness made, what follows, and what to do; empty where none did."""
    later = [
        one for one in specs if one.training_version > TRAINING_VERSION or one.evaluation_version > EVALUATION_VERSION
    ]
    if not later:
        return ""
    names = named([f"{one.label} (trial {one.key})" for one in later], most=3)
    what = f"results of a later version of harness, beside which those of this one are stale: {names}"
    return f"{what}; update harness, or remove them with `harness forget KEY`"


def standing(
    recipe: Sequence[Run],
    why: str,
    rivals: Iterable[Sequence[Run]],
    methods: Mapping[str, MethodCard],
    known: Mapping[str, Run],
    training: Mapping[str, str],
    current: Current,
) -> Standing:
    """A row from the runs of a recipe; `rivals` are the recipes beside it, `known` all runs of the board by key.

    training: what most rows share, so that a name says where this one has another.
    """
    card = methods.get(recipe[0].spec.method)
    first, done = recipe[0].spec, [run for run in recipe if run.is_done]
    members = members_of(done or recipe, known)
    sums = [run.numbers["rsum"] for run in done]
    searched = next((run.result.search for run in recipe if run.result and run.result.search), None)
    return Standing(
        method=first.method,
        recipe=recipe[0].recipe,
        differs=differences(recipe[0], [rival[0] for rival in rivals], training),
        runs=tuple(recipe),
        means={name: mean([run.numbers.get(name) for run in done]) for name in MEANS},
        sd=stdev(sums) if len(sums) > 1 else nan,
        machines=() if is_external(first.method) else tuple(sorted({machine(run.environment) for run in done})),
        commits=tuple(sorted({run.environment.get("commit", "") for run in done} - {""})),
        dirty=any(run.environment.get("dirty") == "yes" for run in done),
        source=first.source,
        command=command(done or recipe, methods, members, current),
        reason=why,
        search={name: float(getattr(searched, name)) for name in SPENT} if searched else {},
        campaign=searched.campaign if searched else "",
        fidelity=fidelity(first, methods),
        unlike_paper=tuple(unlike_paper(first, card)) or unlike_papers(members, methods),
    )


def members_of(runs: Sequence[Run], known: Mapping[str, Run]) -> list[Run | None]:
    """The runs that the first run of an ensemble averaged, None for one that is gone."""
    return [known.get(key) for key in member_keys(runs[0].environment).values()]


def mean(values: Sequence[float | None]) -> float:
    """The mean; nan where one is missing, never a mean over the rest."""
    present = [value for value in values if value is not None]
    return fmean(present) if present and len(present) == len(values) else nan


def machine(environment: Mapping[str, str]) -> str:
    """The machine that a trial was run on, as far as it decides the speed: no clock, no host name."""
    device, cpu, cores, threads, torch = (environment.get(name) or "unknown" for name in MACHINE)
    on = cpu if device == "cpu" else f"{device}, {cpu}"
    return f"{on}; cores: {cores}, torch threads per trial: {threads}, torch {torch}"
