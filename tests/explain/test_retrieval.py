"""Retrieval: the order of the trial's scores, from encodings that are kept by trial, weights and data."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from boards import Page
from finished_projects import Finish
from photo_project import LICENCE
from PIL import Image
from tiny_project import Call
from tiny_vision import models

from harness.config.project import load
from harness.config.registry import discover
from harness.data.dataset import Dataset
from harness.errors import UsageError
from harness.evaluation.scoring import score_split
from harness.explain.encoding import Encoder, open_encoder
from harness.explain.gallery import Gallery
from harness.explain.retrieval import Retrieval, Retriever, gallery_choice
from harness.explain.weights import trial_with_weights
from harness.trial.checkpoint import load_checkpoint, save_checkpoint
from harness.trial.folder import CHECKPOINT

pytest.importorskip("transformers")

__all__ = ["models"]
Captured = pytest.CaptureFixture[str]
Ask = Callable[..., dict[str, Any]]
RUN = ("run", "--here", "-q", "--methods", "vsepp,scan_t2i")
TEXT = "one red square above a blue circle"


@pytest.fixture
def trained(finish: Finish) -> Path:
    """A project with an embedding and a fragment method."""
    return finish(RUN)


@pytest.fixture
def ask(call: Call, capsys: Captured) -> Ask:
    """The JSON of a query."""

    def ask(*words: str) -> dict[str, Any]:
        capsys.readouterr()
        assert call("retrieve", *words, "--json") == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return ask


def opened(folder: Path, name: str, split: str = "") -> Retriever:
    config = load(folder / "harness.toml")
    registry = discover(config)
    trial = trial_with_weights(config.trials, name)
    choice = gallery_choice(trial.spec, registry.dataset("tiny"), split)
    return Retriever(Gallery(open_encoder(config, registry, trial), choice.split, config.cache), choice.protocol)


def scores_of(retriever: Retriever) -> np.ndarray:
    encoder = retriever.gallery.encoder
    split = encoder.dataset.split(retriever.gallery.split)
    return score_split(encoder.method, split, torch.device("cpu")).scores


def items(one: Retrieval) -> list[tuple[str, float]]:
    return [(hit.item, hit.score) for hit in one.hits]


@pytest.mark.parametrize("name", ["vsepp/tiny/s0", "scan_t2i/tiny/s0"])
def test_the_order_is_that_of_the_scores_before_and_after_the_cache(
    trained: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(trained, name)
    known, scores = first.gallery.items, scores_of(first)
    text, image = known.captions[3], known.image_ids[2]
    answers = [first.of_texts([text, TEXT], 5), first.of_image(image, 6)]

    def refuse(*_: object) -> None:
        raise AssertionError("it is in the cache")

    second = opened(trained, name)
    monkeypatch.setattr(Encoder, "images", refuse)
    monkeypatch.setattr(Dataset, "split", refuse)
    assert [second.of_texts([text, TEXT], 5), second.of_image(image, 6)] == answers
    column, row = np.sort(scores[:, 3])[::-1], np.sort(scores[2])[::-1]
    assert [score for _, score in items(answers[0][0])] == pytest.approx(column[:5], abs=1e-5)
    assert [score for _, score in items(answers[1])] == pytest.approx(row[:6], abs=1e-5)
    best = known.image_ids[int(scores[:, 3].argmax())]
    assert answers[0][0].hits[0].item == best and answers[0][0].hits[0].caption in known.captions
    own = {known.captions[caption] for row, caption in known.pairs.tolist() if row == 2}
    assert all(hit.is_match == (hit.item in own and hit.image == image) for hit in answers[1].hits)
    assert any(hit.is_match for hit in second.of_texts([text], 8)[0].hits), "its own image is marked"
    assert all(hit.is_match is None for hit in answers[0][1].hits), "nothing is known of a text of one's own"


@pytest.mark.slow
def test_what_is_kept_is_of_these_weights_and_is_made_again_where_it_is_damaged(trained: Path) -> None:
    gallery = trained / "runs" / "cache" / "galleries"

    def answer() -> list[tuple[str, float]]:
        return items(opened(trained, "vsepp/tiny/s0").of_texts([TEXT], 4)[0])

    whole = answer()
    (vectors,) = gallery.glob("*/*/test-images.npy")
    (stamp,) = gallery.glob("*/*")
    for damage in (b"", vectors.read_bytes()[:-4], vectors.read_bytes()[:-4] + b"\1\2\3\4"):
        vectors.write_bytes(damage)
        assert answer() == whole
    for name in ("test-images.npz", "test-items.npz"):
        (stamp / name).write_bytes(b"PK")
        assert answer() == whole
    vectors.unlink()
    assert answer() == whole
    shutil.rmtree(gallery)
    gallery.write_text("a file in its place")
    assert answer() == whole, "an answer needs no cache"
    gallery.unlink()
    (checkpoint,) = trained.glob(f"runs/trials/{stamp.parent.name}/{CHECKPOINT}")
    state = load_checkpoint(checkpoint, torch.device("cpu"))
    assert state
    state["best"]["method"] = {key: value + 0.1 for key, value in state["best"]["method"].items()}
    answer()
    save_checkpoint(checkpoint, state)
    assert answer() != whole
    assert len([*gallery.glob("*/*")]) == 1 and not stamp.exists(), "those of the old weights are removed"


def test_the_command_answers_as_a_table_as_json_and_as_a_page(
    trained: Path, call: Call, ask: Ask, capsys: Captured
) -> None:
    assert call("retrieve", "--trial", "vsepp/tiny/s0", "--text", TEXT, "-k", "3", "--image", "test-0001b") == 0
    out = capsys.readouterr()
    assert "encoding 8 images of tiny, test" in out.out and "first 3 of 8 images, test" in out.out
    words = ("--trial", "vsepp/tiny/s0", "--text", f"{TEXT} of zebras", "--text", "a  red\nsquare", "-k", "2")
    answer = ask(*words, "--image", "test-0001b")
    assert answer["label"] == "vsepp/tiny/s0" and answer["gallery"]["images"] == 8
    first, second, third = answer["queries"]
    assert "zebras" in first["unknown"]
    assert second["text"] == "a red square" and third["image"] == "test-0001b"
    assert [len(one["results"]) for one in answer["queries"]] == [2, 2, 2]
    assert {*third["results"][0]} == {"rank", "score", "match", "image", "caption"}
    assert answer["file"] is None and not [*trained.glob("*.html")]
    assert call("retrieve", *words, "--page") == 0
    assert "not in the vocabulary, all one word to the method: " in capsys.readouterr().err
    (file,) = trained.glob("retrieve-vsepp-tiny-s0-*.html")
    page = Page(file.read_text())
    assert "http" not in file.read_text().replace("http-equiv", "") and f"{TEXT} of zebras" in page.texts("blockquote")
    assert ask(*words, "-o", "own.html")["file"] == "own.html" and (trained / "own.html").exists()


def test_texts_on_standard_input_are_answered_as_they_come(
    trained: Path, call: Call, ask: Ask, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--trial", "vsepp/tiny/s0", "--text", "-", "-k", "2")
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TEXT}\n\nzebra quagga!\na red square"))
    assert call("retrieve", *words) == 0
    out = capsys.readouterr()
    assert [line.split("  (")[0] for line in out.out.splitlines() if "first 2 of 8 images" in line] == [
        TEXT,
        "a red square",
    ]
    assert "in the vocabulary of tiny (zebra, quagga)" in " ".join(out.err.split())
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{TEXT}\na red square\n"))
    assert call("retrieve", *words, "--json") == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    one_by_one = [query for answer in answers for query in answer["queries"]]
    assert [len(answer["queries"]) for answer in answers] == [1, 1], "a line for each text"
    together = ask(*words[:2], "--text", TEXT, "--text", "a red square", "-k", "2")["queries"]
    images = [
        [(one["text"], [hit["image"] for hit in one["results"]]) for one in each] for each in (one_by_one, together)
    ]
    assert images[0] == images[1] and len(one_by_one) == 2


def test_a_line_on_standard_input_that_is_no_text_is_answered_by_what_can_be_read_of_it(
    trained: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = f"{TEXT}\n".encode() + b"a red square caf\xe9\nzebra\na red square\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    assert call("retrieve", "--trial", "vsepp/tiny/s0", "--text", "-", "--json") == 0
    said = capsys.readouterr()
    texts = [[query["text"] for query in json.loads(line)["queries"]] for line in said.out.splitlines()]
    assert texts == [[TEXT], ["a red square caf\ufffd"], [], ["a red square"]]
    assert "caf\ufffd" in said.err and "in the vocabulary of tiny (zebra)" in " ".join(said.err.split())


def images_of(query: dict[str, Any]) -> tuple[str, list[str]]:
    return query["text"], [hit["image"] for hit in query["results"]]


def test_texts_on_standard_input_are_answered_before_the_next_one_is_read(
    trained: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asking(io.StringIO):
        """Somebody who types the next text once the answer is there."""

        def readline(self, size: int | None = -1) -> str:
            answers.append(capsys.readouterr().out)
            return super().readline()

        def isatty(self) -> bool:
            return True

    answers: list[str] = []
    monkeypatch.setattr("sys.stdin", Asking(f"{TEXT}\na red square\n"))
    assert call("retrieve", "--trial", "vsepp/tiny/s0", "--text", "-") == 0
    assert [text in answer for text, answer in zip((TEXT, "a red square"), answers[1:], strict=True)] == [True, True]


def test_other_splits_and_protocols_are_searched(trained: Path, ask: Ask) -> None:
    answer = ask("--trial", "vsepp/tiny/s0", "--text", TEXT, "--split", "train", "-k", "12")
    assert answer["split"] == "train" and answer["gallery"]["images"] == 16
    assert all(hit["image"].startswith("train") for hit in answer["queries"][0]["results"])
    assert ask("--trial", "vsepp/tiny/s0", "--text", TEXT, "--protocol", "all", "-k", "1")["split"] == "test"


def test_a_protocols_own_gallery_bounds_what_is_searched(trained: Path) -> None:
    gallery = opened(trained, "vsepp/tiny/s0").gallery
    gallery.items.galleries["few"] = [6, 1]
    few = Retriever(gallery, "few")
    assert few.images == 2 and {hit.item for hit in few.of_texts([TEXT], 2)[0].hits} == {
        gallery.items.image_ids[row] for row in (1, 6)
    }
    assert {hit.image for hit in few.of_image(gallery.items.image_ids[0], few.captions).hits} <= {
        gallery.items.image_ids[row] for row in (1, 6)
    }


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--text", TEXT), 2, "which trial? Trained here: scan_t2i/tiny/s0, vsepp/tiny/s0"),
        (("--trial", "vsepp/tiny/s9", "--text", TEXT), 2, "unknown trained trial 'vsepp/tiny/s9'; did you mean vsepp/"),
        (
            ("--trial", "vsepp+scan_t2i/tiny/s0", "--text", TEXT),
            2,
            "is made of other trials",
        ),
        (("--trial", "vsepp/tiny/s0", "--text", TEXT, "-k", "9"), 2, "k 9: give a number from 1 to 8, the images"),
        (("--trial", "vsepp/tiny/s0", "--text", TEXT, "-k", "0"), 2, "k 0: give a number from 1"),
        (("--trial", "vsepp/tiny/s0", "--text", " \n"), 2, "the text to search for is empty"),
        (("--trial", "vsepp/tiny/s0", "--text", "zebra quagga!"), 2, "in the vocabulary of tiny (zebra, quagga)"),
        (("--trial", "vsepp/tiny/s0", "--text", "-", "-k", "9"), 2, "k 9: give a number from 1 to 8, the images"),
        (("--trial", "vsepp/tiny/s0", "--text", "-", "--page"), 2, "--text - takes all queries from standard input"),
        (("--trial", "vsepp/tiny/s0", "--text", "-", "--text", TEXT), 2, "give it without others, and no page"),
        (("--trial", "vsepp/tiny/s0"), 2, "give --text TEXT to find images, or --image ID or FILE"),
        (("--trial", "vsepp/tiny/s0", "--image", "test-0001x"), 2, "unknown image 'test-0001x'; did you mean"),
        (("--trial", "vsepp/tiny/s0", "--image", "harness.toml"), 3, "no readable picture"),
        (
            ("--trial", "vsepp/tiny/s0", "--image", "test-0001b", "--model", "models/vit"),
            2,
            "--model and --weights are for pictures of your own, and 'test-0001b' is an image of the dataset",
        ),
        (("--trial", "vsepp/tiny/s0", "--image", "one.png"), 2, "regions of tiny are in no region store"),
        (("--trial", "vsepp/tiny/s0", "--text", TEXT, "--split", "tset"), 2, "unknown split 'tset'; did you mean test"),
        (("--trial", "vsepp/tiny/s0", "--text", TEXT, "--protocol", "al"), 2, "unknown protocol 'al'"),
        (("--trial", "vsepp/tiny/s0", "--text", TEXT, "-o", "page.pdf"), 2, "-o page.pdf: write an .html file"),
    ],
)
def test_bad_input_is_named(
    trained: Path, call: Call, capsys: Captured, words: tuple[str, ...], code: int, message: str
) -> None:
    Image.new("RGB", (9, 9)).save(trained / "one.png")
    assert call("retrieve", *words) == code
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_only_trained_trial_needs_no_name(trained: Path, tmp_path: Path) -> None:
    trials = trained / "runs" / "trials"
    one = trial_with_weights(trials, "vsepp/tiny/s0")
    shutil.copytree(one.folder, tmp_path / one.folder.name)
    assert trial_with_weights(tmp_path, "").spec == one.spec
    with pytest.raises(UsageError, match="which trial"):
        trial_with_weights(trials, "")
    with pytest.raises(UsageError, match="Trained here: none"):
        trial_with_weights(tmp_path / "nowhere", "")


def test_weights_that_are_gone_or_damaged_and_data_that_changed_are_named(
    trained: Path, call: Call, capsys: Captured
) -> None:
    query = ("retrieve", "--trial", "vsepp/tiny/s0", "--text", TEXT)
    (key,) = {trial_with_weights(trained / "runs" / "trials", "vsepp/tiny/s0").spec.key}
    checkpoint = trained / "runs" / "trials" / key / CHECKPOINT
    checkpoint.write_bytes(checkpoint.read_bytes()[:-50])
    assert call(*query) == 3 and "is damaged" in capsys.readouterr().err
    checkpoint.unlink()
    assert call(*query) == 2 and f"its {CHECKPOINT} is gone; run it again with --force" in capsys.readouterr().err
    card = trained / "cards" / "tiny" / "card.toml"
    card.write_text(card.read_text().replace("min_count = 1", "min_count = 2"))
    assert call(*query) == 2 and "the dataset has changed since; run it again" in capsys.readouterr().err


def test_forget_removes_the_gallery_with_its_trial(trained: Path, call: Call) -> None:
    for name in ("vsepp", "scan_t2i"):
        assert call("retrieve", "--trial", f"{name}/tiny/s0", "--text", TEXT, "-k", "1") == 0
    galleries = trained / "runs" / "cache" / "galleries"
    assert len([*galleries.iterdir()]) == 2
    assert call("forget", "vsepp/tiny/s0", "--yes") == 0
    (left,) = galleries.iterdir()
    assert left.name == trial_with_weights(trained / "runs" / "trials", "scan_t2i/tiny/s0").spec.key


@pytest.fixture
def photographed(photos: Path, project: Path, models: Path, call: Call, capsys: Captured) -> Path:
    """The dataset of photos with regions by a model, and a trial; its folder."""
    pictures, regions = str(photos / "images"), str(photos / "regions")
    assert call("data", "extract", pictures, "--to", regions, "--model", str(models / "vit"), "--force") == 0
    card = project / "cards" / "photos" / "card.toml"
    text = card.read_text().replace("feature_width = 6", "feature_width = 16")
    card.write_text(text.replace("max_regions = 4", "max_regions = 16"))
    assert call("run", "--here", "-q", "--methods", "vsepp") == 0
    capsys.readouterr()
    return photos


@pytest.mark.slow
def test_a_picture_is_seen_by_the_model_that_made_the_regions(
    photographed: Path, models: Path, project: Path, ask: Ask, call: Call, capsys: Captured
) -> None:
    query = ("--trial", "vsepp/photos/s0", "-k", "5")
    picture = project / "own <b>.png"
    shutil.copy(photographed / "images" / "test3.png", picture)
    by_id, by_file = (
        ask(*query, "--image", *words)["queries"][0]["results"]
        for words in (["test3"], [str(picture), "--model", str(models / "vit")])
    )
    assert [one["caption"] for one in by_file] == [one["caption"] for one in by_id]
    assert [one["score"] for one in by_file] == pytest.approx([one["score"] for one in by_id], abs=1e-4)
    assert by_file[0]["match"] is None and by_id[0]["match"] is not None
    (project / "models").mkdir()
    shutil.copytree(models / "vit", project / "models" / "vit")
    assert call("retrieve", *query, "--image", str(picture), "--page") == 0, "below models/ it is found by its name"
    (file,) = (project / "reports" / "private").glob("retrieve-vsepp-photos-s0-*.html")
    assert LICENCE in Page(file.read_text()).texts("dd") and "data:image/webp;base64," in file.read_text()
    capsys.readouterr()
    assert call("retrieve", *query, "--image", str(picture), "--model", str(models / "clip")) == 3
    assert "it makes other regions than those of the dataset (class ViTModel, here" in capsys.readouterr().err
    picture.write_bytes(picture.read_bytes()[:200])
    assert call("retrieve", *query, "--image", str(picture)) == 3
    assert "no readable picture" in capsys.readouterr().err
    shutil.rmtree(project / "models")
    shutil.copy(photographed / "images" / "test3.png", picture)
    assert call("retrieve", *query, "--image", str(picture)) == 3
    assert "vit is no folder here" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_a_store_that_names_no_model_is_named(photos: Path, call: Call, capsys: Captured) -> None:
    assert call("run", "--here", "-q", "--methods", "vsepp") == 0
    picture = str(photos / "images" / "test3.png")
    assert call("retrieve", "--trial", "vsepp/photos/s0", "--image", picture, "-k", "1") == 2
    assert "names no model, so a file cannot be a query" in " ".join(capsys.readouterr().err.split())
