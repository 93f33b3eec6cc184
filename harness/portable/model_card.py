"""README.md of a folder of weights: what it is, how it was made, what it reaches, and how to use it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from harness.evaluation.measures import title
from harness.foreign_text import json_text, markdown
from harness.portable.weights_folder import FACTS, TENSORS, VOCABULARY, WeightsFacts, card_name
from harness.trial.results import HEADLINE

HEAD = """---
library_name: itm-harness
tags: [image-text-matching, image-text-retrieval]
---"""
USE = """## How to use it

```python
import harness

method = harness.load("DIR")  # this folder
images = method.encode_images([regions])  # of each image an array (R, {width})
captions = method.encode_captions(["a dog on a beach"])
method.score(images, captions)  # (images, captions), higher is better
method.retrieve("a dog on a beach", among=images, k=1)
```

On a dataset of the same features: `harness score --weights DIR --dataset NAME`."""
CODE = """## The code

`{card}` and `{source}` are the method's card and source, to be read. Nothing in this folder is run: the method that
is installed is taken, and its source, with what it imports of harness, must have the sha256 {hash}. Where it is
not installed, read `{source}`, and if you trust it, name it: `--plugin DIR/{card}`, or
`harness.load("DIR", plugins=["DIR/{card}"])`."""


def model_card(facts: WeightsFacts) -> str:
    return "\n\n".join(parts(facts)) + "\n"


def parts(facts: WeightsFacts) -> Iterator[str]:
    spec = facts.spec
    yield HEAD
    yield f"# {markdown(facts.method_title)}, trained on {markdown(facts.dataset_title)}"
    limited = f" Only the first {spec.limit} images of each split were used." if spec.limit else ""
    noise = f" On purpose: {markdown(spec.noise)}." if spec.noise else ""
    yield (
        f"Weights of the method `{spec.method}`, trained on the split train of `{spec.dataset}` with seed {spec.seed}; "
        f"epoch {facts.best_epoch} of {spec.training.epochs} was the best on val.{limited}{noise} Trial "
        f"`{facts.key}` of harness {facts.harness}."
    )
    yield from measured(facts)
    yield USE.format(width=facts.features.width)
    yield from needs(facts)
    yield from settings(facts)
    yield CODE.format(card=card_name(spec.method), source=facts.source_file, hash=spec.source)
    if facts.further_sources:
        yield f"It also imports {', '.join(map(markdown, facts.further_sources))}, which are not in this folder."
    yield (
        f"Licence of the data: {markdown(facts.licence)}. `{FACTS}` has all of this for programs, and the sha256 of "
        "every file."
    )


def measured(facts: WeightsFacts) -> Iterator[str]:
    spec, sizes = facts.spec, facts.gallery
    yield "## What it reaches"
    names = [name for name in HEADLINE if name in facts.measures]
    yield "\n".join(
        [
            f"| {' | '.join(map(title, names))} |",
            f"|{'---:|' * len(names)}",
            f"| {' | '.join(f'{facts.measures[name]:.1f}' for name in names)} |",
        ]
    )
    yield (
        f"On `{spec.dataset}`, protocol `{spec.protocol}`: {sizes.get('images', 0):,} images, "
        f"{sizes.get('captions', 0):,} captions, folds: {sizes.get('folds', 1)}. One seed; a row of a leaderboard is "
        "the mean of several."
    )


def needs(facts: WeightsFacts) -> Iterator[str]:
    yield "## What it needs"
    features, text = facts.features, facts.text
    layout = markdown(features.layout)
    yield f"Regions of {features.width} numbers, made as those of `{facts.spec.dataset}` (layout {layout}):"
    recipes = features.origins or [{"layout": features.layout}]
    yield f"```json\n{json_text(recipes, indent=1)}\n```"
    if text.encoder:
        yield (
            f"The text encoder {markdown(text.encoder)}, which is not in this folder: put it beside this file, or "
            f"below `[paths] data`. Its files are compared with the sha256 in `{FACTS}`."
        )
    else:
        yield f"Captions are cut into words by harness; `{VOCABULARY}` has the {text.size:,} words that it knows."
    if text.vectors:
        yield f"Words began with the vectors of {markdown(text.vectors)}; trained further, they lie in `{TENSORS}`."


def settings(facts: WeightsFacts) -> Iterator[str]:
    yield "## Settings and training"
    table = {"settings": facts.spec.settings, "training": facts.spec.training.model_dump(mode="json")}
    yield f"```json\n{json.dumps(table, indent=1)}\n```"
