"""A project as a script opens it: its methods, datasets, trials and boards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

from harness.api.cells import WRITTEN, loaded_card, written
from harness.api.frames import board_frame, datasets_frame, methods_frame, results_frame
from harness.api.pictures import Picture, check_ids, ids_and_notes, plot_picture, sheet
from harness.api.running import Names, Progress, Report, Seeds, carry_out, names, plain, reported, selected, silent
from harness.api.scores import ScoreEvaluation, evaluated
from harness.api.trained import TrainedMethod, load_trained
from harness.api.trials import Comparisons, ProjectTrial, Trials
from harness.board import publishing
from harness.board.comparison import comparisons
from harness.board.evidence import Assessed, evidence, hits
from harness.board.plots import plots
from harness.board.standings import Board, boards_of
from harness.campaign.current import current
from harness.campaign.plan import plan as make_plan
from harness.config.choice import RECIPE_TABLES, check_recipe
from harness.config.project import FILE, Config, find, load
from harness.config.registry import Registry, discover
from harness.config.selection import name_of_result
from harness.diagnostics.table import Looks
from harness.errors import UsageError, unknown
from harness.explain.rescoring import look_again
from harness.layouts.opening import open_dataset
from harness.layouts.previews import Previews
from harness.planning.plans import POWER, Assumed, PowerPlan, power_plans
from harness.portable.export import export_weights
from harness.portable.results import ImportedResults, import_results
from harness.portable.scored_weights import score_weights, weights_request
from harness.portable.weights_folder import WeightsFolder
from harness.tracking.naming import known_run
from harness.tracking.result_store import ResultStore, open_store
from harness.tracking.store import default_uri
from harness.trial.results import failure_classes

if TYPE_CHECKING:
    import pandas

    from harness.config.cards import MethodCard
    from harness.method import Method

NOTHING: Mapping[str, Any] = MappingProxyType({})


class Project:
    """A folder with results; made by `harness.open`."""

    def __init__(
        self, folder: Path, file: Path | None, settings: Mapping[str, Any] = NOTHING, plugins: Sequence[Path] = ()
    ) -> None:
        self.folder = folder
        self.file = file  # harness.toml; None: the built-in defaults
        self._settings = dict(settings)
        self._plugins = [*plugins]
        self.config, self.registry = self._read(NOTHING, self._plugins)

    def methods(self) -> pandas.DataFrame:
        """Every method, one row each.

        >>> "vsepp" in set(project.methods()["name"])
        True
        """
        return methods_frame(self.registry.methods.values())

    def datasets(self) -> pandas.DataFrame:
        """Every dataset, one row per protocol.

        >>> project.datasets().set_index("name").loc["tiny", "protocol"]
        'all'
        """
        return datasets_frame(self.registry.datasets.values())

    def run(
        self,
        methods: Names = (),
        datasets: Names = (),
        seeds: Seeds = (),
        settings: Mapping[str, Any] = NOTHING,
        *,
        protocol: str = "",
        limit: SupportsIndex | None = None,
        recipe: Literal["", "common", "paper"] = "",
        test_on: Names = (),
        here: bool = False,
        force: bool = False,
        retry: Names = (),
        progress: Report | None = None,
    ) -> Trials:
        """Train, evaluate and rank what is not done yet; all trials of the selection, those that failed too.

        What is empty is taken from [campaign] of harness.toml. settings: keys of harness.toml as `-s` takes them, such
        as `{"training.epochs": 3, "settings.caan.dim": 512}`. test_on: other datasets to test on, of whose protocols
        `protocol` is then one. here: in this process, without Ray. retry: classes of failures to run again; `failed` is
        all of them.
        Raises what ends the command `harness run`; a trial that failed is returned with its message.

        >>> project.run("vsepp", "tiny", seeds=[0, 1], here=True)
        [<trial vsepp/tiny/s0 ... done rsum ...>, <trial vsepp/tiny/s1 ... done rsum ...>]
        """
        config, registry = self._read(settings, self._plugins)
        overrides = {**self._settings, **settings}
        check_recipe(recipe or config.campaign.recipe, {key for key in overrides if key.split(".")[0] in RECIPE_TABLES})
        chosen = selected(methods, datasets, seeds, protocol, limit, recipe, test_on)
        plan = make_plan(config, registry, chosen, force=force, retry=failure_classes(names(retry)))
        carry_out(plan, config, registry, here, progress or silent)
        store = ResultStore(plan.uri)
        runs = {run.key: run for run in store.runs()}
        return Trials(ProjectTrial(runs[trial.spec.key], store) for trial in plan.trials if trial.spec.key in runs)

    def results(self) -> pandas.DataFrame:
        """Every trial of the tracking store, one row each, with typed columns; StoreError where nothing was run.

        >>> results = project.results()
        >>> sorted(results[results["seed"] == 0]["name"])
        ['chance/tiny/s0', 'vsepp/tiny/s0']
        """
        return results_frame(self._store().runs())

    def trials(self) -> Trials:
        """Every trial of the tracking store, done or not."""
        store = self._store()
        return Trials(ProjectTrial(run, store) for run in store.runs())

    def trial(self, name: str) -> ProjectTrial:
        """The finished trial that METHOD/DATASET/sSEED or the start of a key means; UsageError where not one.

        >>> project.trial("vsepp/tiny/s0").settings["dim"]
        8
        """
        store = self._store()
        return ProjectTrial(known_run(store.runs(), name_of_result(name)), store)

    def board(self, dataset: str, protocol: str = "", *, progress: Report | None = None) -> pandas.DataFrame:
        """The leaderboard of a dataset and protocol, else of its first; UsageError where it has no trial.

        >>> board = project.board("tiny")
        >>> sorted(board["row"]), board["rsum"].is_monotonic_decreasing
        (['chance', 'vsepp'], True)
        """
        return board_frame(self._assessed(dataset, protocol, progress))

    def plot(self, dataset: str, protocol: str = "", name: str = "rsum") -> Picture:
        """A plot of a board: `rsum` with intervals, `recall` for every K, `learning` curves, `tradeoff` with speed.

        UsageError for an unknown board or name, and where the board has nothing to draw.

        >>> project.plot("tiny").save("rsum.svg").name
        'rsum.svg'
        """
        return plot_picture(plots(self._assessed(dataset, protocol)), name)

    def pictures(self, dataset: str, images: pandas.DataFrame | Iterable[str], title: str = "") -> Picture:
        """Images of a dataset side by side: given by id, or a frame of retrieved images, with rank and score.

        UsageError for an unknown id. An image without a picture is drawn as its boxes, or as its id alone; one whose
        picture cannot be read as its id alone, with a warning that says why.

        >>> hits = project.load("vsepp/tiny/s0").retrieve("a red square", k=3)
        >>> project.pictures("tiny", hits, title="a red square")
        <picture: a red square: 1: ... 2: ... 3: ...>
        """
        card, rows = self.registry.dataset(dataset), ids_and_notes(images)
        opened = open_dataset(card, self.config.data, self.config.cache)
        check_ids([name for name, _ in rows], (opened.split(name).image_ids for name in reversed([*card.splits])))
        return sheet(rows, Previews(card, self.config.data, self.config.cache), title)

    def compare(self, first: str, second: str, *, progress: Report | None = None) -> Comparisons:
        """A paired test of two rows on every board that has both, or of two trials; errors of `harness compare`.

        >>> comparison = project.compare("vsepp", "chance")[0]
        >>> comparison.board, len(comparison.interval)
        ('tiny/all', 2)
        """
        store = self._store()
        pair = name_of_result(first), name_of_result(second)
        runs = store.runs()
        load = reported(partial(hits, store), runs, progress or silent)
        return Comparisons(comparisons(runs, self._boards(store), pair, load))

    def plan(
        self,
        detect: float = 3.0,
        methods: Names = (),
        datasets: Names = (),
        seeds: Seeds = (),
        *,
        protocol: str = "",
        power: float = POWER,
        seed_sd: float | None = None,
        image_sd: float | None = None,
    ) -> list[PowerPlan]:
        """How many seeds and test images a difference of rsum needs, one plan per dataset; see `harness plan`.

        What is empty is taken from [campaign]. power: the probability of finding the difference. seed_sd, image_sd:
        taken as known, in place of what the rows of the store say.
        """
        selection = selected(methods, datasets, seeds, protocol)
        return power_plans(self.config, self.registry, selection, detect, power, Assumed(seed_sd, image_sd))

    def load(self, trial: str | ProjectTrial, device: str = "cpu", *, progress: Report | None = None) -> TrainedMethod:
        """The trained method of a trial, given itself or by its name; UsageError where its weights cannot be used."""
        one = self.trial(trial) if isinstance(trial, str) else trial
        (progress or silent)(Progress(one.name, "loading", message="data, then weights"))
        return load_trained(self.config, self.registry, one.run.spec, device)

    def export(
        self,
        trial: str | ProjectTrial,
        folder: str | PathLike[str],
        force: bool = False,
        *,
        progress: Report | None = None,
    ) -> WeightsFolder:
        """Write the weights of a trial into a new folder, which `harness.load` takes; force: over earlier weights.

        UsageError where it has none that can be used, or the folder holds something else.
        """
        name = trial if isinstance(trial, str) else trial.key
        (progress or silent)(Progress(name, "loading", message="its weights, to be exported"))
        return export_weights(self.config, self.registry, name, Path(folder).expanduser(), force)

    def score_weights(
        self,
        folder: str | PathLike[str],
        dataset: str,
        protocol: str = "",
        name: str = "",
        note: str = "",
        *,
        progress: Report | None = None,
    ) -> ProjectTrial:
        """Rank exported weights on a dataset, as `harness score --weights` does: an external row, and its board."""
        place = Path(folder).expanduser()
        request = weights_request(self.config, self.registry, place, dataset, protocol, name, note)
        (progress or silent)(Progress(request.spec.label, "ranking"))
        store, _ = score_weights(request)
        now, boards = current(self.config, self.registry), {(request.spec.dataset, request.spec.protocol)}
        publishing.publish(store, self.registry, now, self.config.reports, boards)
        return ProjectTrial(next(run for run in store.runs() if run.key == request.spec.key), store)

    def import_results(self, *folders: str | PathLike[str], dry_run: bool = False) -> ImportedResults:
        """Take in the finished trials of other projects or machines, as `harness import` does; nothing is trained.

        folders: projects, their results folders, or folders of trials. DataError names a file that is damaged or does
        not fit its result; then nothing is taken.
        """
        return import_results(self.config, [Path(folder).expanduser() for folder in folders], dry_run)

    def look(self, trial: str | ProjectTrial, device: str = "cpu", *, progress: Report | None = None) -> Looks:
        """Make the scores of a finished trial again, record the looks that need them, and return all its looks.

        What `harness looks --score` does. UsageError where its weights cannot be used, DataError where its dataset has
        neither categories nor choices.
        """
        one = self.trial(trial) if isinstance(trial, str) else trial
        (progress or silent)(Progress(one.name, "ranking", message="its scores are made again"))
        look_again(self.config, self.registry, one.run, device)
        return one.looks()

    def evaluate(
        self, scores: object, dataset: str, protocol: str = "", *, progress: Report | None = None
    ) -> ScoreEvaluation:
        """Rank a score matrix (N, M), images by captions, higher is better, under a protocol; nothing is stored.

        DataError where it does not fit the split or has a number that is not finite, UsageError for an unknown name.

        >>> method = project.load("vsepp/tiny/s0")
        >>> project.evaluate(method.score(method.encode_images(), method.encode_captions()), "tiny")
        <tiny/all: rsum ..., 95 % ... to ...>
        """
        card = self.registry.dataset(dataset)
        (progress or silent)(Progress(f"{dataset}/{card.protocol(protocol).name}", "ranking"))
        return evaluated(scores, card, protocol, self.config)

    def register(self, method: type[Method], card: Mapping[str, Any]) -> MethodCard:
        """Add a method whose class a notebook or script defines, from then on run as any other; its card.

        card: the fields of a method's card. `name` is required; the defaults are those of the class's Settings. The
        class is written to a file with all that it uses, from whichever cell: modules, functions, classes, and values
        that are literals; this file is what runs. Registered again, it replaces the earlier one.
        ConfigError for a wrong card, and for a class that cannot be written so; all is then as it was before.
        """
        with written(method, card, self.config.results / WRITTEN) as path:
            plugins = [*dict.fromkeys([*self._plugins, path])]
            config, registry = self._read(NOTHING, plugins)
            added = loaded_card(registry, path)
        self._plugins, self.config, self.registry = plugins, config, registry
        return added

    def _assessed(self, dataset: str, protocol: str, progress: Report | None = None) -> Assessed:
        """A board with what its files say of it; UsageError where it has no trial."""
        store = self._store()
        boards = self._boards(store)
        card = self.registry.datasets.get(dataset)
        place = dataset, protocol or (card.protocol().name if card else "")
        read = reported(store.artifact, store.runs(), progress or silent)
        for board in boards:
            if (board.dataset, board.protocol) == place:
                return Assessed(board, evidence(board, read))
        known = [f"{board.dataset}/{board.protocol}" for board in boards]
        raise UsageError(unknown("board", "/".join(filter(None, place)), known))

    def _boards(self, store: ResultStore) -> list[Board]:
        return [*boards_of(store.runs(), self.registry.methods, current(self.config, self.registry))]

    def _store(self) -> ResultStore:
        return open_store(default_uri(self.config))

    def _read(self, settings: Mapping[str, Any], plugins: Sequence[Path]) -> tuple[Config, Registry]:
        config = load(self.file, flags=plain({**self._settings, **settings}), folder=self.folder)
        return config, discover(config, plugins)

    def __repr__(self) -> str:
        """The project on one line, for a notebook's cell."""
        return f"<project {self.file or self.folder}>"


def open_project(
    path: str | PathLike[str] = ".",
    settings: Mapping[str, Any] = NOTHING,
    plugins: Iterable[str | PathLike[str]] = (),
) -> Project:
    """The project of a folder or a harness.toml; without one there or above, the folder with the built-in defaults.

    settings: keys of harness.toml as `-s` takes them, for all that the project does; plugins: cards of further methods.
    UsageError where there is nothing at `path`, ConfigError for a wrong file, key or card.

    >>> harness.open(".", settings={"training.epochs": 3}).config.training.epochs
    3
    """
    place = Path(path).expanduser().resolve()
    if not place.exists():
        raise UsageError(f"{place}: no such folder or file; name the folder of a project, or its {FILE}")
    folder = place if place.is_dir() else place.parent
    file = find(folder) if place.is_dir() else place
    return Project(folder, file, settings, [Path(plugin).expanduser().resolve() for plugin in plugins])


def evaluate(scores: object, dataset: str, protocol: str = "", project: str | PathLike[str] = ".") -> ScoreEvaluation:
    """Rank any score matrix on a dataset of a project, else of the working folder; `Project.evaluate`."""
    return open_project(project).evaluate(scores, dataset, protocol)
