"""SAEM: one image and one caption at a time, one head, one region and one window of words after another."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import gelu, layer_norm


def image(method: Any, regions: Tensor) -> Tensor:
    """Regions (R, F) of an image -> its unit vector (D,)."""
    layer = method.attention
    x = regions @ method.regions.linear.weight.T + method.regions.linear.bias
    x = normed(x + attention(layer.self_attn, x), layer.norm1)
    inner = gelu(x @ layer.linear1.weight.T + layer.linear1.bias)
    x = normed(x + inner @ layer.linear2.weight.T + layer.linear2.bias, layer.norm2)
    mean = sum(x) / len(x)
    return mean / mean.norm()


def attention(of: Any, x: Tensor) -> Tensor:
    """Every head for itself: softmax(q k / sqrt(width)) v; heads beside each other through a linear layer."""
    width = of.embed_dim // of.num_heads
    q, k, v = (x @ w.T + b for w, b in zip(of.in_proj_weight.chunk(3), of.in_proj_bias.chunk(3), strict=True))
    heads = []
    for head in range(of.num_heads):
        part = slice(head * width, (head + 1) * width)
        weights = (q[:, part] @ k[:, part].T / math.sqrt(width)).softmax(1)
        heads.append(weights @ v[:, part])
    return torch.cat(heads, 1) @ of.out_proj.weight.T + of.out_proj.bias


def normed(x: Tensor, norm: Any) -> Tensor:
    return layer_norm(x, x.shape[1:], norm.weight, norm.bias, norm.eps)


def caption(method: Any, words: Tensor) -> Tensor:
    """States (T, D) of a caption's words -> its unit vector (D,)."""
    largest = []
    for layer in method.phrases:
        windows = [window(words, start, layer.weight.shape[2]) for start in range(len(words))]
        responses = [(layer.weight * of.T).sum((1, 2)) + layer.bias for of in windows]
        largest.append(torch.stack([response.relu() for response in responses]).amax(0))
    vector = torch.cat(largest) @ method.sentence.weight.T + method.sentence.bias
    return vector / vector.norm()


def window(words: Tensor, start: int, width: int) -> Tensor:
    """So many words from one on, (width, D); zeros beyond the last."""
    some = words[start : start + width]
    return torch.cat([some, some.new_zeros(width - len(some), words.shape[1])])


def loss(method: Any, images: Tensor, captions: Tensor, positives: Tensor, hardest: bool) -> Tensor:
    """Unit vectors (B, D) of both sides, and which of them match -> the loss of the first step."""
    s = method.settings
    total = torch.zeros((), dtype=images.dtype)
    for a, p, match in ((images, captions, positives), (captions, images, positives.T)):
        for i in range(len(a)):
            costs = [s.margin + a[i] @ p[k] - a[i] @ p[i] for k in range(len(a)) if not match[i, k]]
            costs = [max(cost, 0 * cost) for cost in costs]
            total = total + (max(costs) if hardest else sum(costs))
            f = [4 * (a[i] + p[i]) @ p[k] - 4 * a[i] @ p[i] for k in range(len(a)) if not match[i, k]]
            total = total + s.angular_weight * (1 + max(f).exp()).log()
    layer = method.attention
    matrices = [method.regions.linear.weight, *layer.self_attn.in_proj_weight.chunk(3), layer.self_attn.out_proj.weight]
    return total + s.norm_weight * sum(
        w.square().sum().sqrt() for w in (*matrices, layer.linear1.weight, layer.linear2.weight)
    )
