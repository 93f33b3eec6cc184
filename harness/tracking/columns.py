"""One trial in the store's words: its parameters, tags and metrics for people, and its records to be read back."""

from __future__ import annotations

import math
from collections.abc import Mapping

from pydantic import BaseModel

from harness.config.registry import choices
from harness.trial.external import recipe_of
from harness.trial.results import LATER, VERSIONS, EpochReport, TrialResult, TrialSpec, Verification

LONGEST_PARAM = 6000  # MLflow cuts longer values without an error
LONGEST_TAG = 1000  # of those that people read
PART = 5000  # characters of a record in one tag; MLflow cuts a tag after 8,000 without an error
SPEC_TAG, RESULT_TAG, EXPECTED = "harness.spec", "harness.record", "expected."
VERIFICATION_TAG = "harness.verification"


def described(spec: TrialSpec) -> dict[str, str]:
    """A spec as flat text: what it decides, values written as `-s` takes them."""
    return {
        **{"method": spec.method, "dataset": spec.dataset, "protocol": spec.protocol, "seed": str(spec.seed)},
        **{name: shown(text) for name, text in choices(spec.settings, spec.training).items()},
        **{"key": spec.key, "recipe": recipe_of(spec), "label": spec.label},
        **{"data_fingerprint": spec.data_fingerprint, "protocol_version": str(spec.protocol_version)},
        "source": spec.source,
        **{name: str(getattr(spec, name)) for name in VERSIONS if getattr(spec, name)},
        **({} if spec.limit is None else {"limit": str(spec.limit)}),
        **{name: value for name in LATER if (value := getattr(spec, name))},
        **({"noise": shown(spec.noise)} if spec.noise else {}),
    }


def shown(text: str) -> str:
    """The text of a parameter; one that MLflow would cut is replaced by a pointer to the file that has it whole."""
    return text if len(text) <= LONGEST_PARAM else f"<{len(text)} characters, see spec.json>"


def params_and_tags(spec: TrialSpec) -> tuple[dict[str, str], dict[str, str]]:
    """A spec's parameters, and the tags of its run from its creation: what it is found by, and the spec itself."""
    flat = described(spec)
    names = ("method", "dataset", "protocol", "seed")
    params = [name for name in flat if name in names or name.startswith(("settings.", "training."))]
    searched = (*names, "key", "recipe", "limit", "trained_as")  # a run has its tags before its params
    tags = {f"harness.{name}": flat[name] for name in searched if name in flat}
    return {name: flat[name] for name in params}, {**tags, **record_tags(SPEC_TAG, spec), "harness.kind": "trial"}


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
    """How a trial ended, on which machine and with which versions, for people."""
    metrics = final_metrics(result)
    search = result.search.model_dump() if result.search else {}
    tags = {
        "harness.result": digest,
        "harness.failure": result.failure.value if result.failure else "",
        "harness.message": message_of(result),
        "harness.nonfinite": ", ".join(sorted(metrics.keys() - finite(metrics).keys())),
        "mlflow.source.git.commit": result.environment.get("commit", ""),
        **{f"search.{name}": str(value) for name, value in search.items()},
        **{f"gallery.{name}": str(size) for name, size in result.gallery.items()},
        **{f"env.{name}": value[:LONGEST_TAG] for name, value in result.environment.items()},
    }
    return {name: text for name, text in tags.items() if text}


def message_of(result: TrialResult) -> str:
    """The message of a result on one line, cut where a table could not show it."""
    return " ".join(result.message.split())[:LONGEST_TAG]


def split_text(name: str, text: str) -> dict[str, str]:
    """A text of any length as tags: `name`, which begins with the number of all, then `name.1` and so on."""
    parts = [text[start : start + PART] for start in range(0, len(text), PART)] or [""]
    names = [name, *(f"{name}.{number}" for number in range(1, len(parts)))]
    return dict(zip(names, [f"{len(parts)} {parts[0]}", *parts[1:]], strict=True))


def joined_text(name: str, tags: Mapping[str, str]) -> str | None:
    """The text that `split_text` made tags of; None where there is none, ValueError where it is not whole.

    Tags of a longer text that was there before are not read, as the first one says how many belong to it.
    """
    if name not in tags:
        return None
    count, _, first = tags[name].partition(" ")
    if not (count.isascii() and count.isdecimal()):
        raise ValueError(f"the tag {name} does not begin with a number of parts")
    names = [f"{name}.{number}" for number in range(1, int(count))]
    if lost := [part for part in names if part not in tags]:
        raise ValueError(f"the tag {lost[0]} is missing")
    return "".join([first, *(tags[part] for part in names)])


def record_tags(name: str, record: BaseModel) -> dict[str, str]:
    """A record as tags, in ASCII: a database may count bytes where MLflow counts characters."""
    return split_text(name, record.model_dump_json(ensure_ascii=True))


def verification_of(tags: Mapping[str, str], result: TrialResult | None) -> Verification | None:
    """What came of making a run's result again; None where nobody did, or where it was of other numbers."""
    try:
        known = Verification.model_validate_json(joined_text(VERIFICATION_TAG, tags) or "")
    except ValueError:
        return None
    return known if result and known.numbers == result.numbers else None


def expected_tags(spec: TrialSpec) -> dict[str, str]:
    """The tags by which a campaign's run expects a trial."""
    return record_tags(EXPECTED + spec.key, spec)


def expected_specs(tags: Mapping[str, str]) -> dict[str, TrialSpec]:
    """The trials that a campaign's run expects, by key, without those that another version of harness has planned."""
    keys = sorted({key_expected(name) for name in tags} - {""})
    return {key: spec for key in keys if (spec := readable_spec(EXPECTED + key, tags))}


def key_expected(tag: str) -> str:
    """The key of the trial that a tag expects; empty for any other tag."""
    return tag.removeprefix(EXPECTED).partition(".")[0] if tag.startswith(EXPECTED) else ""


def readable_spec(name: str, tags: Mapping[str, str]) -> TrialSpec | None:
    """The spec that tags hold; None where they hold none of this version."""
    try:
        return TrialSpec.model_validate_json(joined_text(name, tags) or "")
    except ValueError:
        return None
