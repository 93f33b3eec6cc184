"""A campaign on a real but tiny dataset: planned, run, interrupted, continued, recorded."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from filelock import FileLock

from harness.campaign import inputs as campaign_inputs
from harness.campaign.driver import CampaignOutcome, PlannedTrials, choose_executor, driver_of, execute
from harness.campaign.plan import Plan, check_room, plan, selected
from harness.campaign.status import LOCK, statuses
from harness.config.cards import DatasetCard, ResourceRequest, read_card
from harness.config.project import Config, load
from harness.config.registry import discover
from harness.config.sections import Campaign, Failures, Paths, Resources, Training
from harness.config.selection import Selection
from harness.config.sources import source_hash
from harness.data.content import Place
from harness.errors import DataError, ResourceError, StoreError, UsageError
from harness.executors.executor import Answer, InProcess, lost
from harness.executors.ray_cluster import RayExecutor
from harness.files import write_atomic
from harness.layouts.opening import open_dataset
from harness.layouts.scenes import Scenes
from harness.tracking.connection import Connection
from harness.tracking.logged import is_logged
from harness.tracking.tracker import Tracker
from harness.trial.folder import CHECKPOINT, add_attempt, read_epochs, read_result, write_result
from harness.trial.results import Assignment, EpochReport, Failure, State, StepReport, TrialResult
from harness.trial.steps import steps

SIZES = {"train": 48, "val": 16, "test": 16}
TINY = """
name = "tiny"
title = "A few scenes"
summary = "For tests."
layout = "scenes"
licence = "generated"
origin = "generated"
feature_width = 205
max_regions = 12
[splits]
{splits}
[[protocols]]
name = "full"
images = 16
captions = {captions}
"""


@dataclasses.dataclass
class Watcher:
    """A view that writes down what it is told, and may do something at a report."""

    reports: list[EpochReport] = dataclasses.field(default_factory=list)
    results: list[TrialResult] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def start(self, total: int, before: int) -> None:
        """The campaign begins."""

    def begin(self, assignment: Assignment) -> None:
        """A trial is handed out."""

    def epoch(self, report: EpochReport) -> None:
        self.reports.append(report)
        self.at(report)

    def result(self, result: TrialResult) -> None:
        self.results.append(result)

    def standing(self, text: str) -> None:
        """What the trials have come to."""

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def at(self, report: EpochReport) -> None:
        """Nothing here; a test puts its trouble in this place."""


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the card of a tiny dataset and the cache that holds it."""
    folder = tmp_path_factory.mktemp("tiny")
    card_file = folder / "datasets" / "tiny" / "card.toml"
    counts = dict.fromkeys(SIZES, 0)
    for _ in range(2):  # the generator says how many captions there are
        lines = (f"{name} = {{ images = {SIZES[name]}, captions = {count} }}" for name, count in counts.items())
        write_atomic(card_file, TINY.format(splits="\n".join(lines), captions=counts["test"]))
        reader = Scenes(Place(read_card(DatasetCard, card_file), folder, folder / "cache"))
        counts = {name: len(reader.read(name).captions) for name in SIZES}
    return folder


@pytest.fixture
def config(tiny: Path, tmp_path: Path, store: str) -> Config:
    """A campaign of two epochs of one small method; its store is the one that `store` copied."""
    shutil.copytree(tiny / "cache", tmp_path / "runs" / "cache")
    return Config(
        root=tmp_path,
        campaign=Campaign(methods=("vsepp",), datasets=("tiny",), seeds=(0,)),
        paths=Paths(datasets=(tiny / "datasets",)),
        training=Training(epochs=2, batch_size=16),
        settings={"*": {"dim": 8, "word_dim": 8}},
    )


def planned(config: Config, force: bool = False, retry: frozenset[Failure] = frozenset(), **flags: Any) -> Plan:
    selection = Selection(**{name: tuple(flag) if isinstance(flag, list) else flag for name, flag in flags.items()})
    return plan(config, discover(config), selection, force, retry)


def run_plan(config: Config, view: Watcher | None = None, **flags: Any) -> CampaignOutcome:
    campaign = planned(config, **flags)
    return execute(campaign, InProcess(), Tracker(campaign.uri), view or Watcher())


def changed(config: Config, **sections: object) -> Config:
    return config.model_copy(update=sections)


def standing(plan: Plan) -> list[str]:
    return [trial.state for trial in plan.trials]


# --- the plan


def test_a_plan_lists_every_method_and_seed_once_the_first_seed_of_all_first(config: Config) -> None:
    campaign = planned(config, methods=["chance", "vsep*", "vsepp"], seeds=[1, 0, 1])
    assert [trial.spec.label for trial in campaign.trials] == [
        "chance/tiny/s1",
        "vsepp/tiny/s1",
        "chance/tiny/s0",
        "vsepp/tiny/s0",
    ]
    assert standing(campaign) == ["new"] * 4
    assert len({trial.folder for trial in campaign.trials}) == 4


def test_a_method_that_is_not_trained_gets_no_epochs(config: Config) -> None:
    chance, vsepp = planned(config, methods=["chance", "vsepp"]).trials
    assert (chance.spec.training.epochs, vsepp.spec.training.epochs) == (0, 2)


@pytest.mark.slow
def test_a_trial_is_done_resumed_or_run_again_as_its_folder_says(config: Config) -> None:
    campaign = planned(config, seeds=[0, 1, 2, 3])
    done, failed, begun, _ = campaign.trials
    (result,) = InProcess().run([done.assignment], lambda _report: True)
    gone = result.model_copy(update={"spec": failed.spec, "state": State.FAILED, "failure": Failure.OOM})
    write_atomic(failed.folder / "result.json", gone.model_dump_json())
    write_atomic(begun.folder / "checkpoint.pt", "")
    again = campaign.refreshed()
    assert standing(again) == ["done", "failed", "resume", "new"]
    assert [trial.spec.seed for trial in again.todo] == [2, 3], "what was begun comes first"
    retried = dataclasses.replace(campaign, retry=frozenset({Failure.OOM})).refreshed()
    assert [trial.spec.seed for trial in retried.todo] == [2, 1, 3]
    assert standing(dataclasses.replace(campaign, force=True).refreshed()) == ["new"] * 4


def test_a_result_of_another_trial_says_nothing_of_the_one_whose_folder_has_it(config: Config) -> None:
    campaign = planned(config, seeds=[0, 1])
    first, second = campaign.trials
    done = TrialResult(spec=first.spec, state=State.DONE, measures={"rsum": 300.0})
    for trial in (first, second):
        write_result(trial.folder, done)
    assert standing(campaign.refreshed()) == ["done", "new"]
    states = [(one.state, one.rsum) for one in statuses(campaign.trials, campaign.uri)]
    assert states == [(State.DONE, 300.0), (State.WAITING, None)]


@pytest.mark.parametrize(
    ("failure", "noted", "in_all", "expected"),
    [
        (Failure.KILLED, 0, 1, "resume"),  # the driver ended before it took note of the loss
        (Failure.NODE_LOST, 1, 1, "resume"),  # or while it waited for the next attempt
        (Failure.OOM_HOST, 3, 3, "failed"),
        (Failure.KILLED, 3, 4, "resume"),  # of a fourth, which --retry has asked for
        (Failure.KILLED, 4, 4, "failed"),
        (Failure.BUG, 0, 1, "failed"),
    ],
)
def test_a_lost_trial_has_failed_only_when_its_attempts_are_used_up(
    config: Config, failure: Failure, noted: int, in_all: int, expected: str
) -> None:
    (trial,) = planned(config).trials
    result = TrialResult(spec=trial.spec, state=State.FAILED, failure=failure, attempts=in_all)
    for _ in range(noted):
        add_attempt(trial.folder, result)
    write_result(trial.folder, result)
    assert standing(planned(config)) == [expected]


def test_what_is_known_to_be_short_comes_first_within_a_seed(config: Config) -> None:
    campaign = planned(config, methods=["vsepp", "chance"], seeds=[0, 1, 2])
    for trial in campaign.trials[:2]:
        (result,) = InProcess().run([trial.assignment], lambda _report: True)
        assert result.state is State.DONE
    todo = [(trial.spec.method, trial.spec.seed) for trial in campaign.refreshed().todo]
    assert todo == [("chance", 1), ("vsepp", 1), ("chance", 2), ("vsepp", 2)]
    assert [trial.spec.method for trial in campaign.todo[:2]] == ["vsepp", "chance"], (
        "in the order asked for, until then"
    )


def test_another_recipe_setting_or_source_is_another_trial_and_other_resources_are_not(
    config: Config,
) -> None:
    def key(config: Config) -> str:
        return planned(config).trials[0].spec.key

    training = changed(config, training=config.training.model_copy(update={"lr": 0.5}))
    settings = changed(config, settings={"vsepp": {"dim": 16}})
    resources = changed(config, resources=Resources(cpus_per_trial=2, max_concurrent=1))
    assert len({key(config), key(training), key(settings)}) == 3
    assert key(config) == key(resources)


def test_a_card_says_what_its_trials_ask_for_and_the_configuration_wins(config: Config) -> None:
    registry = discover(config)
    registry.methods["vsepp"] = registry.methods["vsepp"].model_copy(
        update={"resources": ResourceRequest(cpus=2, gpus=0.5)}
    )
    by_card = plan(config, registry).trials[0].assignment
    assert (by_card.cpus, by_card.threads, by_card.gpus) == (2, 2, 0.5)
    config = changed(config, resources=Resources(cpus_per_trial=1, gpus_per_trial=0))
    by_configuration = plan(config, registry).trials[0].assignment
    assert (by_configuration.cpus, by_configuration.threads, by_configuration.gpus) == (1, 1, 0)


def test_a_plan_opens_each_dataset_once_and_hashes_each_method_once(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[str] = []
    opened: list[str] = []
    monkeypatch.setattr(campaign_inputs, "source_hash", lambda card: hashed.append(card.name) or source_hash(card))
    monkeypatch.setattr(
        campaign_inputs, "open_dataset", lambda card, *places: opened.append(card.name) or open_dataset(card, *places)
    )
    assert len(planned(config, methods=["vsepp", "chance"], seeds=[0, 1]).todo) == 4
    assert (sorted(hashed), opened) == (["chance", "vsepp"], ["tiny"])
    hashed.clear(), opened.clear()
    both = Selection(methods=("chance", "vsepp"), datasets=("tiny", "scenes"), seeds=(0, 1))
    assert len(selected(config, discover(config), both).trials) == 8
    assert (sorted(hashed), opened) == (["chance", "vsepp"], ["tiny", "scenes"])


def with_method(config: Config, source: str) -> Config:
    """The configuration with a further method: VSE++ as `mine`, its class made by this source."""
    card = discover(config).methods["vsepp"].path
    text = card.read_text().replace('name = "vsepp"', 'name = "mine"').replace("methods.vsepp:VSEpp", "mine:Mine")
    (config.root / "mine.toml").write_text(text)
    (config.root / "mine.py").write_text(f"from methods.vsepp import VSEpp\n\n\n{source}")
    return changed(config, paths=config.paths.model_copy(update={"methods": (Path("mine.toml"),)}))


def test_a_changed_source_of_a_method_is_another_trial(config: Config) -> None:
    keys = set()
    for source in ("class Mine(VSEpp): ...\n", "class Mine(VSEpp): ...  # thought again\n"):
        (trial,) = planned(with_method(config, source), methods=["mine"]).trials
        keys.add(trial.spec.key)
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"protocol": "ful"}, "unknown protocol 'ful'; did you mean full"),
        ({"methods": ["vsep"]}, "vsepp"),
        ({"datasets": ["tine"]}, "tiny"),
        ({"seeds": [-1]}, "-1"),
        ({"limit": 0}, "--limit 0"),
    ],
)
def test_what_does_not_exist_is_refused(config: Config, flags: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        planned(config, **flags)


def test_a_dataset_that_does_not_match_its_card_is_refused_before_anything_runs(config: Config, tiny: Path) -> None:
    card = config.root / "datasets" / "tiny" / "card.toml"
    text = (tiny / "datasets" / "tiny" / "card.toml").read_text()
    captions = read_card(DatasetCard, tiny / "datasets" / "tiny" / "card.toml").splits["val"].captions
    write_atomic(card, text.replace(f"captions = {captions} ", f"captions = {captions + 1} "))
    wrong = changed(config, paths=Paths(datasets=(card.parents[1],)))
    with pytest.raises(DataError, match=rf"{captions + 1}\b.*\b{captions}\b|{captions}\b.*\b{captions + 1}\b"):
        planned(wrong)
    assert not (config.results / "trials").exists()


@pytest.mark.parametrize("place", ["a file/runs", "/proc/runs"])
def test_a_results_folder_that_cannot_be_written_is_refused(config: Config, tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").write_text("")
    nowhere = changed(config, paths=config.paths.model_copy(update={"results": Path(place)}))
    with pytest.raises(StoreError, match="cannot be written"):
        planned(nowhere)


def test_a_disk_that_is_nearly_full_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = shutil.disk_usage(tmp_path).free
    monkeypatch.setattr("harness.campaign.plan.LEAST_FREE_BYTES", free * 2)
    with pytest.raises(StoreError, match=r"MB left"):
        check_room(tmp_path)


# --- running it


@pytest.mark.slow
def test_what_is_done_is_not_done_again_and_needs_no_heavy_library(config: Config) -> None:
    first = run_plan(config, methods=["vsepp", "chance"])
    assert (first.exit_code, first.counts) == (0, {"done": 2})
    again = planned(config, methods=["vsepp", "chance"])
    assert again.idle
    assert standing(again) == ["done", "done"]
    code = (
        "import sys; from harness.config.project import Config; from harness.campaign.plan import plan;"
        "from harness.config.registry import discover; from harness.config.selection import Selection;"
        "config = Config.model_validate_json(sys.stdin.read());"
        f"config = config.model_copy(update={{'root': __import__('pathlib').Path({str(config.root)!r})}});"
        "assert plan(config, discover(config), Selection(methods=('vsepp', 'chance'))).idle;"
        "assert not {'torch', 'ray', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], input=config.model_dump_json(), text=True, check=True)


@pytest.mark.slow
def test_force_runs_trials_again_and_keeps_the_old_folder_beside(config: Config) -> None:
    run_plan(config, methods=["chance"])
    (trial,) = planned(config, methods=["chance"]).trials
    before = (trial.folder / "result.json").read_bytes()
    assert run_plan(config, methods=["chance"], force=True).counts == {"done": 1}
    assert (trial.folder.with_name(f"{trial.folder.name}.old-1") / "result.json").read_bytes() == before
    assert is_logged(trial.folder, planned(config).uri)


@pytest.mark.slow
def test_a_trial_that_meets_nan_fails_and_the_others_go_on(config: Config) -> None:
    source = "class Mine(VSEpp):\n    def loss(self, batch):\n        return super().loss(batch) * float('nan')\n"
    broken = with_method(config, source)
    view = Watcher()
    outcome = run_plan(broken, view, methods=["mine", "chance"])
    assert (outcome.exit_code, outcome.counts) == (4, {"failed": 1, "done": 1})
    assert view.results[0].failure is Failure.NONFINITE
    assert standing(planned(broken, methods=["mine", "chance"])) == ["failed", "done"]


@pytest.mark.slow
def test_a_failed_trial_is_run_again_when_asked_and_its_old_result_is_gone_meanwhile(config: Config) -> None:
    (trial,) = planned(config).trials
    (result,) = InProcess().run([trial.assignment], lambda _report: True)
    failed = result.model_copy(update={"state": State.FAILED, "failure": Failure.KILLED, "attempts": 3})
    for _ in range(3):
        add_attempt(trial.folder, failed)
    write_atomic(trial.folder / "result.json", failed.model_dump_json())
    seen: list[TrialResult | None] = []
    view = Watcher()
    view.at = lambda report: seen.append(read_result(trial.folder))  # type: ignore[method-assign]
    assert run_plan(config).exit_code == 4, "a trial that failed before still counts"
    assert run_plan(config, view, retry=frozenset({Failure.TIMEOUT})).counts == {}
    assert run_plan(config, view, retry=frozenset({Failure.KILLED})).counts == {"done": 1}
    assert seen
    assert all(result is None for result in seen)


def test_a_request_that_no_node_can_meet_is_refused_before_anything_starts(config: Config) -> None:
    campaign = planned(changed(config, resources=Resources(cpus_per_trial=4096)))
    with pytest.raises(ResourceError, match="4096 CPUs"):
        execute(campaign, choose_executor(config), Tracker(campaign.uri), Watcher())
    assert not (config.results / "trials").exists()


@pytest.mark.slow
def test_the_store_is_opened_while_the_executor_starts(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Event()
    original = Tracker.open_campaign

    def open_campaign(self: Tracker, *of: Any) -> None:
        opening.set()
        original(self, *of)

    class Starting(InProcess):
        def start(self) -> None:
            assert opening.wait(30), "the store waits for the executor"

    monkeypatch.setattr(Tracker, "open_campaign", open_campaign)
    campaign = planned(config)
    assert execute(campaign, Starting(), Tracker(campaign.uri), Watcher()).counts == {"done": 1}


@pytest.mark.slow
@pytest.mark.parametrize("error", [ResourceError("no Ray"), KeyboardInterrupt()])
def test_a_campaign_whose_executor_cannot_start_ends_with_its_error(config: Config, error: BaseException) -> None:
    class Failing(InProcess):
        def start(self) -> None:
            raise error

    campaign = planned(config)
    with pytest.raises(type(error)):
        execute(campaign, Failing(), Tracker(campaign.uri), Watcher())
    assert not (config.results / "trials").exists()
    assert run_plan(config).counts == {"done": 1}


@pytest.mark.slow
def test_parts_of_epochs_are_shown_and_neither_logged_nor_answered_by_the_workload(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, view, asked = planned(config), Watcher(), []
    monkeypatch.setattr(PlannedTrials, "answer", lambda _, report: asked.append(report) or True)
    execute(plan, InProcess(partial(steps, pace=0.0)), Tracker(plan.uri), view)
    parts = [report for report in view.reports if isinstance(report, StepReport)]
    assert len(parts) > 2 and not [report for report in asked if isinstance(report, StepReport)]
    with closing(sqlite3.connect(plan.uri.removeprefix("sqlite:///"))) as store:
        ((logged,),) = store.execute("select count(*) from metrics where key = 'val/rsum'")
    assert logged == len(read_epochs(plan.trials[0].folder)) == 2


def test_a_driver_names_the_trials_that_it_has_under_way_and_none_that_waits_for_another_attempt(
    config: Config,
) -> None:
    class LosesTheFirst(InProcess):
        def run(self, assignments: Iterable[Assignment | None], answer: Answer) -> Iterator[TrialResult]:
            waiting = iter(assignments)
            first = next(assignment for assignment in waiting if assignment)
            begun.append((first.spec.key, under_way()))
            yield lost(first, Failure.KILLED, "so it is")
            yield from super().run(waiting, answer)

    def under_way() -> list[str]:
        owner = driver_of(config.results)
        return [*owner.trials] if owner else []

    plan, view, begun = planned(config, seeds=[0, 1]), Watcher(), []
    view.at = lambda report: begun.append((report.key, under_way()))  # type: ignore[method-assign]
    execute(plan, LosesTheFirst(), Tracker(plan.uri), view, Failures(wait_seconds=2))
    assert [*dict.fromkeys(key for key, _ in begun[1:])] == [trial.spec.key for trial in reversed(plan.trials)]
    assert all(trials == [key] for key, trials in begun)


def test_a_second_driver_is_refused(config: Config) -> None:
    campaign = planned(config)
    with FileLock(config.results / LOCK), pytest.raises(ResourceError, match="another harness is running"):
        execute(campaign, InProcess(), Tracker(campaign.uri), Watcher())


def test_a_campaign_whose_executor_cannot_start_is_not_left_running_in_the_store(config: Config) -> None:
    class Absent(InProcess):
        def start(self) -> None:
            raise ResourceError("there is no Ray here")

    campaign = planned(config)
    with pytest.raises(ResourceError, match="no Ray here"):
        execute(campaign, Absent(), Tracker(campaign.uri), Watcher())
    (parent,) = Connection(campaign.uri).runs("tags.`harness.kind` = 'campaign'")
    assert (parent.info.status, parent.data.tags["harness.state"]) == ("KILLED", "interrupted")


@pytest.mark.slow
def test_ray_and_this_process_give_the_same_result(config: Config, local_ray: None) -> None:
    run_plan(config)
    campaign = planned(config, force=True)
    (trial,) = campaign.trials
    execute(campaign, RayExecutor(), Tracker(campaign.uri), Watcher())
    here, there = trial.folder.with_name(f"{trial.folder.name}.old-1"), trial.folder
    assert read_result(here).measures == read_result(there).measures  # type: ignore[union-attr]
    assert losses(here) == losses(there)


def losses(folder: Path) -> list[tuple[float | None, dict[str, float]]]:
    return [(report.loss, report.val) for report in read_epochs(folder)]


# --- a store that goes away


@pytest.mark.slow
def test_a_store_that_goes_away_stops_no_training_and_is_told_once(config: Config) -> None:
    database = config.results / "mlflow.db"

    def break_store(report: EpochReport) -> None:
        if (report.key, report.epoch) == (first.spec.key, 1):
            rename_table(database, "metrics", "lost")

    first, _ = planned(config, seeds=[0, 1]).trials
    view = Watcher()
    view.at = break_store  # type: ignore[method-assign]
    outcome = run_plan(config, view, seeds=[0, 1])
    assert (outcome.exit_code, outcome.counts) == (6, {"done": 2})
    assert len(view.warnings) == 1

    rename_table(database, "lost", "metrics")
    waiting = planned(config, seeds=[0, 1])
    assert (len(waiting.todo), len(waiting.unlogged)) == (0, 2)
    assert run_plan(config, seeds=[0, 1]).exit_code == 0
    assert planned(config, seeds=[0, 1]).idle


def rename_table(database: Path, old: str, new: str) -> None:
    with closing(sqlite3.connect(database, timeout=20)) as connection:
        connection.execute(f"ALTER TABLE {old} RENAME TO {new}")
        connection.commit()


# --- interruptions


@pytest.mark.parametrize(
    ("name", "error"),
    [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit), (signal.SIGHUP, SystemExit)],
    ids=["ctrl-c", "sigterm", "sighup"],
)
def test_an_interruption_keeps_what_is_finished_and_the_same_plan_continues(
    config: Config, name: signal.Signals, error: type[BaseException]
) -> None:
    def interrupt(report: EpochReport) -> None:
        if (report.key, report.epoch) == (second.spec.key, 1):
            os.kill(os.getpid(), name)

    first, second = planned(config, seeds=[0, 1]).trials
    view = Watcher()
    view.at = interrupt  # type: ignore[method-assign]
    handler = signal.getsignal(name)
    with pytest.raises(error) as raised:
        run_plan(config, view, seeds=[0, 1])
    assert name is signal.SIGINT or raised.value.code == 128 + name  # type: ignore[attr-defined]
    assert signal.getsignal(name) == handler
    again = planned(config, seeds=[0, 1])
    assert standing(again) == ["done", "resume"]
    assert is_logged(first.folder, again.uri)

    view = Watcher()
    assert run_plan(config, view, seeds=[0, 1]).counts == {"done": 1}
    assert [(report.phase, report.epoch) for report in view.reports] == [("start", 1), ("train", 2), ("test", 2)]


@pytest.mark.slow
def test_ctrl_c_on_the_command_line_answers_130_and_the_trial_ends_as_if_nothing_had_been(
    config: Config, tiny: Path, tmp_path: Path
) -> None:
    """The whole process group gets the signal, as a terminal sends it."""
    write_atomic(
        tmp_path / "harness.toml",
        f"""
        campaign = {{ methods = ["vsepp"], datasets = ["tiny"], seeds = [0] }}
        paths = {{ datasets = ["{tiny / "datasets"}"] }}
        training = {{ epochs = 6, batch_size = 16 }}
        settings = {{ "*" = {{ dim = 8, word_dim = 8 }} }}
        """,
    )
    config = load(tmp_path / "harness.toml")
    (trial,) = planned(config).trials
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    command = [sys.executable, "-c", "from harness.cli.main import main; main()", "run"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=environment, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    while not (trial.folder / CHECKPOINT).is_file() and process.poll() is None:  # written after the epoch's report
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, (out, error)
    assert b"Traceback" not in error
    campaign = planned(config)
    assert standing(campaign) == ["resume"]
    begun = len(read_epochs(trial.folder))
    view = Watcher()
    execute(campaign, InProcess(), Tracker(campaign.uri), view)
    assert 1 <= begun == view.reports[0].epoch < 6

    unbroken = trial.assignment.model_copy(update={"folder": tmp_path / "unbroken"})
    (expected,) = InProcess().run([unbroken], lambda _report: True)
    assert view.results[0].measures == expected.measures
    assert losses(trial.folder) == losses(unbroken.folder)
