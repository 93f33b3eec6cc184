"""The store holds the records of trials themselves, whatever their length, and gives them back as they were."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun
from sample_results import folder_of, reports_of, result_of, spec_of

from harness.errors import StoreError, UsageError
from harness.tracking.columns import PART, joined_text, split_text
from harness.tracking.connection import EXPERIMENT
from harness.tracking.naming import known_run, run_named
from harness.tracking.result_store import ResultStore
from harness.tracking.runs import Run
from harness.tracking.tracker import Tracker
from harness.trial.results import Budget, Failure, State, TrialResult, TrialSpec

LONG = {"text": 'é😀\n"' * 9000}
texts = st.text(max_size=40) | st.builds(
    lambda text, times: text * times, st.text(min_size=1, max_size=9), st.integers(1, 3000)
)


@given(texts, texts)
def test_a_text_of_any_length_is_split_over_tags_and_joined_again(before: str, after: str) -> None:
    tags = split_text("name", before)
    assert joined_text("name", tags) == before and all(len(part) <= PART + 6 for part in tags.values())
    tags |= split_text("name", after)
    assert joined_text("name", tags) == after, "parts of a longer text that was there before are not read"
    assert joined_text("nam", tags) is None


@pytest.mark.parametrize("damage", [lambda tags: tags.pop("name.1"), lambda tags: tags.update(name="x")])
def test_a_text_that_is_not_whole_is_an_error(damage: Callable[[dict[str, str]], object]) -> None:
    tags = split_text("name", "x" * 3 * PART)
    damage(tags)
    with pytest.raises(ValueError, match="the tag name"):
        joined_text("name", tags)


def logged(store: str, root: Path, *results: TrialResult, plan: tuple[TrialSpec, ...] = ()) -> Tracker:
    tracker = Tracker(store)
    tracker.open_campaign("main", [*(result.spec for result in results), *plan])
    for result in results:
        tracker.result(result, folder_of(root, result))
    return tracker


def entities(uri: str, kind: str = "trial") -> list[MlflowRun]:
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    return list(client.search_runs([experiment.experiment_id], f"tags.`harness.kind` = '{kind}'"))


def test_records_longer_than_a_tag_come_back_whole(store: str, tmp_path: Path) -> None:
    spec = spec_of(settings=LONG)
    search = Budget(campaign="wide", trials=4, epochs=9, seconds=1 / 3, device_seconds=0.1)
    more = {"message": "m" * 20_000, "environment": {"cpu": "c" * 9000, "commit": "f" * 40}, "search": search}
    result = result_of(spec, **more)
    other = spec_of(seed=1, settings=LONG)
    tracker = logged(store, tmp_path, result, plan=(other,))
    done, waiting = ResultStore(tracker.uri).runs()
    assert (done.spec, done.result, done.environment["cpu"]) == (spec, result, "c" * 9000)
    assert waiting == Run(other, State.WAITING)
    (run,) = entities(store)
    assert run.data.params["settings.text"].endswith("characters, see spec.json>"), "which people read stays short"
    assert len(run.data.tags["harness.message"]) == 1000


def test_a_plan_of_long_specs_leaves_nothing_behind_when_it_is_replaced(store: str) -> None:
    tracker = Tracker(store)
    tracker.open_campaign("main", [spec_of(settings=LONG)])
    tracker.open_campaign("main", [spec_of()])
    assert [run.spec for run in ResultStore(store).runs()] == [spec_of()]
    (parent,) = entities(store, "campaign")
    assert [name for name in parent.data.tags if name.startswith("expected.")] == [f"expected.{spec_of().key}"]


def test_a_result_that_is_shorter_than_the_one_before_it_is_read_alone(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    interrupted = result_of(spec, state=State.INTERRUPTED, measures={}, message="m" * 20_000)
    tracker = logged(store, tmp_path, interrupted)
    tracker.begin(spec)
    (begun,) = ResultStore(store).runs()
    assert (begun.state, begun.result) == (State.RUNNING, None), "it was interrupted, and has been continued"
    tracker.result(result_of(spec), folder_of(tmp_path, result_of(spec)))
    (done,) = ResultStore(store).runs()
    assert done.result == result_of(spec) and len(entities(store)) == 1


def test_a_run_says_what_its_records_say(store: str, tmp_path: Path) -> None:
    spec = spec_of()
    failed = result_of(spec_of(seed=1), state=State.FAILED, failure=Failure.OOM, message="no\nmemory", measures={})
    tracker = logged(store, tmp_path, result_of(spec), failed)
    first, second = ResultStore(tracker.uri).runs()
    assert (first.key, first.recipe, first.label) == (spec.key, spec.recipe, spec.label)
    assert (first.is_done, first.last_epoch, first.campaign) == (True, 3, "main") and first.started <= first.ended
    assert first.numbers["rsum"] == 270.0 and first.numbers["best_val_rsum"] == 103.0
    assert first.choices["settings.margin"] == "0.2" and first.choices["training.drop_after"] == "[7]"
    assert (second.is_done, second.failure, second.message) == (False, "oom", "no memory")


def without_records(uri: str) -> None:
    """Make the runs of a store those of an earlier version, which had no records."""
    client = MlflowClient(tracking_uri=uri)
    for run in entities(uri):
        for name in run.data.tags:
            if name.startswith(("harness.spec", "harness.record")):
                client.delete_tag(run.info.run_id, name)
    for parent in entities(uri, "campaign"):
        for name in parent.data.tags:
            if name.startswith("expected."):
                client.set_tag(parent.info.run_id, name, json.dumps({"method": "caan", "seed": "0"}))


def test_runs_of_earlier_versions_are_read_from_their_results_and_those_that_never_ended_left_out(
    store: str, tmp_path: Path
) -> None:
    result = result_of(spec_of())
    tracker = logged(store, tmp_path, result, plan=(spec_of(seed=2),))
    tracker.begin(spec_of("vsepp"))
    tracker.epoch(reports_of(spec_of("vsepp"))[0])
    without_records(store)
    (run,) = ResultStore(store).runs()
    assert run.result == result and run.numbers["rsum"] == 270.0
    again = Tracker(store)
    again.open_campaign("main", [spec_of("vsepp")])
    again.begin(spec_of("vsepp"))
    assert [run.spec.method for run in ResultStore(store).runs()] == ["caan", "vsepp"], "continued, it has a record"


def test_no_file_is_read_for_a_run_that_has_its_records(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = logged(store, tmp_path, result_of(spec_of()))
    tracker.begin(spec_of(seed=1))
    monkeypatch.setattr(ResultStore, "artifact", lambda *_: pytest.fail("a request per run"))
    assert [run.state for run in ResultStore(store).runs()] == [State.DONE, State.RUNNING]


@pytest.mark.parametrize("text", ["1 {", '1 {"spec": {}}', "2 {", "x", "1 "])
def test_a_record_that_cannot_be_read_is_a_store_error_that_names_the_run(
    store: str, tmp_path: Path, text: str
) -> None:
    tracker = logged(store, tmp_path, result_of(spec_of()))
    (run,) = entities(store)
    MlflowClient(tracking_uri=store).set_tag(run.info.run_id, "harness.record", text)
    with pytest.raises(StoreError, match=f"the record of run {run.info.run_id} .caan/scenes/s0. in .* cannot be read"):
        ResultStore(tracker.uri).runs()


def test_a_damaged_result_of_an_earlier_version_is_a_store_error(store: str, tmp_path: Path) -> None:
    logged(store, tmp_path, result_of(spec_of()))
    without_records(store)
    (file,) = (tmp_path / "runs" / "artifacts").rglob("result.json")
    file.write_text("{")
    with pytest.raises(StoreError, match="or delete the run in MLflow"):
        ResultStore(store).runs()


def test_a_run_is_named_by_the_start_of_its_id_or_key_or_by_its_label() -> None:
    runs = [
        Run(result.spec, State.DONE, f"{n}{'ab' * 8}", result, 1000 * n, 2000 * n)
        for n, result in enumerate(
            [result_of(spec_of()), result_of(spec_of(settings={"dim": 8})), result_of(spec_of("b"))]
        )
    ]
    runs.append(Run(spec_of(seed=7), State.RUNNING, "7ababab"))
    assert run_named(runs, "2ababa") == run_named(runs, runs[2].key[:6]) == runs[2]
    assert run_named(runs, "2abab") is None and run_named(runs, "7ababab") is None
    with pytest.raises(UsageError, match="2ababab may be any of 2 trials; give the key of one"):
        run_named([*runs, Run(runs[2].spec, State.DONE, "2" + "ab" * 9, runs[2].result)], "2ababab")
    with pytest.raises(UsageError, match="caan/scenes/s0 may be any of 2 trials") as error:
        known_run(runs, "caan/scenes/s0")
    first, second = str(error.value).splitlines()[1:]
    assert first == f"  {runs[0].key}  recipe {runs[0].recipe[:8]}  rsum 270.0  1970-01-01 00:00:00 UTC  " + (
        "settings.dim 256, settings.margin 0.2, settings.unit true"
    )
    assert second.endswith("settings.dim 8, settings.margin absent, settings.unit absent"), "what differs, no more"
    assert known_run(runs[1:], "caan/scenes/s0") == runs[1] and known_run(runs, "b/scenes/s0") == runs[2]
    with pytest.raises(UsageError, match="unknown run 'caan/scenes/s7'; did you mean caan/scenes/s0"):
        known_run(runs, "caan/scenes/s7")
