"""A benchmark harness for image-text matching: comparable methods, one data and evaluation API.

A package imports only from those below it; tests/test_architecture.py holds the table.

    cli           the commands: flags, and what each calls      click
    terminal      how values look in a terminal                 rich
    api           the same calls for notebooks and scripts      pandas
    portable      exported weights: written, loaded, scored      safetensors
    retention     what takes room, and what can go
    doctor        what would stop a run here, with its cure
    explain       what a trained method attends to, retrieves; examples
    planning      seeds and test images that a difference needs
    search        settings found by search                      Optuna
    campaign      many trials: plan, hand out, record, retry
    board         leaderboards in every form                    jinja2
    preparation   a dataset before its first trial
    tracking      results in the store and back                 MLflow
    executors     where trials run                              Ray
    contract      what every method must hold, as a checklist
    trial         one trial, spec to result                     torch
    costs         time and bytes of retrieval, machine load     torch
    diagnostics   further looks at the same scores, never ranked
    reranking     two stages of retrieval                       torch
    evaluation    scores, ranks, measures, intervals
    layouts       readers of files
    data          a split in memory
    blocks        what papers share                             torch
    config        what the user writes: harness.toml, cards

    method        the contract of a method
    errors, files, interruption                                 the ground

Notebooks and scripts begin with `harness.open(path)`, `harness.evaluate(scores, dataset)` and `harness.load(folder)`
(docs/guide/python.md).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.api.project import evaluate
    from harness.api.project import open_project as open
    from harness.api.weights import load_weights as load

__version__ = "0.1.0"
__all__ = ["__version__", "evaluate", "load", "open"]
LATER = {  # imported when it is used
    "evaluate": ("harness.api.project", "evaluate"),
    "load": ("harness.api.weights", "load_weights"),
    "open": ("harness.api.project", "open_project"),
}


def __getattr__(name: str) -> Any:
    """The functions of `harness.api` that are reached from here."""
    if name not in LATER:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = LATER[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    """The names that a notebook completes, those that are not imported yet among them."""
    return sorted({*globals(), *LATER})
