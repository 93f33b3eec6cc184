"""Named sets of positives: ids meet rows or are refused, and their measures come from the same scores."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest
import torch
from dataset_files import tiny_card, write_precomp
from folds import pytrec_eval, slow_map_r, success

import methods
from harness.campaign.inputs import PlanInputs, check_data
from harness.config.cards import DatasetCard, MethodCard, read_card
from harness.config.project import Config
from harness.config.registry import Registry
from harness.config.sections import Paths, Training
from harness.config.sources import source_hash
from harness.config.toml import validate
from harness.data.split import Split
from harness.errors import ConfigError, DataError, NonFiniteError
from harness.evaluation import positives
from harness.evaluation.measures import list_measures, measures
from harness.evaluation.outcome import rank_scores
from harness.evaluation.positives import PositiveSet, open_sets, present, rank_sets
from harness.evaluation.protocols import folds
from harness.evaluation.ranks import directed, rank
from harness.evaluation.records import RANKS
from harness.evaluation.scoring import rank_split
from harness.layouts.opening import fingerprint, open_dataset
from harness.trial.models import build_method
from harness.trial.results import Assignment, EpochReport, Failure, State, TrialResult, TrialSpec
from harness.trial.steps import steps

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"
COCO = ROOT / "datasets" / "coco" / "card.toml"
IMAGES, EACH = 6, 3
IMAGE_IDS = [901, 17, 555, 40, 8, 333]
CAPTION_IDS = [70, 12, 99, 3, 41, 58, 200, 1, 77, 64, 5, 300, 21, 22, 9, 83, 600, 44]
THINGS = ("dog", "cat", "bus", "cup", "kite", "tree")
TEXTS = [f'A {thing} stands number {place}, "here"' for thing in THINGS for place in (1, 2, 3)]
SET: dict[str, Any] = {
    "name": "more",
    "protocol": "all",
    "folder": "sets",
    "image_to_caption": "i2c.json",
    "caption_to_image": "c2i.json",
    "caption_ids": "ids.npy",
    "image_ids": "own.json",
    "captions": "official.json",
    "origin": "the moon",
}
CARD = tiny_card(
    "precomp",
    folder="tiny_precomp",
    feature_width=4,
    max_regions=3,
    splits={name: {"images": IMAGES, "captions": IMAGES * EACH} for name in ("train", "val", "test")},
    options={"captions_each": EACH},
    protocols=[
        {"name": "halves", "folds": 2, "images": IMAGES, "captions": IMAGES * EACH},
        {"name": "all", "images": IMAGES, "captions": IMAGES * EACH},
    ],
    positives=[SET],
)
I2C = {"555": [200, 1, 77, 70], "901": [12], "333": [44, 83, 600, 5]}  # images 2, 0 and 5
C2I = {"22": [8, 901], "300": [40], "70": [901, 555, 333], "44": [17]}  # captions 13, 11, 0 and 17


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data root with a small precomputed dataset and one set of positives."""
    place, sets = tmp_path / "tiny_precomp", tmp_path / "sets"
    place.mkdir()
    sets.mkdir()
    for number, stem in enumerate(("train", "val", "test")):
        regions = np.random.default_rng(number).random((IMAGES, 3, 4), dtype=np.float32)
        write_precomp(place, stem, regions, "\n".join(TEXTS))
    np.save(sets / "ids.npy", np.array(CAPTION_IDS))
    write(sets / "own.json", {str(one): [IMAGE_IDS[row // EACH]] for row, one in enumerate(CAPTION_IDS)})
    write(sets / "i2c.json", I2C)
    write(sets / "c2i.json", C2I)
    return tmp_path


def write(file: Path, table: object) -> None:
    file.write_text(json.dumps(table))


def card(**changes: Any) -> DatasetCard:
    """The card, with changes of its one set."""
    return DatasetCard.model_validate({**CARD, "positives": [{**SET, **changes}]})


def split_of(data: Path, limit: int | None = None) -> Split:
    return open_dataset(card(), data, data / "cache", limit).split("test")


def sets_of(data: Path, **changes: Any) -> list[PositiveSet]:
    return open_sets(card(**changes), "all", data, split_of(data))[0]


def test_ids_become_rows_and_each_direction_keeps_its_own_pairs(data: Path) -> None:
    (one,) = sets_of(data)
    assert one.i2t.tolist() == [[2, 6], [2, 7], [2, 8], [2, 0], [0, 1], [5, 17], [5, 15], [5, 16], [5, 10]]
    assert one.t2i.tolist() == [[4, 13], [0, 13], [3, 11], [0, 0], [2, 0], [5, 0], [1, 17]]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [2, 8, 10**6])
def test_the_measures_of_a_set_agree_with_pytrec_eval_on_the_whole_gallery(data: Path, seed: int, levels: int) -> None:
    scores = (np.random.default_rng(seed).integers(0, levels, (IMAGES, IMAGES * EACH)) / 8).astype(np.float32)
    sets = sets_of(data)
    values = positives.measures(rank_sets(scores, sets))
    for way, table, pairs in (("i2t", scores, sets[0].i2t), ("t2i", scores.T, sets[0].t2i[:, ::-1])):
        mask = np.zeros(table.shape, dtype=bool)
        mask[pairs[:, 0], pairs[:, 1]] = True
        table, mask = table[mask.any(axis=1)], mask[mask.any(axis=1)]
        theirs = pytrec_eval(table, mask, [ir_measures.nDCG, ir_measures.Rprec])
        expected = {f"more.{way}_r{k}": value for k, value in success(table, mask).items()}
        expected |= {f"more.{way}_ndcg": theirs["nDCG"], f"more.{way}_r_precision": theirs["Rprec"]}
        expected |= {f"more.{way}_map_r": slow_map_r(table, mask)}
        assert {name: values[name] for name in expected} == pytest.approx(expected)


def test_a_set_that_holds_the_splits_own_pairs_gives_the_measures_of_the_split(data: Path) -> None:
    split, scores = split_of(data), np.random.default_rng(0).random((IMAGES, IMAGES * EACH))
    own = PositiveSet("own", split.pairs, split.pairs[::-1], "")
    ranks = rank(scores, split.pairs)
    expected = measures(ranks) | list_measures(*directed(ranks))
    assert positives.measures(rank_sets(scores, [own])) == pytest.approx(
        {f"own.{name}": value for name, value in expected.items()}
    )


def test_a_score_that_is_not_finite_is_never_measured(data: Path) -> None:
    scores = np.zeros((IMAGES, IMAGES * EACH))
    scores[3, 0] = np.nan  # of no positive
    with pytest.raises(NonFiniteError, match="image 3 and caption 0"):
        rank_scores(scores, folds(card().protocols[1], IMAGES, split_of(data).pairs), sets_of(data))


def swapped(first: int, second: int) -> np.ndarray:
    ids = np.array(CAPTION_IDS)
    ids[[first, second]] = ids[[second, first]]
    return ids


Damage = Callable[[Path], object]
DAMAGES: dict[str, tuple[Damage, str]] = {
    "another split": (
        lambda at: np.save(at / "ids.npy", np.arange(7)),
        r"ids\.npy has 7 caption ids, the split has 18",
    ),
    "an id twice": (
        lambda at: np.save(at / "ids.npy", np.array([*CAPTION_IDS[:17], 12])),
        r"ids\.npy: caption id 12 is there twice, as entries 1 and 17",
    ),
    "captions of two images": (
        lambda at: np.save(at / "ids.npy", swapped(2, 3)),
        r"own\.json: captions of the split's image 0 belong to the images 901 and 17 there \(caption 3, row 2\)",
    ),
    "one image for two": (
        lambda at: write(at / "own.json", {str(one): [IMAGE_IDS[0]] for one in CAPTION_IDS}),
        r"own\.json: image 901 is both image 0 and image 1 of the split",
    ),
    "a caption without image": (
        lambda at: write(at / "own.json", {"70": [901]}),
        r"own\.json: caption 12 \(row 1\) has 0 images there",
    ),
    "a caption of two images": (
        lambda at: write(at / "own.json", {"70": [901, 17]}),
        r"own\.json: caption 70 \(row 0\) has 2 images there",
    ),
    "an unknown query": (
        lambda at: write(at / "i2c.json", {**I2C, "902": [12]}),
        r"i2c\.json: image 902 is not of the split",
    ),
    "an unknown caption": (
        lambda at: write(at / "i2c.json", {**I2C, "8": [12, 13]}),
        r"i2c\.json: caption 13 of image 8 is not of the split; found 1 outside of it, the card says 0",
    ),
    "an unknown image": (
        lambda at: write(at / "c2i.json", {**C2I, "5": [8, 7]}),
        r"c2i\.json: image 7 of caption 5 is not of the split",
    ),
    "only unknown ones": (
        lambda at: write(at / "c2i.json", {**C2I, "5": [7]}),
        r"c2i\.json: caption 5 has no image of the split",
    ),
    "an id twice in a list": (
        lambda at: write(at / "i2c.json", {**I2C, "8": [12, 70, 12]}),
        r"i2c\.json: the list of 8 holds 12 twice",
    ),
    "a query twice": (
        lambda at: (at / "i2c.json").write_text('{"8": [12], "8": [70]}'),
        r"i2c\.json is no whole json file \(the key '8' is there twice\)",
    ),
    "an empty list": (lambda at: write(at / "i2c.json", {**I2C, "8": []}), r"i2c\.json: the entry of 8 is list '\[\]'"),
    "no list": (lambda at: write(at / "i2c.json", {"8": 12}), r"i2c\.json: the entry of 8 is int '12'"),
    "text for a number": (lambda at: write(at / "i2c.json", {"8": ["x2"]}), r"i2c\.json: the list of 8 holds str 'x2'"),
    "true for a number": (lambda at: write(at / "i2c.json", {"8": [True]}), r"the list of 8 holds bool 'True'"),
    "a key that is no id": (lambda at: write(at / "c2i.json", {"08": [17]}), r"c2i\.json: the key '08' is no id"),
    "a list for a table": (lambda at: write(at / "c2i.json", [1, 2]), r"c2i\.json holds list '\[1, 2\]'"),
    "nothing": (lambda at: write(at / "c2i.json", {}), r"c2i\.json holds dict '\{\}'"),
    "a json cut short": (lambda at: (at / "c2i.json").write_text('{"22": [8,'), r"c2i\.json is no whole json file"),
    "a json too deep": (lambda at: (at / "c2i.json").write_text("[" * 10**6), r"c2i\.json is no whole json file"),
    "no text": (lambda at: (at / "own.json").write_bytes(b"\xff\xfe\x80"), r"own\.json, line 1: not UTF-8"),
    "a pointer for a json": (
        lambda at: (at / "i2c.json").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        r"i2c\.json is a Git LFS pointer .* `git lfs pull`",
    ),
    "a pointer for an npy": (
        lambda at: (at / "ids.npy").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        r"ids\.npy is a Git LFS pointer",
    ),
    "a pickled npy": (
        lambda at: np.save(at / "ids.npy", np.array(CAPTION_IDS, dtype=object), allow_pickle=True),
        r"ids\.npy is no whole \.npy file of numbers",
    ),
    "a pickle": (lambda at: (at / "ids.npy").write_bytes(pickle.dumps([1])), r"ids\.npy is no whole \.npy file"),
    "an npy cut short": (
        lambda at: (at / "ids.npy").write_bytes((at / "ids.npy").read_bytes()[:-8]),
        r"ids\.npy is no whole \.npy file",
    ),
    "floats": (lambda at: np.save(at / "ids.npy", np.arange(18) + 0.5), r"ids\.npy holds float64 of shape \(18,\)"),
    "a table of ids": (lambda at: np.save(at / "ids.npy", np.ones((9, 2), int)), r"ids\.npy holds int64 of shape"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_or_foreign_file_is_refused_by_file_and_entry(data: Path, damage: str) -> None:
    spoil, message = DAMAGES[damage]
    spoil(data / "sets")
    with pytest.raises(DataError, match=message) as caught:
        sets_of(data)
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("header", "written"),
    [
        (b"(18,), }              ", b"(999999999999999,), } "),
        (b"(18,), }", b"(18,   }"),
        (b"'shape': (18,)", b"'shape': [[18,"),
        (b"'descr': '<i8'", b"'descr': '|O8'"),
    ],
    ids=["more than any memory", "no tuple", "no end", "objects"],
)
def test_an_npy_with_a_damaged_or_hostile_header_is_refused(data: Path, header: bytes, written: bytes) -> None:
    file = data / "sets" / "ids.npy"
    before = file.read_bytes()
    assert header in before and len(header) == len(written)
    file.write_bytes(before.replace(header, written))
    with pytest.raises(DataError, match=r"ids\.npy is no whole \.npy file"):
        sets_of(data)


def test_entries_outside_of_the_gallery_are_left_out_where_the_card_knows_of_them(data: Path) -> None:
    write(data / "sets" / "i2c.json", {**I2C, "8": [12, 13]})
    (one,) = sets_of(data, outside=1)
    assert one.i2t.tolist()[-1] == [4, 1]
    write(data / "sets" / "i2c.json", I2C)
    with pytest.raises(DataError, match="all entries are of the split; found 0 outside of it, the card says 1"):
        sets_of(data, outside=1)


def official(*order: int) -> dict[str, Any]:
    """An official json with the captions of all rows but one, and of others."""
    texts = [text.replace('"', "``") for text in TEXTS]
    known = [{"id": CAPTION_IDS[row], "caption": texts[at]} for row, at in enumerate(order) if row != 4]
    return {"annotations": [*known, {"id": 12345, "caption": "of another split"}]}


def test_a_permutation_within_an_image_is_seen_by_the_words_of_the_official_captions_alone(data: Path) -> None:
    order, file = [*range(18)], data / "sets" / "official.json"
    write(file, official(*order))
    assert sets_of(data)
    order[9], order[10] = 10, 9
    write(file, official(*order))
    with pytest.raises(DataError, match=r"official\.json: caption 64 reads 'A cup stands number 2"):
        sets_of(data)
    file.unlink()
    assert sets_of(data)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"annotations": [{"id": 12345, "caption": "a dog"}]}, "has none of the split's captions"),
        ({"captions": []}, "expected"),
        ({"annotations": [7]}, "expected"),
        ({"annotations": [{"id": [1], "caption": "a dog"}]}, r"the caption of \[1\] is"),
        ({"annotations": [{"id": 70, "caption": None}]}, "the caption of 70 is NoneType"),
    ],
)
def test_official_captions_of_another_kind_are_refused(data: Path, table: object, message: str) -> None:
    write(data / "sets" / "official.json", table)
    with pytest.raises(DataError, match=message):
        sets_of(data)


def test_a_file_of_another_release_than_the_card_names_is_refused_with_both_hashes(data: Path) -> None:
    with pytest.raises(DataError, match=r"i2c\.json: its sha256 is [0-9a-f]{64}, the card says 00"):
        sets_of(data, sha256={"i2c.json": "00"})


def test_the_release_follows_the_files_and_the_datasets_fingerprint_does_not(data: Path) -> None:
    (before,), mark = sets_of(data), fingerprint(card(), data, data / "cache")
    assert sets_of(data)[0].release == before.release and len(before.release) == 12
    write(data / "sets" / "c2i.json", {**C2I, "5": [8]})
    (after,) = sets_of(data)
    assert after.release != before.release
    assert fingerprint(card(), data, data / "cache") == mark


def test_absent_files_are_named_once_and_their_set_is_left_out(data: Path) -> None:
    two = DatasetCard.model_validate(
        {**CARD, "positives": [SET, {**SET, "name": "less", "image_to_caption": "no.json"}]}
    )
    sets, note = present(two, "all", data)
    assert [one.name for one in sets] == ["more"]
    assert note == (
        "tiny all: no measures of less, as these files are not below the data root: sets/no.json; "
        "get them from the moon"
    )
    (data / "sets" / "own.json").unlink()
    assert present(two, "all", data)[0] == ()
    assert present(two, "halves", data) == ((), "") and present(two, "all", data, limit=3) == ((), "")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([SET, SET], r"card\.toml: positives: 'more' is there twice"),
        ([{**SET, "protocol": "halves"}], "positives: 'more': no protocol 'halves' of one fold; known: all"),
        ([{**SET, "protocol": "5k"}], "no protocol '5k'"),
        ([{**SET, "name": "A.b"}], r"positives\[0\]\.name"),
        ([{**SET, "orign": "moon"}], r"unknown key 'positives\[0\]\.orign'; did you mean positives\[0\]\.origin"),
    ],
)
def test_a_card_whose_sets_have_no_name_or_gallery_of_their_own_is_refused(sets: list[Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        validate(DatasetCard, {**CARD, "positives": sets}, "card.toml")


def assigned(data: Path, protocol: str = "all", limit: int | None = None) -> Assignment:
    """A trial without training on the small dataset."""
    method = read_card(MethodCard, Path(methods.__path__[0]) / "chance.toml")
    place, cache = data / "card.toml", data / "cache"
    place.write_text(toml(card()))
    spec = TrialSpec(
        method="chance",
        dataset="tiny",
        protocol=protocol,
        seed=0,
        settings=method.defaults,
        training=Training(epochs=0),
        limit=limit,
        data_fingerprint=fingerprint(card(), data, cache),
        protocol_version=1,
        source=source_hash(method),
    )
    folder = data / "trials" / spec.key
    return Assignment(spec=spec, method_card=method, dataset_card=card(), data=data, folder=folder, cache=cache)


def run(data: Path, protocol: str = "all", limit: int | None = None) -> tuple[list[EpochReport], TrialResult, Path]:
    """Such a trial's reports, its result and its folder."""
    trial = assigned(data, protocol, limit)
    life = steps(trial)
    reports = [next(life)]
    while True:
        try:
            reports.append(life.send(True))
        except StopIteration as end:
            return reports, end.value, trial.folder


def toml(of: DatasetCard) -> str:
    """A card as TOML: JSON's values are TOML's, tables apart."""
    lines = [f"{name} = {inline(value)}" for name, value in of.model_dump(mode="json").items()]
    return "\n".join(lines)


def inline(value: object) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {inline(one)}' for key, one in value.items())} }}"
    return f"[{', '.join(map(inline, value))}]" if isinstance(value, list) else json.dumps(value)


def test_a_trial_measures_the_sets_of_its_protocol_and_keeps_all_their_ranks(data: Path) -> None:
    _, result, folder = run(data)
    assert result.state is State.DONE and result.environment["positives.more"] == sets_of(data)[0].release
    assert 0 <= result.measures["more.rsum"] <= 600 and result.measures["i2t_map_r"] >= 0
    assert {name.removeprefix("more.") for name in result.measures if name.startswith("more.")} == {
        name for name in result.measures if "." not in name
    }
    with np.load(folder / RANKS, allow_pickle=False) as arrays:
        (one,) = sets_of(data)
        assert np.array_equal(arrays["more.i2t_pairs"], one.i2t) and np.array_equal(arrays["more.t2i_pairs"], one.t2i)
        best = [arrays["more.i2t_rank"][arrays["more.i2t_pairs"][:, 0] == image].min() for image in (0, 2, 5)]
        assert result.measures["more.i2t_mean_rank"] == pytest.approx(np.mean(best))
        ranks = arrays["more.t2i_rank"]
        assert ranks.dtype == np.int32 and len(ranks) == len(one.t2i) and ranks.max() <= IMAGES


def test_a_trial_without_the_files_says_so_at_its_start_and_is_measured_without_them(data: Path) -> None:
    whole = run(data)[1].measures
    for file in (data / "sets").iterdir():
        file.unlink()
    reports, result, folder = run(data)
    assert [report.note for report in reports if report.note] == [present(card(), "all", data)[1]] != [""]
    assert result.measures == {name: value for name, value in whole.items() if "." not in name}
    with np.load(folder / RANKS, allow_pickle=False) as arrays:
        assert not [name for name in arrays if "." in name]


def test_a_trial_of_another_protocol_or_under_a_limit_is_measured_without_the_sets(data: Path) -> None:
    for reports, result, _ in (run(data, protocol="halves"), run(data, limit=4)):
        assert result.state is State.DONE and "positives.more" not in result.environment
        assert not [name for name in result.measures if "." in name]
        assert not any(report.note for report in reports)


def test_a_trial_with_a_damaged_set_fails_for_its_data(data: Path) -> None:
    write(data / "sets" / "i2c.json", {"902": [12]})
    _, result, _ = run(data)
    assert result.failure is Failure.DATA and "image 902 is not of the split" in result.message


def test_a_damaged_set_is_refused_before_anything_runs(data: Path) -> None:
    config, registry = Config(root=data, paths=Paths(data=Path(), results=Path())), Registry({}, {"tiny": card()})

    def check(trials: list[Assignment]) -> None:
        check_data(trials, PlanInputs(config, registry, limit=None))

    check([assigned(data)])
    write(data / "sets" / "i2c.json", {"902": [12]})
    with pytest.raises(DataError, match="image 902 is not of the split"):
        check([assigned(data)])
    check([assigned(data, protocol="halves")])


def test_sets_on_more_scores_than_can_be_held_are_refused_before_scoring(data: Path) -> None:
    method = read_card(MethodCard, Path(methods.__path__[0]) / "chance.toml")
    dataset = open_dataset(card(), data, data / "cache")
    built, split = build_method(method, method.defaults, dataset, seed=0), dataset.split("test")
    parts, cpu = folds(dataset.card.protocols[1], IMAGES, split.pairs), torch.device("cpu")
    with pytest.raises(DataError, match="6 x 18 scores are too many to hold, as the positives of more need them"):
        rank_split(built, split, cpu, parts, sets_of(data), matrix_bytes=0)
    assert rank_split(built, split, cpu, parts, matrix_bytes=0).ranks.sets == []


real = pytest.mark.skipif(not (SHARED / "eccv_caption").is_dir(), reason="the files of ECCV Caption are not here")


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Split:
    """COCO's 5,000 test images with generated features of one number, and the real captions."""
    place = tmp_path_factory.mktemp("coco") / "coco_precomp"
    place.mkdir()
    np.save(place / "testall_ims.npy", np.ones((5000, 1, 1), dtype=np.float32))
    (place / "testall_caps.txt").symlink_to(SHARED / "scan_format" / "coco_precomp" / "testall_caps.txt")
    card = read_card(DatasetCard, COCO).model_dump(mode="json")
    card |= {"feature_width": 1, "splits": {"test": {"images": 5000, "captions": 25000}}, "path": "card.toml"}
    card |= {"text": {"vocabulary_splits": ["test"]}, "order": [one for one in card["order"] if one["split"] == "test"]}
    return open_dataset(DatasetCard.model_validate(card), place.parent, place.parent / "cache").split("test")


@real
def test_the_real_files_meet_the_cards_and_a_slow_loop_finds_the_same_ranks(coco: Split) -> None:
    (cxc, eccv), note = open_sets(read_card(DatasetCard, COCO), "5k", SHARED, coco)
    assert not note
    assert (len(cxc.i2t), len(cxc.t2i), len(np.unique(cxc.t2i[:, 1]))) == (35585, 35585, 24972)
    assert (len(eccv.i2t), len(eccv.t2i)) == (22550 - 2, 11279)
    assert (len(np.unique(eccv.i2t[:, 0])), len(np.unique(eccv.t2i[:, 1]))) == (1261, 1332)
    scores = np.random.default_rng(0).integers(0, 3000, (5000, 25000), dtype=np.int16).astype(np.float32)
    (ranked,) = positives.rank_sets(scores, [eccv])
    for way, table, pairs in ((ranked.i2t, scores, eccv.i2t), (ranked.t2i, scores.T, eccv.t2i[:, ::-1])):
        for query in np.unique(pairs[:, 0])[::300]:
            own = pairs[pairs[:, 0] == query, 1].tolist()
            place = {item: number for number, item in enumerate(own)}
            row = table[query].tolist()
            order = sorted(range(len(row)), key=lambda item: (-row[item], item in place, place.get(item, 0)))
            assert way.ranks[way.queries == query].tolist() == [order.index(item) + 1 for item in own]


@real
def test_the_order_of_the_real_ids_is_that_of_the_captions_words(coco: Split, tmp_path: Path) -> None:
    for name in ("eccv_caption/" + file for file in read_card(DatasetCard, COCO).positives[1].files):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(SHARED / name)
    (tmp_path / "eccv_caption" / "captions_val2014.json").symlink_to(SHARED / "coco_val2017" / "captions_val2017.json")
    eccv = [read_card(DatasetCard, COCO).positives[1]]
    ids = np.load(SHARED / "eccv_caption" / "coco_test_ids.npy", allow_pickle=False).tolist()
    known = json.loads((SHARED / "coco_val2017" / "captions_val2017.json").read_text())["annotations"]
    rows = np.flatnonzero(np.isin(ids, [one["id"] for one in known]))
    assert len(rows) > 2900
    assert positives.read_sets(eccv, tmp_path, coco)
    texts = [*coco.captions]
    texts[rows[-1]] = "another caption"
    with pytest.raises(DataError, match=f"row {rows[-1]} of the split 'another caption'"):
        positives.read_sets(eccv, tmp_path, replace(coco, captions=tuple(texts)))
