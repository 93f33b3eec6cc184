"""Templates of HTML and SVG, and the plots that stand alone: every value that is printed is escaped. Pure."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from harness.axes import SCALE, TALL, WIDTH, count
from harness.charts import SHAPES, excuse
from harness.report import environment

# What HTML and XML have no characters for.
UNREADABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")


@cache
def markup(name: str) -> Any:
    """A template of a page or of plots."""
    made = environment(finalize=readable, autoescape=True)
    made.filters |= {"count": count, "excuse": excuse, "px": "{:.1f}".format}
    made.globals |= {"width": WIDTH, "tall": TALL, "scale": SCALE, "shapes": SHAPES}
    return made.get_template(name)


def readable(value: Any) -> Any:
    """Text without what HTML and XML cannot hold."""
    return UNREADABLE.sub("\ufffd", value) if type(value) is str else value
