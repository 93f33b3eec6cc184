"""Weights exported, loaded without a project, scored on datasets; and every folder that is not what it says."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_project
from finished_projects import Finish
from safetensors.numpy import load_file, save_file
from tiny_project import CARD, METHOD, Call

import harness
from harness.config.project import load
from harness.config.registry import discover
from harness.data import tokens
from harness.errors import DataError, UsageError
from harness.evaluation.records import RANKINGS, RANKS
from harness.files import sha256
from harness.layouts.opening import open_dataset
from harness.portable.export import placed
from harness.portable.loading import data_root
from harness.portable.scored_weights import check_features
from harness.portable.weights_folder import FACTS, README, TENSORS, VOCABULARY, read_weights_folder
from harness.tracking.result_store import ResultStore

Captured = pytest.CaptureFixture[str]
TRIAL = "vsepp/tiny/s0"


@pytest.fixture
def folder(finish: Finish, call: Call) -> Path:
    """The exported weights of a trial, in the project that it was run in."""
    finish(("run", "--here"))
    assert call("export", TRIAL, "--weights", "w") == 0
    return Path("w")


def answer(call: Call, capsys: Captured, *words: str) -> dict[str, Any]:
    capsys.readouterr()
    assert call(*words, "--json") == 0, capsys.readouterr()
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def refusal(call: Call, capsys: Captured, code: int, *words: str) -> str:
    capsys.readouterr()
    assert call(*words) == code
    return " ".join(capsys.readouterr().err.split())


def altered(folder: Path, change: Callable[[dict[str, Any]], object], *files: str) -> None:
    """Change weights.json, with the hashes of files that were altered as they are now."""
    facts = json.loads((folder / FACTS).read_text())
    change(facts)
    facts["files"] |= {name: sha256(folder / name) for name in files}
    (folder / FACTS).write_text(json.dumps(facts))


@pytest.mark.slow
def test_weights_give_the_ranks_of_their_trial_to_the_byte(folder: Path, call: Call, capsys: Captured) -> None:
    (then,) = ResultStore(f"sqlite:///{Path('runs/mlflow.db').absolute()}").runs()
    found = answer(call, capsys, "score", "--weights", "w", "--dataset", "tiny")
    assert found["key"] != then.key and found["board"]["row"] == "external:vsepp trained on tiny"
    for name in (RANKS, RANKINGS):
        mine, other = (
            dict(np.load(Path("runs/trials", key, name), allow_pickle=False)) for key in (found["key"], then.key)
        )
        assert mine.keys() == other.keys() and all(np.array_equal(mine[one], other[one]) for one in mine)
    assert then.result and found["measures"] == then.result.measures
    page = Path("reports/tiny-all.md").read_text()
    assert "weights of vsepp recipe" in page and "trained and selected on tiny" in page
    assert "harness score --weights w --dataset tiny" in page
    assert harness.open(".").score_weights("w", "tiny").measures == found["measures"]
    again = answer(call, capsys, "score", "--weights", "w", "--dataset", "tiny")
    assert again["key"] == found["key"] and call("report", "--check") == 0


def test_a_folder_says_what_it_is(folder: Path) -> None:
    facts = read_weights_folder(folder).facts
    assert {path.name for path in folder.iterdir()} == {FACTS, *facts.files}
    assert facts.spec.label == TRIAL and facts.features.width == 205 and facts.text.size == 99
    text = (folder / README).read_text()
    assert "trained on A handful of scenes" in text and facts.spec.source in text and "`tiny`" in text
    assert "Licence of the data: generated" in text and not [mark for mark in text.splitlines() if "/tmp" in mark]


@pytest.mark.slow
def test_weights_load_without_the_project_and_score_and_retrieve_as_the_trial(folder: Path, tmp_path: Path) -> None:
    trained = harness.open(".").load(TRIAL)
    gallery = trained.gallery
    regions, captions = [gallery.images[one] for one in range(4)], gallery.captions[:6]
    expected = trained.score(trained.encode_images(regions), trained.encode_captions(captions))
    place = tmp_path / "elsewhere"
    place.mkdir()
    np.savez(place / "regions.npz", *regions)
    shutil.move(folder, place / "w")
    script = f"""
import numpy, harness
method = harness.load("w")
images = method.encode_images([*numpy.load("regions.npz").values()])
numpy.save("scores.npy", method.score(images, method.encode_captions({[*captions]!r})))
print(method, *method.retrieve({captions[0]!r}, among=images, k=4)["item"])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=place, capture_output=True, text=True, check=True)
    assert np.array_equal(np.load(place / "scores.npy"), expected)
    assert done.stdout.split()[-4:] == [str(one) for one in np.argsort(-expected[:, 0], kind="stable")]


def test_what_weights_alone_cannot_do_is_named(folder: Path) -> None:
    method = harness.load(folder)
    captions = method.encode_captions(["a red square", "a circle"])
    regions = np.zeros((3, method.width), dtype=np.float32)
    assert [*method.retrieve(image=regions, among=captions, k=1)["rank"]] == [1]
    for wrong, message in (
        (lambda: method.encode_images(), "without a gallery"),
        (lambda: method.retrieve("a circle"), "pass among"),
        (lambda: method.retrieve(image=regions, among=captions, k=3), "k 3: give a number from 1 to 2"),
        (lambda: method.encode_images([regions[:, :5]]), r"region \(R, 205\)"),
        (lambda: harness.load("nowhere"), "nowhere: no such folder"),
    ):
        with pytest.raises(UsageError, match=message):
            wrong()


@pytest.mark.slow
def test_export_refuses_what_it_would_overwrite_and_what_has_no_weights(
    folder: Path, call: Call, capsys: Captured
) -> None:
    before = (folder / TENSORS).read_bytes()
    assert "not empty" in refusal(call, capsys, 2, "export", TRIAL, "--weights", "w")
    (folder / README).unlink()
    assert call("export", TRIAL, "--weights", "w", "--force") == 0
    assert (folder / README).is_file() and (folder / TENSORS).read_bytes() == before
    (folder / "thesis.tex").write_text("mine")
    assert "'thesis.tex', which no export wrote" in refusal(
        call, capsys, 2, "export", TRIAL, "--weights", "w", "--force"
    )
    assert (folder / "thesis.tex").is_file() and not [path for path in Path().iterdir() if path.name.startswith(".w.")]
    for words, message in (
        (("vsepp/tiny/s9", "--weights", "v"), "no finished trial here is 'vsepp/tiny/s9'"),
        (("--weights", "v"), "name one trial"),
        ((TRIAL,), "give --format for rankings, or --weights DIR"),
        ((TRIAL, "--weights", "v", "--format", "csv"), "leave out --format"),
        ((TRIAL, "--weights", "harness.toml"), "no folder"),
    ):
        assert message in refusal(call, capsys, 2, "export", *words)
    assert call("run", "--here", "--methods", "chance") == 0
    assert "trains nothing" in refusal(call, capsys, 2, "export", "chance/tiny/s0", "--weights", "v")
    assert not Path("v").exists()


def test_ctrl_c_while_weights_are_replaced_leaves_the_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, rename = tmp_path / "weights", Path.rename
    target.mkdir()
    (target / "model").write_text("earlier")

    def interrupted(self: Path, other: Path) -> Path:
        if self.suffix == ".part":
            raise KeyboardInterrupt
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt), placed(target) as part:
        (part / "model").write_text("later")
    assert [*tmp_path.iterdir()] == [target] and (target / "model").read_text() == "earlier"


def test_a_folder_that_was_damaged_or_altered_is_named(folder: Path, tmp_path: Path) -> None:
    def expect(message: str, change: Callable[[Path], object]) -> None:
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        change(copy)
        with pytest.raises(DataError, match=message):
            harness.load(copy)
        shutil.rmtree(copy)

    def reshaped(copy: Path) -> None:
        tensors = load_file(copy / TENSORS)
        first = sorted(tensors)[0]
        save_file({**tensors, first: np.zeros((2, 2), np.float32)}, copy / TENSORS)
        altered(copy, lambda facts: None, TENSORS)

    def without_one(copy: Path) -> None:
        tensors = load_file(copy / TENSORS)
        tensors.pop(sorted(tensors)[0])
        save_file(tensors, copy / TENSORS)
        altered(copy, lambda facts: None, TENSORS)

    def cut(copy: Path) -> None:
        (copy / TENSORS).write_bytes((copy / TENSORS).read_bytes()[:-9])
        altered(copy, lambda facts: None, TENSORS)

    def fewer_words(copy: Path) -> None:
        words = json.loads((copy / VOCABULARY).read_text())["word2idx"]
        (copy / VOCABULARY).write_text(json.dumps({"word2idx": dict([*words.items()][:-1])}))
        altered(copy, lambda facts: None, VOCABULARY)

    expect(f"no {FACTS}", lambda copy: (copy / FACTS).unlink())
    expect(f"{VOCABULARY}: missing", lambda copy: (copy / VOCABULARY).unlink())
    expect(f"{README}: its sha256 is", lambda copy: (copy / README).write_text("mine"))
    expect("damaged", lambda copy: (copy / FACTS).write_text("{"))
    expect("it was altered", lambda copy: altered(copy, lambda facts: facts["spec"].update(seed=7)))
    expect("names other files", lambda copy: altered(copy, lambda facts: facts["files"].pop(README)))
    expect("names other files", lambda copy: altered(copy, lambda facts: facts.update(source_file="../x.py")))
    expect("has the shape", reshaped)
    expect("is not there", without_one)
    expect("no readable safetensors", cut)
    expect("98 words", fewer_words)


def test_weights_of_another_source_are_refused(folder: Path, call: Call, capsys: Captured) -> None:
    def other_source(facts: dict[str, Any]) -> None:
        weights = read_weights_folder(folder)
        spec = weights.spec.model_copy(update={"source": "0" * 64})
        facts.update(spec=spec.model_dump(mode="json"), key=spec.key)

    altered(folder, other_source)
    message = refusal(call, capsys, 3, "score", "--weights", "w", "--dataset", "tiny")
    assert "belong to the source 000000000000 of vsepp" in message and "install that version" in message


@pytest.mark.slow
def test_no_code_of_a_folder_runs_unless_its_card_is_named(finish: Finish, call: Call, tmp_path: Path) -> None:
    own = {
        "own.py": f"open('{tmp_path}/ran', 'w').close()\n{METHOD}",
        "own.toml": CARD.format(name="own", fault="", after=0),
    }
    own["own.toml"] = own["own.toml"].replace("faulty:Faulty", "own:Faulty")
    finish(("run", "--here", "--methods", "own"), cards=own)
    assert call("export", "own/tiny/s0", "--weights", "w") == 0
    (tmp_path / "ran").unlink()
    with pytest.raises(UsageError, match=r"nothing in w is run by itself: read own.py .* --plugin w/own.toml"):
        harness.load("w")
    assert not (tmp_path / "ran").exists()
    assert harness.load("w", plugins=["w/own.toml"]).spec.method == "own" and (tmp_path / "ran").exists()
    assert Path("w/own.py").read_text() == own["own.py"]


def test_features_of_another_width_or_extractor_are_refused(
    folder: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = Path("cards/tiny/card.toml").read_text()
    Path("cards/other").mkdir()
    Path("cards/other/card.toml").write_text(card.replace('"tiny"', '"other"').replace("= 205", "= 204"))
    message = refusal(call, capsys, 3, "score", "--weights", "w", "--dataset", "other")
    assert "other: regions have 204 numbers, those of tiny 205; a method reads only regions" in message
    config, weights = load(), read_weights_folder(folder)
    dataset = open_dataset(discover(config).dataset("tiny"), config.data, config.cache)
    assert not check_features(weights, dataset)
    monkeypatch.setattr(dataset, "fingerprint", "another")
    assert not check_features(weights, dataset)  # another split of the same generator
    origins = [{"kind": "grid", "model": "clip", "weights_sha256": "1", "files": ["a"]}]
    made = weights.facts.features.model_copy(update={"origins": origins})
    by_model = weights._replace(facts=weights.facts.model_copy(update={"features": made}))
    with pytest.raises(DataError, match=r"another kind than those of tiny \(kind none, there grid; layout scenes"):
        check_features(by_model, dataset)
    unknown = made.model_copy(update={"origins": [], "layout": "precomp"})
    by_nobody = weights._replace(facts=weights.facts.model_copy(update={"features": unknown}))
    assert "nothing says which model made the regions of tiny" in check_features(by_nobody, dataset)


@pytest.mark.slow
def test_words_that_the_weights_do_not_know_are_counted_and_the_row_says_what_they_were_trained_on(
    folder: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tiny_project.DATASET.replace('"tiny"', '"other"') + "[options]\nseed = 5\n"
    monkeypatch.setattr(tiny_project, "DATASET", other)
    Path("cards/other").mkdir()
    tiny_project.write_dataset(Path("cards/other/card.toml"), Path("runs/cache"))
    found = answer(call, capsys, "score", "--weights", "w", "--dataset", "other", "--note", "mine")
    words = {*json.loads((folder / VOCABULARY).read_text())["word2idx"]}
    config = load()
    split = open_dataset(discover(config).dataset("other"), config.data, config.cache).split("test")
    cut = [word for caption in split.captions for word in tokens.words(caption)]
    number = sum(word not in words for word in cut)
    assert number and found["warnings"][0].startswith(f"{number} of {len(cut)} words (")
    assert "trained and selected on tiny, mine" in Path("reports/other-all.md").read_text()
    for words_given, message in (
        (("--weights", "w", "x.npy"), "give one or more files of scores, or --weights DIR"),
        (("--weights", "w", "--seed", "3"), "weights know the seed of their trial"),
        (("--weights", "w", "--name", "vsepp"), "a method here has this name"),
        (("--weights", "cards"), "cards: no folder of weights"),
        (("x.npy",), "--name"),
    ):
        code = 3 if "cards" in words_given else 2
        assert message in refusal(call, capsys, code, "score", "--dataset", "other", *words_given)


def test_a_row_of_weights_says_in_what_it_was_scored_and_that_part_of_the_data_was_trained_on(
    folder: Path, call: Call
) -> None:
    spec = read_weights_folder(folder).spec
    training = spec.training.model_copy(update={"score_precision": "bf16"}).model_dump(mode="json")
    limited = spec.model_copy(update={"limit": 8, "training": spec.training.model_validate(training)})
    altered(folder, lambda facts: facts.update(key=limited.key, spec=limited.model_dump(mode="json")))
    assert call("score", "--weights", "w", "--dataset", "tiny") == 0
    line = next(line for line in Path("reports/tiny-all.md").read_text().splitlines() if "| external:" in line)
    assert "trained and selected on tiny, only the first 8 images of each split" in line and "scored in bf16" in line


def test_the_data_root_may_be_below_the_home_of_its_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HARNESS_DATA", "~/sets ")
    assert data_root() == tmp_path / "sets"
    monkeypatch.setenv("HARNESS_DATA", "~nobody-of-this-name/sets")
    with pytest.raises(UsageError, match="HARNESS_DATA"):
        data_root()
