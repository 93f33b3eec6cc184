"""`harness validate`: what is odd about a sound dataset is told with its place, and a sound one is told as such."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from broken_files import captions, coco, precomp, regions, rewrite, saved
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from tiny_project import Call

from harness.config.cards import ProtocolCard
from harness.data.cache import MEMORY, sealed, unsealed
from harness.data.regions import Ragged
from harness.data.split import Split
from harness.data.tokens import Tokens, Vocabulary
from harness.evaluation.measures import measures
from harness.evaluation.ranks import rank
from harness.preparation.caption_checks import CHECKS, in_two_splits, of_unknown_words, unknown_only, unknown_shares
from harness.preparation.findings import Finding, Severity
from harness.preparation.protocol_checks import Played, faults, play, saturated_recalls
from harness.preparation.region_scan import copies, scan
from harness.terminal.dataset_page import finding_text, last_line

__all__ = ["coco", "precomp"]  # fixtures

Report = dict[str, Any]
Look = Callable[..., Report]


def of(report: Report, code: str) -> list[Report]:
    return [one for one in report["findings"] if one["code"] == code]


def write(folder: Path, stem: str, lines: list[str]) -> None:
    (folder / f"{stem}_caps.txt").write_text("\n".join(lines), encoding="utf-8")


def test_a_sound_dataset_is_told_in_numbers(precomp: Path, look: Look) -> None:
    report = look("precomp")
    (small,) = [one for one in report["findings"] if one["severity"] != "note"]
    assert small["code"] == "recall-saturated" and "i2t_r10, t2i_r5, t2i_r10: any scores" in small["message"]
    assert len(report["fingerprint"]) == 64 and report["folder"] == str(precomp)
    test = report["splits"]["test"]
    assert (test["images"], test["captions"], test["width"], test["type"]) == (4, 8, 4, "float32")
    assert (test["fewest_regions"], test["most_regions"], test["longest_caption"]) == (3, 3, 8)
    content = (precomp / "test_caps.txt").read_bytes()
    told = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert report["files"]["test_caps.txt"] == told
    assert report["protocols"]["all"]["oracle"] == 600 and report["protocols"]["all"]["folds"] == 1


@pytest.mark.slow
def test_the_fingerprint_is_that_of_trials(precomp: Path, look: Look, call: Call, project: Path) -> None:
    report = look("precomp")
    assert call("run", "--here", "--datasets", "precomp", "--methods", "chance") == 0
    (spec,) = (project / "runs" / "trials").glob("*/spec.json")
    assert json.loads(spec.read_text())["data_fingerprint"] == report["fingerprint"]


def test_odd_captions_are_told_by_line(precomp: Path, look: Look) -> None:
    lines = captions("train")
    lines[2], lines[3] = "b'a cat of train'", "a cat &amp; a dog"
    lines[4], lines[5] = "the kitchen\u200b of train", "A  BUS of train"
    lines[6], lines[7] = "A bus Of train", "the cafÃ© of train"
    lines[8], lines[9] = "a kite of train", "a  Kite of TRAIN"
    write(precomp, "train", lines)
    report = look("precomp")
    for code, severity, entry in (
        ("caption-as-bytes", "warning", "line 3"),
        ("caption-with-html", "note", "line 4"),
        ("caption-unprintable", "note", "line 5"),
        ("caption-of-several-images", "note", "line 6"),
        ("caption-garbled", "note", "line 8"),
        ("caption-twice-at-image", "note", "line 10"),
    ):
        (one,) = of(report, code)
        told = (one["severity"], one["file"], one["entry"], one["count"], one["split"])
        assert told == (severity, "train_caps.txt", entry, 1, "train")


@pytest.mark.parametrize(
    ("text", "is_told"),
    [
        ("A", True),
        ("a .", True),
        ("...", True),
        ("7", True),
        ("🦉", True),
        ("an owl", False),
        ("狗", False),
        ("", False),
    ],
)
def test_a_caption_without_a_word_is_a_note(text: str, is_told: bool) -> None:
    (check,) = [check for check in CHECKS if isinstance(check, partial) and check.args[2] == "caption-without-word"]
    found = [*check({"test": split_of(["two dogs run", text], 1)})]
    assert [(one.severity, one.examples) for one in found] == [(Severity.NOTE, (f"caption 1: {text!r}",))] * is_told


@pytest.mark.parametrize(("shared", "severity"), [(1, "warning"), (0, None)])
def test_a_text_in_two_splits_is_told_with_its_share(
    precomp: Path, look: Look, shared: int, severity: str | None
) -> None:
    lines = captions("test")
    lines[5 : 5 + shared] = ["A tree   of train"] * shared
    write(precomp, "test", lines)
    found = of(look("precomp"), "caption-in-two-splits")
    assert [(one["severity"], one["file"], one["entry"]) for one in found] == (
        [(severity, "test_caps.txt", "line 6")] if shared else []
    )
    if found:
        assert "captions of test, 12.5 %, stand in train too" in found[0]["message"]


def test_captions_of_no_known_word_are_told_by_line(precomp: Path, look: Look) -> None:
    lines = captions("test")
    lines[2], lines[6] = "zyzzyva !", "quux"
    write(precomp, "test", lines)
    (one,) = of(look("precomp"), "caption-of-no-known-word")
    assert (one["severity"], one["count"], one["file"], one["entry"]) == ("warning", 2, "test_caps.txt", "line 3")
    assert one["examples"][1] == "test_caps.txt, line 7: 'quux'"


@given(st.lists(st.sampled_from(["known", "no", "never"]), min_size=1, max_size=40))
def test_captions_of_no_known_word_are_found_one_by_one(words: list[str]) -> None:
    tokens = Tokens.encode(words, Vocabulary.build(["known"], 1))
    expected = [number for number, word in enumerate(words) if word != "known"]
    assert unknown_only(tokens, np.arange(len(words))) == expected


@pytest.mark.parametrize("change", [str.upper, lambda text: f"{text.replace(',', '')}!", lambda text: f"“{text}”"])
def test_captions_in_two_splits_are_found_whatever_their_punctuation(
    precomp: Path, look: Look, change: Callable[[str], str]
) -> None:
    write(precomp, "test", [*captions("test")[:1], *map(change, captions("train")[1:7]), *captions("test")[7:]])
    (one,) = of(look("precomp"), "caption-in-two-splits")
    assert (one["severity"], one["count"], one["split"]) == ("warning", 6, "test") and "75.0 %" in one["message"]


def test_captions_in_several_forms_and_very_long_ones_are_told(precomp: Path, look: Look) -> None:
    lines = captions("train")
    lines[2], lines[3] = "a man’s cafe\u0301 of train", "a caf\u00e9 of train"
    lines[5] = " ".join(["word"] * 60_000)
    write(precomp, "train", lines)
    report = look("precomp")
    (normalised,), (long,) = of(report, "caption-normalised"), of(report, "caption-long")
    assert (normalised["severity"], normalised["count"], normalised["entry"]) == ("note", 1, "line 3")
    assert (long["severity"], long["count"], long["entry"]) == ("warning", 1, "line 6")


def shares_of(**captions: list[str]) -> list[Finding]:
    vocabulary = Vocabulary.build(captions["train"], 1)
    return list(
        of_unknown_words({name: unknown_shares(Tokens.encode(own, vocabulary)) for name, own in captions.items()})
    )


def texts_of(seed: int, count: int, strange: float = 0.0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [
        " ".join(
            f"new{seed}x{rng.integers(10**9)}" if rng.random() < strange else f"w{rng.integers(50)}" for _ in range(8)
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize(
    ("val", "test", "splits"),
    [(0.02, 0.02, []), (0.02, 0.25, ["test"]), (0.02, 0.9, ["test"]), (0.9, 0.9, ["val", "test"]), (0.2, 0.22, [])],
)
def test_captions_of_other_words_than_those_of_train_are_told(val: float, test: float, splits: list[str]) -> None:
    found = shares_of(train=texts_of(0, 400), val=texts_of(1, 100, val), test=texts_of(2, 100, test))
    assert [one.split for one in found] == splits
    assert all("% of the words of" in one.message and "0.0 % of those of train" in one.message for one in found)


def test_a_protocol_on_a_split_that_methods_see_is_told(precomp: Path, project: Path, look: Look) -> None:
    card = project / "cards" / "precomp" / "card.toml"
    card.write_text(card.read_text() + '[[protocols]]\nname = "seen"\nsplit = "val"\nimages = 4\ncaptions = 8\n')
    (one,) = of(look("precomp"), "protocol-not-on-test")
    assert (one["severity"], one["entry"], one["split"]) == ("warning", "protocol seen", "val")


def test_a_vocabulary_of_the_captions_that_are_scored_is_told(precomp: Path, project: Path, look: Look) -> None:
    card = project / "cards" / "precomp" / "card.toml"
    assert not of(look("precomp"), "vocabulary-of-test")
    card.write_text(card.read_text().replace("[text]", '[text]\nvocabulary_splits = ["train", "test"]'))
    (one,) = of(look("precomp"), "vocabulary-of-test")
    assert (one["severity"], one["entry"], one["split"]) == ("warning", "protocol all", "test")


def test_a_card_without_val_is_told_and_nothing_is_trained_on_it(
    precomp: Path, project: Path, look: Look, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    card = project / "cards" / "precomp" / "card.toml"
    first = '[[order]]\nsplit = "val"\nline = 1\ncaption = "a dog of val"\n'
    text = card.read_text().replace(first, "").replace("val = { images = 4, captions = 8 }\n", "")
    card.write_text(text.replace('val = "dev"', ""))
    (one,) = of(look("precomp"), "split-absent")
    assert (one["severity"], one["split"]) == ("warning", "val") and "nothing can be trained" in one["message"]
    for words in (("-n",), ()):
        assert call("run", "--here", "--datasets", "precomp", *words) == 3
        assert "unknown split 'val'" in capsys.readouterr().err
    assert not [*(project / "runs").glob("trials/*")]
    assert call("run", "--here", "--datasets", "precomp", "--methods", "chance", "-n") == 0


def test_files_that_are_links_and_word_vectors_are_read_again(precomp: Path, project: Path, look: Look) -> None:
    """A disk may change what it holds and keep size and times, which is what the memory of facts goes by."""
    elsewhere = precomp.parent / "elsewhere"
    elsewhere.mkdir()
    for file in [*precomp.iterdir()]:
        file.rename(elsewhere / file.name)
        file.symlink_to(elsewhere / file.name)
    vectors = precomp.parent / "vectors.txt"
    vectors.write_text("cat 0.5 0.5\n")
    card = project / "cards" / "precomp" / "card.toml"
    card.write_text(card.read_text().replace("[text]", '[text]\nvectors = "vectors.txt"'))
    before = look("precomp")
    assert before["files"]["vectors.txt"]["sha256"] == hashlib.sha256(vectors.read_bytes()).hexdigest()
    memory = project / "runs" / "cache" / MEMORY
    memory.write_text(sealed(dict.fromkeys(unsealed(memory.read_bytes()), "0" * 64)))
    assert look("precomp")["files"] == before["files"]


@given(st.integers(1, 14), st.integers(1, 4))
def test_a_recall_is_saturated_exactly_where_the_worst_scores_reach_it(images: int, each: int) -> None:
    numbers = np.arange(images * each)
    pairs = np.stack([numbers // each, numbers], axis=1)
    worst = -np.eye(images, dtype=np.float32).repeat(each, axis=1)
    reached = measures(rank(worst, pairs))
    size = {"images": images, "captions": images * each, "folds": 1}
    assert set(saturated_recalls(size)) == {name for name, value in reached.items() if "_r" in name and value == 100}


def with_dead(array: np.ndarray) -> np.ndarray:
    array[1, 2], array[3, 0] = 0, 7.5
    return array


def test_dead_regions_are_told_by_row(precomp: Path, look: Look) -> None:
    saved("dev_ims.npy", with_dead)(precomp)
    (one,) = of(look("precomp"), "constant-region")
    assert (one["severity"], one["count"], one["file"], one["entry"]) == ("warning", 2, "dev_ims.npy", "row 1")
    assert one["examples"] == [
        "dev_ims.npy, row 1: 'dev/1', region 2",
        "dev_ims.npy, row 3: 'dev/3', region 0",
    ]


def test_one_image_in_two_splits_and_twice_in_one_is_told_by_its_regions(precomp: Path, look: Look) -> None:
    saved("test_ims.npy", lambda array: np.stack([array[0], regions("train")[5], array[0], array[3]]))(precomp)
    report = look("precomp")
    (apart,), (together,) = of(report, "image-in-two-splits"), of(report, "images-alike")
    assert (apart["severity"], apart["file"], apart["entry"]) == ("warning", "test_ims.npy", "row 1")
    assert apart["examples"] == ["test_ims.npy, row 1: 'test/1', as train_ims.npy, row 5 ('train/5'), of train"]
    assert (together["severity"], together["entry"]) == ("note", "row 2")


def test_one_id_in_two_splits_is_told(precomp: Path, look: Look) -> None:
    for stem, ids in (("train", "abcdefgh"), ("dev", "ijkl"), ("test", "mnoc")):
        (precomp / f"{stem}_ids.txt").write_text("\n".join(ids), encoding="utf-8")
    (one,) = of(look("precomp"), "image-in-two-splits")
    assert (one["entry"], one["examples"]) == ("row 3", ["test_ims.npy, row 3: 'c' is in train too"])


def picture(file: Path, size: tuple[int, int]) -> None:
    file.parent.mkdir(exist_ok=True)
    Image.effect_noise(size, 50).save(file)


def test_pictures_are_opened_and_held_to_their_sizes(coco: Path, look: Look) -> None:
    for image in (*range(1, 9), *range(101, 105), 201, 202):
        picture(coco / "images" / f"{image}.jpg", (100, 50))
    picture(coco / "images" / "3.jpg", (50, 100))
    picture(coco / "images" / "4.jpg", (201, 100))  # scaled: its boxes lie at the same shares
    whole = (coco / "images" / "102.jpg").read_bytes()
    (coco / "images" / "102.jpg").write_bytes(whole[: len(whole) // 2])
    report = look("coco")
    (broken,), (resized,), (absent,) = (
        of(report, code) for code in ("picture-unreadable", "picture-size", "picture-absent")
    )
    assert (broken["severity"], broken["file"], broken["entry"], broken["count"]) == ("warning", "images", "102", 1)
    assert (resized["entry"], resized["count"]) == ("3", 1) and "(50, 100)" in resized["examples"][0]
    assert (absent["severity"], absent["count"], absent["entry"]) == ("note", 2, "203")


def test_a_file_that_is_not_the_cards_is_told_with_both_hashes(precomp: Path, project: Path, look: Look) -> None:
    card = project / "cards" / "precomp" / "card.toml"
    card.write_text(card.read_text() + f'[[files]]\npath = "dev_caps.txt"\nsha256 = "{"0" * 64}"\n')
    (one,) = of(look("precomp", 3), "file-changed")
    assert one["file"] == "dev_caps.txt" and "0" * 64 in one["message"]
    assert look("precomp", 3)["splits"].keys() == {"train", "val", "test"}  # the rest was looked at


def gallery(project: Path, folder: Path, ids: list[str], images: int) -> None:
    """A protocol `mine` of the first place, whose gallery are these images."""
    content = json.dumps(ids).encode()
    (folder / "mine.json").write_bytes(content)
    card = project / "cards" / "precomp" / "card.toml"
    text = card.read_text().split("[[protocols]]\nname = 'mine'")[0]
    card.write_text(
        f"{text}[[protocols]]\nname = 'mine'\nimages = {images}\ncaptions = {2 * images}\ngallery = 'mine.json'\n"
        f"gallery_sha256 = '{hashlib.sha256(content).hexdigest()}'\n"
    )


@pytest.mark.slow
def test_a_gallery_is_run_under_its_own_identity(
    precomp: Path, project: Path, look: Look, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("run", "--here", "--datasets", "precomp", "--methods", "chance", "--protocol", "mine")
    gallery(project, precomp, ["test/3", "test/1"], 2)
    assert look("precomp")["protocols"]["mine"]["images"] == 2
    assert call(*words) == 0
    gallery(project, precomp, ["test/3", "test/0"], 2)
    assert call(*words) == 0
    results = [json.loads(file.read_text()) for file in (project / "runs" / "trials").glob("*/result.json")]
    assert len({one["spec"]["protocol_version"] for one in results}) == len(results) == 2
    assert [one["gallery"] for one in results] == [{"images": 2, "captions": 4, "folds": 1}] * 2
    (precomp / "mine.json").write_text('["test/0", "test/2"]')
    capsys.readouterr()
    assert call(*words, "--force") == 3
    assert "mine.json: its sha256 is" in capsys.readouterr().err
    gallery(project, precomp, ["test/3", "test/9"], 2)
    (one,) = [one for one in look("precomp", 3)["findings"] if one["severity"] == "error"]
    assert (one["file"], one["entry"]) == ("mine.json", "entry 1") and "'test/9' is not in split" in one["message"]


def split_of(texts: list[str], each: int = 2) -> Split:
    images = len(texts) // each
    numbers = np.arange(len(texts))
    return Split(
        images=Ragged.stack([np.eye(1, dtype=np.float32)] * images),
        captions=tuple(texts),
        pairs=np.stack([numbers // each, numbers], axis=1),
        image_ids=tuple(map(str, range(images))),
        name="test",
        tokens=Tokens.encode(texts, Vocabulary.build(texts, 1)),
    )


@pytest.mark.parametrize(("shared", "severity"), [(3, Severity.NOTE), (4, Severity.WARNING)])
def test_a_tenth_of_texts_in_another_split_is_a_warning_and_less_a_note(shared: int, severity: Severity) -> None:
    train, test = [f"train {number}" for number in range(40)], [f"test {number}" for number in range(40)]
    (one,) = in_two_splits({"train": split_of(train), "test": split_of(train[:shared] + test[shared:])})
    assert (one.severity, one.count, one.split) == (severity, shared, "test")


def protocol(images: int, folds: int = 1) -> ProtocolCard:
    return ProtocolCard(name="all", images=images, captions=2 * images, folds=folds)


def test_an_oracle_and_chance_reach_what_is_expected_under_every_protocol() -> None:
    split = split_of([f"caption {number}" for number in range(400)])
    read: list[int] = []
    played = play([protocol(200), protocol(200, folds=5)], split, read.append)
    assert [one.oracle["rsum"] for one in played] == [600, 600] and sum(read) == 4 * 200
    assert [one.gallery["images"] for one in played] == [200, 40]
    assert not list(faults(played))


def test_shared_texts_are_the_ceiling_of_an_oracle() -> None:
    texts = [f"caption {number}" for number in range(20)]
    texts[7] = "Caption  0"
    (one,) = play([protocol(10)], split_of(texts))
    assert (one.oracle["i2t_r1"], one.oracle["t2i_r1"], one.oracle["t2i_r5"]) == (100, 90, 100)
    (finding,) = faults([one])
    assert (finding.severity, finding.code) == (Severity.NOTE, "protocol-ceiling")
    assert "t2i R@1 90.00" in finding.message


def test_a_ranking_that_is_broken_is_an_error() -> None:
    (one,) = play([protocol(20)], split_of([f"caption {number}" for number in range(40)]))
    worse = one._replace(oracle={**one.oracle, "t2i_r1": 97.5})
    off = one._replace(random={**one.random, "i2t_r5": 99.0})
    for broken, said in ((worse, "not 100"), (off, "i2t_r5 99.00")):
        (finding,) = faults([broken])
        assert (finding.severity, finding.code) == (Severity.ERROR, "protocol-broken") and said in finding.message
    assert isinstance(one, Played)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_copies_are_found_as_a_slow_comparison_finds_them(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    stacks = [rng.integers(0, 2, (int(rng.integers(1, 3)), 2)).astype(np.float32) for _ in range(n)]
    cut = int(rng.integers(0, n + 1))
    parts = {"a": stacks[:cut], "b": stacks[cut:]}
    images = {name: Ragged.stack(own) for name, own in parts.items() if own}
    found = copies(images, {name: scan(own, lambda _: None).marks for name, own in images.items()})
    places = [(name, number) for name, own in parts.items() for number in range(len(own))]
    alike = {
        (one, other)
        for one, other in ((a, b) for a in places for b in places if a < b)
        if parts[one[0]][one[1]].tobytes() == parts[other[0]][other[1]].tobytes()
    }
    assert {(one, other) for group in found for one in group for other in group if one < other} == alike


def test_what_is_no_number_and_what_is_dead_is_found_wherever_it_is() -> None:
    images = [np.arange(6, dtype=np.float32).reshape(2, 3) for _ in range(5)]
    images[1][1] = np.nan
    images[3][0, 2] = np.inf
    images[4] = np.array([[1, 2, 3], [5, 5, 5], [4, 4, 4.5]], dtype=np.float32)
    seen = scan(Ragged.stack(images), lambda _: None)
    assert seen.bad.tolist() == [1, 3] and seen.dead.tolist() == [[4, 1]]


def test_a_large_array_is_read_in_pieces(tmp_path: Path) -> None:
    rows = np.lib.format.open_memmap(tmp_path / "large.npy", "w+", np.float32, (2000, 36 * 512))  # 147 MB
    images = Ragged(rows.reshape(-1, 512), np.arange(2001) * 36)
    tracemalloc.start()
    seen = scan(images, lambda _: None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(seen.dead) == 2000 * 36 and peak < 120e6


def test_names_are_globs_and_several_are_told_together(
    precomp: Path, coco: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("validate", "--dataset", "prec*,coco", "--json") == 0
    assert [one["dataset"] for one in json.loads(capsys.readouterr().out)["datasets"]] == ["precomp", "coco"]
    assert call("validate", "--dataset", "precmp") == 2
    assert "did you mean precomp" in capsys.readouterr().err


def test_the_page_names_all_and_ends_with_what_to_do(
    precomp: Path, call: Call, capsys: pytest.CaptureFixture[str]
) -> None:
    saved("dev_ims.npy", with_dead)(precomp)
    assert call("validate", "--dataset", "precomp") == 0
    page = capsys.readouterr().out
    assert "constant-region" in page and "dev_ims.npy, row 1: 'dev/1', region 2" in page and "\x1b" not in page
    assert page.splitlines()[-1].startswith("0 errors, 2 warnings, 0 notes: it can be scored; look at the warnings")
    (precomp / "dev_ims.npy").unlink()
    assert call("validate", "--dataset", "precomp") == 3
    assert capsys.readouterr().out.splitlines()[-1].startswith("1 error, 0 warnings, 0 notes: nothing can be scored")


def test_more_places_than_are_shown_are_counted() -> None:
    one = Finding(Severity.NOTE, "code", "things are so", count=5, examples=("a", "b", "c"), split="val")
    assert finding_text(one).plain == "code · val\n5 × things are so\n· a\n· b\n· c\n· …"
    assert last_line([]).startswith("0 errors, 0 warnings, 0 notes")


def test_a_missing_folder_is_told_with_where_to_get_it(project: Path, look: Look) -> None:
    report = look("coco-objects", 3)
    absent = of(report, "file-absent")
    assert {one["file"] for one in absent} == {"captions_val2017.json", "instances_val2017.json", "split.json"}
    assert len(report["findings"]) == 3 and "https://cocodataset.org" in absent[0]["message"]


def test_generated_data_are_looked_at_too(project: Path, look: Look) -> None:
    report = look("tiny")
    assert report["protocols"]["all"]["images"] == 8 and not report["files"]


def test_annotations_that_name_a_box_are_told_by_entry(coco: Path, look: Look) -> None:
    rewrite(coco, lambda content: content["instances.json"]["annotations"][2].pop("bbox"))
    (one,) = [one for one in look("coco", 3)["findings"] if one["severity"] == "error"]
    assert (one["file"], one["entry"]) == ("instances.json", "annotations[2]")


def poisoned(project: Path) -> str:
    """A memory of files that is wrong, as where a disk has changed beneath them; the true fingerprint."""
    memory = project / "runs" / "cache" / MEMORY
    memory.write_text(sealed(dict.fromkeys(unsealed(memory.read_bytes()), "0" * 64)))
    return memory.read_text()


def test_files_are_hashed_whatever_is_remembered_of_them(precomp: Path, look: Look, project: Path) -> None:
    before = look("precomp")
    poisoned(project)
    assert look("precomp")["fingerprint"] == before["fingerprint"]


def test_a_run_hashes_again_where_it_is_asked_to(
    precomp: Path, look: Look, call: Call, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look("precomp")
    wrong = poisoned(project)
    plan = ("run", "-n", "--datasets", "precomp", "--methods", "chance")
    assert call(*plan) == 0
    assert (project / "runs" / "cache" / MEMORY).read_text() == wrong
    assert call(*plan, "--verify-data") == 0
    assert "0" * 64 not in (project / "runs" / "cache" / MEMORY).read_text()
    capsys.readouterr()
