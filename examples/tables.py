"""Tables: column widths from what the cells hold, then rows with rules, shading or a full grid."""

from collections.abc import Sequence
from dataclasses import dataclass

from .canvas import INK, PAPER, RULE, Canvas, Point, blend, measure, wrap
from .markup import NUMBER

PAD = 5.0


@dataclass(frozen=True)
class Table:
    """A table whose cells are broken into lines: ready to be placed row by row."""

    rows: list[list[list[str]]]
    strong: list[list[bool]]
    widths: list[float]
    heights: list[float]
    rights: list[bool]
    size: float
    style: str
    palette: Sequence[str]


def measure_table(
    rows: list[list[str]], width: float, size: float, style: str, palette: Sequence[str], least: float = 26
) -> Table:
    """Give every column its share of `width`: its longest line where all fit, else less for those that can wrap."""
    columns = list(zip(*rows, strict=True))
    rights = [index > 0 and is_numeric(column[1:]) for index, column in enumerate(columns)]
    natural = [
        max(measure(line, "hebo", size) for cell in column for line in cell.strip("*").split("\\")) + 2 * PAD + 1
        for column in columns
    ]
    words = [
        max(
            measure(word, "hebo", size) for cell in column for word in [*cell.strip("*").replace("\\", " ").split(), ""]
        )
        + 2 * PAD
        + 1
        for column in columns
    ]
    widths = share_width(natural, [max(least, word) for word in words], width)
    strong = [[index == 0 or cell.startswith("**") for cell in row] for index, row in enumerate(rows)]
    wrapped = [
        [
            wrap(cell.strip("*").replace("\\", "\n"), "hebo" if bold else "helv", size, wide - 2 * PAD)
            for cell, wide, bold in zip(row, widths, bolds, strict=True)
        ]
        for row, bolds in zip(rows, strong, strict=True)
    ]
    heights = [max(len(cell) for cell in row) * size * 1.22 + size * 0.85 for row in wrapped]
    if not any(rows[0]):
        heights[0] = 0
    return Table(wrapped, strong, widths, heights, rights, size, style, palette)


def is_numeric(cells: Sequence[str]) -> bool:
    """True for a column of numbers (dashes and empty cells may stand between), which is set flush right."""
    filled = [cell.strip("*") for cell in cells if cell.strip("*–")]
    return bool(filled) and all(NUMBER.match(cell) and len(NUMBER.sub("", cell, count=1)) < 3 for cell in filled)


def share_width(natural: list[float], least: list[float], width: float) -> list[float]:
    """Stretch columns that have room to spare; shrink the widest ones first where they have none."""
    if sum(natural) <= width:
        extra = (width - sum(natural)) / len(natural)
        return [wide + extra for wide in natural]
    low, high = 0.0, max(natural)
    for _ in range(40):
        cap = (low + high) / 2
        total = sum(max(small, min(wide, cap)) for wide, small in zip(natural, least, strict=True))
        low, high = (cap, high) if total <= width else (low, cap)
    widths = [max(small, min(wide, low)) for wide, small in zip(natural, least, strict=True)]
    return [wide * width / sum(widths) for wide in widths]


def draw_rows(canvas: Canvas, at: Point, table: Table, numbers: Sequence[int]) -> None:
    """Draw the rows of those numbers under one another; row 0 is the head."""
    x0, y = at
    right = x0 + sum(table.widths)
    accent, top = table.palette[0], y
    for number in numbers:
        height, strong = table.heights[number], table.strong[number]
        if not height:
            canvas.line([(x0, y), (right, y)], INK, 0.9)
            continue
        if number == 0 and table.style in ("zebra", "grid"):
            fill = accent if table.style == "zebra" else blend(accent, PAPER, 0.8)
            canvas.rect((x0, y, right, y + height), fill=fill)
        elif number and table.style == "zebra" and number % 2 == 0:
            canvas.rect((x0, y, right, y + height), fill=blend(accent, PAPER, 0.92))
        colour = PAPER if number == 0 and table.style == "zebra" else INK
        draw_cells(canvas, (x0, y), table, number, colour)
        if number and strong[0] and table.style != "grid":
            canvas.line([(x0, y), (right, y)], INK, 0.8)
        y += height
        if number == 0 or table.style in ("grid", "rules"):
            light = number != 0
            canvas.line([(x0, y), (right, y)], RULE if light else INK, 0.5 if light else 0.9)
    canvas.line([(x0, y), (right, y)], INK, 0.9)
    if table.style == "rules":
        canvas.line([(x0, top), (right, top)], INK, 1.1)
    if table.style == "grid":
        edges = [x0 + sum(table.widths[:i]) for i in range(len(table.widths) + 1)]
        for x in edges:
            canvas.line([(x, top), (x, y)], INK if x in (edges[0], edges[-1]) else RULE, 0.6)
        canvas.line([(x0, top), (right, top)], INK, 0.9)


def draw_cells(canvas: Canvas, at: Point, table: Table, number: int, colour: str) -> None:
    """The words of one row."""
    x, y = at
    for cell, width, bold, right in zip(
        table.rows[number], table.widths, table.strong[number], table.rights, strict=True
    ):
        edge = x + width - PAD if right else x + PAD
        font, align = "hebo" if bold else "helv", "right" if right else "left"
        canvas.lines((edge, y + table.size * 1.28), cell, table.size, font, colour, align, 1.22)
        x += width
