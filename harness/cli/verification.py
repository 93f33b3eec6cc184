"""The command that makes a result again: reproduce, of our own trials and of scores of files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from harness.cli.flags import CONFIG, FILE, OUTPUT, RESULT, Flags, takes
from harness.errors import UsageError

DIFFERENT = 4


@click.command(short_help="Run a trial of the store again and compare the results.")
@takes(CONFIG, OUTPUT)
@click.argument("run", type=RESULT)
@click.option("-n", "--dry-run", is_flag=True, help="Say what has changed since the run; train nothing.")
@click.option(
    "--scores",
    "files",
    type=FILE,
    multiple=True,
    metavar="FILE",
    help="Compare this file of scores made again with an external entry; may be repeated, if the entry has several.",
)
@click.option("--by", default="", metavar="WHO", help="Say who made the scores of --scores again.")
def reproduce(flags: Flags, run: str, dry_run: bool, files: Sequence[Path], by: str) -> int:
    """Run a trial of the store again from its spec, say what has changed, and whether the result is the same.

    What came of it is recorded with the trial: its row is marked as verified where the result came back. Scores of a
    file cannot be made here: --scores compares a file that somebody made again with the one that was ranked.

    \b
    Examples:
      harness reproduce caan/scenes/s0 -n
      harness reproduce 3f9a1c
      harness reproduce "external:CLIP B/32" --scores again.npy --by "J. Doe"
    """
    from harness.campaign import reproduction
    from harness.terminal.board_page import drift_json, drift_page, reproduction_json, reproduction_page
    from harness.terminal.view import view_for
    from harness.tracking.result_store import open_store
    from harness.tracking.store import default_uri

    if files or by:
        return verify_files(flags, run, dry_run, files, by)
    config, registry, out = flags.open()
    store = open_store(default_uri(config))
    with out.at_work() as tell:
        tell("comparing data and code with those of the original run")
        case = reproduction.case_of(store, config, registry, run)
    out.note(*drift_page(case))
    if dry_run:
        out.answer(drift_json(case))
        return 0
    repetition = reproduction.repeat(case, view_for(out))
    reproduction.record_verification(config, case.then, repetition.verification)
    out.answer(reproduction_json(repetition), *reproduction_page(repetition))
    return 0 if repetition.is_reproduced else DIFFERENT


def verify_files(flags: Flags, run: str, dry_run: bool, files: Sequence[Path], by: str) -> int:
    """Compare files made again with an external entry and record what came of it; the exit code."""
    from harness.campaign import external_scores, reproduction
    from harness.terminal.board_page import remade_json, remade_page
    from harness.tracking.result_store import open_store
    from harness.tracking.store import default_uri

    if not (files and by.strip()):
        raise UsageError("--scores FILE and --by WHO belong together: say who made the scores again")
    config, registry, out = flags.open()
    store = open_store(default_uri(config))
    with out.at_work() as tell:
        tell("ranking the scores")
        remade = external_scores.remade_scores(config, registry, store, run, files, by)
    if not dry_run:
        reproduction.record_verification(config, remade.result, remade.verification)
    out.answer(remade_json(remade), *remade_page(remade))
    return 0 if remade.is_verified else DIFFERENT
