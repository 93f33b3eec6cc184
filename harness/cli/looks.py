"""The command that looks at the scores of a trial beyond its measures: hubness, category-level mAP, choices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from harness.cli.boards import READING
from harness.cli.flags import CONFIG, MACHINE, OUTPUT, RESULT, Flags, takes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.config.registry import Registry
    from harness.diagnostics.table import Looks
    from harness.tracking.runs import Run

DEVICE = MACHINE[:1]
NO_RANKINGS = "hubness needs the run's rankings, which the store has lost or never had; run it again with --force"
NO_CATEGORIES = (
    "category-level mAP needs all scores: where the dataset has categories of images, `harness looks {key} --score` "
    "makes them again from the trial's weights"
)
NO_CHOICES = (
    "two-way choices not answered yet: {names}; `harness looks {key} --score` scores them with the trial's weights"
)


@click.command(short_help="Look at hubness, category-level mAP and choices of a trial.")
@takes(DEVICE, CONFIG, OUTPUT)
@click.argument("run", type=RESULT)
@click.option(
    "--score",
    "again",
    is_flag=True,
    help="Make the scores again from the trial's weights, for looks that need all of them, and record these.",
)
def looks(flags: Flags, run: str, again: bool) -> int:
    """Look at the scores of a trial beyond its measures; nothing of it is ranked.

    Hubness is read from the stored rankings: how often the most returned item stands first, and the skew of N_10.
    Category-level mAP is kept by every trial of a dataset that has categories of its images, such as coco-objects; with
    --score it is worked out for older ones, and two-way choices (an image, its right caption and a wrong one) that the
    dataset's card names by [[choices]] are answered. An ensemble's scores are the mean of its members'. The same stands
    on the row's page of `harness report`.

    \b
    Examples:
      harness looks vsepp/coco-objects/s0
      harness looks 3f9a1c --score --json
    """
    from harness.board.evidence import run_looks
    from harness.explain.rescoring import look_again
    from harness.tracking.naming import known_run
    from harness.tracking.result_store import open_store
    from harness.tracking.store import default_uri

    config, registry, out = flags.open()
    store = open_store(default_uri(config))
    with out.at_work() as tell:
        tell(READING)
        one = known_run(store.runs(), run)
        if again:
            tell(f"making the scores of {one.label} again")
            look_again(config, registry, one, flags.device or "auto")
        known = run_looks(store.artifact, one.run_id)
    notes = list(missing(known, one, registry))
    out.answer(looks_json(known, one, notes), *looks_page(known, one), *notes)
    return 0


def missing(known: Looks, run: Run, registry: Registry) -> Iterator[str]:
    """What is not known of a run, and how to get it."""
    from harness.explain.rescoring import why_not_again

    if not known.hubness:
        yield NO_RANKINGS
    reason, card = why_not_again(run), registry.datasets.get(run.spec.dataset)
    if reason and not known.category:
        yield f"no category-level mAP and no choices: this trial {reason}"
    elif not known.category:
        yield NO_CATEGORIES.format(key=run.key)
    names = [one.name for one in card.choices if one.name not in known.choices] if card else []
    if names and not reason:
        yield NO_CHOICES.format(names=", ".join(names), key=run.key)


def looks_page(known: Looks, run: Run) -> Iterator[RenderableType]:
    from harness.diagnostics.table import HEADER
    from harness.terminal.output import table

    name, *directions = HEADER
    grid = table(f"{run.label}: {name}", *directions, right=directions)
    for line in known.lines:
        grid.add_row(*line)
    if known.lines:
        yield grid


def looks_json(known: Looks, run: Run, notes: list[str]) -> dict[str, Any]:
    about = {"run": run.label, "key": run.key, "dataset": run.spec.dataset, "protocol": run.spec.protocol}
    return {**about, **known.as_json(), "notes": notes}
