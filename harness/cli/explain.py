"""The command that explains what a trained method attends to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.flags import CONFIG, FILE, OUTPUT, PROTOCOL, Flags, takes
from harness.errors import UsageError
from harness.files import safe_name

if TYPE_CHECKING:
    from harness.explain.explanation import Explanation

SUFFIXES = (".svg", ".png")


@click.command(short_help="Draw which regions the words of a caption attend to.")
@takes((PROTOCOL,), CONFIG, OUTPUT)
@click.option("--method", required=True, metavar="NAME", help="Take this method, which must have attention.")
@click.option("--image", required=True, metavar="ID", help="Take the image with this id in its dataset.")
@click.option("--caption", metavar="TEXT", help="Explain this text instead of the image's own first caption.")
@click.option("--dataset", metavar="NAME", help="Take this dataset instead of the first of [campaign] datasets.")
@click.option(
    "--split",
    default="",
    metavar="NAME",
    help="Look for the image in this split instead of the one that the protocol scores.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Take the trial of this seed instead of the first one that is trained.",
)
@click.option(
    "--run",
    "key",
    default="",
    metavar="KEY",
    help="Take the trial of this key, start of a key, or name METHOD/DATASET/sSEED.",
)
@click.option(
    "-o", "--output", "file", type=FILE, metavar="FILE", help="Write the picture into this .svg or .png file."
)
def explain(
    flags: Flags,
    method: str,
    image: str,
    caption: str | None,
    dataset: str | None,
    split: str,
    seed: int | None,
    key: str,
    file: Path | None,
) -> int:
    """Draw which regions of an image the words of a caption attend to, with the weights of a trained method.

    \b
    Examples:
      harness explain --method caan --image test-0055b
      harness explain --method caan --image test-0055b --caption "a blue triangle" -o triangle.png
    """
    from harness.explain import explanation as explaining
    from harness.explain.weights import TrialChoice

    file = file or Path(safe_name(f"explain-{method}-{image}") + ".svg")
    if file.suffix.lower() not in SUFFIXES:
        raise UsageError(f"-o {file}: write an {' or a '.join(SUFFIXES)} file")
    config, registry, out = flags.open()
    name = dataset or registry.select_datasets(config.campaign.datasets)[0]
    choice = TrialChoice(method, name, flags.protocol, seed, key)
    explained = explaining.explanation(config, registry, choice, explaining.Pair(image, caption, split))
    draw(explained, file)
    out.note(*explaining.notes(explained))
    spec = explained.trial.spec
    page = f"{file} written: {spec.label}, trial {spec.key}, score {explained.score:.3f}"
    out.answer(explain_json(explained, file), page)
    return 0


def draw(explained: Explanation, file: Path) -> None:
    """Write the picture; UsageError where it cannot be written."""
    from harness.explain.picture import png, svg
    from harness.files import write_atomic

    picture = png(explained) if file.suffix.lower() == ".png" else svg(explained)
    try:
        write_atomic(file, picture)
    except OSError as error:
        raise UsageError(f"{file} cannot be written: {error}; name another with -o") from error


def explain_json(one: Explanation, file: Path) -> dict[str, Any]:
    from harness.explain.explanation import notes

    spec = one.trial.spec
    best = one.trial.result.best_epoch
    return {
        **{"method": spec.method, "dataset": spec.dataset, "protocol": spec.protocol, "split": one.split},
        **{"trial": spec.key, "best_epoch": best, "image": one.image, "caption": one.caption},
        "seed": spec.seed,
        "score": one.score,
        "rank": one.rank._asdict() if one.rank else None,
        "boxes": one.boxes or None,
        "labels": one.look.labels or None,
        "words": [{"word": word.text, "known": word.is_known, "weights": word.weights} for word in one.words],
        "notes": notes(one),
        "file": str(file),
    }
