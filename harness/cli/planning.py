"""The command that plans how many seeds and test images a campaign needs."""

from __future__ import annotations

import click

from harness.cli.flags import CONFIG, DATASETS, METHODS, OUTPUT, PROTOCOL, SEEDS, Flags, takes


@click.command(short_help="Say how many seeds and test images a difference needs.")
@takes((METHODS, DATASETS, SEEDS, PROTOCOL), CONFIG, OUTPUT)
@click.option(
    "--detect",
    "difference",
    type=float,
    default=3.0,
    show_default=True,
    metavar="X",
    help="Plan for a true difference of X in rsum between two methods.",
)
@click.option(
    "--power",
    type=float,
    default=0.8,
    show_default=True,
    metavar="P",
    help="Plan for finding it with this probability.",
)
@click.option(
    "--seed-sd",
    type=float,
    metavar="S",
    help="Take this standard deviation of rsum over seeds, instead of that of the store's rows.",
)
@click.option(
    "--image-sd",
    type=float,
    metavar="S",
    help="Take this standard deviation over images of one image's part in the difference of two methods, instead "
    "of that of the store's rows.",
)
def plan(flags: Flags, difference: float, power: float, seed_sd: float | None, image_sd: float | None) -> int:
    """Say how many seeds and test images a difference needs, and what a planned campaign can detect.

    From how far rsum varies over seeds and images in the rows of the tracking store, for the test that boards and
    `harness compare` make. Nothing is run or opened but the store.

    \b
    Examples:
      harness plan --detect 3
      harness plan --detect 5 --methods caan,bssan --datasets f30k --seeds 0-4
      harness plan --detect 3 --image-sd 110 --seed-sd 2.5
    """
    from harness.planning.plans import Assumed, power_plans
    from harness.terminal.planning_page import planning_json, planning_page

    config, registry, out = flags.open()
    with out.at_work() as tell:
        tell("measuring how far rsum varies in the tracking store")
        plans = power_plans(config, registry, flags.selection, difference, power, Assumed(seed_sd, image_sd))
    out.answer(planning_json(plans), *planning_page(plans))
    out.note(flags.source)
    return 0
