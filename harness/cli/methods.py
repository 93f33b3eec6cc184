"""The commands for writing a method: its first file and card, and the contract that it must hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from harness.cli.datasets import init
from harness.cli.flags import CONFIG, OUTPUT, Flags, NameList, takes
from harness.errors import DataError, UsageError
from harness.terminal.output import Output, near, passing_bar

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.config.cards import MethodCard
    from harness.config.method_template import Scoring
    from harness.config.project import Config
    from harness.config.registry import Registry
    from harness.contract.checklist import Outcome
    from harness.preparation.findings import Report

SCORINGS = ("embedding", "fragment")
KINDS = ("method", "dataset")
KIND = click.option(
    "--kind", type=click.Choice(KINDS), help="Say which is meant, where a method and a dataset share a name."
)


@init.command(short_help="Write a method that runs: its file and its card.")
@takes(CONFIG, OUTPUT)
@click.argument("name")
@click.option(
    "--scoring",
    type=click.Choice(SCORINGS),
    default="embedding",
    show_default=True,
    help="Compare one vector per image and caption, or sets of vectors.",
)
@click.option("--force", is_flag=True, help="Replace the files that are there.")
def method(flags: Flags, name: str, scoring: Scoring, force: bool) -> int:
    """Write NAME.py and NAME.toml: a small method that trains, with a comment where each equation goes.

    They go into the first folder of [paths] methods, or else into the working folder.

    \b
    Examples:
      harness init method mine
      harness init method mine --scoring fragment
    """
    from harness.config.method_template import write_method

    config, registry, out = flags.open()
    files = write_method(config, registry, name, scoring, force)
    known = {card.path for card in registry.methods.values()}  # by default, or by a flag that was given
    plugin = () if files.is_listed or files.card in known else ("--plugin", near(files.card))
    commands = [flags.command(*words, *plugin) for words in (("validate", name), ("run", "--methods", name))]
    written = [str(file) for file in (files.module, files.card)]
    out.answer(
        {"written": written, "next": commands},
        f"{near(files.module)} and {near(files.card)} written: a method that runs; change it into yours",
        f"next: {commands[0]}",
        f"then: {commands[1]}",
    )
    return 0


@click.command(short_help="Check a dataset's files, or a method against its contract.")
@takes(CONFIG, OUTPUT)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--dataset",
    "--datasets",
    "datasets",
    type=NameList(),
    help="Check these datasets, by names or globs, instead of [campaign] datasets.",
)
@KIND
def validate(flags: Flags, names: Sequence[str], kind: str | None) -> int:
    """Check methods against the contract, or the files of datasets; NAME is either.

    Of a method: shapes, padding, tiles, order, seeds, gradients, saved weights, a few steps of training, the card;
    each broken rule says what shows it and where to read about it. Of a dataset: files, splits, captions, regions and
    protocols; every fault has its file and line.

    A broken rule or an error ends with exit code 3. Warnings and notes do not: what they mean is said with each.
    A name that is unknown, or a file that cannot be imported, ends with exit code 2: nothing was checked.

    \b
    Examples:
      harness validate mine --plugin mine.toml
      harness validate --dataset f30k
    """
    from harness.cli.catalogue import card_named
    from harness.config.cards import MethodCard

    if kind and not names:
        raise UsageError("--kind says which NAME is meant; give a name")
    config, registry, out = flags.open()
    cards = [card_named(registry, name, kind) for name in dict.fromkeys(names)]
    methods = [card for card in cards if isinstance(card, MethodCard)]
    datasets = [card.name for card in cards if not isinstance(card, MethodCard)]
    if flags.datasets or not names:
        datasets += registry.select_datasets(flags.datasets or config.campaign.datasets)
    lists = {card.name: checked(card, registry, flags) for card in methods}
    reports = reports_of(datasets, config, registry, flags)
    answer(out, flags, registry, lists, reports)
    broken = any(map(is_broken, lists.values()))
    return DataError.exit_code if broken or not all(report.is_sound for report in reports) else 0


def is_broken(outcomes: Sequence[Outcome]) -> bool:
    """Whether a method breaks any rule of its contract."""
    return any(outcome.state == "broken" for outcome in outcomes)


def checked(card: MethodCard, registry: Registry, flags: Flags) -> list[Outcome]:
    """The outcome of every rule of a method's contract."""
    from harness.contract.checklist import count, outcomes

    results: list[Outcome] = []
    with passing_bar(f"checking {card.name}", count(registry), not flags.quiet) as tell:
        for outcome in outcomes(card, registry):
            results.append(outcome)
            tell(1)
    return results


def reports_of(names: Sequence[str], config: Config, registry: Registry, flags: Flags) -> list[Report]:
    """The findings of every dataset."""
    from harness.campaign.plan import check_writable
    from harness.preparation.validation import Validation

    if names:
        check_writable(config.results)
    steps = partial(passing_bar, visible=not flags.quiet)
    return [Validation(registry.datasets[name], config.data, config.cache, steps).run() for name in names]


def answer(
    out: Output, flags: Flags, registry: Registry, lists: dict[str, list[Outcome]], reports: list[Report]
) -> None:
    """Print the lists of methods, then the findings of datasets."""
    from harness.terminal.contract_page import contract_json
    from harness.terminal.dataset_page import validation_json, validation_page

    of_datasets = validation_json(reports) if reports or not lists else {}
    of_methods = {"methods": contract_json(lists, registry.methods)} if lists else {}
    pages = [*contract_pages(flags, registry, lists), *(validation_page(reports) if reports or not lists else ())]
    out.answer({**of_methods, **of_datasets}, *pages)


def contract_pages(flags: Flags, registry: Registry, lists: dict[str, list[Outcome]]) -> Iterator[RenderableType]:
    """The list of every method, with the command that is to follow."""
    from harness.terminal.contract_page import contract_page

    for name, outcomes in lists.items():
        following = f"next: {flags.command('run', '--methods', name)}"
        following = "mend what is broken, and check again" if is_broken(outcomes) else following
        yield from contract_page(registry.methods[name], outcomes, following)
