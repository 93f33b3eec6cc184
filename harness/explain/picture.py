"""A laid out explanation as a file: SVG from a template, PNG drawn by Pillow. The same sheet gives the same bytes."""

from __future__ import annotations

import io

from PIL import Image, ImageChops, ImageDraw

from harness.board.markup import markup, readable
from harness.explain.sheet import EDGE, Box, Light, Panel, Sheet, Text, font
from harness.layouts.previews import portrait

SIDE = 480  # pixels of the picture inside an SVG, at most
SCALE = 2  # pixels of a PNG for one of the sheet
FADED = 0.74  # of white over the picture where nothing is lit
TINT = 0.55  # of a region with full weight where there is no picture
HALO = 2.2  # pixels of white around an outline and around a tag
THIN, THICK = 0.8, 2.4  # outlines without and with full weight


def svg(sheet: Sheet) -> bytes:
    """As SVG; text stays text, and the picture is in it once."""
    uri = portrait(sheet.picture, SIDE) if sheet.picture else ""
    numbers = {"faded": FADED, "tint": TINT, "halo": HALO, "edge": EDGE}
    made = markup("attention.svg.j2").render(sheet=sheet, uri=uri, stroke=stroke, **numbers)
    return str(made).encode()


def png(sheet: Sheet) -> bytes:
    """As PNG, two pixels for one of the SVG."""
    canvas = Image.new("RGB", (round(sheet.width * SCALE), round(sheet.height * SCALE)), "white")
    for panel in sheet.panels:
        corner = (round(panel.box[0] * SCALE), round(panel.box[1] * SCALE))
        canvas.paste(painted(panel, sheet.picture), corner)
    pen = ImageDraw.Draw(canvas)
    for text in (*sheet.texts, *(panel.head for panel in sheet.panels)):
        write(pen, text)
    for tag in (tag for panel in sheet.panels for tag in panel.tags):
        write(pen, tag, halo=HALO)
    out = io.BytesIO()
    canvas.save(out, "PNG")
    return out.getvalue()


def painted(panel: Panel, picture: Image.Image | None) -> Image.Image:
    """The picture of a panel with its regions."""
    size = (round(panel.box[2] * SCALE), round(panel.box[3] * SCALE))
    clear = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC) if picture else Image.new("RGB", size, EDGE)
    plain = clear if picture else Image.new("RGB", size, "#f5f6f8")
    faded = Image.blend(plain, Image.new("RGB", size, "white"), FADED) if panel.is_faded and picture else plain
    seen = Image.new("L", size, 0)  # how much of the clear picture shows through
    for light in panel.lights:
        seen = ImageChops.screen(seen, filled(light, panel.box, size, 1.0 if picture else TINT))
    made = Image.composite(clear, faded, seen)
    for light in panel.lights:
        for colour, extra in (("white", HALO), (EDGE, 0.0)):
            made.paste(colour, mask=outline(light, panel.box, size, extra))
    return made


def filled(light: Light, frame: Box, size: tuple[int, int], most: float) -> Image.Image:
    """Where a region lies, as bright as its weight."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).rectangle(inside(light.box, frame), fill=round(255 * most * light.strength))
    return mask


def outline(light: Light, frame: Box, size: tuple[int, int], extra: float) -> Image.Image:
    """Where a region's outline lies, as bright as its weight."""
    mask = Image.new("L", size, 0)
    left, top, right, bottom = inside(light.box, frame)
    half = (stroke(light) + extra) * SCALE / 2
    box = (left - half, top - half, right + half, bottom + half)
    ImageDraw.Draw(mask).rectangle(box, outline=round(255 * light.edge), width=max(1, round(2 * half)))
    return mask


def inside(box: Box, frame: Box) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a box in a panel's own pixels."""
    x, y, w, h = box
    left, top = (x - frame[0]) * SCALE, (y - frame[1]) * SCALE
    return left, top, left + w * SCALE, top + h * SCALE


def stroke(light: Light) -> float:
    """The width of an outline."""
    return THIN + (THICK - THIN) * light.strength


def write(pen: ImageDraw.ImageDraw, text: Text, halo: float = 0.0) -> None:
    """One line of text."""
    place, shape = (text.x * SCALE, text.y * SCALE), font(text.size * SCALE, text.bold)
    wide = round(halo * SCALE / 2)
    pen.text(place, readable(text.text), text.colour, shape, "ls", stroke_width=wide, stroke_fill="white")
