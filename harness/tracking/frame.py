"""Runs of the store as a typed data frame, and a run by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError, unknown
from harness.trial.results import RECALLS, State

if TYPE_CHECKING:
    import pandas

TEXTS = (
    *("dataset", "protocol", "method", "recipe", "key", "label", "campaign", "run_id", "state", "failure", "message"),
    *("data_fingerprint", "source"),
)
INTEGERS = (
    *("seed", "limit", "protocol_version", "started", "ended"),
    *("gallery.images", "gallery.captions", "gallery.folds"),
)
FLOATS = ("rsum", *RECALLS, "best_val_rsum", "epoch")
ORDER = ["dataset", "protocol", "method", "recipe", "seed", "key"]
SHORTEST = 6  # characters by which a run may be named


def row_of(run: Any) -> dict[str, Any]:
    """An MLflow run as a row."""
    tags = {
        name.removeprefix("harness."): text for name, text in run.data.tags.items() if not name.startswith("mlflow.")
    }
    about = {"run_id": run.info.run_id, "label": run.info.run_name}
    times = {"started": run.info.start_time, "ended": run.info.end_time}
    return {**tags, **run.data.params, **run.data.metrics, **about, **times}


def typed(rows: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """A frame of rows, sorted; its columns have the same types however few rows there are."""
    import pandas

    frame = pandas.DataFrame(list(rows))
    known = [*TEXTS, *INTEGERS, *FLOATS]
    frame = frame.reindex(columns=[*known, *sorted(set(frame.columns) - {*known})])
    for name in TEXTS:
        frame[name] = frame[name].astype("str").fillna("")
    for name in INTEGERS:
        frame[name] = pandas.to_numeric(frame[name]).astype("Int64")
    for name in FLOATS:
        frame[name] = frame[name].astype("float64")
    return frame.sort_values(ORDER, ignore_index=True)


def run_of(frame: pandas.DataFrame, name: str) -> Mapping[str, Any] | None:
    """The finished trial that the start of an MLflow run's id or of a trial's key means; None where there is none."""
    if len(name) < SHORTEST:
        return None
    done = frame[frame["state"] == State.DONE]
    runs = done[done["run_id"].str.startswith(name) | done["key"].str.startswith(name)]
    if len(runs) > 1:
        raise UsageError(f"{name} is the start of {len(runs)} runs; give more of it")
    return dict(runs.astype(object).where(runs.notna(), None).iloc[0]) if len(runs) else None


def name_of(run: Mapping[str, Any]) -> str:
    """A short name of a run: method, seed, start of its key."""
    return f"{run['method']}/s{run['seed']} {run['key'][:SHORTEST]}"


def labelled(frame: pandas.DataFrame, label: str) -> Mapping[str, Any]:
    """The latest finished trial of a label, such as caan/scenes/s0."""
    done = frame[frame["state"] == State.DONE].sort_values("ended")
    runs = done[done["label"] == label]
    if not len(runs):
        raise UsageError(f"{unknown('run', label, set(done['label']))}; a run's id or key will do as well")
    return dict(runs.iloc[-1])
