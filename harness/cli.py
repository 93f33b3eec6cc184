"""The command line: argv -> one call each. A command reads as a summary of what it does.

What a command needs is imported inside it, so that `harness --help` answers at once.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from harness import __version__, cli_data, cli_examples, cli_exchange, cli_init, cli_reports, cli_validate
from harness.errors import HarnessError, StoreError, TrialError, UsageError, unknown
from harness.flags import CONFIG, CONFIRMING, FAILURES, MACHINE, OUTPUT, RETRY, SEARCHING, SELECTION, Flags, takes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.campaign.plan import Plan
    from harness.config.project import Config
    from harness.config.registry import Registry
    from harness.output import Output

INTERRUPTED, TERMINATED = 130, 143
KINDS = ("methods", "datasets", "protocols")


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command and leave with its exit code; an error meant for people is told on stderr."""
    try:
        words = list(sys.argv[1:] if argv is None else argv)
        code = cli(words, prog_name="harness", standalone_mode=False, obj=words)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        code = complain(error.format_message(), error.exit_code)
    except HarnessError as error:
        code = complain(str(error), error.exit_code)
    except click.Abort:  # click's name for Ctrl-C
        code = interrupted(INTERRUPTED)
    except SystemExit as end:
        code = interrupted(TERMINATED) if end.code == TERMINATED else end.code
    sys.exit(code)


def complain(message: str, code: int) -> int:
    """Say what is wrong."""
    click.echo(f"harness: error: {message}", err=True)
    return code


def interrupted(code: int) -> int:
    """Say that nothing is lost."""
    click.echo("harness: interrupted: state saved; the same command continues", err=True)
    return code


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, message="harness %(version)s")
def cli() -> None:
    """Train, evaluate and rank image-text matching methods under one data and evaluation API.

    \b
    harness init             write a commented harness.toml here, or the card of a dataset of your own
    harness run              run the campaign in it; the same command continues it
    harness search           search settings by val, with one budget for all methods
    harness confirm NAME     train a search's winners anew and score them on test
    harness resume           go on with what was interrupted
    harness report           leaderboards from the tracking store, in several forms
    harness compare A B      whether one row of a leaderboard is better than another
    harness reproduce RUN    run a trial of the store again and compare
    harness explain          draw which regions the words of a caption attend to
    harness score FILE.npy   rank somebody else's scores and list them as external
    harness export           rankings and ranks of queries: TREC, CSV, parquet
    harness list             what there is: methods, datasets, protocols
    harness validate         look at a dataset from all sides before anything is scored
    harness data fetch       download what a dataset's card allows, after asking; also convert and extract

    Exit codes: 0 all well, 2 usage or environment, 3 data, 4 some trials failed, 5 reports out of date,
    6 store unreachable, 130 and 143 interrupted.
    """


@cli.command()
@takes(SELECTION, MACHINE, FAILURES, CONFIG, OUTPUT)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would run and what is done already; run nothing.")
@click.option("--here", is_flag=True, help="In this process, without Ray: for a debugger.")
@click.option("--force", is_flag=True, help="Run done trials anew; their old folders are kept beside.")
def run(flags: Flags, dry_run: bool, here: bool, force: bool) -> int:
    """Train, evaluate and rank; what is done already is not done again."""
    from harness.campaign.plan import plan as make_plan

    config, registry, out = flags.open()
    plan = make_plan(config, registry, **flags.selection, force=force, retry=flags.retry)
    return finish(plan, config, registry, out, here, dry_run)


def finish(plan: Plan, config: Config, registry: Registry, out: Output, here: bool, dry_run: bool) -> int:
    """Run what is left of a plan, publish its boards, say how it went."""
    from harness import summary
    from harness.board import publishing
    from harness.campaign.driver import choose_books, choose_executor, execute
    from harness.campaign.last_command import remember
    from harness.tracking.tracker import Tracker

    here = here or not plan.todo
    executor = choose_executor(config, here)
    if dry_run:
        out.answer(summary.plan_json(plan, executor.description), *summary.plan_page(plan, executor.description))
        return 0
    files = publishing.files_of(plan, config.reports)
    if plan.idle and all(file.is_file() for file in files):
        failures = summary.failures_page(trial.assignment for trial in plan.failed)
        out.answer(summary.run_json(plan, files), *failures, summary.nothing_to_do(plan, files))
        return TrialError.exit_code if plan.failed else 0
    with choose_books(plan.uri, here) as books:
        remember(config.results, plan.name, click.get_current_context().obj)
        out.note(summary.plan_line(plan, executor.description))
        with out.view() as view:
            outcome = execute(plan, executor, books, view, config.failures)
    if outcome.store_error:
        raise StoreError(outcome.store_error)
    published = publishing.publish(Tracker(plan.uri), registry, config.reports, publishing.boards_in(plan))
    out.note(*published.tables)
    out.answer(summary.run_json(plan, published.files), *summary.run_page(plan, outcome, published))
    return outcome.exit_code


@cli.command()
@takes(SEARCHING, MACHINE, FAILURES, CONFIG, OUTPUT)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be searched; run nothing.")
@click.option("--here", is_flag=True, help="In this process, without Ray: for a debugger.")
def search(flags: Flags, dry_run: bool, here: bool) -> int:
    """Search settings of methods, all with the same budget, by their measures on val; test stays closed."""
    from harness import search_summary
    from harness.campaign.driver import carry_out, choose_books, choose_executor, only_driver
    from harness.campaign.last_command import remember
    from harness.search.campaign import Searched, check_startable, outlines
    from harness.search.publishing import publish_searches
    from harness.tracking.store import default_uri

    config, registry, out = flags.open()
    found = outlines(config, registry, flags.methods, flags.datasets, flags.limit)
    executor = choose_executor(config, here)
    if dry_run:
        data = search_summary.plan_json(found, config.search, executor.description)
        out.answer(data, *search_summary.plan_page(found, config.search, executor.description))
        return 0
    check_startable(config, registry, found)
    with only_driver(config.results), Searched(config, config.campaign.name, found, flags.retry) as work:
        if work.idle:
            reports = publish_searches(config.results, config.reports, work.name)
            out.answer(search_summary.as_json(work, reports), *search_summary.idle_page(work, reports))
            return TrialError.exit_code if work.failed_before else 0
        remember(config.results, work.name, click.get_current_context().obj)
        out.note(f"{work.name}: {search_summary.budget_line(config.search, len(found))} · {executor.description}")
        with choose_books(default_uri(config), here) as books, out.view() as view:
            outcome = carry_out(work, executor, books, view, config.failures)
        reports = publish_searches(config.results, config.reports, work.name)
        out.answer(search_summary.as_json(work, reports), *search_summary.page(work, outcome, reports))
    if outcome.store_error:
        raise StoreError(outcome.store_error)
    return outcome.exit_code


@cli.command()
@takes(CONFIRMING, MACHINE, FAILURES, CONFIG, OUTPUT)
@click.argument("campaign")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would run and what is done already; run nothing.")
@click.option("--here", is_flag=True, help="In this process, without Ray: for a debugger.")
@click.option("--force", is_flag=True, help="Run done trials anew; their old folders are kept beside.")
def confirm(flags: Flags, campaign: str, dry_run: bool, here: bool, force: bool) -> int:
    """Train the winners of a search anew with other seeds and score them on test, once."""
    from harness.search.campaign import confirmation

    config, registry, out = flags.open()
    seeds = flags.seeds or config.campaign.seeds
    plan = confirmation(config, registry, campaign, seeds, flags.protocol, flags.limit, force=force, retry=flags.retry)
    return finish(plan, config, registry, out, here, dry_run)


@cli.command()
@takes((RETRY,), CONFIG, OUTPUT)
@click.argument("campaign", required=False, default="")
def resume(flags: Flags, campaign: str) -> int:
    """Go on with a campaign, the last one where none is named: its last command, given again."""
    from harness.campaign.last_command import remembered

    config, _, out = flags.open()
    words = remembered(config.results, campaign)
    out.note(f"harness {shlex.join(words)}")
    more = ["--retry", ",".join(sorted(flags.retry))] if flags.retry else []
    more += ["--json"] if flags.as_json else []
    code: int = cli([*words, *more], standalone_mode=False, obj=words)
    return code


@cli.command("list")
@takes(CONFIG, OUTPUT)
@click.argument("kind", required=False, type=click.Choice(KINDS))
def list_(flags: Flags, kind: str | None) -> int:
    """What there is: methods, datasets, protocols, or all of them."""
    from harness import catalogue

    _, registry, out = flags.open()
    kinds = [kind] if kind else KINDS
    found = {name: catalogue.listing(registry, name) for name in kinds}
    out.answer(found[kind] if kind else found, *(catalogue.TABLES[name](registry) for name in kinds))
    return 0


@cli.command()
@takes(CONFIG, OUTPUT)
@click.argument("name")
def describe(flags: Flags, name: str) -> int:
    """The card of a method or dataset: what it is, its settings, what its paper reported."""
    from harness import catalogue

    config, registry, out = flags.open()
    if method := registry.methods.get(name):
        out.answer(catalogue.as_json(method), *catalogue.method_page(method, config))
    elif dataset := registry.datasets.get(name):
        out.answer(catalogue.as_json(dataset), *catalogue.dataset_page(dataset))
    else:
        raise UsageError(unknown("method or dataset", name, [*registry.methods, *registry.datasets]))
    return 0


@cli.command()
@takes(SELECTION, CONFIG, OUTPUT)
@click.argument("campaign", required=False, default="")
@click.option("--watch", is_flag=True, help="Stay, and look again every two seconds while a driver is at work.")
def status(flags: Flags, campaign: str, watch: bool) -> int:
    """Where a search campaign stands, or the trials that `harness run` means; starts nothing."""
    from harness.campaign.status import is_busy

    config, registry, out = flags.open()
    if watch and flags.as_json:
        raise UsageError("--watch and --json: give one of them")

    def look() -> tuple[bool, Any, list[RenderableType]]:
        busy = is_busy(config.results)
        data, page = standing(flags, config, registry, campaign, busy)
        return busy, data, page

    if watch:
        out.watch(lambda: look()[::2])
    else:
        _, data, page = look()
        out.answer(data, *page)
    return 0


def standing(
    flags: Flags, config: Config, registry: Registry, campaign: str, busy: bool
) -> tuple[Any, list[RenderableType]]:
    """Where things stand, as JSON and for people."""
    if campaign:
        from harness import search_status
        from harness.search.campaign import campaigns
        from harness.search.status import standings

        found = standings(config.results, campaign)
        if not found:
            raise UsageError(unknown("search campaign", campaign, campaigns(config.results)))
        return search_status.as_json(campaign, found, busy), [*search_status.page(campaign, found, busy)]
    from harness import summary
    from harness.campaign.plan import selected
    from harness.campaign.status import statuses

    plan = selected(config, registry, **flags.selection)
    trials = list(statuses(plan.trials, plan.uri, busy))
    return summary.status_json(plan, trials), [*summary.status_page(plan, trials)]


for command in (
    cli_init.init,
    cli_validate.validate,
    cli_data.data,
    cli_reports.report,
    cli_reports.compare,
    cli_reports.reproduce,
    cli_exchange.score,
    cli_exchange.export,
    cli_examples.explain,
):
    cli.add_command(command)
