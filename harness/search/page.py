"""A search campaign as a page of markdown and the figures beside it. Pure: the same from the same studies."""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from harness.board.cells import hours, search_name
from harness.board.markup import template
from harness.files import safe_name
from harness.search.figures import BudgetComparison, Curves, StudyFigure, comparison, figure, label
from harness.search.method_search import Spent, spent_on
from harness.search.plan import measured
from harness.search.studies import Ended
from harness.search.study_records import ENOUGH, SAME_AS, StudyRecord, value_text
from harness.trial.results import shortfalls

BEST = 10  # trials in a table
LISTED = 12  # failed trials that are named
BEGUN_WITH = ("sampler", "pruner", "epochs of a trial", "points")  # of a study's identity


class Failed(NamedTuple):
    failure: str
    number: int
    trials: str


@dataclass(frozen=True)
class StudySection:
    study: StudyRecord
    epochs: Curves
    rivals: Sequence[StudyRecord]  # all studies on its dataset, itself among them
    image: str  # the path of its figure

    @cached_property
    def figure(self) -> StudyFigure:
        return figure(self.study, self.epochs)

    @property
    def costs(self) -> list[str]:
        spent = spent_by(self.study)
        counts = (spent.trials, spent.pruned, spent.failed, spent.epochs)
        return [*map(str, counts), hours(spent.seconds), hours(spent.device_seconds)]

    @property
    def notes(self) -> str:
        """Where its budget is over a tenth smaller than that of others."""
        short = shortfalls(vars(spent_by(self.study)), [vars(spent_by(rival)) for rival in self.rivals])
        return "; ".join(f"smaller budget: {mine} {name} against {most}" for name, mine, most in short)

    @property
    def best(self) -> str:
        front = self.study.front
        if len(self.study.objective) > 1:
            return f"a front of {len(front)}"
        return f"{', '.join(self.values(front[0]))} (#{front[0].number})" if front else "–"

    @property
    def leaders(self) -> list[list[str]]:
        trials = self.study.front if len(self.study.objective) > 1 else self.study.ranked
        return [list(self.cells(trial)) for trial in trials if trial.notes.get(SAME_AS, -1) < 0][:BEST]

    def cells(self, trial: Ended) -> Iterator[str]:
        yield str(trial.number)
        yield from self.values(trial)
        yield value_text(trial.notes.get("epochs") or len(self.epochs.get(trial.notes["key"], ())) or None)
        yield from (value_text(trial.values.get(key)) for key in self.study.space)

    def values(self, trial: Ended) -> list[str]:
        return [measured(*pair) for pair in zip(self.study.objective, trial.objective, strict=True)]

    @property
    def failed(self) -> list[Failed]:
        classes: defaultdict[str, list[int]] = defaultdict(list)
        for trial in self.study.counted:
            if trial.state == "failed":
                classes[trial.notes.get("failure") or "no finite objective"].append(trial.number)
        order = sorted(classes.items(), key=lambda item: (-len(item[1]), item[0]))
        return [Failed(failure, len(numbers), listed(numbers)) for failure, numbers in order]

    @property
    def facts(self) -> list[str]:
        identity = self.study.identity
        facts = [f"objective: {'; '.join(map(label, self.study.objective))}"]
        used = [name for name in BEGUN_WITH if name != "pruner" or len(self.study.objective) == 1]
        facts += [f"{name}: {identity[name]}" for name in used if identity.get(name, "none") != "none"]
        if "limit" in identity:
            facts.append(f"limit: the first {identity['limit']} images of each split, never ranked")
        if self.study.collapsed:
            numbers = listed([trial.number for trial in self.study.collapsed])
            facts.append(f"pruned, as training had collapsed: {numbers}")
        if self.study.under_way:
            facts.append(f"not over yet: {len(self.study.under_way)} of its trials")
        return facts

    @property
    def missing(self) -> list[str]:
        study, figure = self.study, self.figure
        reasons = {
            "No best so far: there is none of several objectives.": len(study.objective) > 1,
            f"No importance of settings: {len(study.complete)} complete trials, and it takes {ENOUGH} that differ.": (
                len(study.space) > 1 and not figure.importances
            ),
            "No parallel coordinates: they take two complete trials.": bool(study.space) and not figure.coordinates,
            "No learning curves: the epochs of its trials are gone.": not figure.curves,
        }
        return [reason for reason, holds in reasons.items() if holds]


class Group(NamedTuple):
    dataset: str
    sections: list[StudySection]
    comparison: BudgetComparison | None
    image: str


class Page(NamedTuple):
    name: str  # like the figures' names a path from the folder of reports
    text: str
    studies: Mapping[str, StudyFigure]
    comparisons: Mapping[str, BudgetComparison]

    @property
    def files(self) -> list[str]:
        return [self.name, *self.comparisons, *self.studies]


def search_page(studies: Sequence[StudyRecord], epochs: Curves) -> Page:
    campaign = studies[0].campaign
    folder = search_name(campaign)
    ordered = sorted(studies, key=lambda study: (study.dataset, study.method))
    datasets = dict.fromkeys(study.dataset for study in ordered)
    groups = [dataset_group(folder, [one for one in ordered if one.dataset == name], epochs) for name in datasets]
    sections = [section for group in groups for section in group.sections]
    text = template("search.md.j2").render(
        campaign=campaign, groups=groups, sections=sections, command=command(campaign, studies), best=BEST
    )
    figures = {section.image: section.figure for section in sections if not section.figure.is_empty}
    comparisons = {group.image: group.comparison for group in groups if group.comparison}
    return Page(f"{folder}.md", text, figures, comparisons)


def dataset_group(folder: str, studies: Sequence[StudyRecord], epochs: Curves) -> Group:
    place = f"{folder}/{safe_name(studies[0].dataset)}"
    sections = []
    for study in studies:
        own = {key: epochs[key] for trial in study.trials if (key := trial.notes.get("key", "")) in epochs}
        sections.append(StudySection(study, own, studies, f"{place}/{safe_name(study.method)}.svg"))
    return Group(studies[0].dataset, sections, comparison(studies), f"{place}.svg")


def command(campaign: str, studies: Sequence[StudyRecord]) -> str:
    """What confirms a campaign's winners; empty where there are none."""
    if not any(study.complete for study in studies):
        return ""
    return f"harness confirm {shlex.quote(campaign)}"


def spent_by(study: StudyRecord) -> Spent:
    return spent_on(study.counted)


def listed(numbers: Sequence[int]) -> str:
    text = ", ".join(f"#{number}" for number in numbers[:LISTED])
    return text if len(numbers) <= LISTED else f"{text}, …"
