"""Lays the shares of an explanation over a page: warm ink where they add to the score, blue where they take away."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from moca_rag.records import Box, Explanation, Floats, Pixels

if TYPE_CHECKING:
    from PIL import Image

# For each direction what black and what white become: print stays dark on the ink, and a dark picture takes colour too.
ADDS = ((130, 30, 0), (244, 104, 44))
TAKES = ((0, 46, 120), (72, 148, 226))
PALE = ((96, 96, 96), (255, 255, 255))
FRAME = (64, 64, 64)
CLIPPED = 99.0  # percentile; single tokens can carry more than all their neighbours
LEGEND_HEIGHT, LEGEND_WIDTH = 56, 1000
BAR_HEIGHT, BAR_WIDTH = 14, 220


def draw_heat(page: "Image.Image", explanation: Explanation, boxes: Iterable[Box] = ()) -> "Image.Image":
    """The page in pale grey under its heat, boxes (in 0..1) framed, above a line that says how the score adds up."""
    from PIL import Image, ImageDraw

    grid = Image.fromarray(scale_shares(explanation.shares))
    heat = np.asarray(grid.resize(page.size, Image.Resampling.BILINEAR))  # bicubic would invent blue around a peak
    picture = _tint(np.asarray(page.convert("L"), np.uint8), heat)
    framed = Image.new("RGB", (max(page.width, LEGEND_WIDTH), page.height + LEGEND_HEIGHT), "white")
    framed.paste(Image.fromarray(picture), (0, 0))
    pen = ImageDraw.Draw(framed)
    for x0, y0, x1, y1 in boxes:
        for grown, colour in ((5, "white"), (3, FRAME)):  # white around it: seen on a dark picture too
            x, y = x0 * page.width - grown, y0 * page.height - grown
            pen.rectangle((x, y, x1 * page.width + grown, y1 * page.height + grown), outline=colour, width=2)
    _draw_legend(framed, explanation, page.height)
    return framed


def scale_shares(shares: Floats) -> Floats:
    """Heat in -1..1 of shares [rows, columns]: 0 for what half of the page gives anyway, 1 from the 99th percentile on.

    Every token of a page has something in common with every question. Only what a token adds beyond the page's median
    tells one place from another; a share below 0 stays below 0.

    >>> scale_shares(np.array([[2, 2, 2, 4, -2]], np.float32)).round(1).tolist()
    [[0.0, 0.0, 0.0, 1.0, -0.5]]
    """
    usual = float(np.median(shares))
    limit = float(np.percentile(np.abs(shares), CLIPPED))
    heat = np.zeros_like(shares)
    for sign in (1, -1):
        floor = max(sign * usual, 0.0)
        if limit > floor:
            heat += sign * np.clip((sign * shares - floor) / (limit - floor), 0, 1)
    return heat


def sum_up(explanation: Explanation) -> str:
    """How a cosine adds up, in signs that Pillow's own font has: a true minus is not among them.

    >>> sum_up(Explanation(0.25, np.full((2, 2), 0.125, np.float32), -0.25))
    'cosine 0.250  =  image 0.500  -  prompt 0.250'
    """
    rest = explanation.remainder
    sign = "-" if rest < 0 else "+"
    return f"cosine {explanation.score:.3f}  =  image {explanation.shares.sum():.3f}  {sign}  prompt {abs(rest):.3f}"


def _tint(light: Pixels, heat: Floats) -> Pixels:
    """Colours [H, W, 3] of a picture's light [H, W] in 0..255 under its heat [H, W] in -1..1."""
    inks = np.array((PALE, ADDS, TAKES), np.float32)
    pale, adds, takes = (black + light[..., None] * ((white - black) / 255) for black, white in inks)
    ink = np.where(heat[..., None] < 0, takes, adds)
    colours: Pixels = (pale + np.abs(heat)[..., None] * (ink - pale)).round().astype(np.uint8)
    return colours


def _draw_legend(picture: "Image.Image", explanation: Explanation, top: int) -> None:
    from PIL import Image, ImageDraw, ImageFont

    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(20)
    middle, edge = top + LEGEND_HEIGHT // 2, picture.width - 24
    pen.line((0, top, picture.width, top), fill=(200, 200, 200), width=2)
    pen.text((24, middle), sum_up(explanation), fill=(40, 40, 40), font=font, anchor="lm")
    pen.text((edge, middle), "adds most", fill=ADDS[1], font=font, anchor="rm")
    right = edge - int(pen.textlength("adds most", font)) - 12
    ramp = np.linspace(-1, 1, BAR_WIDTH, dtype=np.float32)[None].repeat(BAR_HEIGHT, 0)
    picture.paste(
        Image.fromarray(_tint(np.full(ramp.shape, 255, np.uint8), ramp)), (right - BAR_WIDTH, middle - BAR_HEIGHT // 2)
    )
    pen.text((right - BAR_WIDTH - 12, middle), "takes away", fill=TAKES[1], font=font, anchor="rm")
