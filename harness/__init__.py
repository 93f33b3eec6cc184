"""A benchmark harness for image-text matching: comparable methods, one data and evaluation API.

A package imports only from those below it; tests/test_architecture.py holds the table.

    cli           the commands: flags, and what each calls      click
    terminal      how values look in a terminal                 rich
    api           the same calls for notebooks and scripts      pandas
    explain       what a trained method attends to; examples
    search        settings found by search                      Optuna
    campaign      many trials: plan, hand out, record, retry
    board         leaderboards in every form                    jinja2
    preparation   a dataset before its first trial
    tracking      results in the store and back                 MLflow
    executors     where trials run                              Ray
    trial         one trial, spec to result                     torch
    evaluation    scores, ranks, measures, intervals
    layouts       readers of files
    data          a split in memory
    blocks        what papers share                             torch
    config        what the user writes: harness.toml, cards

    method        the contract of a method
    errors, files, interruption                                 the ground

Notebooks and scripts begin with `harness.open(path)` and `harness.evaluate(scores, dataset)` (docs/guide/python.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api.project import evaluate
    from harness.api.project import open_project as open

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "open"]
LATER = {"open": "open_project", "evaluate": "evaluate"}  # of api.project, imported when it is used


def __getattr__(name: str) -> Any:
    """The functions of `harness.api` that are reached from here."""
    if name not in LATER:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("harness.api.project"), LATER[name])


def __dir__() -> list[str]:
    """The names that a notebook completes, those that are not imported yet among them."""
    return sorted({*globals(), *LATER})
