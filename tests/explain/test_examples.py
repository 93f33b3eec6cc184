"""Pages of examples: which queries are drawn, that they say what the arrays say, and that the page stands alone."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from boards import HOSTILE, Page, three_seeds
from coco_files import CARD, files, opened
from folds import card
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_project import Call

from harness.board.standings import boards_of
from harness.config.cards import DatasetCard, read_card
from harness.data.content import Place, Preview
from harness.errors import DataError
from harness.evaluation.protocols import folds
from harness.evaluation.ranks import rank
from harness.evaluation.records import RANKINGS, RANKS, of_ranks, of_shortlists, rank_arrays, ranking_arrays
from harness.evaluation.shortlists import shortlists
from harness.explain.examples import ALL, FIRST, GROUPS, NONE, SAMPLE, SOME, examples_of, grouped, run_of, sampled
from harness.explain.examples_page import tags, webpage
from harness.files import npz
from harness.layouts.previews import Previews
from harness.layouts.scenes import Scenes, picture

IMAGES, EACH = 30, 2
PAIRS = np.stack([np.repeat(np.arange(IMAGES), EACH), np.arange(IMAGES * EACH)], axis=1)
SCENES_CARD = read_card(DatasetCard, Path(__file__).parents[2] / "datasets" / "scenes" / "card.toml")


def scores_of(seed: int, skill: float) -> np.ndarray:
    """Scores (N, M) of a method that knows the matches so well."""
    scores = np.random.default_rng(seed).normal(size=(IMAGES, IMAGES * EACH)).astype(np.float32)
    scores[PAIRS[:, 0], PAIRS[:, 1]] += skill
    return scores


def files_of(scores: np.ndarray, ids: Sequence[str], captions: Sequence[str]) -> dict[str, bytes]:
    """What the store keeps of a run with these scores."""
    ranks = rank(scores, PAIRS)
    parts = folds(card(IMAGES, IMAGES * EACH), IMAGES, PAIRS)
    rankings = of_shortlists(shortlists(scores, parts), ids, captions)
    return {
        RANKS: npz(**rank_arrays(of_ranks(PAIRS, parts, [ranks]))),
        RANKINGS: npz(**ranking_arrays(rankings)),
    }


class Store:
    """The kept files of runs, and the board of their results."""

    def __init__(self, skills: dict[str, float], ids: Sequence[str] = (), captions: Sequence[str] = ()) -> None:
        self.ids = ids or [f"test-{n // 4:04d}{'abcd'[n % 4]}" for n in range(IMAGES)]
        self.captions = captions or [f"caption {n}" for n in range(IMAGES * EACH)]
        runs = [run for method, skill in skills.items() for run in three_seeds(method, 100 + skill)]
        (self.board,) = boards_of([replace(run, run_id=str(place)) for place, run in enumerate(runs)], {})
        self.scores = {
            row.run_ids[0]: scores_of(place, skills[row.method]) for place, row in enumerate(self.board.ranked)
        }
        self.files = {run: files_of(scores, self.ids, self.captions) for run, scores in self.scores.items()}

    def read(self, run: str, name: str) -> bytes | None:
        return self.files.get(run, {}).get(name)


@pytest.fixture
def looks(tmp_path: Path) -> Previews:
    return Previews(SCENES_CARD, tmp_path, tmp_path)


groups = st.lists(st.integers(0, 2), min_size=1, max_size=200).map(np.array)


@given(groups)
def test_the_sample_has_as_many_of_each_kind_as_there_are_and_is_always_the_same(found: np.ndarray) -> None:
    chosen = sampled(found)
    assert chosen == sampled(found) and len(set(chosen)) == len(chosen) == min(SAMPLE, len(found))
    there = np.bincount(found, minlength=3)
    taken = np.bincount(found[chosen], minlength=3)
    for kind in range(3):  # no kind is short of another but where it has no more
        assert taken[kind] == there[kind] or taken[kind] >= taken.max() - 1
    assert found[chosen].tolist() == sorted(found[chosen])


def test_examples_say_what_the_scores_say() -> None:
    store = Store({"caan": 3.0, "bssan": 2.0, "vsepp": 1.0})
    found = examples_of(store.board, {}, store.read)
    assert found and [run.name for run in found.runs] == ["caan", "bssan", "vsepp"] and not found.left_out
    for way, about in found.directions.items():
        assert sum(about.counts.values()) == (IMAGES if way == "i2t" else IMAGES * EACH)
        assert len(about.queries) == SAMPLE
        for query in about.queries:
            answered = []
            for row, line in zip(store.board.ranked, query.answers, strict=True):
                scores = store.scores[row.run_ids[0]]
                own = scores[query.number] if way == "i2t" else scores[:, query.number]
                order = np.argsort(-own, kind="stable")
                assert [one.number for one in line.top] == order[:FIRST].tolist()
                assert [one.score for one in line.top] == own[order[:FIRST]].tolist()
                first = next(place for place, number in enumerate(order, start=1) if number in query.matches)
                assert line.rank == first
                assert [one.is_match for one in line.top] == [n in query.matches for n in order[:FIRST]]
                answered.append(first <= FIRST)
            assert query.group == (ALL if all(answered) else SOME if any(answered) else NONE)


def test_a_method_that_learns_nothing_has_no_say_unless_it_is_alone() -> None:
    from harness.config.project import Config
    from harness.config.registry import discover

    methods = discover(Config(root=Path(__file__).parents[2])).methods
    store = Store({"caan": 50.0, "chance": 0.0})
    runs = [run for row in store.board.ranked if (run := run_of(row, methods, store.read))]
    assert [run.is_trained for run in runs] == [True, False]
    assert set(grouped(runs, "i2t")) == {GROUPS.index(ALL)}
    assert set(grouped(runs[1:], "i2t")) == {GROUPS.index(ALL), GROUPS.index(NONE)}


@pytest.mark.parametrize("damage", ["gone", "torn", "no text", "outside", "other queries", "shorter"])
def test_a_row_whose_rankings_are_gone_or_damaged_is_left_out_and_told(damage: str) -> None:
    store = Store({"caan": 3.0, "vsepp": 1.0})
    run = store.board.ranked[1].run_ids[0]
    mine = store.files[run]
    arrays: dict[str, Any] = dict(np.load(io.BytesIO(mine[RANKINGS]), allow_pickle=False))
    if damage == "gone":
        del mine[RANKINGS]
    elif damage == "torn":
        mine[RANKINGS] = mine[RANKINGS][:100]
    elif damage == "no text":
        mine[RANKINGS] = npz(**arrays | {"captions": np.frombuffer(b'["a', dtype=np.uint8)})
    elif damage == "outside":
        mine[RANKINGS] = npz(**arrays | {"i2t_found": arrays["i2t_found"] + 1000})
    elif damage == "shorter":
        mine[RANKINGS] = npz(**{name: array[:-1] if "t2i" in name else array for name, array in arrays.items()})
    else:
        store.files[run] = files_of(scores_of(9, 1), store.ids[::-1], store.captions)
    found = examples_of(store.board, {}, store.read)
    assert found and [one.name for one in found.runs] == ["caan"]
    why = "has answered other queries" if damage == "other queries" else "its rankings are not in the store"
    assert found.left_out == (f"vsepp: {why}",)
    store.files.clear()
    assert examples_of(store.board, {}, store.read) is None


def test_the_page_asks_for_nothing_and_holds_every_picture_once(looks: Previews) -> None:
    store = Store({"caan": 3.0, "vsepp": 1.0})
    found = examples_of(store.board, {}, store.read)
    assert found
    text = webpage(found, SCENES_CARD, looks)
    assert text == webpage(found, SCENES_CARD, looks)
    page = Page(text)
    assert not any("script" in tag or tag == "link" for tag, *_ in page.elements)
    addresses = [a[name] or "" for _, a, _ in page.elements for name in ("src", "href") if name in a]
    assert all(one.startswith(("#", "data:image/webp;base64,")) for one in addresses)
    embedded = [one for one in addresses if one.startswith("data:")]
    assert len(set(embedded)) == len(embedded) and "url(" not in text and "@import" not in text
    ids = {a.get("id") for _, a, _ in page.elements}
    assert {one[1:] for one in addresses if one.startswith("#")} <= ids
    assert len(text) < 2_000_000


def test_the_page_marks_matches_by_more_than_colour_and_tells_ranks_and_scores(looks: Previews) -> None:
    store = Store({"caan": 3.0, "vsepp": 1.0})
    found = examples_of(store.board, {}, store.read)
    assert found
    page = Page(webpage(found, SCENES_CARD, looks))
    lines = [line for about in found.directions.values() for query in about.queries for line in query.answers]
    items = [" ".join("".join(text).split()) for tag, a, text in page.elements if a.get("class") in ("right", "wrong")]
    places = [one for line in lines for one in line.top]
    assert len(items) == len(places)
    for item, place in zip(items, places, strict=True):
        assert ("✓match" in item) is place.is_match and ("✗no match" in item) is not place.is_match
        assert f"{place.score:.3f}" in item
    heads = page.texts("h4")
    assert heads == [f"{run.name} rank {line.rank}" for run, line in zip(found.runs * (2 * SAMPLE), lines, strict=True)]


def test_no_caption_or_id_breaks_the_page(looks: Previews) -> None:
    captions = [f"{HOSTILE[n % len(HOSTILE)]} {n}" for n in range(IMAGES * EACH)]
    store = Store({"caan": 1.0}, [f"{HOSTILE[n % len(HOSTILE)]} {n}" for n in range(IMAGES)], captions)
    found = examples_of(store.board, {}, store.read)
    assert found
    page = Page(webpage(found, SCENES_CARD, looks))
    assert not any(tag == "script" or any(name.startswith("on") for name in a) for tag, a, _ in page.elements)
    said = set(page.texts("blockquote"))
    assert said == {" ".join(captions[query.number].split()) for query in found.directions["t2i"].queries}


def test_images_look_as_their_dataset_has_them(tmp_path: Path) -> None:
    opened(tmp_path, files())
    looks = Previews(DatasetCard.model_validate(CARD), tmp_path, tmp_path)
    split = opened(tmp_path, files()).split("train")
    for row, image in enumerate(split.image_ids):
        look = looks.of(image)
        assert look.size == (100, 50) and look.picture is None
        assert split.boxes is not None and np.allclose(look.boxes, split.boxes[row])
    (tmp_path / "tiny" / "images").mkdir()
    name = split.image_ids[0]
    Image.new("RGB", (200, 100), "red").save(tmp_path / "tiny" / "images" / f"{int(name):012d}.png")
    look = looks.of(name)
    assert look.picture is not None and look.picture.size == (200, 100) and look.size == (100, 50)
    (tmp_path / "tiny" / "images" / f"{split.image_ids[1]}.jpg").write_text("no picture")
    with pytest.raises(DataError, match=r"\.jpg: no readable picture"):
        looks.of(split.image_ids[1])
    Image.new("RGB", (2, 2)).save(tmp_path / "secret.png")
    for outside in ("../../secret", str(tmp_path / "secret"), "a\0b", "no such image"):
        assert looks.of(outside) == Preview()


def test_boxes_have_the_names_of_their_categories(tmp_path: Path) -> None:
    content = files()
    for category in content["instances.json"]["categories"]:
        category["name"] = f"kind {category['id']}"
    split = opened(tmp_path, content).split("train")
    look = Previews(DatasetCard.model_validate(CARD), tmp_path, tmp_path).of(split.image_ids[0])
    columns = split.images[0][:, :3].argmax(axis=1)  # one-hot in the order of ids
    assert look.labels == tuple(f"kind {(3, 7, 90)[column]}" for column in columns)


@pytest.mark.slow
def test_the_pictures_of_scenes_are_those_that_its_regions_were_cut_from(tmp_path: Path) -> None:
    reader = Scenes(Place(SCENES_CARD, tmp_path, tmp_path))
    look = reader.preview("val-0003c")
    assert look.picture is not None and look.picture.tobytes() == picture(0, "val", 14).tobytes()
    kept_boxes = reader.read("val").boxes
    assert kept_boxes is not None and np.array_equal(look.boxes, kept_boxes[14])
    assert reader.preview("val-14") == reader.preview("dev-0003c") == Preview()


def test_names_on_a_canvas_lie_within_it_and_on_no_other() -> None:
    boxes = tuple((float(x), float(y), 30.0, 30.0) for y in (0, 3, 60) for x in (0, 5, 90))
    look = Preview((120, 100), None, boxes, tuple(f"thing {n}" for n in range(9)))
    found = tags(look, 10.0)
    assert found and all(0 <= tag.x <= 120 - 5.6 * len(tag.text) + 0.01 for tag in found)
    for place, tag in enumerate(found):
        for other in found[:place]:
            assert abs(tag.y - other.y) > 11 or abs(tag.x - other.x) >= 5.6 * 7


def test_a_name_wider_than_its_canvas_is_cut() -> None:
    look = Preview((120, 100), None, ((0.0, 0.0, 30.0, 30.0),), ("a very long name of a thing " * 3,))
    (tag,) = tags(look, 10.0)
    assert tag.text.startswith("a very long") and tag.text.endswith("…") and len(tag.text) < 30


@pytest.mark.slow
def test_the_command_writes_the_page_of_a_board_and_says_which_have_none(
    project: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("run", "--here", "-q", "--methods", "vsepp,scan_t2i", "-s", "training.epochs=1") == 0
    assert call("report", "--format", "examples") == 0
    file = project / "reports" / "tiny-all-examples.html"
    first = file.read_bytes()
    assert call("report", "--format", "examples", "--check") == 0
    page = Page(first.decode())
    assert page.texts("h1") == ["tiny, protocol all"] and len(page.texts("blockquote")) == SAMPLE
    assert "vsepp, seed 0" in first.decode() and b"no examples" not in first
    file.write_bytes(first + b"x")
    assert call("report", "--format", "examples", "--check") == 5
    assert call("report", "--format", "md,examples") == 0 and file.read_bytes() == first
    shutil.rmtree(project / "runs" / "artifacts")
    file.unlink()
    capsys.readouterr()
    assert call("report", "--format", "examples") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "tiny, protocol all: no examples: the tracking store has no rankings of its rows" in said
    assert not file.exists()
    assert call("report", "--format", "example") == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium")
def test_a_browser_draws_the_pictures(tmp_path: Path, looks: Previews) -> None:
    store = Store({"caan": 3.0})
    found = examples_of(store.board, {}, store.read)
    assert found
    file, shot = tmp_path / "page.html", tmp_path / "page.png"
    file.write_text(webpage(found, SCENES_CARD, looks), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--window-size=1000,900", f"--screenshot={shot}"]
    subprocess.run(["chromium", *flags, file.as_uri()], check=True, capture_output=True)
    shown = Image.open(shot).convert("RGB")
    vivid = [colour for _, colour in shown.getcolors(2**24) or [] if max(colour) - min(colour) > 120]
    drawn = looks.of(store.ids[found.directions["i2t"].queries[0].number]).picture
    assert drawn is not None and len(vivid) > 200, "scenes are of vivid colours, the page itself is not"
    assert re.search(r"<use href=\"#i\d+\"", file.read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_board_of_other_data_has_no_page(project: Path, call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "--here", "-q", "-s", "training.epochs=1") == 0
    card = project / "cards" / "tiny" / "card.toml"
    card.write_text(card.read_text().replace('title = "A handful', 'title = "Other') + "\n[options]\nseed = 5\n")
    capsys.readouterr()
    assert call("report", "--format", "examples") == 0
    assert "the dataset here is another than that of the board" in " ".join(capsys.readouterr().out.split())
    shutil.rmtree(card.parent)
    assert call("report", "--format", "examples") == 0
    assert "tiny, protocol all: no examples: the dataset has no card here" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("image", ["x" * 300, "a/" + "x" * 300, "\0", "../x", "é" * 200])
def test_an_id_that_can_name_no_file_has_no_picture(tmp_path: Path, image: str) -> None:
    opened(tmp_path, files())
    assert Previews(DatasetCard.model_validate(CARD), tmp_path, tmp_path).of(image).picture is None
