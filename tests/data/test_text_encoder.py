"""A pretrained text encoder in a dataset's card: tokens, states, training, and every way its folder can be wrong."""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coco_files import files, opened
from tiny_project import Call

from harness.blocks.encoders import TextEncoder
from harness.config.cards import MethodCard, read_card
from harness.config.project import load
from harness.config.registry import discover
from harness.config.sections import Training
from harness.contract import samples
from harness.contract.gradients import every_parameter_gets_a_gradient
from harness.contract.scores import HELD_BY_ALL, tiles_of_any_size_give_the_same_scores
from harness.data.dataset import Dataset
from harness.data.text_encoder import PretrainedTokenizer, load_model
from harness.data.tokens import Tokens
from harness.errors import ConfigError, DataError
from harness.evaluation.scoring import score_split
from harness.explain.explanation import Pair, explanation
from harness.explain.weights import TrialChoice, best_weights, trained
from harness.layouts.opening import fingerprint, open_dataset
from harness.method import Inputs, Method, Words
from harness.trial.batches import hide_words
from harness.trial.folder import CHECKPOINT, read_result
from harness.trial.models import build_method
from harness.trial.training import Trainer

transformers = pytest.importorskip("transformers")
load_file, save_file = (getattr(pytest.importorskip("safetensors.torch"), name) for name in ("load_file", "save_file"))
WEIGHTS = "model.safetensors"
CPU = torch.device("cpu")
METHODS = Path(__file__).parents[2] / "methods"
PIECES = ["a", "dog", "cat", "##s", "red", "circle", "is", "the", ".", "one", "two", "of", "left", "square", "blue"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
LENGTH = 10  # tokens that both encoders take
CAPTIONS = ["one dog", "Two cats .", "a zebra is left of the red circle", "dogs", "a a a a a a a a a a a a a"]


def save_bert(folder: Path) -> None:
    """A BERT of two narrow layers with random weights; its tokenizer is a vocabulary of word pieces alone."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *PIECES]
    torch.manual_seed(0)
    config = transformers.BertConfig(vocab_size=len(words), max_position_embeddings=LENGTH + 1, **SMALL)
    transformers.BertModel(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")


def save_roberta(folder: Path) -> None:
    """A RoBERTa, whose pad id is 1 and whose positions are counted from behind it, with a tokenizer of whole words."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    words = ["<s>", "<pad>", *PIECES, "</s>", "<unk>", "<mask>"]
    ids = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", ids["</s>"]), ("<s>", 0))
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
    named = {f"{key}_token": token for key, token in names.items()}
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.RobertaConfig(vocab_size=len(words), max_position_embeddings=LENGTH + 2, **SMALL)
    transformers.RobertaModel(config).save_pretrained(folder)


SAVE = {"bert": save_bert, "roberta": save_roberta}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of both."""
    folder = tmp_path_factory.mktemp("encoders")
    for name, save in SAVE.items():
        save(folder / name)
    return folder


@pytest.fixture
def root(saved: Path, tmp_path: Path) -> Path:
    """A data root of one's own with both."""
    shutil.copytree(saved, tmp_path, dirs_exist_ok=True)
    return tmp_path


each_encoder = pytest.mark.parametrize("name", [*SAVE])


def with_encoder(root: Path, name: str = "bert", **changes: Any) -> Dataset:
    return opened(root, files(), text={"encoder": name}, **changes)


def method_card(name: str) -> MethodCard:
    return read_card(MethodCard, METHODS / f"{name}.toml")


def built(dataset: Dataset, name: str = "caan", seed: int = 0) -> Method:
    card = method_card(name)
    small = {key: 8 for key in ("dim", "width") if key in card.defaults}
    return build_method(card, {**card.defaults, **small}, dataset, seed)


def encoder_of(method: Method) -> TextEncoder:
    (encoder,) = (part for part in method.modules() if isinstance(part, TextEncoder))
    return encoder


@each_encoder
def test_captions_become_the_ids_of_the_encoders_own_tokenizer(root: Path, name: str) -> None:
    reference = transformers.AutoTokenizer.from_pretrained(root / name, local_files_only=True)
    tokens = Tokens.encode(CAPTIONS, PretrainedTokenizer(root / name))
    for number, caption in enumerate(CAPTIONS[:-1]):
        assert tokens[number].tolist() == reference(caption)["input_ids"]
    ids, mask = tokens.gather([3, 2])
    assert (ids[~mask] == reference.pad_token_id).all() and not mask.all()
    assert tokens.cut.tolist() == [False, False, False, False, True]
    begin, end = reference("a")["input_ids"][0], reference("a")["input_ids"][-1]
    assert len(tokens[4]) == LENGTH and tokens[4][[0, -1]].tolist() == [begin, end]
    assert tokens.take(np.array([4, 1])).cut.tolist() == [True, False]
    assert tokens.take(np.array([4, 1])).special_ids == tokens.special_ids


@each_encoder
def test_the_dataset_counts_what_was_cut_and_what_is_unknown_and_keeps_its_tokens(
    root: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = files()
    content["captions.json"]["annotations"][0]["caption"] = CAPTIONS[-1]
    content["captions.json"]["annotations"][-1]["caption"] = "one cat ?"
    first = opened(root, content, text={"encoder": name})
    ids = first.split("train").tokens
    first.split("test")
    assert first.cut == {"train": 1, "test": 0} and first.unknown_only["test"] == 0
    assert first.unknown_only["train"] == (1 if name == "bert" else 2)  # "three"; to whole words "cats" too
    monkeypatch.setattr("harness.data.text_encoder.transformers", lambda: pytest.fail("loaded again"))
    again = open_dataset(first.card, root, root / "cache").split("train").tokens
    assert (
        np.array_equal(ids.ids, again.ids)
        and np.array_equal(ids.cut, again.cut)
        and ids.special_ids == again.special_ids
    )


@each_encoder
def test_hidden_words_become_the_mask_and_specials_and_unknown_words_stay(root: Path, name: str) -> None:
    tokenizer = PretrainedTokenizer(root / name)
    tokens = Tokens.encode(CAPTIONS, tokenizer)
    before, mask = tokens.gather(range(len(CAPTIONS)))
    after = hide_words(before, tokens.special_ids, 0.999999, np.random.default_rng(0))
    reference = transformers.AutoTokenizer.from_pretrained(root / name, local_files_only=True)
    special = np.isin(before, reference.all_special_ids)
    assert (after[special] == before[special]).all() and special[~mask].all()
    assert (after[~special] == reference.mask_token_id).all() and (~special).any()


@each_encoder
@torch.no_grad()
def test_states_are_those_that_the_model_gives_each_caption_alone(root: Path, name: str) -> None:
    dataset = with_encoder(root, name)
    method = built(dataset).eval()
    tokens, mask = (torch.from_numpy(part) for part in Tokens.encode(CAPTIONS, dataset.vocabulary).gather(range(5)))
    tokens = torch.where(mask, tokens, 5)  # what lies there must not matter, for positions either
    states = method.words(tokens, mask)
    model = transformers.AutoModel.from_pretrained(root / name, local_files_only=True).eval()
    assert not states[~mask].any()
    for number, length in enumerate(mask.sum(1).tolist()):
        alone = model(input_ids=tokens[number : number + 1, :length]).last_hidden_state
        expected = method.words.layers.linear(alone)[0]
        torch.testing.assert_close(states[number, :length], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("check", HELD_BY_ALL)
@pytest.mark.parametrize("method", ["caan", "vsepp"])
@each_encoder
def test_a_method_with_an_encoder_holds_the_contract(
    saved: Path, name: str, method: str, check: Callable[[MethodCard], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = PretrainedTokenizer(saved / name)
    encoder = lambda: TextEncoder(load_model(saved / name, len(tokenizer)))  # noqa: E731
    inputs = Inputs(feature_width=20, vocabulary_size=len(tokenizer), words=Words(encoder=encoder))
    monkeypatch.setattr(samples, "INPUTS", inputs)
    check(method_card(method))


@pytest.mark.parametrize("tile", [1, 7, 128])
def test_tiles_of_any_size_give_the_same_scores(saved: Path, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    check = lambda card: tiles_of_any_size_give_the_same_scores(card, tile)  # noqa: E731
    test_a_method_with_an_encoder_holds_the_contract(saved, "bert", "caan", check, monkeypatch)


@each_encoder
def test_every_parameter_gets_a_gradient(saved: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check = lambda card: every_parameter_gets_a_gradient(card, False)  # noqa: E731
    test_a_method_with_an_encoder_holds_the_contract(saved, name, "vsepp", check, monkeypatch)


def test_a_method_that_knows_the_number_of_ids_alone_works_too(root: Path) -> None:
    dataset = with_encoder(root, "roberta")
    scores = score_split(built(dataset, "chance"), dataset.split("train"), CPU).scores
    assert scores.shape == (2, 5) and np.isfinite(scores).all()


def trainer(dataset: Dataset, method: Method, **changes: Any) -> Trainer:
    training = Training(epochs=2, batch_size=5, lr=0.01, schedule="constant", all_negatives_epochs=9, **changes)
    return Trainer(method, dataset.split("train"), training, seed=0, device=CPU)


def moved(before: dict[str, torch.Tensor], method: Method) -> dict[str, float]:
    return {key: float((value - before[key]).abs().max()) for key, value in method.state_dict().items()}


def test_an_encoder_is_trained_at_a_share_of_the_learning_rate(root: Path) -> None:
    dataset = with_encoder(root)
    method = built(dataset, "vsepp")
    before = {key: value.clone() for key, value in method.state_dict().items()}
    run = trainer(dataset, method, encoder_lr=0.1, clip=0.0)
    cost = run.run_epoch()
    assert cost.lr == 0.01 and [group["lr"] for group in run.optimizer.param_groups] == [0.01, 0.001]
    far = moved(before, method)
    # the first step of Adam is as long as the learning rate
    assert max(far[key] for key in far if "encoder" not in key) == pytest.approx(0.01, rel=0.01)
    assert max(far[key] for key in far if "encoder" in key) == pytest.approx(0.001, rel=0.01)
    state = copy.deepcopy(run.state())
    other = trainer(dataset, built(dataset, "vsepp", seed=1), encoder_lr=0.1, clip=0.0)
    other.load(state)
    run.run_epoch(), other.run_epoch()
    assert all(torch.equal(value, other.method.state_dict()[key]) for key, value in method.state_dict().items())


def test_a_share_of_zero_leaves_the_encoder_as_it_is_and_without_dropout(root: Path) -> None:
    dataset = with_encoder(root)
    method = built(dataset, "vsepp")
    before = {key: value.clone() for key, value in method.state_dict().items()}
    run, seen = trainer(dataset, method, encoder_lr=0.0), []
    encoder_of(method).register_forward_hook(lambda part, *_: seen.append([p.training for p in part.modules()]))
    run.run_epoch()
    assert seen and not any(map(any, seen)) and method.training
    assert all(part.grad is None for part in encoder_of(method).parameters())
    far = moved(before, method)
    assert not any(far[key] for key in far if "encoder" in key)
    assert all(far[key] for key in far if "encoder" not in key)


def test_without_an_encoder_the_optimizer_is_what_it_was(tmp_path: Path) -> None:
    dataset = opened(tmp_path, files())
    run = trainer(dataset, method := built(dataset, "vsepp"), encoder_lr=0.0)
    (group,) = run.optimizer.param_groups
    assert list(map(id, group["params"])) == list(map(id, method.parameters())) and "share" not in group
    assert not run.frozen and all(part.requires_grad for part in method.parameters())


@each_encoder
def test_the_fingerprint_follows_every_file_that_decides(root: Path, name: str) -> None:
    card = with_encoder(root, name).card
    fingerprints = [opened(root, files()).fingerprint, fingerprint(card, root, root / "cache")]
    (root / name / "README.md").write_text("about")
    assert fingerprint(card, root, root / "cache") == fingerprints[-1]
    (root / name / "added_tokens.json").write_text("{}")
    fingerprints.append(fingerprint(card, root, root / "cache"))
    for path in sorted((root / name).glob("*.json")) + sorted((root / name).glob("*.txt")):
        path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")
        fingerprints.append(fingerprint(card, root, root / "cache"))
    weights = load_file(root / name / WEIGHTS)
    save_file({key: value + 1 for key, value in weights.items()}, root / name / WEIGHTS)
    fingerprints.append(fingerprint(card, root, root / "cache"))
    assert len(set(fingerprints)) == len(fingerprints) >= 6


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def no_tokenizer(folder: Path) -> None:
    (folder / "vocab.txt").unlink()


def no_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def a_pickle(folder: Path) -> None:
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin")
    no_weights(folder)


def a_pointer(folder: Path) -> None:
    (folder / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def cut_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-5])


def a_broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("version https://git-lfs.github.com/spec/v1\n")


def an_unknown_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "nonsense"}')


def a_broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text('{"version": "1.0", "added_tokens": []}')


def another_models_tokenizer(folder: Path) -> None:
    with (folder / "vocab.txt").open("a") as file:
        file.write("zebra\nhorse\n")


def too_few_weights(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, folder / WEIGHTS, {"format": "pt"})


def quantised_weights(folder: Path) -> None:
    weights = load_file(folder / WEIGHTS)
    save_file({key: value.to(torch.int8) for key, value in weights.items()}, folder / WEIGHTS, {"format": "pt"})


def other_weights(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "intermediate_size": 99}))


def a_model_of_pictures(folder: Path) -> None:
    with_a_tokenizer_of_its_own(folder)
    config = transformers.ViTConfig(image_size=16, patch_size=8, **SMALL)
    transformers.ViTModel(config).save_pretrained(folder)


def with_a_tokenizer_of_its_own(folder: Path) -> None:
    """Which needs no config to be told what it is."""
    shutil.copy(folder.parent / "roberta" / "tokenizer.json", folder)
    shutil.copy(folder.parent / "roberta" / "tokenizer_config.json", folder)


def a_tokenizer_without_a_pad(folder: Path) -> None:
    with_a_tokenizer_of_its_own(folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (no_config, "has no config.json"),
        (no_tokenizer, "has no tokenizer (tokenizer.json, vocab.txt, vocab.json, *.model)"),
        (no_weights, "has no weights in safetensors; get it by `hf download NAME --local-dir"),
        (a_pickle, "pytorch_model.bin is a pickle, which is never loaded: where you trust it, convert it by python -c"),
        (a_pointer, "model.safetensors: no safetensors file (63 bytes)"),
        (cut_weights, "its head says"),
        (a_broken_config, "cannot be read"),
        (an_unknown_model, "cannot be read (The checkpoint you are trying to load has model type `nonsense`"),
        (a_broken_tokenizer, "cannot be read (Model missing"),
        (another_models_tokenizer, "its tokenizer has 22 ids, its model 20"),
        (too_few_weights, "its weights lack 1, 'encoder.layer.1.output.dense.weight' first"),
        (quantised_weights, "is of I8, as quantised weights are; take the model in F64, F32, F16, BF16"),
        (other_weights, "cannot be read"),
        (a_model_of_pictures, "ViTModel is no text encoder"),
        (a_tokenizer_without_a_pad, "its tokenizer has no token to pad with"),
    ],
)
def test_a_folder_that_is_wrong_is_refused_with_what_to_do(
    root: Path, spoil: Callable[[Path], None], message: str
) -> None:
    spoil(root / "bert")
    with pytest.raises(DataError) as error:
        built(with_encoder(root))
    assert message in str(error.value) and str(root / "bert") in str(error.value)


def test_the_way_to_convert_a_pickle_works(root: Path) -> None:
    expected = built(with_encoder(root)).state_dict()
    a_pickle(root / "bert")
    with pytest.raises(DataError) as error:
        with_encoder(root)
    exec(str(error.value).partition("python -c '")[2].removesuffix("'"), {})
    weights = built(with_encoder(root)).state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in expected.items())


def test_an_absent_folder_is_named_with_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        with_encoder(tmp_path, "bert-base-uncased")
    for part in ("'bert-base-uncased'", str(tmp_path / "tiny"), f"hf download NAME --local-dir {tmp_path}"):
        assert part in str(error.value)


def test_a_library_that_is_not_installed_is_named_with_what_to_install(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ConfigError, match=r"pip install 'itm-harness\[text\]'"):
        with_encoder(root).split("train")


def test_a_folder_of_the_dataset_comes_before_one_below_the_data_root(root: Path) -> None:
    (root / "tiny").mkdir()
    shutil.copytree(root / "roberta", root / "tiny" / "bert")
    assert with_encoder(root).encoder == root / "tiny" / "bert"
    assert with_encoder(root, "roberta").encoder == root / "roberta"


def test_an_encoder_with_a_decoder_gives_its_encoders_states(root: Path) -> None:
    with_a_tokenizer_of_its_own(root / "bert")
    config = transformers.T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    transformers.T5Model(config).save_pretrained(root / "bert")
    encoder = encoder_of(built(with_encoder(root)))
    assert encoder.width == 16 and not any("decoder" in name for name, _ in encoder.named_parameters())


@pytest.fixture
def encoder_project(project: Path, saved: Path) -> Path:
    """The tiny project, its captions through BERT."""
    shutil.copytree(saved / "bert", project / "data" / "bert")
    card = project / "cards" / "tiny" / "card.toml"
    card.write_text(card.read_text().replace("[text]\nmin_count = 1", '[text]\nencoder = "bert"'))
    return project


@pytest.mark.slow
def test_a_trial_trains_an_encoder_and_its_weights_are_explained(encoder_project: Path, call: Call) -> None:
    assert call("run", "--here", "-q", "--methods", "caan", "-s", "training.encoder_lr=1.0") == 0
    config = load(encoder_project / "harness.toml", [])
    registry = discover(config)
    trial = trained(config, registry, TrialChoice("caan", "tiny"))
    result = read_result(trial.folder)
    assert result and result.measures["rsum"] > 0
    dataset = open_dataset(registry.datasets["tiny"], config.data, config.cache)
    method = best_weights(trial, registry, dataset)
    weights = torch.load(trial.folder / CHECKPOINT, weights_only=True)["best"]["method"]
    assert all(torch.equal(value, weights[key]) for key, value in method.state_dict().items())
    fresh = encoder_of(build_method(registry.methods["caan"], trial.spec.settings, dataset, 0)).state_dict()
    assert any(not torch.equal(value, fresh[key]) for key, value in encoder_of(method).state_dict().items())
    explained = explanation(config, registry, TrialChoice("caan", "tiny"), Pair("test-0001b", "The RED circles zzz"))
    assert [(word.text, word.is_known) for word in explained.words] == [
        ("the", True),
        ("red", True),
        ("circle", True),
        ("##s", True),
        ("[UNK]", False),
    ]
    assert all(len(word.weights) == explained.regions for word in explained.words)
    scores = score_split(method, dataset.split("test"), CPU).scores
    one = explanation(config, registry, TrialChoice("caan", "tiny"), Pair("test-0001b"))
    split = dataset.split("test")
    row = split.image_ids.index("test-0001b")
    column = int(split.pairs[split.pairs[:, 0] == row, 1].min())
    assert one.score == pytest.approx(scores[row, column], abs=1e-5)
