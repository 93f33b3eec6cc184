"""Runs whose skill is known: chances of images and of their captions, and what was answered."""

from __future__ import annotations

import numpy as np
import scipy.stats

from harness.evaluation.queries import Hits

CAPTIONS = 5


def hits(images: np.ndarray, captions: np.ndarray, parts: int = 1) -> Hits:
    """Of chances (N,) and (N, 5) or of what came, 0 or 1; found at one rank is found at all."""
    answers = np.stack([np.stack([images, captions.sum(axis=1)], axis=1)] * 3, axis=2).astype(float)
    queries = np.stack([np.ones(len(images)), np.full(len(images), captions.shape[1])], axis=1)
    return Hits(np.repeat(np.arange(parts), len(images) // parts), queries, answers)


def drawn(rng: np.random.Generator, ease: np.ndarray, skill: float) -> Hits:
    """A run whose images are hard or easy together with their captions."""
    chance = scipy.stats.norm.cdf(ease + skill)
    return hits(rng.random(len(ease)) < chance, rng.random((len(ease), CAPTIONS)) < chance[:, None])
