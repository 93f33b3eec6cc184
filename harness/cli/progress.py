"""The commands that look at a campaign begun before: resume, status."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from harness.addresses import words_without_secrets
from harness.cli.boundary import invocation, invoke, warn
from harness.cli.campaigns import confirm, confirmation_plan, run, search
from harness.cli.flags import CAMPAIGN, CONFIG, OUTPUT, RETRY, SELECTION, Flags, flags_of, takes
from harness.config.selection import Selection
from harness.errors import UsageError, unknown

if TYPE_CHECKING:
    from rich.console import RenderableType

    from harness.campaign.driver import Driver
    from harness.campaign.plan import Plan
    from harness.config.project import Config
    from harness.config.registry import Registry


ONE_WORD = {"--json": "as_json", "-q": "quiet", "-v": "verbose"}  # flags that are passed on, and their values


@click.command(short_help="Continue what was interrupted, by its last command.")
@takes((RETRY,), CONFIG, OUTPUT)
@click.argument("campaign", type=CAMPAIGN, required=False, default="")
def resume(flags: Flags, campaign: str) -> int:
    """Continue a campaign, the last one where none is named, by repeating its last command as it was given.

    Of -s it takes the keys that held a password or a token, which are not stored with the command.
    """
    from harness.campaign.status import command_words

    config, _, out = flags.open()
    words = command_words(config.results, campaign, flags.overrides)
    check_repeated(flags, given_command(config, words, Path.cwd(), campaign), words)
    out.note(f"harness {shlex.join(words_without_secrets(words))}")
    more = ["--retry", ",".join(sorted(flags.retry))] if flags.retry else []
    more += [flag for flag, value in ONE_WORD.items() if getattr(flags, value)]
    return invoke(click.get_current_context().find_root().command, replace(invocation(), words=words), more)


def check_repeated(flags: Flags, given: GivenCommand | None, words: Sequence[str]) -> None:
    """UsageError for files and values that the command to be repeated was not given: it would not heed them."""
    from harness.config.project import find

    before = given.flags if given else Flags()
    file = before.config_file or find(Path.cwd())
    is_other = flags.config_file and (not file or flags.config_file.resolve() != file.resolve())
    more = [*(["-c", str(flags.config_file)] if is_other else ())]
    more += [word for one in flags.plugins if one not in before.plugins for word in ("--plugin", str(one))]
    more += [word for one in flags.overrides if one not in before.overrides for word in ("-s", one)]
    if more:
        whole = shlex.join(words_without_secrets(["harness", *words, *more]))
        raise UsageError(f"{more[0]}: resume repeats a command as it was given; give the whole command: {whole}")


@click.command(short_help="Show how far the trials of a campaign are.")
@takes(SELECTION, CONFIG, OUTPUT)
@click.argument("campaign", type=CAMPAIGN, required=False, default="")
@click.option("--watch", is_flag=True, help="Stay, and look again every two seconds while a run is at work.")
def status(flags: Flags, campaign: str, watch: bool) -> int:
    """Show the progress of a search campaign, or of the trials of `harness run`; starts nothing.

    \b
    Examples:
      harness status --watch
      harness status spring
    """
    from harness.campaign.driver import driver_of
    from harness.campaign.status import is_busy

    config, registry, out = flags.open()
    if watch and flags.as_json:
        raise UsageError("--watch and --json: give one of them")

    def look() -> tuple[bool, Any, list[RenderableType]]:
        busy = is_busy(config.results)
        driver = driver_of(config.results) if busy else None
        data, page = progress(flags, config, registry, campaign, busy, driver)
        data["driver"] = driver._asdict() if driver else None
        return busy, data, [*page, *([f"at work: {driver}" if driver else "at work: another command"] * busy)]

    if watch:
        out.watch(lambda: look()[::2])
    else:
        _, data, page = look()
        out.answer(data, *page)
    return 0


def progress(
    flags: Flags, config: Config, registry: Registry, campaign: str, busy: bool, driver: Driver | None
) -> tuple[dict[str, Any], list[RenderableType]]:
    """The state of a campaign as JSON and as a page: the one named, else the one at work, else the last one here."""
    from harness.campaign.plan import selected
    from harness.search.confirmation import campaigns
    from harness.search.status import study_statuses
    from harness.terminal import search_page

    last = None if flags.selects else last_command(config, campaign, driver)
    if last and last.name == "search":
        campaign = last.campaign
    studies = study_statuses(config, campaign) if campaign else []
    if studies and flags.selection != Selection():
        raise UsageError(f"{campaign} is a search, which is shown as a whole; leave out --methods and its like")
    if studies:
        page = search_page.status_page(campaign, studies, busy, flags.command)
        return search_page.status_json(campaign, studies, busy), [*page]
    if campaign and not last:
        raise UsageError(unknown("search campaign", campaign, campaigns(config)))
    plan = last.plan() if last else selected(config, registry, flags.selection)
    return trials_page(plan, registry, busy, driver.trials if driver else ())


def trials_page(
    plan: Plan, registry: Registry, busy: bool, under_way: Collection[str]
) -> tuple[dict[str, Any], list[RenderableType]]:
    from harness.campaign import healing
    from harness.campaign.estimate import Estimate, time_left
    from harness.campaign.status import statuses
    from harness.terminal import campaign_page
    from harness.trial.results import State

    none: tuple[frozenset[str], str] = (frozenset(), "")
    gone, trouble = none if busy else healing.missing(plan.results, plan.uri)  # a driver that is at work has looked
    if trouble:
        warn(f"harness: warning: {trouble}")
    trials = list(statuses(plan.trials, plan.uri, under_way, gone))
    room = sum(trial.state is State.RUNNING for trial in trials)
    times = time_left(plan, registry.datasets, room) if busy else Estimate({}, room)
    return campaign_page.status_json(plan, trials, times), [*campaign_page.status_page(plan, trials, times)]


class GivenCommand(NamedTuple):
    """A command that was given before, with its flags."""

    name: str
    flags: Flags
    campaign: str
    folder: Path  # in which it was given, and relative paths among its flags begin

    def plan(self) -> Plan:
        """The trials of `run` or `confirm`, and how far each is by now."""
        from harness.campaign.plan import selected

        with chdir(self.folder):
            config, registry, _ = self.flags.open()
            if self.name == "confirm":
                return confirmation_plan(self.flags, config, registry, self.campaign)
            return selected(config, registry, self.flags.selection)


def last_command(config: Config, campaign: str, driver: Driver | None) -> GivenCommand | None:
    """The command at work, where no campaign is named, else the last one of the campaign, or of all, in this folder."""
    from harness.campaign.status import command_words

    given = given_command(config, driver.words, Path(driver.folder), campaign) if driver and not campaign else None
    if given:
        return given
    try:
        return given_command(config, command_words(config.results, campaign), Path.cwd(), campaign)
    except UsageError:
        return None


def given_command(config: Config, words: Sequence[str], folder: Path, campaign: str) -> GivenCommand | None:
    """The words of a command as a command; None where they are of one that has no trials, or of another machine."""
    try:
        name, *rest = words
        command = {"run": run, "search": search, "confirm": confirm}[name]
        with chdir(folder):
            values = command.make_context(name, [*rest]).params
    except (UsageError, click.ClickException, ValueError, KeyError, OSError):
        return None
    flags = replace(flags_of(values), verify_data=False)
    campaign = values.get("campaign") or campaign or flags.campaign_name or config.campaign.name
    return GivenCommand(name, flags, campaign, folder)
