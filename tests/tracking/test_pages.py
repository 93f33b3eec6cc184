"""What MLflow's own pages show: metrics in sections that lead back to plain names, few tags, a description."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from sample_results import folder_of, reports_of, result_of, spec_of

from harness.tracking.columns import epoch_metrics, final_metrics
from harness.tracking.connection import EXPERIMENT
from harness.tracking.pages import description, epoch_page, final_page, plain
from harness.tracking.result_store import ResultStore
from harness.tracking.tracker import Tracker
from harness.trial.results import Failure, State

SECTIONS = {"test", "val", "best_val", "train", "cost", "trial"}


def test_every_metric_stands_in_a_section_and_leads_back_to_its_plain_name() -> None:
    result, report = result_of(spec_of()), reports_of(spec_of())[0]
    for shown, names in ((final_page(result), final_metrics(result)), (epoch_page(report), epoch_metrics(report))):
        assert {plain(name): value for name, value in shown.items()} == names
        assert {name.partition("/")[0] for name in shown.keys() - {"epoch"}} <= SECTIONS
    assert final_page(result)["test/rsum"] == result.measures["rsum"]
    assert [plain(name) for name in ("rsum", "val_rsum", "lr")] == ["rsum", "val_rsum", "lr"], "of earlier stores"


@pytest.mark.slow
def test_a_run_has_few_tags_its_dataset_and_a_description(tmp_path: Path) -> None:
    spec, store = spec_of(), f"sqlite:///{tmp_path}/runs/mlflow.db"
    result = result_of(spec)
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec], {"executor": "in this process"})
    tracker.result(result, folder_of(tmp_path, result))
    client = MlflowClient(tracking_uri=store)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    child, parent = runs[spec.label], runs["main"]
    (dataset,) = child.inputs.dataset_inputs
    assert dataset.dataset.name == f"{spec.dataset}, {spec.protocol}"
    assert spec.data_fingerprint.startswith(dataset.dataset.digest)
    assert "1 trial planned" in parent.data.tags["mlflow.note.content"]
    assert "**rsum 270.0**" in child.data.tags["mlflow.note.content"]
    assert not [name for name in child.data.tags if not name.startswith(("harness.", "mlflow."))]
    (run,) = ResultStore(store).runs()
    assert run.metrics["rsum"] == 270.0 and not [name for name in run.metrics if "/" in name]


def test_what_a_description_shows_of_others_is_no_markup() -> None:
    failed = result_of(spec_of(), state=State.FAILED, failure=Failure.BUG, message="<b>[x](http://y)*z*")
    text = description(failed)
    assert text.startswith("**failed** ") and "<b>" not in text and "](http" not in text
