"""The contract of a method, held by every card that is found and by the example of docs/adding-a-method.md.

HARNESS_CONTRACT=path/to/card.toml adds a card of your own.
"""

from __future__ import annotations

import dataclasses
import io
import os
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from harness.cards import MethodCard, ProtocolCard, SplitSize, Tunable
from harness.config import Config
from harness.data import Dataset, open_dataset
from harness.evaluate import score_split
from harness.method import Batch, Encoded, Inputs, Method
from harness.protocols import expected_at_random, folds
from harness.ranking import measures, rank
from harness.registry import discover, load_class, settings_for
from harness.scenes import Scenes
from harness.sections import Scalar, Training
from harness.splits import Place
from harness.train import Trainer

GUIDE = Path(__file__).parents[1] / "docs" / "adding-a-method.md"
EXAMPLE = "bag"  # the method of the guide
INPUTS = Inputs(feature_width=20, vocabulary_size=50)
SMALL = Config(settings={"*": {"dim": 16, "word_dim": 12, "width": 8}})
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


def build(card: MethodCard, seed: int = 0, **changes: Scalar) -> Method:
    """A small method with the weights of a seed."""
    kind = load_class(card)
    torch.manual_seed(seed)
    return kind(kind.Settings(**{**settings_for(card, SMALL), **changes}), INPUTS).eval()


def random_sets(sizes: list[int], seed: int, width: int = 0) -> tuple[Tensor, Tensor]:
    """Padded regions (B, R, F), or token ids (B, T) without a width; and their mask. Padding is not zero."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    if width:
        return torch.randn(*mask.shape, width, generator=generator), mask
    return torch.randint(4, INPUTS.vocabulary_size, mask.shape, generator=generator), mask


def regions(count: int = 9) -> tuple[Tensor, Tensor]:
    return random_sets([3 + k % 4 for k in range(count)], seed=1, width=INPUTS.feature_width)


def words(count: int = 11) -> tuple[Tensor, Tensor]:
    return random_sets([2 + k % 6 for k in range(count)], seed=2)


def encoded(method: Method) -> tuple[Encoded, Encoded]:
    return method.encode_images(*regions()), method.encode_captions(*words())


def rows(sets: Encoded, places: Any) -> Encoded:
    return Encoded(sets.vectors[places], sets.mask[places])


def padded(sets: tuple[Tensor, Tensor], by: int = 3) -> tuple[Tensor, Tensor]:
    """The same sets with further padding, of other values than zero."""
    values, mask = sets
    more = torch.full((len(values), by, *values.shape[2:]), 7, dtype=values.dtype)
    return torch.cat([values, more], 1), torch.cat([mask, torch.zeros(len(mask), by, dtype=torch.bool)], 1)


def batch(hardest: bool = True) -> Batch:
    """Eight pairs of random regions and words; the first two share their image."""
    images, mask = regions(8)
    positives = torch.eye(8, dtype=torch.bool)
    for values in (images, mask):
        values[1] = values[0]
    positives[:2, :2] = True
    return Batch(images, mask, *words(8), positives, hardest)


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


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
    found = method.regions_of_words(images, captions)
    if found is None:
        return
    assert found.shape == (9, 11, captions.mask.shape[1], images.mask.shape[1])
    real = captions.mask[None, :, :, None] & images.mask[:, None, None, :]
    assert found.isfinite().all() and (found >= 0).all() and not found[~real].any() and found[real].any()
    close(method.regions_of_words(rows(images, [4]), rows(captions, [7])), found[4:5, 7:8])
    more = method.regions_of_words(method.encode_images(*padded(regions())), method.encode_captions(*padded(words())))
    close(more[:, :, : found.shape[2], : found.shape[3]], found)


@torch.no_grad()
def test_padding_changes_no_score(card: MethodCard) -> None:
    method = build(card)
    more = method.score(method.encode_images(*padded(regions())), method.encode_captions(*padded(words())))
    close(more, method.score(*encoded(method)))


@torch.no_grad()
def test_the_values_under_padding_change_no_score(card: MethodCard) -> None:
    method = build(card)
    (images, image_mask), (tokens, token_mask) = regions(), words()
    images = torch.where(image_mask[..., None], images, 0.0)
    tokens = torch.where(token_mask, tokens, 0)
    zeros = method.score(method.encode_images(images, image_mask), method.encode_captions(tokens, token_mask))
    close(zeros, method.score(*encoded(method)))


@torch.no_grad()
@pytest.mark.parametrize("tile", [1, 7, 128])
def test_tiles_of_any_size_give_the_same_scores(card: MethodCard, tile: int) -> None:
    images, captions = encoded(method := build(card))
    parts = [
        [method.score(rows(images, i), rows(captions, c)) for c in torch.arange(11).split(tile)]
        for i in torch.arange(9).split(tile)
    ]
    close(torch.cat([torch.cat(row, 1) for row in parts]), method.score(images, captions))


@torch.no_grad()
def test_the_score_of_a_pair_depends_on_that_pair_alone(card: MethodCard) -> None:
    method = build(card)
    (images, image_mask), (tokens, token_mask) = regions(), words()
    scores = method.score(*encoded(method))
    for image, caption in ((0, 0), (3, 8), (8, 5)):
        size, length = int(image_mask[image].sum()), int(token_mask[caption].sum())
        alone = method.score(
            method.encode_images(images[image : image + 1, :size], image_mask[image : image + 1, :size]),
            method.encode_captions(tokens[caption : caption + 1, :length], token_mask[caption : caption + 1, :length]),
        )
        close(alone, scores[image : image + 1, caption : caption + 1])


@torch.no_grad()
def test_permuted_captions_and_images_give_permuted_scores(card: MethodCard) -> None:
    images, captions = encoded(method := build(card))
    scores = method.score(images, captions)
    rng = torch.Generator().manual_seed(3)
    row, column = torch.randperm(9, generator=rng), torch.randperm(11, generator=rng)
    close(method.score(images, rows(captions, column)), scores[:, column])
    close(method.score(rows(images, row), captions), scores[row])
    tokens, mask = words()
    close(method.score(images, method.encode_captions(tokens[column], mask[column])), scores[:, column])


def test_one_seed_gives_the_same_weights_and_another_does_not(card: MethodCard) -> None:
    first, again, other = (build(card, seed).state_dict() for seed in (5, 5, 6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("hardest", [True, False])
def test_every_parameter_gets_a_gradient(card: MethodCard, hardest: bool) -> None:
    method = build(card).train()
    if not card.trainable:
        assert not list(method.parameters())
        return
    loss = method.loss(batch(hardest))
    assert loss.shape == () and loss.isfinite() and loss > 0
    loss.backward()
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None, f"{name} has no gradient"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
        assert parameter.grad.any(), f"the gradient of {name} is zero"


@torch.no_grad()
def test_the_loss_treats_no_true_match_as_a_negative(card: MethodCard) -> None:
    method, all_match = build(card), batch()._replace(positives=torch.ones(8, 8, dtype=torch.bool))
    for hardest in (True, False):
        assert method.loss(all_match._replace(hardest=hardest)) == 0


@torch.no_grad()
def test_saved_weights_give_equal_scores(card: MethodCard) -> None:
    method, other = build(card, seed=1), build(card, seed=2)
    file = io.BytesIO()
    torch.save(method.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(method.score(*encoded(method)), other.score(*encoded(other)))


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


def test_the_card_says_what_it_is(card: MethodCard) -> None:
    assert card.title and card.choices and all(card.choices)
    assert card.summary.endswith(".") and "\n" not in card.summary
    assert card.fidelity == "baseline" or card.paper, "a method of a paper cites it"
    assert card.path.stem == card.name


RECIPE = (
    Training(  # the rounding of another CPU leads elsewhere: three epochs are enough on most, six with room to spare
        epochs=6, batch_size=16, lr=5e-3, schedule="constant", all_negatives_epochs=6, drop_words=0.0, drop_regions=0.0
    )
)
PICTURES = {"train": 160, "val": 60}


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


def test_a_few_steps_on_the_embedded_data_leave_chance_behind(card: MethodCard, pictures: Dataset) -> None:
    if not card.trainable:
        pytest.skip("nothing to train")
    kind, train, val = load_class(card), pictures.split("train"), pictures.split("val")
    settings = settings_for(card, Config(settings={"*": {"dim": 32, "word_dim": 32, "width": 8}}))
    torch.manual_seed(0)
    method = kind(kind.Settings(**settings), Inputs(train.images.width, len(pictures.vocabulary)))
    trainer = Trainer(method, train, RECIPE, seed=0, device=torch.device("cpu"))
    gallery = ProtocolCard(name="small", images=len(val.images), captions=len(val.captions))
    floor, rsum = expected_at_random(folds(gallery, len(val.images), val.pairs))["rsum"], 0.0
    while rsum <= 2 * floor and trainer.epoch < RECIPE.epochs:
        trainer.run_epoch()
        rsum = measures(rank(score_split(method, val, torch.device("cpu")).scores, val.pairs))["rsum"]
    assert rsum > 2 * floor, f"rsum {rsum:.0f} where chance is {floor:.0f}"


# What holds whatever the words begin with; other files ask it of methods that begin otherwise.
HELD_BY_ALL = (
    test_padding_changes_no_score,
    test_the_values_under_padding_change_no_score,
    test_the_score_of_a_pair_depends_on_that_pair_alone,
    test_permuted_captions_and_images_give_permuted_scores,
    test_one_seed_gives_the_same_weights_and_another_does_not,
    test_saved_weights_give_equal_scores,
)
