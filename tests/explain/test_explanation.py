"""What a trained method attends to: the weights are its own, in the order of the regions; the picture says them."""

from __future__ import annotations

import io
import json
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

from harness.board.drawing import cover, is_within, measured
from harness.cli.main import main
from harness.config.project import load
from harness.config.registry import discover
from harness.data.content import Preview
from harness.data.tokens import words
from harness.errors import UsageError
from harness.evaluation.scoring import score_split
from harness.explain.explanation import Explanation, Pair, Word, chosen, explanation
from harness.explain.panels import TAGS, heading, panels, strengths, tag_texts
from harness.explain.picture import MARGIN, PIXELS, painted, png, svg
from harness.explain.weights import TrialChoice, best_weights, trained
from harness.foreign_text import visible
from harness.layouts.opening import open_dataset
from harness.terminal.board_page import explain_json
from harness.trial.folder import CHECKPOINT, read_result, write_result, write_spec

SVG = "{http://www.w3.org/2000/svg}"
IMAGE = "test-0001b"
UNSEEN = Preview((128, 128), None)


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
    explained_pair = explained(
        trials, TrialChoice("caan", "tiny", seed=1), Pair("val-0000c", "  A zeppelin,\nRED ", "val")
    )
    assert (explained_pair.caption, explained_pair.split, explained_pair.rank) == ("A zeppelin, RED", "val", None)
    assert [(word.text, word.is_known) for word in explained_pair.words if word.text != ","] == [
        ("a", True),
        ("zeppelin", False),
        ("red", True),
    ]
    data = explain_json(explained_pair, Path("x.svg"))
    assert data["notes"][0].endswith("zeppelin") and data["rank"] is None
    assert [len(word["weights"]) for word in data["words"]] == [len(data["boxes"])] * len(explained_pair.words)


def test_the_trial_of_the_configuration_comes_first_then_its_first_seed_and_a_key_chooses_any_and_several_are_listed(
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
    with pytest.raises(UsageError, match=rf"may be any of 2 trials; give the key of one:\n  ({mine}|{longer})  recipe"):
        trained(other, registry, TrialChoice("caan", "tiny"))
    for key in (longer, mine, first, last):
        (trained_project / "runs" / "trials" / key / CHECKPOINT).unlink()
        rest = [one for one in (mine, first, last) if (trained_project / "runs" / "trials" / one / CHECKPOINT).exists()]
        if rest:
            assert trained(other, registry, TrialChoice("caan", "tiny")).spec.key == rest[0]
    with pytest.raises(UsageError, match=r"no trial of caan on tiny can be used: \w+: its checkpoint.pt is gone"):
        trained(other, registry, TrialChoice("caan", "tiny"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--method", "vsepp"], "vsepp has no attention to show"),
        (["--method", "bssan"], "there is no trained trial of bssan on tiny, protocol all; run: harness run --methods"),
        (["--method", "caann"], "unknown method 'caann'; did you mean caan"),
        (["--method", "caan", "--dataset", "tinny"], "unknown dataset 'tinny'; did you mean tiny?"),
        (["--method", "caan", "--image", "test-001b"], "no image 'test-001b'; ids like it: test-0001b"),
        (["--method", "caan", "--split", "vall"], "--split: unknown split 'vall'; did you mean val?"),
        (["--method", "caan", "--caption", " "], "--caption is empty"),
        (
            ["--method", "caan", "--caption", "zeppelins !"],
            "no word to explain: 'zeppelins', '!' not in the vocabulary",
        ),
        (["--method", "caan", "-o", "a.pdf"], "-o a.pdf: write an .svg, a .png or an .html file"),
        (
            ["--method", "caan", "--words", "zeppelin"],
            "--words: 'zeppelin' is not in the caption, whose words are",
        ),
        (["--methods", "caan,scan_t2i", "-o", "a.svg"], "-o a.svg: write an .html file, as several methods stand on"),
        (["--methods", "caan", "--run", "abcdef"], "--run names the trial of one method"),
        (["--methods", "caan", "--method", "caan"], "give --method for one method, or --methods for several"),
        (["--run", "abcdef"], "--run names the trial of one method; name that with --method"),
        (["--methods", "vsepp,bssan"], "vsepp has no attention to show"),
        (["--method", "caan", "-o", "harness.toml/a.svg"], "cannot be written"),
        (["--method", "caan", "--seed", "9"], "--seeds 9"),
        (
            ["--method", "caan", "--run", "ffffffff"],
            "no finished trial has this label or a key that begins with 'ffffffff'",
        ),
        (["--method", "caan", "--run", "a"], "(6 characters or more)"),
    ],
)
def test_what_cannot_be_explained_is_refused_with_what_to_do(
    trained_project: Path, call: Call, capsys: pytest.CaptureFixture[str], more: list[str], why: str
) -> None:
    code, text = said(call, capsys, "--image", IMAGE, "--dataset", "tiny", *more)
    assert code == 2 and why in text
    assert not list(trained_project.glob("*.svg")) and not list(trained_project.glob("*.pdf"))


def test_without_method_and_image_a_page_shows_the_first_image_of_the_split_by_every_method_that_attends(
    trained_project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = said(
        call, capsys, "--dataset", "tiny", "-s", 'campaign.methods=["caan", "scan_t2i", "vsepp"]', "--json"
    )
    assert code == 0, text
    config = load(trained_project / "harness.toml", [])
    split = open_dataset(discover(config).datasets["tiny"], config.data, config.cache).split("test")
    answer = json.loads(text[text.index("{") : text.rindex("}") + 1])
    assert {(one["method"], one["image"]) for one in answer["methods"]} == {
        ("caan", split.image_ids[0]),
        ("scan_t2i", split.image_ids[0]),
    }
    assert split.image_ids[0] in Path(answer["file"]).name and Path(answer["file"]).is_file()
    assert answer["left_out"] == {"no attention to show": ["vsepp"]}


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


@pytest.mark.slow
def test_the_command_writes_the_picture_and_tells_all_as_json(
    trained_project: Path, call: Call, capsys: pytest.CaptureFixture[str], one: Explanation
) -> None:
    capsys.readouterr()
    assert call("explain", "--method", "scan_t2i", "--image", IMAGE, "--seed", "1", "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert data == json.loads(json.dumps(explain_json(one, Path(data["file"]))))
    file = trained_project / f"explain-scan_t2i-{IMAGE}.svg"
    assert data["file"] == file.name and file.read_bytes() == svg(one)
    code, text = said(call, capsys, "--method", "scan_t2i", "--image", IMAGE, "--seed", "1", "-o", "new/a.PNG")
    assert code == 0 and "new/a.PNG written: scan_t2i/tiny/s1" in text
    assert (trained_project / "new" / "a.PNG").read_bytes() == png(one)


def texts(data: bytes) -> list[str]:
    return [node.text or "" for node in ElementTree.fromstring(data).iter(f"{SVG}text")]


@pytest.mark.slow
def test_the_picture_has_a_panel_a_word_with_its_strongest_weights(one: Explanation) -> None:
    data = svg(one)
    assert data == svg(one) and png(one) == png(one) and data.count(b"data:image") == len(one.words) + 1
    links = [value for node in ElementTree.fromstring(data).iter() for name, value in node.items() if "href" in name]
    assert links and all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    heads = [word.text + " (unknown)" * (not word.is_known) for word in one.words]
    words = texts(data)
    assert [text for text in words if text in heads] == heads and one.caption in words
    with painted(one, PIXELS) as figure:
        figure.draw_without_rendering()
        assert len(figure.axes) == len(one.words) + 1
        for axes, word in zip(figure.axes[1:], one.words, strict=True):
            _, *digits = axes.texts
            strongest = sorted(word.weights, reverse=True)
            assert [tag.get_text() for tag in digits] == [f"{weight:.2f}" for weight in strongest[: len(digits)]]
            grounds = [ground.get_window_extent(None).extents for ground in axes.patches[2 * one.regions :]]
            for tag, ground in zip(digits, grounds, strict=True):
                assert is_within(tag.get_window_extent().extents, ground)
            assert 1 <= len(digits) <= TAGS
            extents = [tag.get_window_extent().extents for tag in digits]
            assert all(is_within(extent, axes.bbox.extents) for extent in extents)
            assert not any(cover(extent, other) for n, extent in enumerate(extents) for other in extents[:n])
        assert all(is_within(axes.bbox.extents, figure.bbox.extents) for axes in figure.axes)


def test_outlines_are_as_strong_as_weights_and_the_strongest_lies_on_top(one: Explanation) -> None:
    most = max(max(word.weights) for word in one.words)
    layout = panels(one)
    with painted(one, PIXELS) as figure:
        for axes, word in zip(figure.axes[1:], one.words, strict=True):
            assert strengths(one, word, layout) == pytest.approx([weight / most for weight in word.weights])
            drawn = axes.patches[: 2 * one.regions]
            opacities = [patch.get_alpha() for patch in drawn]
            assert len(opacities) == 2 * one.regions and opacities == sorted(opacities)
            order = sorted(range(one.regions), key=lambda region: word.weights[region])
            x, y, w, h = one.boxes[order[-1]]
            scale = axes.get_xlim()[1] / 128
            last = drawn[-1].get_window_extent(None).transformed(axes.transData.inverted())
            expected = x * scale, y * scale, w * scale, h * scale
            assert (last.x0, last.y1, last.width, last.y0 - last.y1) == pytest.approx(expected, abs=0.01)


def test_a_png_shows_the_region_that_a_word_means(one: Explanation) -> None:
    strong = tuple(Word("here", True, tuple(float(n == region) for n in range(one.regions))) for region in (0, 1))
    boxes = ((10.0, 10.0, 40.0, 40.0), (70.0, 60.0, 50.0, 50.0), *((0.0, 0.0, 1.0, 1.0),) * (one.regions - 2))
    changed = replace(one, words=strong, boxes=boxes, look=Preview((128, 128), Image.new("RGB", (128, 128), "black")))
    drawn = Image.open(io.BytesIO(png(changed))).convert("L")
    with painted(changed, PIXELS) as figure:
        wide, tall = figure.get_size_inches() * 72 * PIXELS
        panels = [axes.get_position() for axes in figure.axes[1:]]
    assert drawn.size == (int(wide), int(tall))
    for panel, mine, other in zip(panels, boxes, (boxes[1], boxes[0]), strict=False):

        def middle(box: tuple[float, ...], panel: Any = panel) -> Any:
            right, down = ((box[n] + 0.75 * box[n + 2]) / 128 for n in (0, 1))
            return drawn.getpixel(
                (int(wide * (panel.x0 + right * panel.width)), int(tall * (1 - panel.y1 + down * panel.height)))
            )

        assert middle(mine) < 20 and middle(other) > 150, "clear where it attends, faded elsewhere"
    assert drawn.getpixel((2, 2)) == 255, "on white"


@pytest.mark.slow
def test_an_image_without_a_picture_is_boxes_with_names_and_one_without_boxes_is_cells(one: Explanation) -> None:
    labels = tuple(f"thing {n}" for n in range(one.regions))
    unseen = replace(one, look=Preview((128, 128), None, (), labels))
    strongest = max(range(one.regions), key=lambda n: one.words[0].weights[n])
    assert f"{one.words[0].weights[strongest]:.2f} thing {strongest}" in texts(svg(unseen))
    assert b"data:" not in svg(unseen) and not list(tag_texts(unseen, None, panels(unseen)))
    named = replace(one, look=one.look._replace(labels=labels))
    assert [text for _, text in tag_texts(named, None, panels(named))] == [*labels[:TAGS]]
    cells = replace(one, look=Preview(), boxes=())
    assert len(panels(cells).boxes) == one.regions and heading(panels(cells)) == f"{one.regions} regions"
    assert any("no boxes" in text for text in texts(svg(cells)))
    assert png(cells).startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def elements(one: Explanation) -> set[str]:
    """The elements of a picture without an image in it."""
    return {node.tag for node in ElementTree.fromstring(svg(replace(one, look=UNSEEN))).iter()}


def width_of(text: Any) -> float:
    return measured(text.get_text(), text.get_size(), text.get_weight() == "bold")


@pytest.mark.slow
@pytest.mark.parametrize("hostile", [*HOSTILE, "$x^2$", "\x00\x1b[31m", "mañana 中文 " * 40, "w" * 3000])
def test_no_caption_breaks_the_picture(one: Explanation, elements: set[str], hostile: str) -> None:
    words = tuple(word._replace(text=hostile, is_known=False) for word in one.words[:3])  # a panel each
    look = UNSEEN._replace(labels=(hostile,) * one.regions)
    changed = replace(one, caption=hostile, image=hostile, words=words, look=look)
    data = svg(changed)
    assert {node.tag for node in ElementTree.fromstring(data).iter()} <= elements
    assert "".join(visible(hostile).split()) in "".join("".join(texts(data)).split())
    with painted(changed, PIXELS) as figure:
        room = figure.bbox.width - 2 * MARGIN
        assert all(width_of(text) <= room for text in figure.texts)
        assert all(width_of(axes.texts[0]) <= axes.bbox.width + 1 for axes in figure.axes)
    assert png(changed).startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_caption_stands_in_full_above_the_panels_however_long(one: Explanation) -> None:
    for caption in ("a very long caption about a dog " * 12, "x" * 700, "Wörter " + "W" * 90):
        with painted(replace(one, caption=caption), PIXELS) as figure:
            lines = [text.get_text() for text in figure.texts if text.get_weight() == "bold"]
        assert "".join("".join(lines).split()) == "".join(caption.split())


def test_words_and_phrases_are_chosen_wherever_they_stand(one: Explanation) -> None:
    words = [
        Word(text, True, (float(n), 1.0)) for n, text in enumerate(["a", "brown", "dog", "and", "a", "Brown", "dog"])
    ]
    assert [word.weights[0] for word in chosen(words, "dog, and")] == [2, 6, 3]
    assert chosen(words, "brown dog")[0] == Word("brown dog", True, (1.5, 1.0))
    assert [word.text for word in chosen(words, "BROWN  dog")] == ["brown dog", "Brown dog"]
    for absent in ("brown and", "", "cat", "dog,,a"):
        with pytest.raises(UsageError, match=r"is not in the caption, whose words are: a, brown, dog, and, Brown"):
            chosen(words, absent)
    text = f"{one.words[1].text},{one.words[0].text}"
    assert {word.text for word in chosen(one.words, text)} == {one.words[1].text, one.words[0].text}


@pytest.mark.slow
def test_what_weights_do_not_add_up_to_is_said_where_they_do_not(trials: Path, one: Explanation) -> None:
    said = "the weights of a word do not add up to one"
    assert not any(said in note for note in explain_json(one, Path("x"))["notes"])
    other = explained(trials, TrialChoice("caan", "tiny", seed=1), Pair(IMAGE))
    assert any(said in note for note in explain_json(other, Path("x"))["notes"])
    assert any(said.capitalize() in text for text in texts(svg(other)))


@pytest.mark.slow
def test_a_picture_says_whose_it_is(one: Explanation) -> None:
    card = one.card.model_copy(update={"title": "Photos", "licence": "research only", "origin": "those who took them"})
    words = " ".join(texts(svg(replace(one, card=card))))
    assert "Photos. Licence: research only. From: those who took them" in words
