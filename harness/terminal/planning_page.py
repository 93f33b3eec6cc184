"""What a planned campaign can detect, in words and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.console import RenderableType
from rich.table import Table

from harness.errors import count
from harness.planning.plans import PowerPlan, Requirement
from harness.planning.power import MOST_IMAGES, MOST_SEEDS
from harness.terminal.output import Text, table

ALONE = "two methods by themselves"


def planning_page(plans: Sequence[PowerPlan]) -> Iterator[RenderableType]:
    """A table per dataset, and what it rests on."""
    for plan in plans:
        title = f"{plan.dataset}, protocol {plan.protocol}: {plan.images:,} images, {count(plan.seeds, 'seed')}"
        yield Text(title, style="bold")
        yield requirements(plan)
        yield variances_line(plan)
        yield from (f"known: {text}" for text in plan.known_from)
        yield from (f"assumed: {text}" for text in plan.assumed)
        yield ""


def requirements(plan: PowerPlan) -> Table:
    """What the difference needs, for two methods and among all of the campaign."""
    share = f"{100 * plan.wanted:g} %"
    detect = f"{plan.difference:g}"
    heads = (f"power for {detect}", f"detected with {share}", f"seeds for {detect}", f"or images for {detect}")
    grid = table("rsum of", *heads, right=heads)
    grid.add_row(ALONE, *cells(plan.alone))
    if plan.among_all:
        name = f"the only two of {len(plan.methods)} that differ ({plan.pairs} pairs)"
        grid.add_row(name, *cells(plan.among_all))
    return grid


def cells(one: Requirement) -> list[str]:
    return [
        f"{100 * one.power:.0f} %",
        "none" if one.detectable is None else f"{one.detectable:.1f}",
        f"over {MOST_SEEDS}" if one.seeds is None else str(one.seeds),
        f"over {MOST_IMAGES:,}" if one.images is None else f"{one.images:,}",
    ]


def variances_line(plan: PowerPlan) -> str:
    """The standard deviations that a plan rests on."""
    own = plan.components
    error = own.image_sd / plan.images**0.5
    return (
        f"standard deviations: {own.seed_sd(plan.images):.1f} of rsum over seeds; {own.image_sd:.0f} over images of "
        f"one image's part in a difference, a standard error of {error:.1f} for {plan.images:,}"
    )


def planning_json(plans: Sequence[PowerPlan]) -> list[dict[str, Any]]:
    """Plans as JSON; null where no number is enough, and for `among_all` of two methods."""
    return [
        {
            **asdict(plan),
            "pairs": plan.pairs,
            "components": {
                **plan.components._asdict(),
                **{"seed_sd": plan.components.seed_sd(plan.images), "image_sd": plan.components.image_sd},
            },
            "alone": plan.alone._asdict(),
            "among_all": plan.among_all._asdict() if plan.among_all else None,
        }
        for plan in plans
    ]
