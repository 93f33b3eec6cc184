"""The scores of tiles of packed sets, in Triton: the products of a tile never reach the memory.

A program multiplies a tile of queries, in rows, with two of contexts, in columns. What follows are products, too: sums
over the vectors of a set, along either axis of a tile, with a matrix of zeros and ones; e^T G e with one matrix of the
Gram matrices of a tile's sets. They are of bfloat16, whose left side may stay in registers, in two terms where one
would lose more than the products did. Matrices are loaded by descriptors, which Hopper and later have.
"""

from __future__ import annotations

import triton
import triton.language as tl

from harness.blocks.focal import HAIR

_HAIR = tl.constexpr(HAIR)


@triton.jit  # type: ignore[untyped-decorator]
def _split(numbers, kind: tl.constexpr):  # type: ignore[no-untyped-def]  # Triton compiles annotations too
    """Float32 numbers rounded to a kind, and what that leaves of them."""
    if kind == tl.bfloat16:
        # two at a time: Triton's own conversion of one is many times slower than that of a pair
        high, low = tl.inline_asm_elementwise(
            """{
            .reg .b32 a, b;
            .reg .f32 c, d;
            cvt.rn.bf16x2.f32 $0, $3, $2;
            shl.b32 a, $0, 16;
            and.b32 b, $0, 0xffff0000;
            sub.f32 c, $2, a;
            sub.f32 d, $3, b;
            cvt.rn.bf16x2.f32 $1, d, c;
            }""",
            "=&r,=&r,r,r",
            [numbers],
            dtype=(tl.bfloat16, tl.bfloat16),
            is_pure=True,
            pack=2,
        )
    else:
        high = numbers.to(kind)
        low = (numbers - high.to(tl.float32)).to(kind)
    return high, low


@triton.jit  # type: ignore[untyped-decorator]
def _two_to(powers, kind: tl.constexpr):  # type: ignore[no-untyped-def]
    """2 to the power of float32 numbers; Triton's own also scales those whose power is not a normal number."""
    if kind == tl.bfloat16:
        numbers = tl.inline_asm_elementwise(
            "ex2.approx.ftz.f32 $0, $1;", "=r,r", [powers], dtype=tl.float32, is_pure=True, pack=1
        )
    else:
        numbers = tl.exp2(powers)
    return numbers


@triton.jit  # type: ignore[untyped-decorator]
def _right(numbers, ones, EXACT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Float32 numbers times zeros and ones, in two terms or in one."""
    high, low = _split(numbers, ones.dtype)
    sums = tl.dot(high, ones)
    if EXACT:
        sums = tl.dot(low, ones, sums)
    return sums


@triton.jit  # type: ignore[untyped-decorator]
def _left(ones, numbers, EXACT: tl.constexpr):  # type: ignore[no-untyped-def]
    high, low = _split(numbers, ones.dtype)
    sums = tl.dot(ones, high)
    if EXACT:
        sums = tl.dot(ones, low, sums)
    return sums


# fmt: off
@triton.jit  # type: ignore[untyped-decorator]
def _products(  # type: ignore[no-untyped-def]
    queries, queries_low, contexts, contexts_low, query, context,
    WIDTH: tl.constexpr, QUERIES: tl.constexpr, CONTEXTS: tl.constexpr, DEPTH: tl.constexpr, THREE: tl.constexpr,
    EIGHTHS: tl.constexpr,
):
    # fmt: on
    """The inner products of a tile of queries with two of contexts."""
    s = tl.zeros((QUERIES, 2 * CONTEXTS), tl.float32)
    if EIGHTHS:  # first, while the sums are small: they lose bits that half precision would miss
        for step in range(0, 2 * WIDTH, 2 * DEPTH):
            s = tl.dot(queries_low.load([query, step]), contexts_low.load([context, step]).T, s)
        s *= 2.0**-EIGHTHS
    for step in range(0, WIDTH, DEPTH):
        of, by = queries.load([query, step]), contexts.load([context, step])
        s = tl.dot(of, by.T, s, input_precision="tf32")
        if THREE:
            s = tl.dot(queries_low.load([query, step]), by.T, s, input_precision="tf32")
            s = tl.dot(of, contexts_low.load([context, step]).T, s, input_precision="tf32")
    return tl.split(s.reshape(QUERIES, 2, CONTEXTS).permute(0, 2, 1))


@triton.jit  # type: ignore[untyped-decorator]
def _weights(logits, members, temperature, slope, once, RECTIFIED: tl.constexpr, EXACT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Attention of every query vector to the contexts, up to a positive factor."""
    LOG2E: tl.constexpr = 1.4426950408889634
    if RECTIFIED:
        f = tl.maximum(logits, logits * slope)
        square = tl.zeros((members.shape[1], logits.shape[1]), tl.float32)
        for _ in range(once):  # in a region of its own Triton shares this product out among the warps
            square = _left(tl.trans(members), f * f, EXACT)
        norm = square * tl.rsqrt(tl.maximum(square, 1e-37))
        warmth = temperature * LOG2E / (norm + 1e-8)
        high, low = _split(warmth, members.dtype)
        heat = tl.dot(members, low)
        if EXACT:  # a third term: what is lost here grows with the temperature
            rest = warmth - high.to(tl.float32) - low.to(tl.float32)
            heat = tl.dot(members, rest.to(members.dtype), heat)
        heat = tl.dot(members, high, heat)
        e = _two_to(f * heat, members.dtype)
    else:
        e = _two_to(logits * (temperature * LOG2E), members.dtype)
    return e


@triton.jit  # type: ignore[untyped-decorator]
def _focused(e, owners, context_length, FOCUS: tl.constexpr, EXACT: tl.constexpr):  # type: ignore[no-untyped-def]
    """Weights that are not below the threshold of blocks.focal by more than its hair."""
    if FOCUS == "equal":
        least = _right(e, owners, EXACT) / context_length
    else:
        roots = e * tl.rsqrt(e)
        least = _right(roots * e, owners, EXACT) / tl.maximum(_right(roots, owners, EXACT), 1e-37)
    return tl.where(e >= _right(least, tl.trans(owners), True) * (1 - _HAIR), e, 0.0)


# fmt: off
@triton.jit  # type: ignore[untyped-decorator]
def _cosines(e, s, grams, grams_low, context, owners, EXACT: tl.constexpr):  # type: ignore[no-untyped-def]
    # fmt: on
    """Cosines of every query vector with what it attends to in every context set of a tile: e . s / sqrt(e^T G e)."""
    inner = _right(e * s, owners, EXACT)
    high, low = _split(e, owners.dtype)
    g = grams.load([context, 0])
    spread = tl.dot(high, g)
    if EXACT:
        spread = tl.dot(low, g, spread)
        spread = tl.dot(high, grams_low.load([context, 0]), spread)
    square = _right(e * spread, owners, EXACT)
    return inner * tl.rsqrt(tl.maximum(square, 1e-37))


# fmt: off
@triton.jit  # type: ignore[untyped-decorator]
def _store_tile(  # type: ignore[no-untyped-def]
    logits, s, grams, grams_low, weights, context_places, context_numbers, context_lengths, query_places,
    query_numbers, query_lengths, scores, c, q, sets_of_queries, temperature, slope, pooling_temperature, once,
    QUERIES: tl.constexpr, CONTEXTS: tl.constexpr, COUNT: tl.constexpr, RECTIFIED: tl.constexpr,
    POOLING: tl.constexpr, FOCUS: tl.constexpr, EXACT: tl.constexpr,
):
    # fmt: on
    """The scores of the sets of a tile of queries with those of a tile of contexts, from their logits and products."""
    half: tl.constexpr = grams.dtype
    rows, columns, sets = tl.arange(0, QUERIES), tl.arange(0, CONTEXTS), tl.arange(0, COUNT)
    length = tl.load(query_lengths + q)
    members = (rows[:, None] // length == sets[None, :]).to(half)
    context_length = tl.load(context_lengths + c)
    owners = (columns[:, None] // context_length == sets[None, :]).to(half)
    e = _weights(logits, members, temperature, slope, once, RECTIFIED, EXACT)
    if FOCUS != "":
        e = _focused(e, owners, context_length, FOCUS, EXACT)
    cosines = _cosines(e, s, grams, grams_low, c * CONTEXTS, owners, EXACT)
    of_sets = tl.trans(members)
    if POOLING == "lse":
        summed = _left(of_sets, tl.exp(pooling_temperature * cosines), True)
        pooled = tl.log(tl.maximum(summed, 1e-37)) / pooling_temperature
    elif POOLING == "weighted":
        pooled = _left(of_sets, cosines * tl.load(weights + q * QUERIES + rows)[:, None], True)
    else:
        pooled = _left(of_sets, cosines, True) / length

    row = tl.load(context_places + c * COUNT + sets)
    column = tl.load(query_places + q * COUNT + sets)
    real = (sets < tl.load(query_numbers + q))[:, None] & (sets < tl.load(context_numbers + c))[None, :]
    tl.store(scores + row[None, :].to(tl.int64) * sets_of_queries + column[:, None], pooled, mask=real)


# fmt: off
@triton.jit(do_not_specialize=["pairs", "query_tiles", "sets_of_queries", "once"])  # type: ignore[untyped-decorator]
def score_tiles(  # type: ignore[no-untyped-def]
    queries, queries_low, contexts, contexts_low, grams, grams_low, weights, context_places, context_numbers,
    context_lengths, query_places, query_numbers, query_lengths, scores, pairs, query_tiles, sets_of_queries,
    temperature, slope, pooling_temperature, once,
    WIDTH: tl.constexpr, CONTEXTS: tl.constexpr, QUERIES: tl.constexpr, DEPTH: tl.constexpr, COUNT: tl.constexpr,
    RECTIFIED: tl.constexpr, MAPPED: tl.constexpr, POOLING: tl.constexpr, FOCUS: tl.constexpr, THREE: tl.constexpr,
    EIGHTHS: tl.constexpr, EXACT: tl.constexpr,
):
    """One tile of queries against two of contexts, or against one and what gives its logits."""
    # programs that run together share tiles: BAND pairs of contexts against one tile of queries after another
    BAND: tl.constexpr = 16
    program = tl.program_id(0)
    band = program // (BAND * query_tiles)
    height = min(pairs - band * BAND, BAND)
    within = program % (BAND * query_tiles)
    pair = band * BAND + within % height
    q = within // height

    first, second = _products(
        queries, queries_low, contexts, contexts_low, q * QUERIES, pair * 2 * CONTEXTS,
        WIDTH, QUERIES, CONTEXTS, DEPTH, THREE, EIGHTHS,
    )
    if MAPPED:
        _store_tile(
            second, first, grams, grams_low, weights, context_places, context_numbers, context_lengths, query_places,
            query_numbers, query_lengths, scores, pair, q, sets_of_queries, temperature, slope, pooling_temperature,
            once, QUERIES, CONTEXTS, COUNT, RECTIFIED, POOLING, FOCUS, EXACT,
        )
    else:
        for of in tl.static_range(2):
            s = first if of == 0 else second
            _store_tile(
                s, s, grams, grams_low, weights, context_places, context_numbers, context_lengths, query_places,
                query_numbers, query_lengths, scores, pair * 2 + of, q, sets_of_queries, temperature, slope,
                pooling_temperature, once, QUERIES, CONTEXTS, COUNT, RECTIFIED, POOLING, FOCUS, EXACT,
            )
# fmt: on
