"""Sets a table: cells into columns that share the width, rows into strips, with the rules that its page wants."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate

from .canvas import Canvas, Colour
from .faces import Family, Piece
from .strips import Strip, Voice, set_beside, set_text, shape_words
from .styles import TableRules

MAX_COLUMNS = 14
SMALLEST_SHRINK = 0.72  # of the page's type: a table that is still too wide wraps its cells
NARROWEST_CELL = 3.0  # ems: cells are not wrapped more narrowly
PADDING = 0.45  # ems, at each side of a cell
MAX_CELL_LINES = 12


@dataclass(frozen=True, slots=True)
class TableStyle:
    """The rules of a table, in this ink; bands, and the head of a table with bands, on this paper."""

    rules: TableRules
    ink: Colour
    band: Colour
    bold_head: bool
    centred: bool


def set_table(text: str, family: Family, width: float, voice: Voice, style: TableStyle) -> list[Strip]:
    """The rows of a table (rows on lines, cells between tabs), numbers to the right; nothing where it has no room."""
    rows = [row.split("\t")[:MAX_COLUMNS] for row in text.split("\n") if row.strip()]
    num_columns = max((len(row) for row in rows), default=0)
    if num_columns == 0:
        return []
    rows = [row + [""] * (num_columns - len(row)) for row in rows]
    cells = [_shape_row(row, family, number == 0 and style.bold_head) for number, row in enumerate(rows)]
    columns = list(zip(*cells, strict=True))
    naturals = [max(map(_measure, column)) + 2 * PADDING for column in columns]
    voice = voice.sized(min(1.0, max(SMALLEST_SHRINK, width / (sum(naturals) * voice.size))))
    needs = [max(map(_need, column)) + 2 * PADDING for column in columns]
    widths = share_width([need * voice.size for need in needs], [natural * voice.size for natural in naturals], width)
    if not widths:
        return []
    voices = [_choose_voice(column, voice) for column in zip(*rows[1:], strict=True)] or [voice] * num_columns
    shift = (width - sum(widths)) / 2 if style.centred else 0.0
    strips = []
    for number, row in enumerate(cells):
        inner = _set_cells(row, widths, voices)
        kind = (number == 0, number == len(cells) - 1, number % 2 == 1)
        pad = 0.28 * voice.size
        draw = partial(_draw_row, inner, widths, shift, pad, style, kind)
        strips.append(Strip(inner.height + 2 * pad, draw, binds=number == 0))
    return strips


def share_width(needs: Sequence[float], wishes: Sequence[float], width: float) -> list[float]:
    """How wide each column is: what it needs, and the same share of what it wishes for; none where the needs are more.

    >>> share_width([10, 20, 30], [10, 60, 90], 110)
    [10.0, 40.0, 60.0]
    """
    free, wished = width - sum(needs), sum(wishes) - sum(needs)
    if free < 0:
        return []
    share = min(1.0, free / wished) if wished else 1.0
    return [need + share * (wish - need) for need, wish in zip(needs, wishes, strict=True)]


def _shape_row(row: Sequence[str], family: Family, bold: bool) -> list[list[Piece]]:
    face = family.bold if bold else family.regular
    cells: list[list[Piece]] = []
    for cell in row:
        cells.append(shape_words(cell, face, "\t" if any(cells) else "\n"))
    return cells


def _measure(cell: Sequence[Piece]) -> float:
    """Width in ems on one line."""
    return sum(piece.width + piece.face.space for piece in cell)


def _need(cell: Sequence[Piece]) -> float:
    """Width in ems of its longest word, or of a few letters where it has room for them."""
    return max([min(NARROWEST_CELL, _measure(cell)), *(piece.width for piece in cell)])


def _choose_voice(column: Sequence[str], voice: Voice) -> Voice:
    """Columns of numbers are set to the right."""
    filled = [cell for cell in column if cell.strip()]
    digits = sum(cell.strip(" +-−$€£%().,")[:1].isdigit() and len(cell) < 14 for cell in filled)
    align = "right" if filled and digits > 0.7 * len(filled) else "left"
    return Voice(voice.size, voice.leading, voice.ink, "right" if align == "right" else "left")


def _set_cells(row: Sequence[Sequence[Piece]], widths: Sequence[float], voices: Sequence[Voice]) -> Strip:
    stacks = []
    for left, share, cell, voice in zip(accumulate(widths, initial=0.0), widths, row, voices, strict=False):
        pad = PADDING * voice.size
        stacks.append((left + pad, set_text(cell, share - 2 * pad + 0.01, voice)[:MAX_CELL_LINES]))
    return set_beside(stacks)


def _draw_row(
    inner: Strip,
    widths: Sequence[float],
    shift: float,
    pad: float,
    style: TableStyle,
    kind: tuple[bool, bool, bool],
    canvas: Canvas,
    left: float,
    top: float,
) -> None:
    """One row with the rules above and below it; `kind`: whether it is the head, the last, an odd one."""
    is_head, is_last, is_odd = kind
    left += shift
    right, bottom = left + sum(widths), top + inner.height + 2 * pad
    if style.rules == "bands" and (is_head or not is_odd):
        canvas.rectangle((left, round(top), right, round(bottom)), style.band)
    if style.rules == "grid":
        for x in accumulate(widths, initial=left):
            canvas.rule((x, top), top - bottom, style.ink, 0.75)
    if style.rules == "grid" or (style.rules == "lines" and is_head):
        canvas.rule((left, top), right - left, style.ink, 0.75)
    if (style.rules in ("grid", "lines") and is_last) or (style.rules == "lines" and is_head):
        canvas.rule((left, bottom), right - left, style.ink, 0.75)
    inner.draw(canvas, left, top + pad)
