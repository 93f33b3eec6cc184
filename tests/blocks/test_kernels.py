"""The fused kernel against the torch path: on CUDA where there is one, else in Triton's interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from harness.blocks.attention import as_context, as_queries, pool, products, relevance, softmax_weights, stacked_weights
from harness.blocks.focal import focused
from harness.blocks.tiles import Tile
from harness.config.project import Config
from harness.config.registry import discover, load_class, settings_for
from harness.contract.samples import SMALL, encoded
from harness.evaluation import scoring
from harness.evaluation.scoring import runs_kernels, score_encoded
from harness.method import Encoded, Inputs, ScorePrecision

DEVICE = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
if DEVICE.type == "cpu":
    os.environ["TRITON_INTERPRET"] = "1"  # read when a kernel is defined
pytest.importorskip("triton", reason="triton comes with torch's builds for CUDA, and with the test extra")

from harness.blocks.fused import (  # noqa: E402
    LONGEST,
    AttentionKernel,
    Network,
    Shape,
    attention_kernel,
    fastest_shape,
)
from harness.blocks.packing import (  # noqa: E402
    HIGH_BITS,
    LOW_BITS,
    Precision,
    packed,
    with_eighths,
    without_low_bits,
)

CUT = Shape(contexts=32, queries=32, depth=16, warps=4, stages=2)
CLOSE = 1e-5 if DEVICE.type == "cpu" else 2e-5  # on a GPU inner sums are of bfloat16 in two terms
BOUND = {"fp16+fp8": 1e-5, "bf16x3": 1e-5, "tf32x3": 1e-5, "fp16": 1e-3, "tf32": 3e-3, "bf16": 2e-2}
FOUND = discover(Config())


def drawn(generator: torch.Generator, sets: int, longest: int, dim: int, scattered: bool = False) -> Encoded:
    """Unit vectors in sets of 1 to `longest`, with noise where there is padding; `scattered` among the real ones."""
    lengths = torch.randint(1, longest + 1, (sets,), generator=generator)
    mask = torch.arange(longest) < lengths[:, None]
    if scattered:
        mask = mask[:, torch.randperm(longest, generator=generator)]
    vectors = normalize(torch.randn(sets, longest, dim, generator=generator), dim=-1)
    return Encoded((vectors + 3.0 * ~mask.unsqueeze(2)).to(DEVICE), mask.to(DEVICE))


def expected(
    context: Encoded, queries: Encoded, how: Network, mapping: Tensor | None, weights: Tensor | None
) -> Tensor:
    """The same by blocks.attention, in float64."""
    of, by = (Encoded(sets.vectors.double(), sets.mask) for sets in (context, queries))
    left, right = as_context(of), as_queries(by)
    product = products(left.vectors, right.vectors)
    logits = product if mapping is None else products(left.vectors @ mapping.double(), right.vectors)

    def attention(part: Tensor, of: Any) -> Tensor:
        if how.slope is None:
            return softmax_weights(how.temperature * part, of)
        weights = stacked_weights(part, of, how.temperature, how.slope)
        return focused(weights, of, how.focus) if how.focus else weights

    cosines = relevance(attention, logits, product, left)
    if weights is not None:
        return (cosines * weights.double().T).sum(1).float()
    assert how.pooling != "weighted"
    return pool(cosines, right, how.pooling, how.pooling_temperature).float()


NETWORKS = [  # SCAN's with both poolings, BSSAN's two, BFAN's two
    Network(9.0, 0.1),
    Network(20.0, 0.0, "lse", 6.0),
    Network(8.0, None, "weighted", largest=3.0, mapped=True),
    Network(40.0, 0.0, "weighted", mapped=True),
    Network(9.0, 0.1, focus="equal"),
    Network(9.0, 0.1, focus="prob"),
]


@pytest.mark.parametrize("seed", [*range(60), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(60, 200))])
def test_the_kernel_scores_as_torch_does(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    how = NETWORKS[seed % 6]
    dim = (5, 40, 70)[seed % 3] if DEVICE.type == "cpu" else 40  # each is compiled
    scattered = seed % 5 == 0
    context = drawn(generator, number(1, 5), number(1, 32), dim, scattered)
    queries = drawn(generator, number(1, 5), number(1, 32), dim, scattered)
    mapping = weights = None
    if how.pooling == "weighted":
        mapping = torch.eye(dim, device=DEVICE) + torch.randn(dim, dim, generator=generator).to(DEVICE) / dim
        weights = torch.rand(queries.mask.shape, generator=generator).to(DEVICE) * queries.mask
    kernel = AttentionKernel(how, "tf32x3", CUT)
    mapped = None if mapping is None else context.vectors @ mapping
    scores = kernel.scores(kernel.contexts(context, mapped), kernel.queries(queries, weights))
    torch.testing.assert_close(scores, expected(context, queries, how, mapping, weights), rtol=0, atol=CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("precision", get_args(Precision))
def test_each_precision_keeps_its_bound(precision: Precision) -> None:
    if DEVICE.type == "cpu" and not precision.startswith("tf32"):
        pytest.skip("the interpreter has neither bfloat16 nor numbers of eight bits")
    dim = 1024 if DEVICE.type == "cuda" else 128
    generator = torch.Generator().manual_seed(0)
    images, captions = drawn(generator, 4, 36, dim), drawn(generator, 6, 30, dim)
    for context, queries in ((images, captions), (captions, images)):
        kernel = AttentionKernel(NETWORKS[0], precision, fastest_shape(precision))
        scores = kernel.scores(kernel.contexts(context), kernel.queries(queries))
        difference = (scores - expected(context, queries, NETWORKS[0], None, None)).abs().max()
        assert difference < BOUND[precision]


METHODS: list[tuple[str, dict[str, Any]]] = [
    ("scan_t2i", {}),
    ("scan_t2i", {"pooling": "lse", "slope": 0.0}),
    ("scan_i2t", {}),
    ("bssan", {}),
    ("bssan", {"competition": False}),
    ("bssan", {"networks": "w2r"}),
    ("bssan", {"networks": "o2w"}),
    ("bfan_equal", {}),
    ("bfan_prob", {}),
]


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("name", "changes"), METHODS)
def test_a_method_is_scored_by_its_kernel_as_by_torch(
    name: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    method = built(name, **changes).to(DEVICE)
    images, captions = (tiles_of(sets) for sets in encoded_on(method))
    by_torch = score_encoded(method, images, captions, DEVICE)
    asked = []
    monkeypatch.setattr(scoring, "FUSED_PAIRS", 0)
    monkeypatch.setattr(AttentionKernel, "scores", counting(AttentionKernel.scores, asked))
    by_kernel = score_encoded(method, images, captions, DEVICE)
    assert asked
    torch.testing.assert_close(by_kernel, by_torch, rtol=0, atol=1e-5)


def counting(original: Callable[..., Tensor], asked: list[int]) -> Callable[..., Tensor]:
    def scores(*of: Any) -> Tensor:
        asked.append(1)
        return original(*of)

    return scores


def built(name: str, **changes: Any) -> Any:
    card = FOUND.methods[name]
    kind = load_class(card)
    torch.manual_seed(3)
    method = kind(kind.Settings(**{**settings_for(card, SMALL), **changes}), Inputs(20, 50)).eval()
    for part in method.parameters():
        part.data += 0.05 * torch.randn(part.shape)  # maps and saliences begin as if they were not there
    return method


def encoded_on(method: Any) -> tuple[Encoded, Encoded]:
    images, captions = encoded(method.cpu())
    method.to(DEVICE)
    return tuple(Encoded(*(part.to(DEVICE) for part in sets)) for sets in (images, captions))  # type: ignore[return-value]


def tiles_of(sets: Encoded) -> list[Tile]:
    """Batches of a split, as encoding leaves them: each cut to its longest set."""
    places = torch.arange(len(sets.mask)).split(4)
    longest = [int(sets.mask[part].sum(1).max()) for part in places]
    return [
        Tile(part.numpy(), Encoded(sets.vectors[part, :most], sets.mask[part, :most]))
        for part, most in zip(places, longest, strict=True)
    ]


@pytest.mark.parametrize("name", ["scan_t2i", "scan_i2t", "bssan", "bfan_equal"])
def test_what_the_kernel_cannot_do_is_left_to_torch(name: str) -> None:
    method = built(name)
    assert method.fused(LONGEST, LONGEST, "fp32", DEVICE) is not None
    assert method.fused(LONGEST + 1, 5, "fp32", DEVICE) is method.fused(5, LONGEST + 1, "fp32", DEVICE) is None
    sharp = built(name, temperature=45.0)
    assert sharp.fused(5, 5, "fp32", DEVICE) is None


def test_a_bilinear_map_that_makes_logits_too_large_is_left_to_torch() -> None:
    method = built("bssan")
    method.word_attention.bilinear.data *= 10
    assert method.fused(5, 5, "fp32", DEVICE) is None
    method.word_attention.bilinear.data /= 10
    method.object_attention.bilinear.data *= 10  # rectified and of unit length: as large as it likes
    assert method.fused(5, 5, "fp32", DEVICE) is not None


@pytest.mark.parametrize(
    ("precision", "dim", "mapped", "expected"),
    [
        ("fp32", 1024, False, "fp16+fp8"),
        ("fp32", 512, False, "bf16x3"),
        ("fp32", 1024, True, "bf16x3"),
        ("tf32", 512, False, "fp16"),
        ("tf32", 512, True, "tf32"),
        ("bf16", 512, True, "bf16"),
    ],
)
def test_a_gpu_takes_the_fastest_products_that_are_exact_enough(
    precision: ScorePrecision, dim: int, mapped: bool, expected: Precision
) -> None:
    network = NETWORKS[2 if mapped else 0]
    kernel = attention_kernel(network, 36, 30, dim, precision, torch.device("cuda", 0))
    assert kernel is not None
    assert kernel.precision == expected


def test_the_interpreter_takes_three_terms_of_tf32() -> None:
    kernel = attention_kernel(NETWORKS[0], 36, 30, 1024, "fp32", torch.device("cpu"))
    assert kernel is not None
    assert kernel.precision == "tf32x3"


def test_half_precision_and_eight_bits_give_a_product_within_a_few_millionths() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (normalize(torch.randn(300, 1024, generator=generator), dim=1) for _ in range(2))
    of, by = with_eighths(a, "queries"), with_eighths(b, "contexts")
    product = of.high.double() @ by.high.double().T
    assert (product - a.double() @ b.double().T).abs().max() > 1e-5
    product += (of.low.double() @ by.low.double().T) * 2.0 ** -(LOW_BITS + HIGH_BITS)
    assert (product - a.double() @ b.double().T).abs().max() < 3e-6


def test_sets_that_do_not_fit_a_tile_are_refused() -> None:
    sets = drawn(torch.Generator().manual_seed(0), 3, 33, 8)
    longest = Encoded(sets.vectors, torch.ones_like(sets.mask))
    with pytest.raises(ValueError, match="1 to 32 vectors, not of 33"):
        packed(longest, 32)
    with pytest.raises(ValueError, match="1 to 32 vectors, not of 0"):
        packed(Encoded(sets.vectors, torch.zeros_like(sets.mask)), 32)


def test_kernels_run_in_the_interpreter_only_where_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert runs_kernels(cpu)
    monkeypatch.delenv("TRITON_INTERPRET")
    assert not runs_kernels(cpu)


def test_high_parts_are_what_tf32_holds() -> None:
    numbers = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    high = without_low_bits(numbers)
    assert (high.view(torch.int32) & 0x1FFF == 0).all()
    assert ((numbers - high).abs() <= numbers.abs() * 2.0**-10).all()
