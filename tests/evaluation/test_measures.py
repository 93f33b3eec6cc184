"""A measure as a value: its stored name, its title, and which names are none."""

from __future__ import annotations

import numpy as np
import pytest
from folds import five_each
from hypothesis import given
from hypothesis import strategies as st

from harness.evaluation.measures import KINDS, RSUM, Measure, hit_measures, list_measures, mean_measures, title
from harness.evaluation.ranks import DIRECTIONS, directed, rank
from harness.trial.results import HEADLINE

names = st.from_regex(r"\A([a-z][a-z0-9_]{0,5}\.)?((i2t|t2i)_[a-z0-9_]{1,9}|rsum)\Z")


@given(names)
def test_a_measure_prints_as_the_name_it_was_parsed_from(name: str) -> None:
    measure = Measure.parse(name)
    assert measure is not None and str(measure) == name and Measure.parse(str(measure)) == measure


@given(st.text(max_size=12))
def test_what_is_no_measure_is_none_and_keeps_its_name(text: str) -> None:
    measure = Measure.parse(text)
    assert str(measure) == text if measure else title(text) == text


def test_the_parts_of_a_name() -> None:
    assert Measure.parse("i2t_r10") == Measure("i2t", "r", 10)
    assert Measure.parse("cxc.t2i_map_r") == Measure("t2i", "map_r", of="cxc")
    assert Measure.parse("eccv.rsum") == Measure(None, "rsum", of="eccv")
    assert Measure.parse("t2i_r_precision") == Measure("t2i", "r_precision")
    for other in ("seconds", "val_rsum", "best_val_i2t_r1", "i2t", "i2t_", "Cxc.rsum", "i2t_r1 "):
        assert Measure.parse(other) is None


def test_all_that_is_measured_has_a_name_that_says_so() -> None:
    ranks = rank(np.random.default_rng(0).normal(size=(4, 20)), five_each(4))
    measured = mean_measures([ranks, ranks])
    parsed = [Measure.parse(name) for name in measured]
    assert {one.kind for one in parsed if one} == {*KINDS, RSUM} and set(HEADLINE) <= measured.keys()
    assert {(one.direction, one.of) for one in parsed if one} == {*((way, "") for way in DIRECTIONS), (None, "")}
    of_set = hit_measures(*directed(ranks), "cxc") | list_measures(*directed(ranks), "cxc")
    assert of_set == pytest.approx({f"cxc.{name}": value for name, value in measured.items()})
    assert {one.is_rank for one in parsed if one and one.kind.endswith("rank")} == {True}
