"""Text that others wrote, as a terminal and each format of file can show it: nothing in it acts, and all of it is seen.

A character that would act on a terminal, or that no reader sees, is written as an escape: ESC becomes `\\x1b`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from math import isfinite
from typing import Any
from unicodedata import category

SUSPECT = re.compile(r"[^\n\t\x20-\x7e]")
# Characters that count as printable and show nothing: fillers, joiners and selectors, but for those of emoji.
UNSEEN = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u2800\u3164\ufe00-\ufe0d\uffa0\U000e0100-\U000e01ef]"
)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.ASCII | re.IGNORECASE)
# Also in full width, and after marks that divide cells in some countries; quotes that follow them are not shown.
FORMULA = re.compile('(^|[;|])([" ]*)(?=[=+\\-@\uff1d\uff0b\uff0d\uff20])')
TEX = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--"},
    **{mark: f"{{{mark}}}" for mark in "[]*"},  # behind the end of a line they would be its options
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\symbol{34}"},  # else other signs
}
LIGATURES = re.compile(r"(?<=[-–])(?=[-–])|(?<=')(?=')|(?<=,)(?=,)|(?<=[`?!])(?=`)")  # where two marks would become one
MARKS = re.compile(r"[&<>\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word means nothing
# Of addresses that become links without any mark; where mail is sought behind escapes, as on GitHub, it stays one.
LINKS = re.compile(r":(?=//)|(?<=\bwww)\.|(?<=[\w.+-])@(?=[\w-]+\.[\w-])", re.IGNORECASE)
BLOCKS = re.compile(r"(?:[#+=:-]+|\d{1,9}[.)])(?=\s|$)")  # where a text begins with it: a heading, a list, a rule


def visible(text: str) -> str:
    """Text with an escape for every character that acts or is not seen; line feeds and tabs stay."""
    return SUSPECT.sub(lambda mark: _seen(mark[0]), text)


def _seen(mark: str) -> str:
    if mark.isprintable() and not UNSEEN.match(mark):
        return mark
    return " " if category(mark) == "Zs" else escape(mark)


def escape(mark: str) -> str:
    """The escape of a character, also of half a pair of surrogates, as Python writes it."""
    number = ord(mark)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def line(text: str) -> str:
    """Visible text on one line."""
    return visible(" ".join(text.split()))


def lines(text: str) -> str:
    """Visible text on its lines, whichever way they end."""
    return visible("\n".join(text.split("\r\n")))


def cell(value: Any) -> Any:
    """A cell of a CSV file: one line that no spreadsheet takes for a formula; numbers stay numbers.

    A line begins with a word of ours: where `;` divides cells, a number in the first would be read with what follows.
    """
    if not isinstance(value, str):
        return value
    text = line(value)
    return text if NUMBER.fullmatch(text) else FORMULA.sub(r"\1\2'", text)


def tex(value: Any) -> Any:
    """Text for LaTeX, on one line, without a command or a formula."""
    if not isinstance(value, str):
        return value
    return "{}".join("".join(TEX.get(mark, mark) for mark in part) for part in LIGATURES.split(line(value)))


def markdown(text: str) -> str:
    """Text that markdown shows unchanged: on one line, without a mark that would be read as layout or as a link."""
    one = line(text)
    places = {found.start() for pattern in (MARKS, LINKS) for found in pattern.finditer(one)}
    if block := BLOCKS.match(one):
        places.add(block.end() - 1)
    return "".join(f"&#{ord(mark)};" if place in places else mark for place, mark in enumerate(one))


def json_text(data: Any, indent: int | None = None, sort_keys: bool = False) -> str:
    """JSON with its own escapes for what a terminal cannot show; null for NaN and infinity, which it does not know."""
    text = json.dumps(_finite(data), indent=indent, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
    return SUSPECT.sub(lambda mark: _seen_in_json(mark[0]), text)


def _seen_in_json(mark: str) -> str:
    if _seen(mark) == mark:
        return mark
    return f"\\u{ord(mark):04x}" if ord(mark) < 0x10000 else json.dumps(mark).strip('"')


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    plain = value.item() if hasattr(value, "item") else value  # a number of NumPy's
    return None if isinstance(plain, float) and not isfinite(plain) else plain
