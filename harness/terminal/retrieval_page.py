"""What `harness retrieve` found: a table per query, and JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from harness.explain.retrieval import Hit, Retrieval, Retriever
from harness.terminal.output import Text, near, table

MARKS = {True: "✓", False: "", None: ""}


def retrieved_page(
    retriever: Retriever, retrievals: Sequence[Retrieval], file: Path | None
) -> Iterator[RenderableType]:
    for one in retrievals:
        yield Text(("\n" if one is not retrievals[0] else "") + heading(one, retriever), style="bold")
        yield hits_table(one)
    if file is not None:
        yield f"{near(file)} written"


def heading(one: Retrieval, retriever: Retriever) -> str:
    """What was searched for, where and by what."""
    gallery, spec = retriever.gallery, retriever.gallery.encoder.spec
    size = f"{retriever.images:,} images" if one.direction == "t2i" else f"{retriever.captions:,} captions"
    return f"{one.query}  ({spec.label}, first {len(one.hits)} of {size}, {gallery.split})"


def hits_table(one: Retrieval) -> RenderableType:
    columns = ("image", "its caption") if one.direction == "t2i" else ("caption", "image")
    known = any(hit.is_match is not None for hit in one.hits)
    grid = table("rank", "score", *["match"] * known, *columns, right=("rank", "score"))
    for hit in one.hits:
        cells = (hit.image, hit.caption) if one.direction == "t2i" else (hit.caption, hit.image)
        grid.add_row(str(hit.rank), f"{hit.score:.4f}", *[MARKS[hit.is_match]] * known, *cells)
    return grid


def retrieved_json(retriever: Retriever, retrievals: Sequence[Retrieval], file: Path | None) -> dict[str, Any]:
    spec = retriever.gallery.encoder.spec
    return {
        **{"trial": spec.key, "label": spec.label, "split": retriever.gallery.split},
        "gallery": {"images": retriever.images, "captions": retriever.captions},
        "queries": [query_json(one) for one in retrievals],
        "file": str(file) if file else None,
    }


def query_json(one: Retrieval) -> dict[str, Any]:
    kind = "text" if one.direction == "t2i" else "image"
    return {kind: one.query, "unknown": list(one.unknown), "results": [hit_json(hit) for hit in one.hits]}


def hit_json(hit: Hit) -> dict[str, Any]:
    return {"rank": hit.rank, "score": hit.score, "match": hit.is_match, "image": hit.image, "caption": hit.caption}
