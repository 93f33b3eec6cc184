"""The examples in the docstrings of the API, run in a small project."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest
from finished_projects import Finish

import harness

pytestmark = pytest.mark.slow

MODULES = {"harness.api.project": 11, "harness.api.trials": 3}  # and how many calls have an example
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_examples_of_docstrings_run(finish: Finish, capsys: pytest.CaptureFixture[str]) -> None:
    opened = harness.open(finish(("run", "--here", "--methods", "vsepp,chance", "--seeds", "0,1")))
    for name, number in MODULES.items():
        tests = [one for one in doctest.DocTestFinder().find(import_module(name)) if one.examples]
        assert len(tests) == number
        for test in tests:
            test.globs |= {"harness": harness, "project": opened}
            doctest.DocTestRunner(optionflags=OPTIONS).run(test)
    assert "Failed example" not in (out := capsys.readouterr().out), out
