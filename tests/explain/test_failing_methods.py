"""A method of a plugin that raises while it is asked: named with its own line, and no fault of harness."""

from __future__ import annotations

import json
import shlex
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from finished_projects import Finish
from tiny_project import CARD, METHOD, Call

import harness
from harness.config.project import load
from harness.config.registry import discover
from harness.diagnostics.choices import TwoWayChoices
from harness.diagnostics.looks import ScoreLooks
from harness.errors import TrialError, UsageError
from harness.evaluation.protocols import split_folds
from harness.explain.rescoring import encoder_of, look_at, scores_of
from harness.explain.weights import TrialChoice, trained, trial_with_weights
from harness.layouts.opening import open_dataset
from harness.trial.folder import CHECKPOINT

Captured = pytest.CaptureFixture[str]
BREAKS = """
    def breaks(self, where):
        asked = os.environ.get("BREAKS", "")
        if asked == where:
            raise RuntimeError(f"a hole in {where}")  # the line that is named
        if asked == f"{where} by exit":
            raise SystemExit(0)
        if asked == f"{where} without memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")
"""
ATTENTION = """
    def regions_of_words(self, images, captions):
        self.breaks("words")
        weights = torch.full((1, 1, self.tokens, self.regions), 0.5)
        return {"shape": weights[..., 0], "text": "0.5", "nan": weights / 0 * 0}.get(os.environ.get("BREAKS"), weights)
"""


def broken_method() -> str:
    """The method of the tiny project, which breaks where the environment says."""
    text = METHOD.replace("        super().__init__", '        self.breaks("building")\n        super().__init__')
    text = text.replace(
        "regions, mask):\n", 'regions, mask):\n        self.breaks("images")\n        self.regions = len(mask[0])\n'
    )
    text = text.replace(
        "tokens, mask):\n", 'tokens, mask):\n        self.breaks("captions")\n        self.tokens = len(mask[0])\n'
    )
    text = text.replace("images, captions):\n", 'images, captions):\n        self.breaks("score")\n')
    return text.replace("\n    def __init__", f"{BREAKS}{ATTENTION}\n    def __init__", 1)


MODULE = broken_method()
LINE = next(number for number, line in enumerate(MODULE.splitlines(), 1) if "the line that is named" in line)
CARDS = {
    "broken.py": MODULE,
    "broken.toml": CARD.format(name="broken", fault="", after=0).replace("faulty:", "broken:"),
    "absent.py": "raise OSError('no licence')",
    "absent.toml": CARD.format(name="absent", fault="", after=0).replace("faulty:", "absent:"),
}


@pytest.fixture
def finished(finish: Finish) -> Path:
    """A project in which the method that may break was trained, and one with attention beside it."""
    return finish(("run", "--here", "-q", "--methods", "broken,scan_t2i"), cards=CARDS)


def said(call: Call, capsys: Captured, code: int, *words: str) -> str:
    capsys.readouterr()
    assert call(*words) == code
    out = capsys.readouterr()
    return " ".join((out.out + out.err).split())


@pytest.mark.parametrize("place", ["building", "images", "captions", "score", "images by exit"])
def test_a_query_names_the_line_of_the_method_that_fails(
    finished: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    query = ("retrieve", "--trial", "broken/tiny/s0", "--text", "a red square", "-k", "1")
    monkeypatch.setenv("BREAKS", place)
    text = said(call, capsys, 4, *query)
    why = f"SystemExit: 0 (broken.py, line {LINE + 2})"
    why = why if "exit" in place else f"RuntimeError: a hole in {place} (broken.py, line {LINE})"
    assert text.endswith(f"error: the method broken has failed: {why}; mend it there, then run it again")
    with pytest.raises(TrialError, match="the method broken has failed"):
        harness.open(finished).load("broken/tiny/s0").retrieve("a red square")
    monkeypatch.delenv("BREAKS")
    assert "first 1 of 8 images" in said(call, capsys, 0, *query)


@pytest.mark.parametrize("place", ["building", "images"])
def test_weights_of_a_folder_name_the_line_of_the_method_that_fails(
    finished: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    assert call("export", "broken/tiny/s0", "--weights", "w") == 0
    monkeypatch.setenv("BREAKS", place)
    text = said(call, capsys, 4, "score", "--weights", "w", "--dataset", "tiny")
    assert f"the method broken has failed: RuntimeError: a hole in {place} (broken.py, line {LINE})" in text
    monkeypatch.delenv("BREAKS")
    assert call("score", "--weights", "w", "--dataset", "tiny") == 0


def test_a_device_without_memory_is_no_failure_of_the_method(
    finished: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKS", "captions without memory")
    text = said(call, capsys, 2, "retrieve", "--trial", "broken/tiny/s0", "--text", "a red square")
    assert text.endswith("Tried to allocate 9 GiB; free the device's memory, or use --device cpu")


def test_among_several_methods_the_failing_ones_are_left_out_with_the_reason(
    finished: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BREAKS", "words")
    failure = f"the method broken has failed: RuntimeError: a hole in words (broken.py, line {LINE})"
    assert failure in said(call, capsys, 4, "explain", "--method", "broken")
    answer = said(call, capsys, 0, "explain", "--methods", "broken,absent,scan_t2i", "--json")
    left = json.loads(answer[answer.index("{") : answer.rindex("}") + 1])["left_out"]
    (first, second) = left.items()
    assert failure in first[0] and first[1] == ["broken"]
    assert "absent.py does not import: OSError: no licence (line 1)" in second[0] and second[1] == ["absent"]
    text = said(call, capsys, 4, "explain", "--methods", "broken,absent,vsepp")
    assert failure in text and "does not import" in text and "vsepp has no attention to show" in text
    monkeypatch.delenv("BREAKS")
    assert "broken" in said(call, capsys, 0, "explain", "--methods", "broken,scan_t2i")


def test_scores_that_are_made_again_name_the_line_of_the_method_that_fails(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = load(finished / "harness.toml")
    registry = discover(config)
    card = registry.dataset("tiny")
    dataset = open_dataset(card, config.data, config.cache)
    split = dataset.split("test")
    looks = ScoreLooks(split, split_folds(card.protocol(), split))
    one = encoder_of(trial_with_weights(config.trials, "broken/tiny/s0"), registry, dataset, "cpu")
    choices = TwoWayChoices(np.arange(2), split.captions[:2], split.captions[2:4])
    monkeypatch.setenv("BREAKS", "captions")
    for scores in (partial(look_at, [one], "test", looks), partial(look_at, [one, one], "test", looks)):
        with pytest.raises(TrialError, match=rf"the method broken has failed: .* \(broken\.py, line {LINE}\)"):
            scores()
    with pytest.raises(TrialError, match=r"the method broken has failed: .* \(broken\.py, "):
        scores_of(one, "test", choices)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("shape", "of torch.float32; floating numbers (1, 1,"),
        ("text", "gives <class 'str'>; floating numbers (1, 1,"),
        ("nan", "regions_of_words gives numbers that are not finite"),
    ],
)
def test_attention_that_is_none_of_finite_numbers_is_named(
    finished: Path, call: Call, capsys: Captured, monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    monkeypatch.setenv("BREAKS", fault)
    assert message in said(call, capsys, 4, "explain", "--method", "broken")


def test_the_command_that_is_named_for_weights_that_are_gone_makes_them_again(
    finished: Path, call: Call, capsys: Captured
) -> None:
    trial = trial_with_weights(finished / "runs" / "trials", "scan_t2i/tiny/s0")
    (trial.folder / CHECKPOINT).unlink()
    text = said(call, capsys, 2, "explain", "--method", "scan_t2i")
    _, _, command = text.partition("run it again with --force: harness ")
    command, _, _ = command.partition(",")
    config = load(finished / "harness.toml")
    with pytest.raises(UsageError, match=r"--force, with the -c, -s and --plugin of this command$"):
        trained(config, discover(config), TrialChoice("scan_t2i", "tiny"))
    with pytest.raises(UsageError, match=r"--seeds 0 --force -c mine\.toml$"):
        trained(
            config,
            discover(config),
            TrialChoice("scan_t2i", "tiny"),
            lambda *words: f"{shlex.join(words)} -c mine.toml",
        )
    assert call(*shlex.split(command), "--here", "-q") == 0
    assert "scan_t2i/tiny/s0" in said(call, capsys, 0, "explain", "--method", "scan_t2i")
