"""Boxes by their corners, in pixels of a picture."""

from __future__ import annotations

Corners = tuple[float, float, float, float]  # x1, y1, x2, y2, counted from 0, the far edges exclusive


def whole(size: tuple[int, int]) -> Corners:
    """All of a picture of a width and height."""
    return (0.0, 0.0, float(size[0]), float(size[1]))
