"""What stands around the text of a page: covers, headers and footers, title blocks, tiles with key figures."""

import math
from collections.abc import Callable, Sequence

from .canvas import GREY, INK, PAPER, RULE, Box, Canvas, blend, smooth, wrap
from .layout import FAMILIES, Flow, Look


def draw_cover(flow: Flow, art: str, lines: Sequence[str]) -> None:
    """A whole page in colour: the first line is the title, then a subtitle, then small lines at the foot."""
    look = flow.look
    width, height = look.paper
    pen, colour = flow.pen, look.palette[0]
    title, subtitle, *foot = lines
    font = FAMILIES[look.head_family]["b"]
    pen.rect((0, 0, width, height), fill=PAPER)
    ARTS[art](pen, (0, 0, width, height), look.palette)
    size = 34 if width < height else 40
    y = pen.lines((56, height * 0.14 + size), wrap(title, font, size, width * 0.74), size, font, colour, leading=1.12)
    pen.lines((56, y + 2), wrap(subtitle, "helv", 15, width * 0.7), 15, "helv", INK)
    pen.lines((56, height - 26 - 14 * len(foot)), foot, 10.5, "helv", PAPER)
    flow.outline.append([1, title, len(flow.doc)])
    flow.bare.add(len(flow.doc) - 1)
    flow.break_page()


def draw_hills(pen: Canvas, box: Box, palette: Sequence[str]) -> None:
    """Rolling fields below a sun."""
    x0, _, x1, y1 = box
    pen.circle((x1 * 0.78, y1 * 0.52), x1 * 0.1, fill=palette[1])
    for index, (level, lift) in enumerate(((0.62, 0.05), (0.7, -0.04), (0.79, 0.03), (0.88, -0.02))):
        tops = [(x0 + x1 * i / 8, y1 * (level + lift * math.sin(i * 1.1 + index * 1.7))) for i in range(9)]
        shade = blend(palette[0], PAPER, 0.55 - 0.18 * index) if index < 3 else palette[0]
        pen.area([*smooth(tops), (x1, y1), (x0, y1)], shade)


def draw_waves(pen: Canvas, box: Box, palette: Sequence[str]) -> None:
    """Bands of water."""
    x0, _, x1, y1 = box
    for index in range(7):
        level = y1 * (0.5 + 0.07 * index)
        tops = [(x0 + x1 * i / 12, level + 11 * math.sin(i * 1.6 + index)) for i in range(13)]
        pen.area([*smooth(tops), (x1, y1), (x0, y1)], blend(palette[0], PAPER, 0.85 - 0.14 * index))


def draw_blocks(pen: Canvas, box: Box, palette: Sequence[str]) -> None:
    """A row of houses with lit windows."""
    _, _, x1, y1 = box
    base = y1 * 0.84
    pen.rect((0, base, x1, y1), fill=palette[0])
    for index in range(7):
        left = x1 * (0.04 + 0.135 * index)
        tall = y1 * (0.1 + 0.05 * ((index * 5) % 4))
        pen.rect((left, base - tall, left + x1 * 0.115, base), fill=blend(palette[index % 3], PAPER, 0.25))
        for row in range(int(tall / 26)):
            for column in range(3):
                lit = palette[1] if (row * 3 + column + index) % 4 == 0 else PAPER
                x, y = left + 9 + column * x1 * 0.034, base - tall + 9 + row * 26
                pen.rect((x, y, x + 10, y + 13), fill=blend(lit, PAPER, 0.3))


def draw_tracks(pen: Canvas, box: Box, palette: Sequence[str]) -> None:
    """Crossing lanes seen from above."""
    _, _, x1, y1 = box
    pen.rect((0, y1 * 0.46, x1, y1), fill=palette[0])
    for index, (start, end) in enumerate(((0.55, 0.92), (0.66, 0.58), (0.9, 0.7))):
        points = smooth([(0, y1 * start), (x1 * 0.35, y1 * (start + end) / 2 + 24), (x1, y1 * end)])
        pen.line(points, blend(palette[0], PAPER, 0.3), 34)
        pen.line(points, PAPER if index else palette[1], 1.6, "[10 8] 0")


ARTS: dict[str, Callable[[Canvas, Box, Sequence[str]], None]] = {
    "hills": draw_hills,
    "waves": draw_waves,
    "blocks": draw_blocks,
    "tracks": draw_tracks,
}


def draw_title(flow: Flow, lines: Sequence[str]) -> None:
    """The head of a paper over all columns: title, authors, addresses, then the abstract in a narrower measure."""
    look, pen = flow.look, flow.pen
    title, authors, place, abstract = lines
    middle, width = look.paper[0] / 2, look.paper[0] - look.margins[0] - look.margins[2]
    y = flow.y + 18
    y = pen.lines((middle, y), wrap(title, "tibo", 18, width * 0.9), 18, "tibo", INK, "center", 1.2)
    y = pen.lines((middle, y + 4), wrap(authors, "tiro", 11, width), 11, "tiro", INK, "center")
    y = pen.lines((middle, y), wrap(place, "tiit", 9.5, width * 0.9), 9.5, "tiit", GREY, "center")
    pen.text((middle, y + 12), "Abstract", 10, "tibo", INK, "center")
    y = pen.lines((look.margins[0] + 30, y + 27), wrap(abstract, "tiro", 9.5, width - 60), 9.5, "tiro", INK)
    flow.outline.append([1, title, len(flow.doc)])
    flow.y = flow.top = y + 12


def draw_facts(flow: Flow, lines: Sequence[str]) -> None:
    """A row of tiles, each a large figure above its meaning."""
    x, width, _ = flow.frame
    pitch = width / len(lines)
    y = flow.take(74)
    x = flow.frame[0]
    for index, line in enumerate(lines):
        value, label = (part.strip() for part in line.split("|"))
        colour = flow.look.palette[index % 2]
        left = x + pitch * index
        flow.pen.rect((left, y, left + pitch - 8, y + 64), fill=blend(colour, PAPER, 0.86), radius=5)
        flow.pen.text((left + 10, y + 28), value, min(21, 150 * pitch / 110 / len(value) + 6), "hebo", colour)
        flow.pen.lines((left + 10, y + 42), wrap(label, "helv", 8, pitch - 24), 8, "helv", INK)
    flow.skip(8)


def dress_pages(flow: Flow) -> None:
    """Headers and footers on every page that is not bare; they need the number of pages, so they come last."""
    dress = DRESSES.get(flow.look.dress)
    for number, page in enumerate(flow.doc):
        if dress and number not in flow.bare:
            pen = Canvas(page)
            dress(pen, flow.look, number + 1, len(flow.doc))
            pen.finish()


def dress_report(pen: Canvas, look: Look, number: int, total: int) -> None:
    """A running title over a rule; organisation and page number at the foot."""
    width, height = look.paper
    left, right = look.margins[0], width - look.margins[2]
    pen.text((left, 44), look.head.get("running", look.head["title"]), 8.5, "helv", GREY)
    pen.rect((left, 51, right, 52), fill=look.palette[0])
    pen.rect((left, 51, left + 46, 54), fill=look.palette[1])
    pen.text((left, height - 36), look.head.get("author", ""), 8, "helv", GREY)
    pen.text((right, height - 36), str(number), 9.5, "hebo", look.palette[0], "right")


def dress_paper(pen: Canvas, look: Look, number: int, total: int) -> None:
    """The running head of a journal, odd and even pages mirrored."""
    width, height = look.paper
    left, right = look.margins[0], width - look.margins[2]
    if number > 1:
        odd = number % 2
        pen.text((left if odd else right, 42), look.head["running"], 8.5, "tiit", GREY, "left" if odd else "right")
        pen.line([(left, 48), (right, 48)], RULE, 0.5)
    pen.text((width / 2, height - 34), str(int(look.head.get("first_page", 1)) + number - 1), 9, "tiro", INK, "center")


def dress_manual(pen: Canvas, look: Look, number: int, total: int) -> None:
    """A dark band with the product at the top and a tab with the page number at the outer edge."""
    width, height = look.paper
    pen.rect((0, 0, width, 34), fill=look.palette[0])
    pen.text((look.margins[0], 22), look.head.get("running", look.head["title"]), 9.5, "hebo", PAPER)
    pen.text((width - look.margins[2], 22), look.head.get("edition", ""), 8.5, "helv", PAPER, "right")
    edge = width - 26 if number % 2 else 0
    pen.rect((edge, height - 74, edge + 26, height - 44), fill=look.palette[1])
    pen.text((edge + 13, height - 55), str(number), 11, "hebo", PAPER, "center")


def dress_slides(pen: Canvas, look: Look, number: int, total: int) -> None:
    """A bar at the left edge, the talk and the slide number at the foot."""
    width, height = look.paper
    pen.rect((0, 0, 14, height), fill=look.palette[0])
    pen.rect((0, 0, 14, 96), fill=look.palette[1])
    pen.text((look.margins[0], height - 20), look.head.get("running", look.head["title"]), 10, "helv", GREY)
    pen.text((width - 30, height - 20), f"{number} / {total}", 10, "hebo", look.palette[0], "right")


def dress_plain(pen: Canvas, look: Look, number: int, total: int) -> None:
    """Nothing but a page number where there are several."""
    if total > 1:
        width, height = look.paper
        font = FAMILIES[look.family][""]
        pen.text((width / 2, height - 36), f"– {number} –", 9, font, GREY, "center")


DRESSES: dict[str, Callable[[Canvas, Look, int, int], None]] = {
    "report": dress_report,
    "paper": dress_paper,
    "manual": dress_manual,
    "slides": dress_slides,
    "plain": dress_plain,
}
