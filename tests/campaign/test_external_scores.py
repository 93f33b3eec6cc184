"""`harness score`: a file of scores as a trial like any other, on the board among ours, and every wrong file."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textbook_recalls import textbook
from tiny_project import SIZES, Call

from harness.board.standings import Board, boards_of
from harness.config.cards import DatasetCard, read_card
from harness.config.project import load
from harness.config.registry import discover
from harness.data.split import Split
from harness.evaluation import scoring
from harness.evaluation.outcome import SplitRanks, rank_scores
from harness.evaluation.records import RANKINGS, RANKS
from harness.evaluation.score_files import hints_of, mean_scores
from harness.layouts.opening import open_dataset
from harness.tracking.result_store import ResultStore
from harness.trial.external import is_external, note_of
from harness.trial.folder import read_result, read_spec
from harness.trial.results import RECALLS

Captured = pytest.CaptureFixture[str]
Array = np.ndarray[Any, Any]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def split(project: Path) -> Split:
    """The images and captions that scores are of."""
    config = load()
    return open_dataset(discover(config).datasets["tiny"], config.data, config.results / "cache").split("test")


def scores_of(split: Split, seed: int = 0, signal: float = 1.0) -> Array:
    """Random scores (N, M) without ties, those of pairs raised."""
    scores = np.random.default_rng(seed).normal(size=(len(split.images), len(split.captions))).astype(np.float32)
    scores[split.pairs[:, 0], split.pairs[:, 1]] += signal
    return scores


def saved(scores: Array, name: str = "scores.npy") -> str:
    np.save(name, scores)
    return name


def asked(file: str, *more: str, name: str = "CLIP B/32") -> list[str]:
    return ["score", file, "--dataset", "tiny", "--name", name, *more]


def scored(call: Call, capsys: Captured, file: str, *more: str, name: str = "CLIP B/32") -> dict[str, Any]:
    assert call(*asked(file, *more, "--json", name=name)) == 0, capsys.readouterr()
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def board() -> Board:
    (found,) = boards_of(ResultStore(f"sqlite:///{Path('runs/mlflow.db').absolute()}").runs(), {})
    return found


@pytest.mark.slow
def test_a_file_becomes_a_finished_trial_with_the_measures_of_the_textbook(
    split: Split, call: Call, capsys: Captured
) -> None:
    scores = scores_of(split)
    found = scored(call, capsys, saved(scores))
    assert {name: found["measures"][name] for name in RECALLS} == pytest.approx(textbook(scores, split))
    assert found["board"]["row"] == "external:CLIP B/32" and found["board"]["section"] == "ranked"
    folder = Path("runs/trials") / found["key"]
    spec, result = read_spec(folder), read_result(folder)
    assert spec and result and spec.key == result.key == found["key"] and is_external(spec.method)
    assert result.measures == found["measures"] and result.gallery["images"] == SIZES["test"]
    arrays = np.load(folder / RANKS, allow_pickle=False)
    assert np.array_equal(arrays["pairs"], split.pairs)
    heads = np.load(folder / RANKINGS, allow_pickle=False)
    assert np.array_equal(heads["i2t_found"], np.argsort(-scores, axis=1)[:, : heads["i2t_found"].shape[1]])
    assert call("report", "--check") == 0


@pytest.mark.slow
@pytest.mark.parametrize("folds", [1, 2])
def test_a_trials_own_scores_saved_and_scored_give_its_measures_and_its_records_to_the_byte(
    split: Split, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch, folds: int
) -> None:
    with Path("cards/tiny/card.toml").open("a") as file:
        file.write(f"folds = {folds}\n")

    def saving(scores: Array, *of: Any) -> SplitRanks:
        np.save("own.npy", scores)
        return rank_scores(scores, *of)

    monkeypatch.setattr(scoring, "rank_scores", saving)
    assert call("run", "--methods", "vsepp", "-s", "training.epochs=1", "--here", "-q") == 0
    (folder,) = Path("runs/trials").iterdir()
    capsys.readouterr()
    other = Path("runs/trials") / scored(call, capsys, "own.npy", name="its scores")["key"]
    ours, theirs = read_result(folder), read_result(other)
    assert ours and theirs and ours.measures == theirs.measures and ours.gallery == theirs.gallery
    assert ours.gallery["folds"] == folds
    for name in (RANKS, RANKINGS):
        assert (folder / name).read_bytes() == (other / name).read_bytes()


@pytest.mark.slow
def test_people_are_told_the_measures_the_place_and_the_files(split: Split, call: Call, capsys: Captured) -> None:
    assert call(*asked(saved(scores_of(split, signal=9)))) == 0
    page = capsys.readouterr().out
    assert "rsum 600.0" in page and "external:CLIP B/32 stands 1 of 1 on tiny/all: rsum 600.0, n = 1" in page
    assert f"{Path('reports/tiny-all.md')} written" in page
    text = Path("reports/tiny-all.md").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith("| 1 | external:CLIP B/32 |"))
    assert "external: scores of a file" in line and "harness score scores.npy --dataset tiny --protocol all" in text
    assert str(Path.cwd()) not in text


@pytest.mark.slow
def test_a_file_cannot_be_reproduced_and_the_reason_is_told(split: Split, call: Call, capsys: Captured) -> None:
    found = scored(call, capsys, saved(scores_of(split)))
    assert call("reproduce", found["key"]) == 2
    assert "is ranked from a file of scores, which nothing here can make again" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_file_twice_is_done_once(split: Split, call: Call, capsys: Captured) -> None:
    first = scored(call, capsys, saved(scores_of(split)))
    file = Path("runs/trials") / first["key"] / "result.json"
    before = file.stat().st_mtime_ns
    Path("scores.npy").rename("renamed.npy")
    assert scored(call, capsys, "renamed.npy")["key"] == first["key"]
    assert call(*asked("renamed.npy")) == 0
    assert "this file was ranked before" in capsys.readouterr().out
    assert file.stat().st_mtime_ns == before and board().ranked[0].n == 1


@pytest.mark.slow
def test_a_store_that_lacks_a_file_gets_it_without_its_being_ranked_again(
    split: Split, call: Call, capsys: Captured, migrated_store: Path
) -> None:
    key = scored(call, capsys, saved(scores_of(split)))["key"]
    file = Path("runs/trials") / key / "result.json"
    before = file.stat().st_mtime_ns
    shutil.copy(migrated_store, "other.db")
    found = scored(call, capsys, "scores.npy", "-s", "tracking.uri=sqlite:///other.db")
    assert (found["key"], found["board"]["n"]) == (key, 1) and file.stat().st_mtime_ns == before
    (run,) = ResultStore(f"sqlite:///{Path('other.db').absolute()}").runs()
    assert run.key == key and run.numbers["rsum"] == found["measures"]["rsum"]


@pytest.mark.slow
def test_files_of_several_seeds_are_one_row_that_is_tested_against_ours(
    split: Split, call: Call, capsys: Captured
) -> None:
    for seed in range(3):
        found = scored(call, capsys, saved(scores_of(split, seed, signal=3), f"s{seed}.npy"), "--seed", str(seed))
    assert found["board"]["n"] == 3
    assert call("run", "--methods", "vsepp", "--seeds", "0,1", "--here", "-q") == 0
    (row, other) = board().ranked
    assert (row.n, other.n, row.machines) == (3, 2, ()) and row.remark == "external: scores of a file"
    assert np.isnan(row.means["parameters"]) and other.remark == "" and other.machines
    capsys.readouterr()
    assert call("compare", "external:CLIP B/32", "vsepp", "--json") == 0
    (compared,) = json.loads(capsys.readouterr().out)
    assert compared["difference"] > 0 and compared["p"] is not None
    assert call("run", "--methods", "vsepp", "--seeds", "0,1", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"done": 2}
    assert board().incomplete == ()


@pytest.mark.slow
def test_a_row_names_the_commands_that_find_its_trials_again(split: Split, call: Call, capsys: Captured) -> None:
    Path("below").mkdir()
    keys = [
        scored(
            call, capsys, saved(scores_of(split, seed), f"below/of {seed}.npy"), "--seed", str(seed), "--note", "0.5"
        )["key"]
        for seed in range(2)
    ]
    (row,) = board().ranked
    lines = row.command.splitlines()
    assert len(lines) == 2 and "below" not in row.command
    for seed, (line, key) in enumerate(zip(lines, keys, strict=True)):
        _, _, file, *words = shlex.split(line, comments=True)
        assert file == f"of {seed}.npy" and f"# sha256 {row.runs[seed].spec.source[:12]}" in line
        assert call("score", f"below/{file}", *words, "--json") == 0
        assert json.loads(capsys.readouterr().out)["key"] == key


@pytest.mark.slow
def test_another_note_is_another_row_told_by_its_note(split: Split, call: Call, capsys: Captured) -> None:
    for seed, note in enumerate(("zero-shot", "fine-tuned")):
        scored(call, capsys, saved(scores_of(split, seed), f"s{seed}.npy"), "--note", note)
    found = board()
    assert {row.differs for row in found.ranked} == {"note zero-shot", "note fine-tuned"}
    assert {note_of(row.runs[0].spec) for row in found.ranked} == {"zero-shot", "fine-tuned"}
    assert {row.remark for row in found.ranked} == {
        f"external: scores of a file, {note}" for note in ("zero-shot", "fine-tuned")
    }


@pytest.mark.slow
def test_a_later_file_of_a_seed_takes_the_place_of_the_earlier_one(split: Split, call: Call, capsys: Captured) -> None:
    keys = [scored(call, capsys, saved(scores_of(split, seed), f"s{seed}.npy"))["key"] for seed in range(3)]
    other = scored(call, capsys, saved(scores_of(split, 9), "s9.npy"), "--seed", "1")["key"]
    found = board()
    assert [run.key for row in found.ranked for run in row.runs] == [keys[2], other]
    assert sorted(run.key for row in found.stale for run in row.runs) == sorted(keys[:2])
    assert {row.n for row in found.stale} == {1} and "an earlier file, " in found.stale[0].reason
    assert "an earlier file, " in found.stale[1].reason


@pytest.mark.slow
def test_a_file_that_is_scored_again_is_the_newest_again(split: Split, call: Call, capsys: Captured) -> None:
    keys = [scored(call, capsys, saved(scores_of(split, seed), f"s{seed}.npy"))["key"] for seed in (0, 1, 0)]
    assert keys[0] == keys[2]
    assert [run.key for row in board().ranked for run in row.runs] == [keys[0]]
    assert [run.key for row in board().stale for run in row.runs] == [keys[1]]


@pytest.mark.slow
def test_one_file_is_no_further_seed(split: Split, call: Call, capsys: Captured) -> None:
    scored(call, capsys, saved(scores_of(split)))
    assert call(*asked("scores.npy", "--seed", "1")) == 2
    assert "this very file is seed 0 of external:CLIP B/32 already" in capsys.readouterr().err
    assert len(list(Path("runs/trials").glob("*/result.json"))) == 1
    scored(call, capsys, "scores.npy", name="a copy")


@pytest.mark.slow
@pytest.mark.parametrize(
    "convert",
    [
        lambda scores: scores.astype(np.float16),
        lambda scores: scores.astype(np.float64),
        lambda scores: scores.astype(">f4"),
        np.asfortranarray,
        lambda scores: scores.astype(np.int8),
        lambda scores: scores.astype(np.uint64),
    ],
    ids=["float16", "float64", "big endian", "Fortran order", "int8", "uint64"],
)
def test_numbers_of_any_exact_kind_give_the_same_ranks(
    split: Split, call: Call, capsys: Captured, convert: Callable[[Array], Array]
) -> None:
    scores = np.round(scores_of(split) * 5 + 50).astype(np.float32)  # few enough that there are ties
    plain = scored(call, capsys, saved(scores, "plain.npy"), name="plain")
    other = scored(call, capsys, saved(convert(scores), "other.npy"), name="other")
    assert other["measures"] == plain["measures"] and plain["measures"]["i2t_tied"] > 0


@pytest.mark.slow
def test_distances_are_warned_of_and_scores_are_not(split: Split, call: Call, capsys: Captured) -> None:
    scores = scores_of(split, signal=9)
    assert call(*asked(saved(-scores))) == 0
    warned = capsys.readouterr().err
    assert "harness: warning: in the reversed order these scores reach a rsum of 600.0" in warned
    assert "save -scores" in warned
    for fine in (scores, scores_of(split, signal=0), np.zeros_like(scores)):
        assert call(*asked(saved(fine), name="fine")) == 0
        assert "warning" not in capsys.readouterr().err


@pytest.mark.slow
def test_several_files_are_averaged_into_an_ensemble_of_its_own_section(
    split: Split, call: Call, capsys: Captured
) -> None:
    matrices = [scores_of(split, seed) for seed in range(2)]
    files = [saved(matrices[0], "a.npy"), saved(matrices[1].astype(np.float64), "b.npy")]
    data = scored(call, capsys, files[0], files[1])
    expected = textbook(np.mean(matrices, axis=0, dtype=np.float64), split)
    assert {name: data["measures"][name] for name in RECALLS} == pytest.approx(expected)
    assert data["board"]["section"] == "ensembles" and not board().ranked
    (row,) = board().ensembles
    assert row.remark == "external: ensemble, mean of the scores of 2 files"
    assert row.command.startswith("harness score a.npy b.npy --dataset tiny")
    assert scored(call, capsys, files[1], files[0])["key"] == data["key"]
    assert scored(call, capsys, files[0], name="alone")["board"]["section"] == "ranked"


def test_the_order_of_files_decides_no_bit_of_their_mean(split: Split) -> None:
    """Scores of three sizes, whose sum in float32 depends on which two are added first."""
    files = [Path(saved(scores_of(split, seed) * 1000**seed, f"{seed}.npy")) for seed in range(3)]
    card = discover(load()).datasets["tiny"]
    first, *others = (mean_scores(order, card, card.protocols[0], split) for order in permutations(files))
    assert first.dtype == np.float32 and all(np.array_equal(first, other) for other in others)


def test_files_of_other_sizes_and_copies_are_no_ensemble(split: Split, call: Call, capsys: Captured) -> None:
    scores = scores_of(split)
    files = [saved(scores, "a.npy"), saved(scores[:, 1:], "b.npy"), saved(scores, "c.npy")]
    assert call(*asked(files[0], files[1])) == 3
    assert "b.npy is 8 x " in capsys.readouterr().err
    assert call(*asked(files[0], files[2])) == 2
    assert "c.npy: an earlier file has the same scores" in capsys.readouterr().err
    assert not Path("runs/trials").exists()


def write(file: str, content: bytes) -> str:
    Path(file).write_bytes(content)
    return file


def broken(scores: Array, image: int, caption: int, value: float) -> Array:
    scores[image, caption] = value
    return scores


def cut(scores: Array) -> str:
    file = saved(scores)
    return write(file, Path(file).read_bytes()[:-100])


WRONG: dict[str, tuple[Callable[[Array], str], int, str]] = {
    "transposed": (lambda s: saved(s.T), 3, "it has captions by images: save scores.T"),
    "images repeated": (lambda s: saved(np.repeat(s, 5, axis=0)), 3, "5 times in a row, once a caption, save scores[:"),
    "another size": (lambda s: saved(s[:, :-1]), 3, "8 images x "),
    "one axis": (lambda s: saved(s.ravel()), 3, "two axes, images by captions"),
    "nothing": (lambda s: saved(s[:0]), 3, "has the shape (0, "),
    "nan": (lambda s: saved(broken(s, 3, 5, np.nan)), 3, "the score of image 3 (test-"),
    "beyond float32": (lambda s: saved(broken(s.astype("f8"), 7, 0, -1e307)), 3, "is -1e+307, beyond what is stored"),
    "inf": (lambda s: saved(broken(s, 7, 0, -np.inf)), 3, "and caption 0 is -inf, which has no rank"),
    "objects": (lambda s: saved(s.astype(object)), 3, "never unpickled"),
    "complex": (lambda s: saved(s.astype(np.complex64)), 3, "holds complex64 numbers"),
    "booleans": (lambda s: saved(s > 0), 3, "holds bool numbers"),
    "records": (lambda s: saved(np.zeros(s.shape, dtype=[("score", "f4")])), 3, "scores are float16, float32"),
    "large integers": (
        lambda s: saved(np.full(s.shape, 2**53 + 1)),
        3,
        "9007199254740993, which float64 cannot represent",
    ),
    "archive": (lambda s: np.savez("scores.npz", s) or "scores.npz", 3, "is an .npz archive"),
    "pickle": (lambda s: write("scores.npy", b"\x80\x04K\x01."), 3, "a pickle, which is never loaded"),
    "text": (lambda s: write("scores.npy", b"0.1 0.2"), 3, "is no .npy file; save the matrix alone with np.save"),
    "empty": (lambda s: write("scores.npy", b""), 3, "is empty"),
    "no header": (lambda s: write("scores.npy", b"\x93NUMPY\x01\x00\x76\x00{'descr'"), 3, "header is damaged"),
    "later version": (lambda s: write("scores.npy", b"\x93NUMPY\x09\x00\x76\x00{'descr'"), 3, "header is damaged"),
    "cut short": (cut, 3, "it is cut short"),
    "absent": (lambda s: "nowhere.npy", 2, "nowhere.npy: no such file"),
    "a folder": (lambda s: "cards", 2, "cards: it is a folder, and must be a file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_refused_with_the_reason(split: Split, call: Call, capsys: Captured, case: str) -> None:
    make, code, words = WRONG[case]
    assert call(*asked(make(scores_of(split)))) == code
    assert words in capsys.readouterr().err
    assert not Path("runs/trials").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (("--dataset", "tinny"), "unknown dataset 'tinny'; did you mean tiny"),
        (("--protocol", "al"), "dataset tiny: unknown protocol 'al'; did you mean all"),
        (("--protocol", "val"), "kept for `harness search`"),
        (("--name", "vsepp"), "--name vsepp: a method here has this name"),
        (("--name", "two\nlines"), "--name 'two\\nlines': give one line"),
        (("--name", "right\u202eleft"), "printable characters"),
        (("--name", "x" * 81), "this has 81"),
        (("--name", " "), "give one line of 1 to 80 printable characters"),
        (("--note", "x" * 201), "--note"),
        (("--seed", "-1"), "give whole numbers from 0"),
    ],
)
def test_a_wrong_word_is_refused_before_anything_is_ranked(
    split: Split, call: Call, capsys: Captured, more: tuple[str, str], words: str
) -> None:
    assert call(*asked(saved(scores_of(split)), *more)) == 2
    assert words in capsys.readouterr().err
    assert not Path("runs/trials").exists()


@pytest.mark.slow
def test_a_name_with_marks_is_shown_as_it_is_in_every_form(split: Split, call: Call, capsys: Captured) -> None:
    name = "a|b <script>alert(1)</script> `c` $d$ \\e {{ f }} 模型"
    found = scored(call, capsys, saved(scores_of(split), "<i>`x`.npy"), "--note", "</code><b>", name=name)
    assert found["label"] == f"external:{name}/tiny/s0"
    assert call("report", "--format", "md,html,csv,json,latex") == 0
    for file in Path("reports").glob("tiny-all*.html"):
        text = file.read_text()
        assert "<script>alert" not in text and "</code><b>" not in text and "<i>`x`" not in text
    table = next(line for line in Path("reports/tiny-all.md").read_text().splitlines() if line.startswith("| 1 |"))
    assert "<script>" not in table and "a|b" not in table and "模型" in table


def test_scores_of_one_fold_of_a_split_are_told_from_the_whole() -> None:
    card = read_card(DatasetCard, ROOT / "datasets" / "coco" / "card.toml")
    protocol = card.protocol("5k")
    hint, other = hints_of((1000, 5000), (5000, 25000), card, protocol)
    assert (
        other == "split 'val' has this size"
        and "one fold of '1k-fold5'" in hint
        and "fold 0 of the 5K" in hint
        and "score all 5000" in hint
    )
    assert not [*hints_of((999, 25000), (5000, 25000), card, protocol)]
    (hint,) = hints_of((25000, 25000), (5000, 25000), card, protocol)
    assert "save scores[::5]" in hint
