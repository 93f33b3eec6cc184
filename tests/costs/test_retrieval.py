"""Costs of retrieval: bytes of real vectors, times of single queries, and a machine that is shared."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.blocks.host import with_lengths
from harness.blocks.tiles import Tile
from harness.config.cards import ProtocolCard
from harness.config.project import Config
from harness.config.registry import discover, settings_for
from harness.costs import retrieval, sharing
from harness.costs.retrieval import LEAST, MOST, WARM_UP, caption_queries, image_queries, mean_bytes, retrieval_costs
from harness.costs.sharing import Load, load_costs, load_now
from harness.data.dataset import Dataset
from harness.evaluation.protocols import folds
from harness.evaluation.scoring import Sets, encode_split, score_split, scoring
from harness.layouts.opening import open_dataset
from harness.method import Encoded, Method
from harness.trial.models import build_method

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(scenes_cache: Path) -> Dataset:
    return open_dataset(discover(Config()).datasets["scenes"], Path(), scenes_cache, 60)


def built(name: str, dataset: Dataset) -> Method:
    card = discover(Config()).methods[name]
    small = {key: value for key, value in {"dim": 16, "word_dim": 8, "width": 4}.items() if key in card.defaults}
    return build_method(card, settings_for(card, Config(settings={name: small})), dataset, 0)


def test_bytes_are_those_of_real_vectors_in_their_own_type() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    vectors = torch.zeros(2, 3, 4)
    one = Tile(np.arange(2), Encoded(vectors, with_lengths(mask, np.array([2, 3]))))
    assert mean_bytes([one]) == (2 + 3) / 2 * 4 * 4
    half = Tile(np.array([2]), Encoded(torch.zeros(1, 1, 4).half(), torch.ones(1, 1, dtype=torch.bool)))
    assert mean_bytes([half]) == 8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vsepp", "scan_t2i", "scan_i2t"])
def test_a_single_query_has_the_scores_of_the_whole_evaluation(name: str, dataset: Dataset) -> None:
    """Of the second of two folds, so that the gallery is a part of the split."""
    method, split = built(name, dataset), dataset.split("test")
    protocol = ProtocolCard(name="p", images=30, captions=len(split.captions) // 2, folds=2)
    part = folds(protocol, len(split.images), split.pairs, limited=True)[1]
    scores = score_split(method, split, CPU).scores
    with scoring(method):
        sets = encode_split(method, split, CPU)
        for number in part.images[[0, -1]]:
            own = image_queries(method, sets, split, part, CPU, "fp32")(int(number))
            assert sorted(own.tolist()) == pytest.approx(sorted(scores[number, part.captions]), abs=1e-5)
        for number in part.captions[[0, -1]]:
            own = caption_queries(method, sets, split, part, CPU, "fp32")(int(number))
            assert sorted(own.tolist()) == pytest.approx(sorted(scores[part.images, number]), abs=1e-5)
    costs = retrieval_costs(method, sets, split, part, CPU)
    assert costs.keys() == {"bytes_per_image", "bytes_per_caption", "i2t_query_ms", "t2i_query_ms"}
    assert all(value > 0 for value in costs.values())


def clock(seconds: float) -> Callable[[], float]:
    """A clock that goes on by so much between two looks."""
    ticks: Iterator[float] = iter(np.arange(1000) * seconds)
    return lambda: float(next(ticks))


@pytest.mark.parametrize(("seconds", "asked"), [(0.001, MOST), (0.3, 4), (9.0, LEAST)])
def test_the_number_of_queries_is_bounded_and_the_first_do_not_count(
    seconds: float, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries: list[int] = []

    def answer(number: int) -> Tensor:
        queries.append(number)
        return torch.arange(4.0)

    monkeypatch.setattr(retrieval.time, "perf_counter", clock(seconds))
    assert retrieval.median_ms(answer, np.arange(100)) == pytest.approx(1000 * seconds)
    assert len(queries) == WARM_UP + asked
    assert queries == sorted(queries) and queries[0] == 0


def test_a_query_that_cannot_be_answered_leaves_times_out_and_fails_nothing(dataset: Dataset) -> None:
    method, split = built("vsepp", dataset), dataset.split("test")
    part = folds(ProtocolCard(name="p", images=60, captions=240), 60, split.pairs, limited=True)[0]
    with scoring(method):
        sets: Sets = encode_split(method, split, CPU)

    def fail(*_: Any) -> Tensor:
        raise RuntimeError("out of memory")

    method.score_sides = fail  # type: ignore[method-assign]
    assert retrieval_costs(method, sets, split, part, CPU).keys() == {"bytes_per_image", "bytes_per_caption"}


@pytest.mark.parametrize(("waiting", "shared"), [(1.2, False), (1.6, True), (7.0, True)])
def test_a_machine_is_shared_where_more_waits_than_the_threads_of_the_trial(
    waiting: float, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing.os, "getloadavg", lambda: (waiting, 0.0, 0.0))
    monkeypatch.setattr(sharing.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(sharing.torch, "get_num_threads", lambda: 1)
    assert load_now(CPU) == Load(waiting / 4, shared)


@pytest.mark.parametrize(("free", "waiting", "shared"), [(9000, 3.0, False), (7000, 3.0, True), (9000, 5.0, True)])
def test_a_gpu_is_shared_where_others_hold_memory_or_the_cpus_are_overloaded(
    free: int, waiting: float, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing.os, "getloadavg", lambda: (waiting, 0.0, 0.0))
    monkeypatch.setattr(sharing.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(sharing.torch.cuda, "mem_get_info", lambda _: (free * 2**20, 10_000 * 2**20))
    monkeypatch.setattr(sharing.torch.cuda, "memory_reserved", lambda _: 500 * 2**20)
    load = load_now(torch.device("cuda", 0))
    assert load and load.is_shared is shared


def test_a_system_without_a_load_average_leaves_the_load_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> tuple[float, float, float]:
        raise OSError

    monkeypatch.setattr(sharing.os, "getloadavg", absent)
    assert load_now(CPU) is None and load_costs([None]) == load_costs([]) == {}


def test_a_trial_is_shared_where_most_looks_or_the_last_found_others() -> None:
    alone, beside = Load(0.4, False), Load(1.4, True)
    assert load_costs([alone, beside, alone]) == {"load": 0.4, "shared": 0.0}
    assert load_costs([beside, None, beside, alone])["shared"] == 1.0
    assert load_costs([alone, alone, beside]) == {"load": 0.4, "shared": 1.0}
