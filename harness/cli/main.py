"""The command line: argv -> one call each. A command reads as a summary of what it does.

What a command needs is imported inside it, so that `harness --help` answers at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from harness import __version__
from harness.campaign import guardian
from harness.cli import (
    boards,
    campaigns,
    datasets,
    exchange,
    looks,
    methods,
    planning,
    progress,
    retrieval,
    upkeep,
    verification,
)
from harness.cli.boundary import (
    CONTINUES,
    Invocation,
    abandon_streams,
    complain,
    ended,
    invoke,
    output_streams,
    prepare_streams,
)
from harness.cli.flags import CARD, CONFIG, OUTPUT, Flags, takes
from harness.errors import EXIT_CODES, ResourceError, UsageError
from harness.interruption import Interruption, signals_raise

KINDS = ("methods", "datasets", "protocols")
TRIALS = "trials"
LONGEST = 100  # characters of a command's short help
SECTIONS = {  # of `harness -h`
    "Prepare": ("init", "list", "describe", "validate", "data"),
    "Train": ("plan", "run", "search", "confirm", "resume", "status"),
    "Look at results": ("board", "report", "compare", "looks", "explain", "retrieve", "reproduce"),
    "Exchange and remove": ("score", "import", "export", "forget"),
    "Keep in order": ("doctor", "gc", "completion"),
}
SCHEMAS = (*methods.KINDS, "harness.toml")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code; whatever ends it is told on stderr in words for people."""
    if argv is None and upkeep.COMPLETION in os.environ:
        cli.main(prog_name=upkeep.PROGRAM)
    words = tuple(sys.argv[1:] if argv is None else argv)
    prepare_streams()
    if argv is None and guardian.is_needed(words):
        guardian.divide(complain, CONTINUES)
    with signals_raise(to_the_end=argv is None) as interruption:
        code = exit_code(words, interruption)
        guardian.report(code)
        abandon_streams()
        sys.exit(code)


def exit_code(words: Sequence[str], interruption: Interruption) -> int:
    """Run a command; its exit code, also where anything at all went wrong."""
    invocation = Invocation(words)
    try:
        code = invoke(cli, invocation)
        for stream in output_streams():
            stream.flush()
    except BaseException as error:  # noqa: BLE001  the one boundary where an error becomes words and an exit code
        code = ended(error, invocation, interruption.exit_code)
    return code


def exit_codes() -> str:
    """The table of exit codes, in the form that click prints as it is."""
    return "\b\n" + "\n".join(["Exit codes:", *(f"  {code:<14} {text}" for code, text in EXIT_CODES.items())])


class SectionedGroup(click.Group):
    """A group whose help lists each command once, in sections."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections with the whole short help of each command."""
        for title, names in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(LONGEST)) for name in names])


@click.group(
    cls=SectionedGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog=exit_codes(),
)
@click.version_option(__version__, message="harness %(version)s")
def cli() -> None:
    """Train, evaluate and rank image-text matching methods under one data and evaluation API.

    `harness COMMAND -h` says more about a command. A first campaign:

    \b
      harness init      # writes harness.toml, with every key and what it means
      harness run       # trains, evaluates and writes the leaderboards
    """
    try:
        Path.cwd()
    except OSError as error:
        raise ResourceError(f"the working folder is not there any more ({error}); change to one that is") from error


@cli.command("list", short_help="List methods, datasets, protocols, or the trials of this project.")
@takes(CONFIG, OUTPUT)
@click.argument("kind", required=False, type=click.Choice((*KINDS, TRIALS)))
def list_(flags: Flags, kind: str | None) -> int:
    """List methods, datasets, protocols, or all three; or the trials of the results folder with their keys."""
    from harness.cli import catalogue

    config, registry, out = flags.open()
    if kind == TRIALS:
        out.answer(*catalogue.trials(config))
        return 0
    kinds = [kind] if kind else KINDS
    lists = {name: catalogue.listing(registry, name) for name in kinds}
    out.answer(lists[kind] if kind else lists, *(catalogue.TABLES[name](registry) for name in kinds))
    return 0


@cli.command(short_help="Show the card of a method or dataset.")
@takes(CONFIG, OUTPUT)
@click.argument("name", type=CARD, required=False)
@methods.KIND
@click.option("--schema", type=click.Choice(SCHEMAS), help="Print the JSON schema of such a file instead, for editors.")
def describe(flags: Flags, name: str | None, kind: str | None, schema: str | None) -> int:
    """Show the card of a method or dataset: what it is, its settings, what its paper reported."""
    from harness.cli import catalogue

    if schema and kind:
        raise UsageError("--kind says which NAME is meant; leave it out with --schema")
    if (name is None) == (schema is None):
        raise UsageError("give the name of a method or dataset, or --schema method, dataset or harness.toml")
    if schema:
        replace(flags, as_json=True).out().answer(catalogue.schema(schema))
        return 0
    assert name
    config, registry, out = flags.open()
    card = catalogue.card_named(registry, name, kind)
    out.answer(catalogue.card_json(card), *catalogue.card_page(card, config))
    return 0


for command in (boards.board, boards.report, boards.compare, looks.looks, looks.explain, verification.reproduce):
    cli.add_command(command)
cli.add_command(retrieval.retrieve)
for command in (campaigns.run, campaigns.search, campaigns.confirm, progress.resume, progress.status):
    cli.add_command(command)
cli.add_command(planning.plan)
for command in (exchange.score, exchange.import_, exchange.export, exchange.forget):
    cli.add_command(command)
for command in (datasets.init, methods.validate, datasets.data):
    cli.add_command(command)
for command in (upkeep.doctor, upkeep.gc, upkeep.completion):
    cli.add_command(command)
