"""What a trained method attends to: the weights are its own, in the order of the regions; the picture says them."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from boards import HOSTILE
from PIL import Image
from tiny_project import Call

from harness.cli.explain import explain_json
from harness.cli.main import main
from harness.config.project import load
from harness.config.registry import discover
from harness.data.content import Preview
from harness.data.tokens import words
from harness.errors import UsageError
from harness.evaluation.scoring import score_split
from harness.explain.explanation import Explanation, Pair, Word, explanation
from harness.explain.picture import SCALE, png, svg
from harness.explain.sheet import TAGS, beside, font, measured, overlap, sheet, shortened, wrapped
from harness.explain.weights import TrialChoice, best_weights, trained
from harness.layouts.opening import open_dataset
from harness.trial.folder import CHECKPOINT, read_result, write_result, write_spec

SVG = "{http://www.w3.org/2000/svg}"
IMAGE = "test-0001b"


@pytest.fixture(scope="module")
def trials(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with trained trials."""
    folder = tmp_path_factory.mktemp("trained") / "project"
    shutil.copytree(template, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("HARNESS_DATA", raising=False)
        with pytest.raises(SystemExit) as end:
            main(["run", "--here", "-q", "--methods", "scan_t2i,caan", "--seeds", "1"])
        assert end.value.code == 0
    return folder


@pytest.fixture
def trained_project(trials: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same as a working folder of one's own."""
    folder = tmp_path / "project"
    shutil.copytree(trials, folder)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("HARNESS_DATA", raising=False)
    return folder


@pytest.fixture(scope="module")
def one(trials: Path) -> Explanation:
    """An explanation by one of them."""
    return explained(trials, TrialChoice("scan_t2i", "tiny", seed=1), Pair(IMAGE))


def explained(folder: Path, wanted: TrialChoice, pair: Pair) -> Explanation:
    config = load(folder / "harness.toml", [])
    return explanation(config, discover(config), wanted, pair)


def keys(folder: Path) -> dict[str, tuple[Any, ...]]:
    """Method, seed and epochs of every trial."""
    specs = [json.loads(file.read_text()) for file in folder.glob("runs/trials/*/spec.json")]
    files = [file.parent.name for file in folder.glob("runs/trials/*/spec.json")]
    return {key: (s["method"], s["seed"], s["training"]["epochs"]) for key, s in zip(files, specs, strict=True)}


def another(folder: Path, seed: int, epochs: int = 2) -> str:
    """A trial more of CAAN, with the weights of the one that there is."""
    (key,) = (key for key, about in keys(folder).items() if about == ("caan", 1, 2))
    result = read_result(folder / "runs" / "trials" / key)
    assert result
    training = result.spec.training.model_copy(update={"epochs": epochs})
    other = result.spec.model_copy(update={"seed": seed, "training": training})
    place = folder / "runs" / "trials" / other.key
    shutil.copytree(folder / "runs" / "trials" / key, place)
    write_spec(place, other)
    write_result(place, result.model_copy(update={"spec": other}))
    return other.key


def said(call: Call, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, str]:
    """Exit code and all that a command says."""
    capsys.readouterr()
    code = call("explain", *more)
    out = capsys.readouterr()
    return code, " ".join((out.out + out.err).split())


def test_weights_score_and_ranks_are_those_of_the_method_on_the_whole_split(trials: Path, one: Explanation) -> None:
    config = load(trials / "harness.toml", [])
    registry = discover(config)
    trial = trained(config, registry, TrialChoice("scan_t2i", "tiny", seed=1))
    dataset = open_dataset(registry.datasets["tiny"], config.data, config.cache)
    split, method = dataset.split("test"), best_weights(trial, registry, dataset).eval()
    row = split.image_ids.index(IMAGE)
    caption = int(split.pairs[split.pairs[:, 0] == row, 1][0])
    with torch.no_grad():
        images = method.encode_images(*map(torch.from_numpy, split.images.gather(range(len(split.images)))))
        captions = method.encode_captions(*map(torch.from_numpy, split.tokens.gather(range(len(split.captions)))))
        weights = method.regions_of_words(images, captions)
    assert weights is not None
    spoken = words(split.captions[caption])
    expected = weights[row, caption, 1 : len(spoken) + 1, : split.images.counts[row]].numpy()
    assert [word.text for word in one.words] == spoken
    assert np.allclose([word.weights for word in one.words], expected, atol=1e-5)
    assert np.allclose(np.sum([word.weights for word in one.words], axis=1), 1, atol=1e-5)
    assert split.boxes is not None and np.array_equal(one.boxes, split.boxes[row])
    scores = score_split(method, split, torch.device("cpu")).scores
    assert one.score == pytest.approx(scores[row, caption], abs=1e-5) and one.rank is not None
    others = np.setdiff1d(np.arange(len(split.captions)), split.pairs[split.pairs[:, 0] == row, 1])
    before = (scores[row, others] >= scores[row, caption]).sum()
    own = [number for number in split.pairs[split.pairs[:, 0] == row, 1] if scores[row, number] > scores[row, caption]]
    assert one.rank.caption == 1 + before + len(own)
    assert one.rank.image == 1 + (np.delete(scores[:, caption], row) >= scores[row, caption]).sum()
    assert (one.rank.images, one.rank.captions) == scores.shape


def test_any_caption_can_be_asked_and_its_unknown_words_are_told(trials: Path) -> None:
    found = explained(trials, TrialChoice("caan", "tiny", seed=1), Pair("val-0000c", "  A zeppelin,\nRED ", "val"))
    assert (found.caption, found.split, found.rank) == ("A zeppelin, RED", "val", None)
    assert [(word.text, word.is_known) for word in found.words if word.text != ","] == [
        ("a", True),
        ("zeppelin", False),
        ("red", True),
    ]
    data = explain_json(found, Path("x.svg"))
    assert data["notes"][0].endswith("zeppelin") and data["rank"] is None
    assert [len(word["weights"]) for word in data["words"]] == [len(data["boxes"])] * len(found.words)


def test_the_trial_of_the_configuration_comes_first_then_its_first_seed_and_a_key_chooses_any(
    trained_project: Path,
) -> None:
    config = load(trained_project / "harness.toml", ["campaign.seeds=[2,0,1]"])
    registry = discover(config)
    (first,) = (key for key, about in keys(trained_project).items() if about == ("caan", 1, 2))
    assert trained(config, registry, TrialChoice("caan", "tiny")).spec.key == first
    longer, mine, last = another(trained_project, 0, epochs=9), another(trained_project, 0), another(trained_project, 2)
    assert trained(config, registry, TrialChoice("caan", "tiny")).spec.key == last
    assert trained(config, registry, TrialChoice("caan", "tiny", seed=0)).spec.key == mine
    assert trained(config, registry, TrialChoice("caan", "tiny", key=longer[:6])).spec.key == longer
    other = load(trained_project / "harness.toml", ["training.epochs=7"])
    for key in (last, mine, longer, first):
        os.utime(trained_project / "runs" / "trials" / key / "result.json", (2e9, 2e9))
        assert trained(other, registry, TrialChoice("caan", "tiny")).spec.key == key
        (trained_project / "runs" / "trials" / key / CHECKPOINT).unlink()
    with pytest.raises(UsageError, match=r"no trial of caan on tiny can be used: \w+: its checkpoint.pt is gone"):
        trained(other, registry, TrialChoice("caan", "tiny"))


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--method", "vsepp"], "vsepp has no attention to show"),
        (["--method", "bssan"], "there is no trained trial of bssan on tiny, protocol all; run: harness run --methods"),
        (["--method", "can"], "unknown method 'can'; did you mean caan"),
        (["--method", "caan", "--dataset", "tinny"], "unknown dataset 'tinny'; did you mean tiny?"),
        (["--method", "caan", "--image", "test-001b"], "no image 'test-001b'; ids like it: test-0001b"),
        (["--method", "caan", "--split", "vall"], "--split: unknown split 'vall'; did you mean val?"),
        (["--method", "caan", "--caption", " "], "--caption is empty"),
        (
            ["--method", "caan", "--caption", "zeppelins !"],
            "no word to explain: 'zeppelins', '!' not in the vocabulary",
        ),
        (["--method", "caan", "-o", "a.pdf"], "-o a.pdf: write an .svg or a .png file"),
        (["--method", "caan", "-o", "harness.toml/a.svg"], "cannot be written"),
        (["--method", "caan", "--seed", "9"], "--seeds 9"),
        (["--method", "caan", "--run", "ffffffff"], "no finished trial has a key that begins with 'ffffffff'"),
        (["--method", "caan", "--run", "a"], "(4 characters or more)"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_what_to_do(
    trained_project: Path, call: Call, capsys: pytest.CaptureFixture[str], more: list[str], why: str
) -> None:
    code, text = said(call, capsys, "--image", IMAGE, "--dataset", "tiny", *more)
    assert code == 2 and why in text
    assert not list(trained_project.glob("*.svg")) and not list(trained_project.glob("*.pdf"))


def test_weights_that_no_longer_fit_are_refused(
    trained_project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    (key,) = (key for key, about in keys(trained_project).items() if about[0] == "scan_t2i")
    ask = ("--method", "scan_t2i", "--image", IMAGE, "--seed", "1")
    file = trained_project / "runs" / "trials" / key / CHECKPOINT
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    code, text = said(call, capsys, *ask)
    assert code == 3 and f"{CHECKPOINT} is damaged; run scan_t2i/tiny/s1 again with --force" in text
    file.unlink()
    code, text = said(call, capsys, *ask)
    assert code == 2 and f"{key}: its {CHECKPOINT} is gone; run it again with --force" in text
    file.write_bytes(whole)
    for name in ("spec.json", "result.json"):
        there = file.parent / name
        there.write_text(re.sub(r'"data_fingerprint": "\w+"', f'"data_fingerprint": "{"0" * 64}"', there.read_text()))
    code, text = said(call, capsys, *ask)
    assert code == 2 and "the dataset has changed since" in text
    assert said(call, capsys, *ask, "--run", "caan")[0] == 2


def test_a_key_of_another_method_is_told(trained_project: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    (key,) = (key for key, about in keys(trained_project).items() if about[0] == "scan_t2i")
    code, text = said(call, capsys, "--method", "caan", "--image", IMAGE, "--run", key)
    assert code == 2 and "give --method scan_t2i --dataset tiny" in text


def test_the_command_writes_the_picture_and_tells_all_as_json(
    trained_project: Path, call: Call, capsys: pytest.CaptureFixture[str], one: Explanation
) -> None:
    capsys.readouterr()
    assert call("explain", "--method", "scan_t2i", "--image", IMAGE, "--seed", "1", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads(json.dumps(explain_json(one, Path(data["file"]))))
    file = trained_project / f"explain-scan_t2i-{IMAGE}.svg"
    assert data["file"] == file.name and file.read_bytes() == svg(sheet(one))
    code, text = said(call, capsys, "--method", "scan_t2i", "--image", IMAGE, "--seed", "1", "-o", "new/a.PNG")
    assert code == 0 and "new/a.PNG written: scan_t2i/tiny/s1" in text
    assert (trained_project / "new" / "a.PNG").read_bytes() == png(sheet(one))


def texts(data: bytes) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(data).iter(f"{SVG}text")]


def test_the_picture_has_a_panel_a_word_with_its_strongest_weights(one: Explanation) -> None:
    made = sheet(one)
    data = svg(made)
    assert data == svg(sheet(one)) and data.count(b"data:image") == 1 and b"http" not in data.split(b">", 1)[1]
    shown = texts(data)
    heads = [panel.head.text for panel in made.panels[1:]]
    assert heads == [word.text + " (unknown)" * (not word.is_known) for word in one.words] and set(heads) <= set(shown)
    for panel, word in zip(made.panels[1:], one.words, strict=True):
        digits = [tag.text for tag in panel.tags]
        strongest = sorted(word.weights, reverse=True)
        assert digits == [f"{weight:.2f}" for weight in strongest[: len(digits)]] and 1 <= len(digits) <= TAGS
        assert set(digits) <= set(shown)
        boxes = [(tag.x, tag.y, measured(tag.text, 11, bold=True), 13.0) for tag in panel.tags]
        assert not any(overlap(a, b) for n, a in enumerate(boxes) for b in boxes[:n])
    most = max(max(word.weights) for word in one.words)
    for panel, word in zip(made.panels[1:], one.words, strict=True):
        assert sorted(light.strength for light in panel.lights) == pytest.approx(sorted(w / most for w in word.weights))
        assert [light.strength for light in panel.lights] == sorted(light.strength for light in panel.lights)
    for panel in made.panels:  # nothing leaves its place
        x, y, w, h = panel.box
        assert x >= 0 and x + w <= made.width and y >= 0 and y + h <= made.height
        assert all(x - 1 <= tag.x and tag.x + measured(tag.text, tag.size, True) <= x + w for tag in panel.tags)


def test_a_png_shows_the_region_that_a_word_means(one: Explanation) -> None:
    strong = tuple(Word("here", True, tuple(float(n == region) for n in range(one.regions))) for region in (0, 1))
    boxes = ((10.0, 10.0, 40.0, 40.0), (70.0, 60.0, 50.0, 50.0), *((0.0, 0.0, 1.0, 1.0),) * (one.regions - 2))
    look = Preview((128, 128), Image.new("RGB", (128, 128), "black"))
    made = sheet(replace(one, words=strong, boxes=boxes, look=look))
    drawn = Image.open(io.BytesIO(png(made))).convert("L")
    assert drawn.size == (round(made.width * SCALE), round(made.height * SCALE))
    scale = made.panels[0].box[2] / 128
    for panel, mine, other in zip(made.panels[1:], boxes, (boxes[1], boxes[0]), strict=False):

        def middle(box: tuple[float, ...], panel: Any = panel) -> Any:
            at = [panel.box[n] + (box[n] + 0.75 * box[n + 2]) * scale for n in (0, 1)]
            return drawn.getpixel((round(at[0] * SCALE), round(at[1] * SCALE)))

        assert middle(mine) < 20 and middle(other) > 150, "clear where it attends, faded elsewhere"


def test_an_image_without_a_picture_is_boxes_with_names_and_one_without_boxes_is_cells(one: Explanation) -> None:
    labels = tuple(f"thing {n}" for n in range(one.regions))
    named = svg(sheet(replace(one, look=Preview((128, 128), None, (), labels))))
    strongest = max(range(one.regions), key=lambda n: one.words[0].weights[n])
    assert f"{one.words[0].weights[strongest]:.2f} thing {strongest}" in texts(named) and b"data:" not in named
    cells = sheet(replace(one, look=Preview(), boxes=()))
    assert len(cells.panels[0].lights) == one.regions
    assert any("no boxes" in text for text in texts(svg(cells)))
    assert Image.open(io.BytesIO(png(cells))).size[0] == round(cells.width * SCALE)


@pytest.mark.parametrize("hostile", [*HOSTILE, "\x00\x1b[31m", "mañana 中文 " * 40, "w" * 3000])
def test_no_caption_breaks_the_picture(one: Explanation, hostile: str) -> None:
    words = tuple(word._replace(text=hostile, is_known=False) for word in one.words)
    made = sheet(replace(one, caption=hostile, image=hostile, words=words, look=Preview((128, 128), None)))
    tree = ElementTree.fromstring(svg(made))
    assert {node.tag.removeprefix(SVG) for node in tree.iter()} <= {"svg", "title", "rect", "text", "g", "clipPath"}
    assert all(measured(text.text, text.size, text.bold) <= made.width for text in made.texts)
    assert png(made).startswith(b"\x89PNG")


def test_text_is_wrapped_and_cut_to_fit() -> None:
    text = "one two three four five six seven eight nine ten"
    lines = wrapped(text, 120, 13)
    assert " ".join(lines) == text and all(measured(line, 13) <= 120 for line in lines) and len(lines) > 1
    assert shortened("abcdefgh" * 9, 60, 13).endswith("…") and measured(shortened("abcdefgh" * 9, 60, 13), 13) <= 60
    assert font(20).getname()[0] == font(20, bold=True).getname()[0] == "DejaVu Sans"


def test_a_tag_covers_its_region_only_where_it_fits_into_it() -> None:
    frame = (100.0, 0.0, 176.0, 176.0)
    assert beside((120.0, 0.0, 100.0, 9.0), 30, frame) == 122
    assert beside((120.0, 0.0, 10.0, 9.0), 30, frame) == 133
    assert beside((260.0, 0.0, 10.0, 9.0), 30, frame) == 227
    assert 102 <= beside((150.0, 0.0, 100.0, 9.0), 160, frame) <= 114
