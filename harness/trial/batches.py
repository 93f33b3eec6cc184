"""Batches: their pairs, what is hidden of them, and their regions, read one batch ahead or kept on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter

import numpy as np
import torch
from torch import Tensor

from harness.blocks.host import to_device, with_lengths
from harness.config.sections import Training
from harness.data.regions import Bools, Ints, Regions, padded_places
from harness.data.split import Split
from harness.data.tokens import SpecialIds
from harness.method import Batch

HELD_SHARE = 1 / 3  # of a GPU's free memory, at most, for the regions of a split
HELD_ROWS = 2**12  # taken there at a time
PIECE = 2**15  # numbers, at most, that torch converts in the calling thread alone
TYPES = {np.dtype(np.float16): torch.float16, np.dtype(np.float32): torch.float32}
Source = Callable[[Ints], Tensor]  # places (B, R) -> regions (B, R, F) float32 on a device; zeros where a place is -1


class Batches:
    def __init__(self, split: Split, training: Training, source: Source, device: torch.device) -> None:
        self.split = split
        self.training = training
        self.source = source
        self.device = device
        self.known = np.sort(self._numbers(split.pairs[:, 0], split.pairs[:, 1]))

    def __len__(self) -> int:
        return batches_per_epoch(len(self.split.pairs), self.training.batch_size)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        for rows in shuffled(len(self.split.pairs), self.training.batch_size, rng):
            yield self.make(rows, rng)

    def make(self, rows: Ints, rng: np.random.Generator) -> Batch:
        pairs = self.split.pairs[rows]
        places, region_mask = padded_places(self.split.images.offsets, pairs[:, 0])
        tokens, token_mask = self.split.tokens.gather(pairs[:, 1])
        if self.training.drop_regions:
            places, region_mask = hide_regions(places, region_mask, self.training.drop_regions, rng)
        if self.training.drop_words:
            tokens = hide_words(tokens, self.split.tokens.special_ids, self.training.drop_words, rng)
        parts = (region_mask, tokens, token_mask, self.matches(pairs))
        batch = Batch._make([self.source(places), *(to_device(part, self.device) for part in parts), True])
        with_lengths(batch.region_mask, region_mask.sum(1))
        with_lengths(batch.token_mask, token_mask.sum(1))
        return batch

    def matches(self, pairs: Ints) -> Bools:
        """(B, B): whether the image of row i matches the caption of row j, in the split and not in the batch alone."""
        numbers = self._numbers(pairs[:, :1], pairs[None, :, 1])
        place = np.searchsorted(self.known, numbers).clip(max=len(self.known) - 1)
        matches: Bools = self.known[place] == numbers
        return matches

    def _numbers(self, images: Ints, captions: Ints) -> Ints:
        return images * len(self.split.captions) + captions


class ReadAhead:
    """Iterate in order, the next item computed in a thread while the current one is in use."""

    def __init__(self, items: Iterator[Batch]) -> None:
        self.waited = 0.0  # seconds
        self._items = items

    def __iter__(self) -> Iterator[Batch]:
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
            coming = pool.submit(next, self._items, None)
            while True:
                start = perf_counter()
                item = coming.result()
                self.waited += perf_counter() - start
                if item is None:
                    return
                coming = pool.submit(next, self._items, None)
                yield item


class DeviceRegions:
    """All regions of a split in a device's memory, in their stored type; batches are gathered there."""

    def __init__(self, regions: Regions, device: torch.device) -> None:
        places = np.arange(regions.offsets[-1])
        self.rows = torch.empty((len(places), regions.width), dtype=TYPES[regions.dtype], device=device)
        for start in range(0, len(places), HELD_ROWS):
            part = slice(start, start + HELD_ROWS)
            self.rows[part] = stored(regions, device, places[part])

    def __call__(self, places: Ints) -> Tensor:
        rows = to_device(places, self.rows.device)
        return self.rows[rows.clamp(min=0)].float().masked_fill_((rows < 0)[..., None], 0.0)


def source(regions: Regions, device: torch.device, free: int) -> Source:
    """The source of regions for a device with `free` bytes: its memory if they take a small share, else the file."""
    size = regions.offsets[-1] * regions.width * regions.dtype.itemsize
    return DeviceRegions(regions, device) if size <= free * HELD_SHARE else partial(read, regions, device)


def free_bytes(device: torch.device) -> int:
    """Bytes that a trial can still hold on its share of a GPU; 0 for a CPU, where the page cache holds files anyway."""
    if device.type != "cuda":
        return 0
    free, total = torch.cuda.mem_get_info(device)
    allocated, reserved = torch.cuda.memory_allocated(device), torch.cuda.memory_reserved(device)
    share = getattr(torch.cuda, "get_per_process_memory_fraction", lambda _: 1.0)  # torch 2.6 lacks it
    return min(free + reserved - allocated, int(share(device) * total) - allocated)


def read(regions: Regions, device: torch.device, places: Ints) -> Tensor:
    values = stored(regions, device, places)
    return values.float() if device.type == "cuda" else widened(values)


def stored(regions: Regions, device: torch.device, places: Ints) -> Tensor:
    shape = (*places.shape, regions.width)
    if device.type != "cuda":
        # of NumPy, whose large arrays lie in large pages: half the time of torch.empty
        values = np.empty(shape, dtype=regions.dtype)
        regions.fetch(places, values)
        return torch.from_numpy(values)
    pinned = torch.empty(shape, dtype=TYPES[regions.dtype], pin_memory=True)
    regions.fetch(places, pinned.numpy())
    return pinned.to(device, non_blocking=True)


def widened(values: Tensor) -> Tensor:
    if values.dtype == torch.float32:
        return values
    wide = torch.from_numpy(np.empty(values.shape, dtype=np.float32))
    # in pieces, because a second team of threads would keep the step's own off the CPUs for a third of its time
    for piece, target in zip(values.view(-1).split(PIECE), wide.view(-1).split(PIECE), strict=True):
        target.copy_(piece)
    return wide


def batches_per_epoch(pairs: int, batch_size: int) -> int:
    return pairs // batch_size + (pairs % batch_size >= 2)


def shuffled(pairs: int, batch_size: int, rng: np.random.Generator) -> Iterator[Ints]:
    """Row numbers of the pairs in batches; a last batch of one pair has no negative and is left out."""
    order = rng.permutation(pairs)
    for start in range(0, pairs, batch_size):
        if start + 1 < pairs:
            yield order[start : start + batch_size]


def hide_regions(places: Ints, mask: Bools, share: float, rng: np.random.Generator) -> tuple[Ints, Bools]:
    """A random subset of each image's regions, moved to the front; at least one stays."""
    draw = np.where(mask, rng.random(mask.shape), 2.0)
    visible = mask & ((draw >= share) | (draw == draw.min(1, keepdims=True)))
    order = np.argsort(~visible, axis=1, kind="stable")[:, : visible.sum(1).max()]
    return np.take_along_axis(places, order, 1), np.take_along_axis(visible, order, 1)


def hide_words(tokens: Ints, special_ids: SpecialIds, share: float, rng: np.random.Generator) -> Ints:
    """A random subset of the words turned into the hidden one, where the tokenizer has one; specials stay."""
    if special_ids.hidden < 0:
        return tokens
    hidden = (rng.random(tokens.shape) < share) & ~np.isin(tokens, special_ids.no_words)
    return np.where(hidden, special_ids.hidden, tokens)
