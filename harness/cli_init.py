"""The commands that write a file to begin with: harness.toml, and the card of a dataset of your own."""

from __future__ import annotations

from pathlib import Path

import click

from harness.errors import UsageError
from harness.flags import CONFIG, FILE, OUTPUT, Flags, takes


@click.group(
    invoke_without_command=True,
    subcommand_metavar="[dataset NAME]",
    short_help="Write harness.toml, or the card of a dataset of your own.",
)
@takes(OUTPUT)
@click.option("--force", is_flag=True, help="Replace the harness.toml that is there.")
def init(flags: Flags, force: bool) -> int:
    """Write a commented harness.toml into this folder, or the card of a dataset of your own."""
    if click.get_current_context().invoked_subcommand:
        if force or flags.as_json:
            raise UsageError("give flags behind the dataset's name: harness init dataset NAME --force")
        return 0
    from harness.config.template import write_template

    file = write_template(Path.cwd(), force)
    flags.out().answer({"written": str(file)}, f"{file.name} written; next: harness run")
    return 0


@init.command(short_help="Write the measured card of a folder of files.")
@takes(CONFIG, OUTPUT)
@click.argument("name")
@click.option("--folder", type=FILE, metavar="DIR", help="Where its files lie; default: NAME below [paths] data.")
@click.option("--force", is_flag=True, help="Replace the card that is there.")
def dataset(flags: Flags, name: str, folder: Path | None, force: bool) -> int:
    """Write the card of a folder of files, measured: layout, counts, widths, hashes.

    Where something is missing, it says what, and which command makes it.

    \b
    A folder holds one of
      captions.jsonl, split.json, regions/             your own
      dataset_NAME.json, regions/                      Karpathy's captions and splits
      train_ims.npy, train_caps.txt, dev_…, test_…     the field's precomputed regions
    """
    from harness.config.project import CACHE
    from harness.preparation import card

    config, registry, out = flags.open()
    asked = card.request(config, registry.datasets, name, folder, config.results / CACHE)
    found = card.write_card(asked, out.note, force)
    out.answer(card.as_json(asked, found), *card.page(asked, found))
    return 0
