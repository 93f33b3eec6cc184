"""Wrong calls of the API: each ends with an error of the command line, in its words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from finished_projects import Finish

import harness
from harness.api.project import Project
from harness.errors import ConfigError, DataError, HarnessError, StoreError, UsageError

pytestmark = pytest.mark.slow

SCORES = np.zeros((8, 40))
WRONG: tuple[tuple[Callable[[Project], Any], type[HarnessError], str], ...] = (
    (lambda project: harness.open(project.folder / "nowhere"), UsageError, "no such folder or file"),
    (lambda _: harness.open(settings={"training.epoch": 1}), ConfigError, "did you mean"),
    (lambda _: harness.open(plugins=["absent.toml"]), ConfigError, "absent.toml"),
    (lambda _: harness.evaluate(SCORES, "tinny"), UsageError, "unknown dataset 'tinny'; did you mean tiny"),
    (lambda project: project.run("vsepq", here=True), UsageError, "did you mean vsepp"),
    (lambda project: project.run("vsepp", "tinny", here=True), UsageError, "did you mean tiny"),
    (lambda project: project.run("vsepp", protocol="al", here=True), HarnessError, "'al'"),
    (lambda project: project.run("vsepp", limit=0, here=True), UsageError, "--limit 0"),
    (lambda project: project.run("vsepp", recipe="best", here=True), UsageError, "unknown recipe 'best'"),
    (lambda project: project.run("vsepp", settings={"settings.vsepp.dims": 1}, here=True), ConfigError, "dims"),
    (lambda project: project.trial("vsepp"), UsageError, "unknown run 'vsepp'"),
    (lambda project: project.trial("vsepp/tiny/s0").ranks("i2i"), UsageError, "unknown direction 'i2i'"),
    (lambda project: project.board("tinny"), UsageError, "unknown board 'tinny'"),
    (lambda project: project.plot("tiny", name="loss"), UsageError, "unknown plot 'loss'"),
    (lambda project: project.plot("tiny").save("board.gif"), UsageError, "ends in .png or .svg"),
    (lambda project: project.plot("tiny").save("harness.toml/a.png"), StoreError, "cannot be written"),
    (lambda project: project.pictures("tiny", ["test-1"]), UsageError, "unknown image 'test-1'"),
    (lambda project: project.pictures("tiny", []), UsageError, "give 1 to 100 ids"),
    (lambda project: project.pictures("tiny", project.results()), UsageError, "rank, item, score"),
    (lambda project: project.compare("vsepp", "caan"), UsageError, "unknown row 'caan'"),
    (lambda project: project.load("vsepp/tiny/s9"), UsageError, "unknown run"),
    (lambda project: project.load("vsepp/tiny/s0", device="gpu"), UsageError, "give auto, cpu, cuda or cuda:0"),
    (lambda project: project.evaluate(SCORES, "tiny", "al"), HarnessError, "al"),
    (lambda project: project.evaluate("scores.npy", "tiny"), DataError, "numbers"),
    (lambda project: project.evaluate(SCORES[:3], "tiny"), DataError, "3"),
    (lambda project: project.evaluate([[1.0], [1.0, 2.0]], "tiny"), DataError, "give a NumPy array (N, M)"),
    (lambda project: project.evaluate(torch.zeros(8, 40, requires_grad=True), "tiny"), DataError, ".detach().cpu()"),
    (lambda project: project.register(dict, {"name": "a"}), ConfigError, "subclass of harness.method.Method"),
)


def test_wrong_calls_have_the_errors_of_the_command_line(finish: Finish) -> None:
    opened = harness.open(finish(("run", "--here", "--methods", "vsepp")))
    for call, error, words in WRONG:
        with pytest.raises(error, match=re.escape(words)):
            call(opened)
