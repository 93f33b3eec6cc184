"""The command that looks at datasets before anything is scored."""

from __future__ import annotations

import click

from harness.errors import DataError
from harness.flags import CONFIG, OUTPUT, Flags, Names, takes


@click.command(short_help="Look at a dataset from all sides before it is scored.")
@takes(CONFIG, OUTPUT)
@click.option("--dataset", "--datasets", "datasets", type=Names(), help="Names or globs; default: [campaign] datasets.")
def validate(flags: Flags) -> int:
    """Look at a dataset from all sides and say what is wrong, with file and line; nothing is scored.

    Errors end with exit code 3. Warnings and notes do not: what they mean for results is said with each.
    """
    from rich.console import Console
    from rich.progress import Progress

    from harness import validate_page
    from harness.campaign.plan import check_writable
    from harness.config.project import CACHE
    from harness.preparation.validation import validated

    config, registry, out = flags.open()
    names = registry.select_datasets(flags.datasets or config.campaign.datasets)
    check_writable(config.results)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=flags.quiet or not console.is_terminal) as progress:
        cache = config.results / CACHE
        reports = [validated(registry.datasets[name], config.data, cache, progress) for name in names]
    out.answer(validate_page.as_json(reports), *validate_page.page(reports))
    return 0 if all(report.is_sound for report in reports) else DataError.exit_code
