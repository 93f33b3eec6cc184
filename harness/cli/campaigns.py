"""The commands that begin a campaign: run, search, confirm."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import click

from harness.cli.boundary import invocation
from harness.cli.flags import (
    CAMPAIGN,
    CONFIG,
    DATASETS,
    FAILURES,
    LIMIT,
    MACHINE,
    OUTPUT,
    PROTOCOL,
    SEEDS,
    SELECTION,
    Flags,
    NameList,
    Option,
    takes,
)
from harness.errors import StoreError, TrialError, count

if TYPE_CHECKING:
    from harness.campaign.course import Course
    from harness.campaign.driver import CampaignOutcome
    from harness.campaign.plan import Plan
    from harness.config.project import Config
    from harness.config.registry import Registry
    from harness.search.confirmation import Inputs
    from harness.search.plan import SearchPlan
    from harness.terminal.output import Output

SEARCHING: tuple[Option, ...] = (
    click.option(
        "--methods",
        type=NameList(),
        help="Search these methods, by names or globs, instead of [campaign] methods; of ensembles, their members.",
    ),
    DATASETS,
    click.option(
        "--trials", type=click.IntRange(min=1), metavar="N", help="Try N settings in total for each method and dataset."
    ),
    click.option(
        "--campaign", "campaign_name", metavar="NAME", help="Use this campaign name instead of [campaign] name."
    ),
    LIMIT,
)
CONFIRMING: tuple[Option, ...] = (
    SEEDS,
    PROTOCOL,
    click.option("--limit", type=int, metavar="N", help="Repeat the --limit of the search; another one is refused."),
)
DRY_RUN: Option = click.option(
    "-n", "--dry-run", is_flag=True, help="Say what would run, for how long, and what is done already; run nothing."
)
HERE: Option = click.option(
    "--here", is_flag=True, help="Run trials in this process, without Ray, as a debugger needs it."
)
FORCE: Option = click.option(
    "--force", is_flag=True, help="Run done trials again; their old folders are renamed and kept."
)
DATA: tuple[Option, ...] = (
    click.option(
        "--verify-data", is_flag=True, help="Hash every file of the datasets again, whatever their sizes and times say."
    ),
)


@click.command(short_help="Train, evaluate and rank; the same command continues it.")
@takes(SELECTION, MACHINE, FAILURES, DATA, CONFIG, OUTPUT)
@DRY_RUN
@HERE
@FORCE
def run(flags: Flags, dry_run: bool, here: bool, force: bool) -> int:
    """Train, evaluate and rank; trials that are done are not run again.

    \b
    Examples:
      harness run
      harness run --methods 'scan_*,caan' --datasets f30k --seeds 0-2
      harness run --methods scan_t2i+scan_i2t
      harness run --methods vsepp@128:caan
      harness run --methods caan --datasets coco --test-on f30k
      harness run -s training.epochs=3 -s settings.caan.dim=512 -n
    """
    from harness.campaign.plan import plan as make_plan
    from harness.campaign.plan import scratch_cache
    from harness.config.choice import RECIPE_TABLES, check_recipe

    config, registry, out = flags.open()
    check_recipe(flags.recipe or config.campaign.recipe, flags.overridden(*RECIPE_TABLES))
    with scratch_cache(config, dry_run) as folder, out.at_work() as tell:
        plan = make_plan(config, registry, flags.selection, force, flags.retry, folder, tell)
    return finish(flags, plan, config, registry, out, here, dry_run)


def finish(flags: Flags, plan: Plan, config: Config, registry: Registry, out: Output, here: bool, dry_run: bool) -> int:
    """Run the trials that a plan has left, publish its boards, print how it ended; the exit code."""
    from harness.campaign.course import Course
    from harness.campaign.driver import check_resources
    from harness.terminal import campaign_page

    course = Course(plan, config, registry, here)
    course = course if dry_run else course.healed(out.note)
    plan = course.plan
    place, room = course.place()
    if not plan.todo and flags.asks_for_resources:
        check_resources(config, here, [trial.assignment for trial in plan.trials])
    if dry_run:
        return answer_dry_run(course, place, room, flags.source, out)
    if course.is_over:
        failures = campaign_page.failures_page(trial.assignment for trial in plan.failed)
        out.answer(campaign_page.run_json(plan, course.files), *failures, campaign_page.nothing_to_do(course))
        return TrialError.exit_code if plan.failed else 0
    out.note(campaign_page.plan_line(plan, place), flags.source, *course.warnings())
    return carry_out(course, out)


def answer_dry_run(course: Course, place: str, room: int, source: str, out: Output) -> int:
    """Print what a plan would run and for how long; the exit code."""
    from harness.campaign import healing
    from harness.campaign.estimate import estimate
    from harness.terminal import campaign_page

    plan = course.plan
    if keys := healing.lacking(course.config.results, plan.uri):
        out.note(f"the tracking store has lost {count(len(keys), 'result')}, and the run logs again what it lacks")
    times = estimate(plan, course.registry.datasets, room)
    out.answer(campaign_page.plan_json(plan, place, times), *campaign_page.plan_page(plan, place, times))
    out.note(*plan.notes, source)
    return 0


def carry_out(course: Course, out: Output) -> int:
    """Run what a plan has left, publish its boards, print how it ended; the exit code."""
    from harness.terminal import board_page, campaign_page
    from harness.terminal.view import view_for

    outcome, published = course.run(partial(view_for, out), invocation().words)
    out.note(*board_page.tables(published.boards, out.console.width))
    out.answer(
        campaign_page.run_json(course.plan, published.files), *campaign_page.run_page(course.plan, outcome, published)
    )
    return outcome.exit_code


@click.command(short_help="Search settings by val, with one budget for all methods.")
@takes(SEARCHING, MACHINE, FAILURES, DATA, CONFIG, OUTPUT)
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be searched, and for how long; run nothing.")
@HERE
def search(flags: Flags, dry_run: bool, here: bool) -> int:
    """Search settings of methods, all with the same budget, by their measures on val; the test split is not used.

    Example: harness search --methods vsepp,caan --trials 20 --campaign spring
    """
    from harness.campaign.driver import choose_executor, run_all
    from harness.campaign.inputs import PlanInputs
    from harness.campaign.plan import scratch_cache
    from harness.config.choice import left_out
    from harness.search.plan import check_startable, search_plans
    from harness.search.status import most_time_left
    from harness.terminal import search_page

    config, registry, out = flags.open()
    executor = choose_executor(config, here)
    place = executor.description
    with scratch_cache(config, dry_run) as folder, out.at_work() as tell:
        inputs = PlanInputs(config, registry, flags.selection.limit, folder, tell)
        plans = search_plans(config, registry, flags.selection, inputs)
        check_startable(config, plans, inputs)
        notes = left_out(registry, flags.selection.completed(config.campaign), inputs.has_text_tower)
    out.note(*notes)
    if dry_run:
        with closing(executor):
            executor.check([plan.base for plan in plans])
            times = most_time_left(config, plans, registry.datasets, executor.room)
        data = search_page.plan_json(plans, config.search, place, times)
        out.answer(data, *search_page.plan_page(plans, config.search, place, times))
        out.note(flags.source)
        return 0
    return carry_out_search(flags, config, plans, place, partial(run_all, executor=executor), out)


def carry_out_search(
    flags: Flags,
    config: Config,
    plans: Sequence[SearchPlan],
    place: str,
    launch: Callable[..., CampaignOutcome],
    out: Output,
) -> int:
    """Run what the searches of a campaign have left, write its page, print how it ended; the exit code."""
    from harness.campaign import healing
    from harness.campaign.driver import CampaignOutcome, only_driver
    from harness.campaign.plan import check_writable
    from harness.campaign.status import write_command
    from harness.search.campaign import SearchTrials
    from harness.search.publishing import publish_searches
    from harness.terminal import search_page
    from harness.terminal.view import view_for
    from harness.tracking.store import default_uri
    from harness.tracking.tracker import Tracker

    check_writable(config.results)
    healing.heal(config.results, default_uri(config), out.note)
    with only_driver(config.results):
        work = SearchTrials(config, config.campaign.name, plans, flags.retry)
        outcome = CampaignOutcome(failed_before=work.failed_before)
        if not work.idle:
            write_command(config.results, work.name, invocation().words)
            out.note(f"{work.name}: {search_page.budget_line(config.search, plans)} · {place}", flags.source)
            tracker = Tracker(default_uri(config))
            with view_for(out) as view:
                outcome = launch(work, tracker=tracker, view=view, failures=config.failures)
            outcome.failed_before = max(0, work.failed - len(outcome.failed))
        reports = publish_searches(config, work.name)
        page = search_page.search_page(work, outcome, reports, flags.command("confirm", work.name))
        out.answer(search_page.search_json(work, reports), *page)
    if outcome.store_error:
        raise StoreError(outcome.store_error)
    return outcome.exit_code


@click.command(short_help="Train a search's winners with other seeds and score them on test.")
@takes(CONFIRMING, MACHINE, FAILURES, DATA, CONFIG, OUTPUT)
@click.argument("campaign", type=CAMPAIGN)
@DRY_RUN
@HERE
@FORCE
def confirm(flags: Flags, campaign: str, dry_run: bool, here: bool, force: bool) -> int:
    """Train the winners of a search with other seeds and score them on test, once.

    Example: harness confirm spring --seeds 1-3
    """
    from harness.search.confirmation import check_confirmable, inputs_by_limit

    config, registry, out = flags.open()
    with out.at_work() as tell:
        tell(f"looking at the winners of {campaign}")
        inputs = inputs_by_limit(config, registry, tell)
        plan = confirmation_plan(flags, config, registry, campaign, force, inputs)
        tell("reading every split and comparing it with its card")
        notes = check_confirmable(config, [trial.assignment for trial in plan.todo], inputs)
        plan = replace(plan, notes=tuple(notes))
    return finish(flags, plan, config, registry, out, here, dry_run)


def confirmation_plan(
    flags: Flags,
    config: Config,
    registry: Registry,
    campaign: str,
    force: bool = False,
    inputs: Inputs | None = None,
) -> Plan:
    """The trials that confirm the winners of a search campaign, without a look at the splits."""
    from harness.campaign.plan import Plan, state_of
    from harness.search.confirmation import confirmation
    from harness.tracking.store import default_uri

    trials = confirmation(config, registry, campaign, flags.selection, recipe_keys(flags), inputs)
    planned = tuple(state_of(trial, force, flags.retry) for trial in trials)
    return Plan(campaign, config.results, default_uri(config), planned, force, flags.retry)


def recipe_keys(flags: Flags) -> set[str]:
    """The keys of settings and recipe that -s gives, for whichever method or dataset."""
    keys = flags.overridden("settings", "training")
    for override in flags.overrides:
        table, *parts = override.partition("=")[0].strip().split(".")
        if table == "per_dataset":
            keys |= {f"{part}.{parts[-1]}" for part in parts[:-1] if part in ("settings", "training")}
    return keys
