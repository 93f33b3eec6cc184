"""A server of one file that cuts, stalls and refuses, and cards that say what it has."""

from __future__ import annotations

import hashlib
import io
import threading
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np

from harness.acquisition import download as fetch
from harness.acquisition.pace import Pace
from harness.config.cards import DatasetCard

CONTENT = np.random.default_rng(0).bytes(2 * fetch.PIECE + 1000)
CARD = """
name = "tiny"
title = "A tiny set"
summary = ""
layout = "coco"
folder = "tiny set"
licence = "free"
origin = "the moon"
feature_width = 13
max_regions = 2
splits = {}
options = { captions = "captions.json", instances = "instances.json", split = "split.json" }
[[protocols]]
name = "all"
images = 1
captions = 1
"""
Table = dict[str, Any]


class Site:
    """A server of one file, and how it behaves."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.cuts: list[int] = []  # of each connection to come: bytes after which it breaks
        self.codes: list[int] = []  # of each connection to come: an answer that is no file
        self.stall: int | None = None  # bytes after which it goes silent
        self.drip = ""  # "head" or "body": what comes byte by byte
        self.headers: dict[str, str] = {}
        self.ending = threading.Event()
        self.says_length = True
        self.requests = 0
        self.received: list[dict[str, str]] = []  # the head of each request
        self.url = ""

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests += 1
        self.received.append(dict(handler.headers))
        code = self.codes.pop(0) if self.codes else 200
        handler.send_response(code)
        for name, value in self.headers.items():
            handler.send_header(name, value)
        body = self.content if code == 200 else b"no"
        if self.says_length:
            handler.send_header("Content-Length", str(len(body)))
        if self.drip == "head":
            handler.flush_headers()
            self._send_slowly(handler, b"X-Slow: " + bytes(1000))
        handler.end_headers()
        if self.drip == "body":
            self._send_slowly(handler, body)
        handler.wfile.write(body[: self.cuts.pop(0) if self.cuts else self.stall])
        if self.stall is not None:
            self.ending.wait(60)

    def _send_slowly(self, handler: BaseHTTPRequestHandler, content: bytes) -> None:
        for place in range(len(content)):
            if self.ending.wait(0.02):
                break
            handler.wfile.write(content[place : place + 1])


@contextmanager
def served(site: Site) -> Iterator[Site]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            site.answer(self)

        def log_message(self, *_words: object) -> None:
            """Say nothing."""

        def handle(self) -> None:
            with suppress(ConnectionError):  # the reader was killed
                super().handle()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        site.url = f"http://127.0.0.1:{server.server_port}/files/thing.zip"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield site
        finally:
            site.ending.set()
            server.shutdown()
            thread.join()


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(f"in/{name}.json", content)
    return buffer.getvalue()


def download(site: Site, **changes: Any) -> Table:
    """What a card would say of the site."""
    table = {"url": site.url, "bytes": len(site.content), "sha256": hashlib.sha256(site.content).hexdigest()}
    return {**table, "path": "thing.bin", **changes}


def item_of(table: Table, folder: Path) -> fetch.Item:
    return fetch.items(card_of(table), folder)[0]


def card_of(*tables: Table) -> DatasetCard:
    return DatasetCard.model_validate({**tomllib.loads(CARD), "downloads": tables, "path": "card.toml"})


def fetched(item: fetch.Item, keep: bool = False, pace: Pace = fetch.PACE) -> list[int]:
    """Fetch, and how far it said to be."""
    told: list[int] = []
    fetch.fetch(item, told.append, keep, pace)
    return told


def names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.name != fetch.LOCK and file.is_file()}
