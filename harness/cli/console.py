"""The console that pages are printed on, and its text: what others wrote comes with escapes for what acts there."""

from __future__ import annotations

from typing import Any, Self

import rich.console
import rich.text

from harness.foreign_text import lines


class Console(rich.console.Console):
    """Prints text as it is, without a language for colours in it."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **options: Any) -> rich.text.Text:
        """Turn text, of a cell of a table too, into what is printed."""
        return super().render_str(lines(text), **options)


class Text(rich.text.Text):
    """Text with a style."""

    def __init__(self, text: str = "", style: str = "", **options: Any) -> None:
        super().__init__(lines(text), style, **options)

    @classmethod
    def assemble(cls, *parts: Any, **options: Any) -> Self:
        """Join texts, each by itself or in a pair with its style."""
        whole = cls(**options)
        for part in parts:
            whole.append(*part) if isinstance(part, tuple) else whole.append(part)
        return whole

    def append(self, text: rich.text.Text | str, style: Any = None) -> Self:
        """Add text behind."""
        super().append(lines(text) if isinstance(text, str) else text, style)
        return self
