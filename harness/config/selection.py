"""The selection of trials, which goes from the flags to the plan."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.config.sections import Campaign, RecipeName

JOIN = "+"  # between the members of an ensemble; no name of a card can have it
FIRST = "@"  # in a reranking such as a@128:b, before the number of items that are ordered
GLOB = "*?["
METHOD_NAME, DATASET_NAME = "[a-z][a-z0-9_]*", "[a-z][a-z0-9_-]*"  # on their cards


@dataclass(frozen=True)
class Selection:
    """Methods, datasets, protocol, seeds and limit; whatever is empty is taken from [campaign] of harness.toml."""

    methods: tuple[str, ...] = ()  # names, globs, or the members of an ensemble with + between them
    datasets: tuple[str, ...] = ()  # names or globs
    protocol: str = ""  # empty in [campaign] too: the first of the dataset's card
    seeds: tuple[int, ...] = ()
    limit: int | None = None  # only the first images of each split; never ranked
    recipe: RecipeName | Literal[""] = ""  # common or paper
    test_on: tuple[str, ...] = ()  # names or globs of other datasets, whose protocol is then meant

    def completed(self, campaign: Campaign) -> Selection:
        return replace(
            self,
            methods=self.methods or campaign.methods,
            datasets=self.datasets or campaign.datasets,
            protocol=self.protocol or ("" if self.test_on else campaign.protocol),
            seeds=self.seeds or campaign.seeds,
            recipe=self.recipe or campaign.recipe,
        )


def members_named(name: str) -> tuple[str, ...]:
    """The members of an ensemble such as a+b, sorted, so that b+a is the same one, or of a reranking such as a@10:b.

    The name alone where it is neither. UsageError for a glob among them, a member that is repeated, and a name that is
    empty.
    """
    if reranking := reranking_named(name):
        return reranking.members
    if JOIN not in name:
        return (name,)
    members = [part.strip() for part in name.split(JOIN)]
    if not all(members):
        raise UsageError(f"{name}: an ensemble is two or more methods with {JOIN} between them, as in a{JOIN}b")
    if globs := [member for member in members if set(GLOB) & set(member)]:
        raise UsageError(f"{name}: {globs[0]} is a glob; name each member of an ensemble in full")
    if repeated := [member for member in members if members.count(member) > 1]:
        raise UsageError(f"{name}: {repeated[0]} is named twice; the members of an ensemble are different methods")
    return tuple(sorted(members))


class Reranking(NamedTuple):
    """One method proposes the first k items of every query, another one orders these."""

    by: str
    k: int
    method: str

    @property
    def members(self) -> tuple[str, str]:
        return self.by, self.method

    def __str__(self) -> str:
        return f"{self.by}{FIRST}{self.k}:{self.method}"


def reranking_named(name: str) -> Reranking | None:
    """The reranking that a name such as a@128:b means, None where it is none; UsageError for a wrong one."""
    if FIRST not in name:
        return None
    parts = re.fullmatch(rf"({METHOD_NAME}){FIRST}([0-9]{{1,9}}):({METHOD_NAME})", name.strip())
    if parts is None:
        raise UsageError(
            f"{name}: a reranking is PROPOSER{FIRST}K:METHOD, two full names and a whole number, as in a@128:b"
        )
    if int(parts[2]) < 1:
        raise UsageError(f"{name}: k is {parts[2]}; order at least the first item of every query")
    if parts[1] == parts[3]:
        raise UsageError(f"{name}: {parts[1]} would order what it has proposed; name two methods")
    return Reranking(parts[1], int(parts[2]), parts[3])


def member_names(method: str) -> tuple[str, ...]:
    """The members of an ensemble's or a reranking's name, as results have it; none for a single method."""
    if parts := re.fullmatch(rf"({METHOD_NAME}){FIRST}[0-9]+:({METHOD_NAME})", method):
        return parts[1], parts[2]
    return tuple(method.split(JOIN)) if re.fullmatch(rf"{METHOD_NAME}(\+{METHOD_NAME})+", method) else ()


def name_of_result(text: str) -> str:
    """A name of results with the members of an ensemble as results have them: b+a/scenes/s0 is a+b/scenes/s0."""
    ensemble = re.fullmatch(rf"({METHOD_NAME}(?:\+{METHOD_NAME})+)([ /].*)?", text)
    return JOIN.join(sorted(ensemble[1].split(JOIN))) + (ensemble[2] or "") if ensemble else text


CONFIGURED = Selection()  # all as [campaign] says
