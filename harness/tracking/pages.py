"""What MLflow's own pages show of a trial: metrics in sections, few tags, the dataset, a description."""

from __future__ import annotations

from collections.abc import Mapping

from harness import __version__
from harness.errors import count
from harness.foreign_text import markdown
from harness.tracking.columns import epoch_metrics, final_metrics, final_tags, message_of
from harness.trial.results import EpochReport, State, TrialResult, TrialSpec

EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # opens with runs and charts, not with traces of an assistant
    "mlflow.note.content": "Trials of itm-harness, each below its campaign. Sort by `test/rsum`, group by "
    "`harness.method`; `val/rsum` is the curve of a training. `harness report` makes the leaderboards from these runs.",
}
EPOCH = {  # of a training, beside val
    **{"train_loss": "train/loss", "lr": "train/lr", "epoch_seconds": "train/seconds"},
    **{"epoch_pairs_per_second": "train/pairs_per_second", "epoch_data_wait": "train/data_wait_share"},
}
PREFIXES = {"test/": "", "cost/": "", "trial/": "", "best_val/": "best_val_", "val/": "val_"}
MACHINE = {"device": "", "gpu": "", "cpu": "", "torch": "torch ", "harness": "harness "}  # of an environment, in words
SEEN_IN_TEXT = ("env.", "gallery.")  # tags that the description and the records say


def epoch_page(report: EpochReport) -> dict[str, float]:
    """The metrics of an epoch under the names of the page; `epoch` itself is what the store is asked for."""
    return {
        EPOCH.get(name) or (f"val/{name.removeprefix('val_')}" if name.startswith("val_") else name): value
        for name, value in epoch_metrics(report).items()
    }


def final_page(result: TrialResult) -> dict[str, float]:
    """The metrics of a result under the names of the page."""
    metrics = final_metrics(result)
    return {f"{section(name, result)}{name.removeprefix('best_val_')}": value for name, value in metrics.items()}


def section(name: str, result: TrialResult) -> str:
    """The section of the page that a final metric stands in."""
    if name.startswith("best_val_"):
        return "best_val/"
    return "test/" if name in result.measures else "cost/" if name in result.cost else "trial/"


def plain(name: str) -> str:
    """The name that a metric of the page has everywhere else; those of earlier versions are plain already."""
    for plain_name, shown in EPOCH.items():
        if name == shown:
            return plain_name
    for prefix, before in PREFIXES.items():
        if name.startswith(prefix):
            return before + name.removeprefix(prefix)
    return name


def page_tags(result: TrialResult, digest: str) -> dict[str, str]:
    """Tags of a trial that has ended, and its description."""
    tags = final_tags(result, digest)
    shown = {name: text for name, text in tags.items() if not name.startswith(SEEN_IN_TEXT)}
    return {**shown, "mlflow.note.content": description(result)}


def source_tags() -> dict[str, str]:
    return {"mlflow.source.name": f"itm-harness {__version__}", "mlflow.source.type": "LOCAL"}


def description(result: TrialResult) -> str:
    """What a reader of the run's page wants first, in Markdown: the result, where it was made, how to repeat it."""
    known = ((before, result.environment.get(name, "none")) for name, before in MACHINE.items())
    where = ", ".join(f"{before}{markdown(text)}" for before, text in known if text not in ("", "none"))
    lines = [headline(result), where and f"Measured on {where}."]
    return "\n\n".join([*filter(None, lines), f"`harness reproduce {result.key}` runs it again."])


def headline(result: TrialResult) -> str:
    """The outcome of a trial on one line."""
    if result.state is not State.DONE:
        return f"**{result.state.value}** {markdown(message_of(result))}".rstrip()
    recalls = (
        f"{direction} R@1/5/10 " + " / ".join(f"{result.measures[f'{direction}_r{k}']:.1f}" for k in (1, 5, 10))
        for direction in ("i2t", "t2i")
        if f"{direction}_r1" in result.measures
    )
    return " · ".join(
        [
            f"**rsum {result.measures.get('rsum', float('nan')):.1f}** on {markdown(result.spec.dataset)}, "
            f"protocol {markdown(result.spec.protocol)}",
            *recalls,
            f"best epoch {result.best_epoch} of {result.epochs}, by val",
        ]
    )


def campaign_note(name: str, specs: int, notes: Mapping[str, str]) -> str:
    """The description of a campaign's run."""
    said = "".join(f" · {markdown(key)}: {markdown(text)}" for key, text in notes.items())
    return (
        f"Campaign **{markdown(name)}**, {count(specs, 'trial')} planned{said}.\n\nIts trials are the runs below. "
        "Select them and compare `test/rsum`, or the curves of `val/rsum`. `harness report` makes the leaderboards."
    )


def dataset_of(spec: TrialSpec) -> dict[str, str]:
    """The fields of MLflow's entity for a trial's dataset; its digest has room for 36 characters."""
    return {
        "name": f"{spec.dataset}, {spec.protocol}",
        "digest": spec.data_fingerprint[:36],
        "source_type": "itm-harness",
        "source": spec.dataset,
    }
