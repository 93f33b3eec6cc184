"""The contract of a method, held by every card that is found and by the example of docs/guide/adding-a-method.md.

HARNESS_CONTRACT=path/to/card.toml adds a card of your own.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from contract import (
    HELD_BY_ALL,
    batch,
    build,
    close,
    encoded,
    every_parameter_gets_a_gradient,
    inputs_of,
    padded,
    pushes_no_true_match_apart,
    regions,
    rows,
    tiles_of_any_size_give_the_same_scores,
    words,
)
from costs import cost
from device_reads import DeviceReads

from harness.config.cards import MethodCard, ProtocolCard, SplitSize
from harness.config.project import Config
from harness.config.registry import discover, load_class, paper_settings, settings_for
from harness.config.sections import Scalar, Training, Tunable
from harness.data.content import Place
from harness.data.dataset import Dataset
from harness.evaluation.measures import measures
from harness.evaluation.protocols import expected_at_random, folds
from harness.evaluation.ranks import rank
from harness.evaluation.scoring import score_split
from harness.layouts.opening import open_dataset
from harness.layouts.scenes import Scenes
from harness.trial.text_tower import FrozenTower
from harness.trial.training import Trainer

GUIDE = Path(__file__).parents[1] / "docs" / "guide" / "adding-a-method.md"
EXAMPLE = "bag"  # the method of the guide
FOUND = discover(Config(), [Path(path) for path in os.environ.get("HARNESS_CONTRACT", "").split(os.pathsep) if path])


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> MethodCard:
    """The guide's example, written out beside its card and found by path."""
    blocks = dict(re.findall(r"^```(python|toml)\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE))
    folder = tmp_path_factory.mktemp("third_party")
    (folder / f"{EXAMPLE}.py").write_text(blocks["python"])
    (folder / f"{EXAMPLE}.toml").write_text(blocks["toml"])
    return discover(Config(), [folder / f"{EXAMPLE}.toml"]).methods[EXAMPLE]


@pytest.fixture(params=[*FOUND.methods, EXAMPLE])
def card(request: pytest.FixtureRequest) -> MethodCard:
    name = request.param
    return FOUND.methods[name] if name in FOUND.methods else request.getfixturevalue("example")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@torch.no_grad()
def test_encoded_sets_and_scores_have_the_shapes_of_the_interface(card: MethodCard) -> None:
    images, captions = encoded(method := build(card))
    for sets, count in ((images, 9), (captions, 11)):
        assert sets.vectors.ndim == 3 and sets.vectors.is_floating_point()
        assert sets.mask.shape == sets.vectors.shape[:2] and sets.mask.dtype == torch.bool
        assert len(sets.mask) == count and sets.mask.any(1).all()
        assert card.scoring == "fragment" or sets.vectors.shape[1] == 1
    scores = method.score(images, captions)
    assert scores.shape == (9, 11) and scores.dtype == torch.float32 and scores.isfinite().all()
    assert scores.std() > 0


@torch.no_grad()
def test_attention_of_words_to_regions_is_that_of_each_pair_and_zero_for_padding(card: MethodCard) -> None:
    images, captions = encoded(method := build(card))
    weights = method.regions_of_words(images, captions)
    if weights is None:
        return
    assert weights.shape == (9, 11, captions.mask.shape[1], images.mask.shape[1])
    real = captions.mask[None, :, :, None] & images.mask[:, None, None, :]
    assert weights.isfinite().all() and (weights >= 0).all() and not weights[~real].any() and weights[real].any()
    close(method.regions_of_words(rows(images, [4]), rows(captions, [7])), weights[4:5, 7:8])
    more = method.regions_of_words(method.encode_images(*padded(regions())), method.encode_captions(*padded(words())))
    close(more[:, :, : weights.shape[2], : weights.shape[3]], weights)


@pytest.mark.parametrize("check", HELD_BY_ALL)
def test_a_method_holds_what_all_must(card: MethodCard, check: Callable[[MethodCard], None]) -> None:
    check(card)


@pytest.mark.parametrize("tile", [1, 7, 128])
def test_tiles_of_any_size_give_the_same_scores(card: MethodCard, tile: int) -> None:
    tiles_of_any_size_give_the_same_scores(card, tile)


@pytest.mark.parametrize("hardest", [True, False])
def test_every_parameter_gets_a_gradient(card: MethodCard, hardest: bool) -> None:
    every_parameter_gets_a_gradient(card, hardest)


def test_a_step_in_bfloat16_has_its_loss_in_float32_close_to_the_exact_one(card: MethodCard) -> None:
    if not card.trainable:
        pytest.skip("nothing to train")
    method = build(card)
    exact = method.loss(batch()).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = method.loss(batch())
        method.regions_of_words(*encoded(method))
    loss.backward()
    assert loss.dtype == torch.float32, "products under autocast are not: blocks.tiles.in_full"
    assert loss.item() == pytest.approx(exact, rel=0.1)
    assert all(part.grad is None or part.grad.isfinite().all() for part in method.parameters())


@pytest.mark.parametrize("hardest", [True, False])
def test_the_loss_treats_no_true_match_as_a_negative(card: MethodCard, hardest: bool) -> None:
    pushes_no_true_match_apart(card, hardest)


@torch.no_grad()
def test_every_tunable_choice_and_bound_builds_a_method_that_scores(card: MethodCard) -> None:
    for name, tunable in card.tunable.items():
        for value in choices_of(tunable):
            method = build(card, **{name: value})
            assert method.score(*encoded(method)).isfinite().all(), f"{name} = {value}"


def choices_of(tunable: Tunable) -> list[Scalar]:
    if tunable.type == "categorical":
        return list(tunable.choices)
    assert tunable.low is not None and tunable.high is not None
    return [{"int": int, "float": float}[tunable.type](end) for end in (tunable.low, tunable.high)]


def test_the_defaults_are_the_fields_of_settings(card: MethodCard) -> None:
    kind = load_class(card).Settings
    assert dataclasses.is_dataclass(kind) and kind.__dataclass_params__.frozen
    assert [field.name for field in dataclasses.fields(kind)] == list(card.defaults)
    for name, hint in typing.get_type_hints(kind).items():
        default = card.defaults[name]
        fits = default in typing.get_args(hint) if typing.get_origin(hint) is Literal else type(default) is hint
        assert fits, f"default {name} = {default!r} is not {hint}"


def test_tunable_ranges_hold_the_defaults(card: MethodCard) -> None:
    assert set(card.tunable) <= set(card.defaults)
    for name, tunable in card.tunable.items():
        default = card.defaults[name]
        if tunable.type == "categorical":
            assert default in tunable.choices, name
        else:
            low, high = choices_of(tunable)
            assert low <= default <= high and low < high and (low > 0 or not tunable.log), name


def test_reported_numbers_add_up_and_name_their_source(card: MethodCard) -> None:
    for reported in card.reported:
        # printed with one decimal: six roundings of 0.05, and one of the sum
        assert sum((*reported.i2t, *reported.t2i)) == pytest.approx(reported.rsum, abs=0.35)
        assert reported.source
        dataset = FOUND.datasets[reported.dataset]
        assert reported.protocol in [protocol.name for protocol in dataset.protocols]
        for recalls in (reported.i2t, reported.t2i):
            assert list(recalls) == sorted(recalls) and 0 <= recalls[0] <= recalls[-1] <= 100


def test_recipes_are_of_known_datasets_and_build_the_method(card: MethodCard) -> None:
    for recipe in card.recipes:
        assert recipe.dataset in FOUND.datasets and recipe.source
        settings = paper_settings(card, recipe)
        assert set(settings) == set(card.defaults) and card.fidelity == "paper"
        load_class(card).Settings(**settings)


def test_the_cost_on_the_card_is_what_is_measured(card: MethodCard) -> None:
    if card.name == EXAMPLE:
        assert card.cost is None
        return
    assert card.formula and card.cost == cost(card), "python benchmarks/costs.py prints it"


def test_the_card_says_what_it_is(card: MethodCard) -> None:
    assert card.title and card.choices and all(card.choices)
    assert card.summary.endswith(".") and "\n" not in card.summary
    assert card.fidelity in ("baseline", "zero-shot") or card.paper, "a method of a paper cites it"
    assert card.fidelity != "zero-shot" or (card.text_tower and not card.trainable)
    assert card.path.stem == card.name


# The rounding of another CPU leads elsewhere: three epochs are enough for most, twelve for the slowest.
RECIPE = Training(
    epochs=12, batch_size=16, lr=5e-3, schedule="constant", all_negatives_epochs=12, drop_words=0.0, drop_regions=0.0
)
PICTURES = {"train": 160, "val": 60}


def small_trainer(card: MethodCard, dataset: Dataset, training: Training) -> Trainer:
    kind, train = load_class(card), dataset.split("train")
    settings = settings_for(card, Config(settings={"*": {"dim": 32, "word_dim": 32, "width": 8}}))
    torch.manual_seed(0)
    method = kind(kind.Settings(**settings), inputs_of(card, train.images.width, len(dataset.vocabulary)))
    return Trainer(method, train, training, seed=0, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The embedded data in a smaller edition, held to the counts that its generator gives."""
    folder = tmp_path_factory.mktemp("pictures")
    sizes = {name: SplitSize(images=images, captions=0) for name, images in PICTURES.items()}
    scenes = FOUND.datasets["scenes"].model_copy(update={"splits": sizes})
    reader = Scenes(Place(scenes, folder, folder))
    for name in sizes:
        sizes[name] = SplitSize(images=sizes[name].images, captions=len(reader.read(name).captions))
    return open_dataset(scenes.model_copy(update={"splits": sizes}), folder, folder)


def test_a_training_step_reads_nothing_from_the_device(
    card: MethodCard, pictures: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not card.trainable:
        pytest.skip("nothing to train")
    monkeypatch.setattr(FrozenTower, "KEPT", 0)  # as on a GPU, where it keeps nothing
    trainer = small_trainer(card, pictures, Training(batch_size=16, clip=2.0))
    batch = next(trainer.batches.epoch(np.random.default_rng(0)))
    with DeviceReads() as reads:
        trainer._step(batch, 0)
    assert not reads.places


def test_a_few_steps_on_the_embedded_data_leave_chance_behind(card: MethodCard, pictures: Dataset) -> None:
    if not card.trainable:
        pytest.skip("nothing to train")
    trainer, val = small_trainer(card, pictures, RECIPE), pictures.split("val")
    gallery = ProtocolCard(name="small", images=len(val.images), captions=len(val.captions))
    floor, rsum = expected_at_random(folds(gallery, len(val.images), val.pairs))["rsum"], 0.0
    while rsum <= 2 * floor and trainer.epoch < RECIPE.epochs:
        trainer.run_epoch()
        rsum = measures(rank(score_split(trainer.method, val, torch.device("cpu")).scores, val.pairs))["rsum"]
    assert rsum > 2 * floor, f"rsum {rsum:.0f} where chance is {floor:.0f}"
