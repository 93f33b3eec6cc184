"""The exact score algebra of attended cosines: no attended vector is ever built.

A cosine between a query vector q and an attended vector c = sum_l a_l x_l needs c itself nowhere. With s_l = q . x_l
and the Gram matrix G = X X^T of the context, q . c = a . s and |c|^2 = a^T G a. So one matrix product of all context
vectors with all query vectors serves a whole tile of C context sets against Q query sets, and no tensor has D beside
C and Q. A positive factor of a query's weights leaves its cosine as it is, so no softmax is ever divided by its sum;
and a padding that is a zero vector adds nothing to any sum, so a tile is masked only where largest logits are sought.

A tile of products has the layout (C, L, K, Q): C contexts of L vectors, Q queries of K vectors, the query sets last
so that every sum over vectors runs over whole rows of memory. Text-to-image attention has images as contexts and
captions as queries; image-to-text is its mirror. Gradients are written out: they take one product and half the passes
of those that autograd would assemble.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from harness.blocks.host import lengths_of
from harness.blocks.strips import in_strips
from harness.blocks.tiles import in_full
from harness.method import Encoded

EPS = 1e-8
BOUNDED = 12.0  # up to this temperature exp(t a), |a| <= 1, needs no largest logit subtracted


class Context(NamedTuple):
    """Sets that are attended to, with what all their tiles share."""

    vectors: Tensor  # (C, L, D)
    mask: Tensor | None  # (C, L, 1, 1) bool; None where every vector is real
    gram: Tensor  # (C, L, L)

    def split(self, size: int) -> list[Context]:
        """Parts of `size` consecutive contexts."""
        masks = self.mask.split(size) if self.mask is not None else itertools.repeat(None)
        return [Context(*part) for part in zip(self.vectors.split(size), masks, self.gram.split(size))]  # noqa: B905


class Queries(NamedTuple):
    """Sets whose unit vectors attend."""

    vectors: Tensor  # (K, Q, D)
    mask: Tensor  # (K, Q), one where a vector is real


Weights = Callable[[Tensor, Context], Tensor]  # logits (C, L, K, Q) and their contexts -> attention (C, L, K, Q)
Relevance = Callable[[Tensor, Context], Tensor]  # products (C, L, K, Q) and their contexts -> (C, K, Q)


def as_context(sets: Encoded) -> Context:
    """Sets as contexts, with their Gram matrices."""
    vectors = real_vectors(sets)
    mask = None if vectors is sets.vectors else sets.mask[:, :, None, None]
    return Context(vectors, mask, gram(vectors))


def as_queries(sets: Encoded) -> Queries:
    """Sets as queries, the sets last."""
    return Queries(real_vectors(sets).transpose(0, 1).contiguous(), sets.mask.T.to(sets.vectors.dtype))


def real_vectors(sets: Encoded) -> Tensor:
    """(n, L, D): the vectors, zeros for padding, which no gradient reaches; themselves where none is padding."""
    padded = (lengths_of(sets.mask) < sets.mask.shape[1]).any()
    return sets.vectors * sets.mask.unsqueeze(2) if padded else sets.vectors


def gram(vectors: Tensor) -> Tensor:
    """(C, L, D) -> (C, L, L): inner products within each set."""
    return in_full(vectors @ vectors.transpose(1, 2))


def products(context: Tensor, queries: Tensor) -> Tensor:
    """All inner products (C, L, D) x (K, Q, D) -> (C, L, K, Q) in one matrix product."""
    product = context.flatten(0, 1) @ queries.flatten(0, 1).T
    return in_full(product).view(*context.shape[:2], *queries.shape[:2])


def attended_cosine(weights: Tensor, product: Tensor, context_gram: Tensor) -> Tensor:
    """Cosine of every unit query vector with its attended context: a . s / sqrt(a^T G a).

    weights, product (C, L, K, Q), context_gram (C, L, L) -> (C, K, Q). The scale of a query's weights has no effect.
    """
    cosines: Tensor = _AttendedCosine.apply(weights, product, context_gram)  # type: ignore[no-untyped-call]
    return cosines


def relevance(weights: Weights, logits: Tensor, product: Tensor, context: Context) -> Tensor:
    """Cosine of every query vector with what it attends to, (C, K, Q), in strips of contexts that stay in a cache.

    The products (C, L, K, Q) may be the logits.
    """

    def of_strip(logits: Tensor, product: Tensor, context: Context) -> Tensor:
        return attended_cosine(weights(logits, context), product, context.gram)

    return in_strips(of_strip, product[0], logits, product, context)


def stacked_weights(product: Tensor, context: Context, temperature: float | Tensor, slope: float) -> Tensor:
    """SCAN's attention to the context, (C, L, K, Q), up to a positive factor a query vector.

    Rectified products, L2-normalised over the vectors of a query set, then a softmax over the context.
    """
    weights: Tensor = _StackedWeights.apply(  # type: ignore[no-untyped-call]
        product, temperature, slope, context.mask
    )
    return weights


def stacked_relevance(temperature: float, slope: float) -> Relevance:
    """The cosine of every query vector with what it attends to by SCAN's attention."""
    weights = partial(stacked_weights, temperature=temperature, slope=slope)

    def of_products(product: Tensor, context: Context) -> Tensor:
        return relevance(weights, product, product, context)

    return of_products


def unit(vectors: Tensor, axis: int) -> Tensor:
    """Vectors along an axis over their L2 norm; zeros stay zeros, and pass no gradient through the norm."""
    units: Tensor = _Unit.apply(vectors, axis)  # type: ignore[no-untyped-call]
    return units


def softmax_weights(logits: Tensor, context: Context) -> Tensor:
    """A softmax over the context, (C, L, K, Q), up to a positive factor a query vector."""
    return below_largest(logits, context.mask).exp_()


def below_largest(logits: Tensor, real: Tensor | None) -> Tensor:
    """Logits (C, L, K, Q) less the largest real one of each query vector; -inf where the context is padding."""
    if real is not None:
        logits = logits.masked_fill(~real, -torch.inf)
    return logits - logits.detach().amax(1, keepdim=True)


def shares(weights: Tensor, context: Context, queries: Queries) -> Tensor:
    """Weights (C, L, K, Q) that sum to one over the real vectors of the context; zeros for padding."""
    real = weights if context.mask is None else weights * context.mask
    return real / real.sum(1, keepdim=True) * queries.mask


def attended_vectors(weights: Tensor, vectors: Tensor) -> Tensor:
    """sum_l a_l x_l itself, for scores that need it: (C, L, K, Q), (C, L, D) -> (C, K, Q, D)."""
    summed: Tensor = (weights.flatten(2).transpose(1, 2) @ vectors).unflatten(1, weights.shape[2:])
    return summed


def attention_between(weights: Weights, contexts: Encoded, queries: Encoded) -> Tensor:
    """The shares that each query vector gives the vectors of each context, (C, Q, K, L), by weights of the products."""
    of, by = as_context(contexts), as_queries(queries)
    return shares(weights(products(of.vectors, by.vectors), of), of, by).permute(0, 3, 2, 1)


def pool(relevance: Tensor, queries: Queries, how: Literal["avg", "lse"], temperature: float) -> Tensor:
    """(C, K, Q) -> (C, Q): mean, or log(sum exp(t r)) / t, over the real vectors."""
    if how == "avg":
        return (relevance * queries.mask).sum(1) / queries.mask.sum(0)
    return (temperature * relevance).masked_fill(queries.mask == 0, -torch.inf).logsumexp(1) / temperature


def length(vectors: Tensor, axis: int) -> Tensor:
    """L2 norms along an axis, kept; torch.linalg.vector_norm takes ten times as long where the axis is not the last."""
    return vectors.square().sum(axis, keepdim=True).sqrt_()


def through_unit(gradient: Tensor, units: Tensor, norm: Tensor, axis: int) -> Tensor:
    """The gradient of vectors from that of `units` = vectors / (norm + EPS), written into `gradient`."""
    along = (gradient * units).sum(axis, keepdim=True) / norm.clamp_min(torch.finfo(norm.dtype).tiny)
    return gradient.div_(norm + EPS).addcmul_(units, along, value=-1)


class _Unit(torch.autograd.Function):
    """f / (|f| + EPS)."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, axis: int) -> Tensor:
        norm = length(f, axis)
        units = f / (norm + EPS)
        ctx.save_for_backward(units, norm)
        ctx.axis = axis
        return units

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        units, norm = ctx.saved_tensors
        return through_unit(gradient.clone(), units, norm, ctx.axis), None


class _StackedWeights(torch.autograd.Function):
    """e = exp(t a) with a = f / (|f| + EPS), |f| over a query's vectors, f = leaky_relu(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, temperature: float | Tensor, slope: float, real: Tensor | None) -> Tensor:
        f = leaky_relu(x, slope)
        norm = length(f, 2)
        if ctx.needs_input_grad[0]:
            a = f.div_(norm + EPS)
            e = a * temperature
        else:
            a, e = None, f.mul_(norm.add_(EPS).reciprocal_().mul_(temperature))
        if isinstance(temperature, Tensor) or temperature > BOUNDED:
            e = below_largest(e, real)
        e.exp_()
        ctx.save_for_backward(a, e, norm, temperature if isinstance(temperature, Tensor) else None)
        ctx.temperature, ctx.slope = temperature, slope
        return e

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        a, e, norm, learned = ctx.saved_tensors
        t = ctx.temperature if learned is None else learned
        x = gradient * e
        by_temperature = (x * a).sum() if learned is not None else None
        x = through_unit(x.mul_(t), a, norm, 2)
        x = torch.ops.aten.leaky_relu_backward(x, a, ctx.slope, self_is_result=False)
        return x, by_temperature, None, None


class _AttendedCosine(torch.autograd.Function):
    """n / sqrt(q) with n = a . s and q = a^T G a."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, s: Tensor, g: Tensor) -> Tensor:
        spread = (g @ a.flatten(2)).view_as(a)
        scratch = None if any(ctx.needs_input_grad) else spread  # memory that a cache holds already
        scale = torch.mul(spread, a, out=scratch).sum(1).clamp_min_(EPS**2).rsqrt_()
        cosines = torch.mul(a, s, out=scratch).sum(1).mul_(scale)
        ctx.save_for_backward(a, s, spread, scale, cosines)
        return cosines

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        a, s, spread, scale, cosines = ctx.saved_tensors
        by_n = (gradient * scale).unsqueeze(1)
        by_q = (gradient * scale * scale * cosines).unsqueeze(1)  # dq is twice spread: the half cancels
        by_a = (s * by_n).addcmul_(spread, by_q, value=-1)
        by_g = ((a * by_q).flatten(2) @ a.flatten(2).transpose(1, 2)).mul_(-0.5)
        return by_a, a * by_n, by_g
