"""A benchmark harness for image-text matching: comparable methods, one data and evaluation API.

A package imports only from those below it; tests/test_architecture.py holds the table.

    cli           the commands, and all that they print         click, rich
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
"""

__version__ = "0.1.0"
