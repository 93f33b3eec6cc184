"""The commands that keep a machine and a project in order: doctor, gc, completion."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli.flags import CONFIG, OUTPUT, Flags, NameList, takes
from harness.errors import ConfigError, HarnessError, ResourceError

if TYPE_CHECKING:
    from harness.config.project import Config
    from harness.config.registry import Registry
    from harness.doctor.diagnosis import Diagnosis

PROGRAM = "harness"
COMPLETION = "_HARNESS_COMPLETE"  # click's, set by a shell that completes a line
SHELLS = {  # where each looks for a program's completion, from the home folder, and what else it needs
    "bash": (
        ".local/share/bash-completion/completions/harness",
        "a new shell completes where the package bash-completion is installed",
    ),
    "zsh": (
        ".zfunc/_harness",
        "put `fpath+=~/.zfunc; autoload -Uz compinit; compinit` into ~/.zshrc, then open a new shell",
    ),
    "fish": (".config/fish/completions/harness.fish", "a new shell completes"),
}


@click.command(short_help="Check the machine, the installation, the project and its data.")
@takes(CONFIG, OUTPUT)
@click.option(
    "--datasets",
    type=NameList(),
    help="Check the files of these datasets, by names or globs, instead of [campaign] datasets.",
)
def doctor(flags: Flags) -> int:
    """Check what a run needs, and say for every fault what to do about it; nothing is changed.

    torch is imported, a Ray is started and stopped again, the tracking store is opened, and files of datasets are
    compared with their cards: presence and size, and their hash where they are small or were hashed before. Exit
    code 2 where something would stop a run.

    \b
    Examples:
      harness doctor
      harness doctor --datasets f30k --json
    """
    from harness.doctor.diagnosis import gravest_first, has_fault
    from harness.doctor.examination import examination
    from harness.terminal.output import named_steps
    from harness.terminal.upkeep_page import doctor_json, doctor_page

    out = flags.out()
    config, registry, before = opened(flags)
    names, absent = selected(registry, flags.datasets or config.campaign.datasets, is_broken=has_fault(before))
    with named_steps(25, visible=out.is_live, counted=False) as tell:
        diagnoses = gravest_first([*before, *absent, *examination(config, registry, names, tell)])
    out.answer(doctor_json(diagnoses), *doctor_page(diagnoses))
    return ResourceError.exit_code if has_fault(diagnoses) else 0


def opened(flags: Flags) -> tuple[Config, Registry, list[Diagnosis]]:
    """The configuration and the cards; what is wrong with them is a finding, and the defaults are looked at instead."""
    from harness.config.project import Config
    from harness.config.registry import discover
    from harness.config.sections import Paths
    from harness.doctor.diagnosis import Diagnosis, Health, message_and_cure

    try:
        config, registry, _ = flags.open()
    except ConfigError as error:
        fault = Diagnosis("configuration", Health.FAULT, *message_and_cure(str(error)))
        without_cards = Paths(datasets=(), methods=())  # of the project: one of them may be at fault
        config = Config(root=root_of(flags.config_file), paths=without_cards)
        return config, discover(config), [fault]
    source = flags.source.removeprefix("configuration: ")
    return config, registry, [Diagnosis("configuration", Health.SOUND, source)]


def root_of(config_file: Path | None) -> Path:
    """The folder of a project whose harness.toml cannot be read, or is not there."""
    from harness.config.project import find

    try:
        file = config_file or find(Path.cwd())
    except ConfigError:
        file = None
    return file.resolve().parent if file and file.is_file() else Path.cwd()


def selected(registry: Registry, patterns: Sequence[str], is_broken: bool) -> tuple[list[str], list[Diagnosis]]:
    """The datasets that names and globs mean; one that means none is a finding, and hides none of the others.

    is_broken: whether the configuration cannot be read, so that the project's own cards are not among the known ones.
    """
    from harness.doctor.diagnosis import Diagnosis, Health, message_and_cure

    names: list[str] = []
    absent: list[Diagnosis] = []
    for pattern in patterns:
        try:
            names += registry.select_datasets([pattern])
        except HarnessError as error:
            message, cure = message_and_cure(str(error))
            cure = "mend the configuration first: without it only built-in cards are known" if is_broken else cure
            absent.append(Diagnosis(f"dataset {pattern}", Health.FAULT, message, cure))
    return [*dict.fromkeys(names)], absent


@click.command(short_help="Show what takes room and what nothing needs, and remove that with --yes.")
@takes(CONFIG, OUTPUT)
@click.option("--checkpoints", is_flag=True, help="Include the weights of trials on boards, which explain needs.")
@click.option("--cache", is_flag=True, help="Include the results folder's cache, which is made again.")
@click.option("-y", "--yes", is_flag=True, help="Remove what goes; without this nothing is removed.")
def gc(flags: Flags, checkpoints: bool, cache: bool, yes: bool) -> int:
    """Show what takes room in the results folder, what nothing needs, and why; with --yes remove that.

    Results of trials on boards, and all that a command can continue, always stay. Without --yes nothing is changed.

    \b
    Examples:
      harness gc
      harness gc --yes
      harness gc --checkpoints --yes
    """
    from contextlib import nullcontext

    from harness.campaign.status import is_busy
    from harness.retention.inventory import CACHE, CHECKPOINTS, heaps, needed
    from harness.retention.sweep import alone, sweep
    from harness.terminal.output import named_steps
    from harness.terminal.upkeep_page import gc_end, gc_json, gc_page

    config, registry, out = flags.open()
    wanted = {"", *([CHECKPOINTS] if checkpoints else []), *([CACHE] if cache else [])}
    if not yes and is_busy(config.results):
        out.note("another command is at work here: sizes change, and nothing can be removed before it ends")
    with alone(config) if yes else nullcontext():
        with named_steps(12, out.is_live, counted=False) as tell:
            piles = heaps(config, registry, tell)
            staying = needed(config, piles)
        chosen = [pile for pile in piles if pile.flag in wanted]
        out.note(*gc_page(piles, staying, chosen))
        if yes:
            with named_steps(sum(len(pile.items) for pile in chosen), out.is_live) as tell:
                sweep(config, chosen, tell)
    more = [flag for flag in (CHECKPOINTS, CACHE) if flag in wanted]
    command = flags.command("gc", *more, "--yes")
    out.answer(gc_json(piles, staying, chosen, yes), gc_end(chosen, yes, command))
    return 0


@click.command(short_help="Print or install what makes a shell complete commands, flags and names.")
@click.argument("shell", type=click.Choice(list(SHELLS)))
@click.option("--install", is_flag=True, help="Write it where the shell looks for it, in your home folder.")
def completion(shell: str, install: bool) -> int:
    """Print the script that makes a shell complete commands, flags and names.

    Names are those of methods, datasets, trials and campaigns of the project that the shell is in.

    \b
    Examples:
      eval "$(harness completion bash)"      # in this shell
      harness completion zsh --install       # in every later one
    """
    from click.shell_completion import get_completion_class

    from harness.files import write_atomic

    kind = get_completion_class(shell)
    assert kind
    script = kind(click.get_current_context().find_root().command, {}, PROGRAM, COMPLETION).source()
    if not install:
        click.echo(script)
        return 0
    file, more = SHELLS[shell]
    path = Path.home() / file
    write_atomic(path, f"{script}\n")
    click.echo(f"{path} written; {more}")
    return 0
