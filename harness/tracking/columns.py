"""One trial in the store's words: its parameters, tags and metrics, and the row of a frame they become again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from harness.config.sections import Scalar, Training
from harness.config.toml import override_value
from harness.trial.external import recipe_of
from harness.trial.results import VERSIONS, EpochReport, TrialResult, TrialSpec

LONGEST_PARAM = 6000  # MLflow cuts longer values without an error
LONGEST_TAG = 1000


def described(spec: TrialSpec) -> dict[str, str]:
    """A spec as flat text: what it decides, values written as `-s` takes them."""
    return {
        **{"method": spec.method, "dataset": spec.dataset, "protocol": spec.protocol, "seed": str(spec.seed)},
        **described_settings(spec.settings),
        **described_training(spec.training),
        **{"key": spec.key, "recipe": recipe_of(spec), "label": spec.label},
        **{"data_fingerprint": spec.data_fingerprint, "protocol_version": str(spec.protocol_version)},
        "source": spec.source,
        **{name: str(getattr(spec, name)) for name in VERSIONS if getattr(spec, name)},
        **({} if spec.limit is None else {"limit": str(spec.limit)}),
    }


def described_settings(settings: Mapping[str, Scalar]) -> dict[str, str]:
    """A method's settings as flat text."""
    return {f"settings.{name}": shown(value) for name, value in settings.items()}


def described_training(training: Training) -> dict[str, str]:
    """The recipe as flat text."""
    return {f"training.{name}": shown(value) for name, value in training.model_dump().items()}


def shown(value: Any) -> str:
    """A value as text; one that MLflow would cut is replaced by a visible pointer to the artifact that has it whole."""
    text = override_value(value)
    return text if len(text) <= LONGEST_PARAM else f"<{len(text)} characters, see spec.json>"


def params_and_tags(spec: TrialSpec) -> tuple[dict[str, str], dict[str, str]]:
    """A spec's parameters, and the tags its run is found by."""
    flat = described(spec)
    chosen = {"method", "dataset", "protocol", "seed"}
    params = {name for name in flat if name in chosen or name.startswith(("settings.", "training."))}
    tags = {f"harness.{name}" if name in ("key", "recipe") else name: flat[name] for name in flat.keys() - params}
    tags |= {f"harness.{name}": flat[name] for name in chosen}  # a run has its tags before its params
    return {name: flat[name] for name in params}, {**tags, "harness.kind": "trial"}


def epoch_metrics(report: EpochReport) -> dict[str, float]:
    """The metrics of one epoch."""
    values = {
        "train_loss": report.loss,
        "lr": report.lr,
        "epoch_seconds": report.seconds,
        "epoch_pairs_per_second": report.pairs_per_second,
        "epoch_data_wait": report.data_wait,
        **{f"val_{name}": value for name, value in report.val.items()},
        "epoch": report.epoch,  # the last one: where a run has it, it has all before it
    }
    return {name: float(value) for name, value in values.items() if value is not None}


def final_metrics(result: TrialResult) -> dict[str, float]:
    """Measures on test, val measures of the best epoch, cost."""
    return {
        **result.measures,
        **{f"best_val_{name}": value for name, value in result.val.items()},
        **result.cost,
        "best_epoch": float(result.best_epoch),
        "epochs": float(result.epochs),
        "attempts": float(result.attempts),
    }


def finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Those that are numbers: MLflow would keep inf as 1.8e308."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def final_tags(result: TrialResult, digest: str) -> dict[str, str]:
    """How a trial ended, on which machine and with which versions."""
    metrics = final_metrics(result)
    search = result.search.model_dump() if result.search else {}
    tags = {
        "harness.result": digest,
        "harness.failure": result.failure.value if result.failure else "",
        "harness.message": " ".join(result.message.split())[:LONGEST_TAG],
        "harness.nonfinite": ", ".join(sorted(metrics.keys() - finite(metrics).keys())),
        "mlflow.source.git.commit": result.environment.get("commit", ""),
        **{f"search.{name}": str(value) for name, value in search.items()},
        **{f"gallery.{name}": str(size) for name, size in result.gallery.items()},
        **{f"env.{name}": value[:LONGEST_TAG] for name, value in result.environment.items()},
    }
    return {name: text for name, text in tags.items() if text}


def expected(tags: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The trials that a campaign's run expects, by key, from its tags."""
    prefix = "expected."
    return {name.removeprefix(prefix): json.loads(text) for name, text in tags.items() if name.startswith(prefix)}


def cell(row: Mapping[str, str]) -> tuple[str | None, ...]:
    """Method, dataset, protocol and limit: plans that share them replace each other."""
    return tuple(row.get(name) for name in ("method", "dataset", "protocol", "limit"))
