"""The selection of trials, which goes from the flags to the plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from harness.config.sections import Campaign, RecipeName


@dataclass(frozen=True)
class Selection:
    """Methods, datasets, protocol, seeds and limit; whatever is empty is taken from [campaign] of harness.toml."""

    methods: tuple[str, ...] = ()  # names or globs
    datasets: tuple[str, ...] = ()  # names or globs
    protocol: str = ""  # empty in [campaign] too: the first of the dataset's card
    seeds: tuple[int, ...] = ()
    limit: int | None = None  # only the first images of each split; never ranked
    recipe: RecipeName | Literal[""] = ""  # common or paper

    def completed(self, campaign: Campaign) -> Selection:
        return replace(
            self,
            methods=self.methods or campaign.methods,
            datasets=self.datasets or campaign.datasets,
            protocol=self.protocol or campaign.protocol,
            seeds=self.seeds or campaign.seeds,
            recipe=self.recipe or campaign.recipe,
        )


CONFIGURED = Selection()  # all as [campaign] says
