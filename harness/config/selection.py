"""The selection of trials, which goes from the flags to the plan."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.config.sections import Campaign, RecipeName

JOIN = "+"  # between the members of an ensemble; no name of a card can have it
GLOB = "*?["


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
    """The members of an ensemble such as a+b, sorted, so that b+a is the same one; the name alone where it is none.

    UsageError for a glob among them, a member that is repeated, and a name that is empty.
    """
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


def name_of_result(text: str) -> str:
    """A name of results with the members of an ensemble as results have them: b+a/scenes/s0 is a+b/scenes/s0."""
    ensemble = re.fullmatch(r"([a-z][a-z0-9_]*(?:\+[a-z][a-z0-9_]*)+)([ /].*)?", text)
    return JOIN.join(sorted(ensemble[1].split(JOIN))) + (ensemble[2] or "") if ensemble else text


CONFIGURED = Selection()  # all as [campaign] says
