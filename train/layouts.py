"""Reads the pages of a PDF as blocks: what is a heading, a list, code or a table is told from type and place."""

import gzip
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import pymupdf

from moca_rag.mupdf import WORD_FLAGS
from moca_rag.textlayer import clean_word

from .blocks import Box, merge_items, spread, unite
from .documents import Block, BlockKind, PageText
from .passages import CAPTION, CAPTION_WORDS, HEADING_WORDS

Style: TypeAlias = Literal["text", "heading", "code", "cells"]

MONO = re.compile(r"mono|courier|typewriter|consol|cursor|(cm|sf|ec|lm|tx)\w{0,2}tt", re.IGNORECASE)
BOLD = re.compile(r"bold|black|heavy|(cm|sf|ec)\w{0,2}bx", re.IGNORECASE)
BULLETS = "•‣◦▪▫■□●○∙·◆◇▶►➢✓–—*-"
LABEL = re.compile(rf"([{re.escape(BULLETS)}]|\(?(\d{{1,2}}|[a-z]|[ivx]{{1,4}})[.)])(\s+|$)")
SECTION = re.compile(r"(appendix |chapter )?([A-Z]|\d{1,2})(\.\d{1,2})*\.?", re.IGNORECASE)
NUMBERED = re.compile(r"\d{1,2}(\.\d{1,2})+\.? [^\W\d_]")
CUT = re.compile(r"(?<=[^\W\d_]{2})[-‐]\n(?=[a-z])")  # a word that ends its line in a hyphen
LEADER = re.compile(r"\.{6}")  # from a heading to its page, in a table of contents
MIN_SIZE = 3.0  # points; smaller is hidden, or drawn by a font that tells neither size nor signs
HEADING_RISE = 1.15  # how much larger than the page's usual type a heading is set
MAX_GAP = 1.6  # of the type size: more white between two lines ends code or a table; an empty line does not
MONO_ADVANCE = 0.56  # of the type size: the width of a sign of code, by which its indent is counted
MIN_TABLE_ROWS, MIN_EVEN_ROWS = 3, 0.7  # a table's rows, and the share of them that have the same number of cells
MIN_SIGNS: dict[BlockKind, float] = {"code": 0.3, "table": 0.4}  # letters and digits among all signs, and for others:
MIN_LETTERS = 0.55  # letters; what has fewer is a formula
MOST = 0.8  # of a line's letters, for it to be in a mono or bold face
MAX_HEAD_WORDS = 15  # of the line at a page's top or bottom that returns on other pages
DIGITS = 3  # of a box's sides: a thousandth of a page is less than a point


class Row(NamedTuple):
    """One line of a block of the PDF: a cell, or several with wide gaps between them."""

    cells: tuple[str, ...]
    box: Box
    size: float
    style: Style
    block: int

    @property
    def text(self) -> str:
        """The cells as one text."""
        return " ".join(self.cells)


def read_layout(path: Path, most: int = 0) -> list[PageText]:
    """The pages of a PDF, gzipped or not, with their blocks, `most` of them (0: all) at even distances; the caller names them.

    A head or foot that returns on other pages is left out. A broken file may end the process: call it in a child's.
    """
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    with pymupdf.open(stream=data, filetype="pdf") as document:
        numbers = spread(range(1, document.page_count + 1), most)
        pages = [PageText("", number, tuple(_read_page(document[number - 1]))) for number in numbers]
    heads = Counter(mark for page in pages for mark in {_mark(block) for block in _edges(page)})
    return [_without_heads(page, heads) for page in pages]


def _read_page(page: Any) -> Iterator[Block]:
    page.remove_rotation()
    raw = page.get_text("dict", flags=WORD_FLAGS)
    rows = _find_tables(_read_rows(raw["blocks"]))
    for block in merge_items(_make_block(group) for group in _group_rows(rows)):
        if _is_worth(block):
            assert block.box is not None
            sides = zip(block.box, (raw["width"], raw["height"]) * 2, strict=True)
            left, top, right, bottom = (round(min(max(side / length, 0.0), 1.0), DIGITS) for side, length in sides)
            yield replace(block, box=(left, top, right, bottom))


def _read_rows(blocks: Sequence[Any]) -> Iterator[Row]:
    """The rows that run from left to right; lines of a block at one height are cells of one row."""
    usual = _usual_size(span for block in blocks for line in block["lines"] for span in line["spans"])
    for number, block in enumerate(blocks):
        beside: list[Any] = []
        for line in block["lines"]:
            if line["dir"][0] < 0.99 or not any(span["text"].strip() for span in line["spans"]):
                continue
            if beside and not _is_beside(beside[-1]["bbox"], line["bbox"]):
                yield _make_row(beside, usual, number)
                beside = []
            beside.append(line)
        if beside:
            yield _make_row(beside, usual, number)


def _is_beside(last: Box, box: Box) -> bool:
    return last[1] <= (box[1] + box[3]) / 2 <= last[3] and box[0] >= last[0]


def _make_row(lines: Sequence[Any], usual: float, block: int) -> Row:
    spans = [span for line in lines for span in line["spans"]]
    told = [span for span in spans if not span["text"].strip().isdigit()]  # numbers of lines stand before listings
    size = _usual_size(spans)
    texts = ["".join(span["text"] for span in line["spans"]) for line in lines]
    cells = tuple(cell for cell in map(clean_word, texts) if cell)
    style: Style = "text"
    if size >= HEADING_RISE * usual:
        style = "heading"
    elif _share(told, MONO, pymupdf.TEXT_FONT_MONOSPACED) >= MOST:
        style = "code"
        cells = (" " * (len(texts[0]) - len(texts[0].lstrip())) + "  ".join(cells),)
    elif _share(spans, BOLD, pymupdf.TEXT_FONT_BOLD) >= MOST:
        style = "heading"
    return Row(cells, unite([line["bbox"] for line in lines]), size, style, block)


def _usual_size(spans: Iterable[Any]) -> float:
    """The size in which most letters are set, in points."""
    sizes = Counter[float]()
    for span in spans:
        sizes[round(span["size"], 1)] += len(span["text"].strip())
    return sizes.most_common(1)[0][0] if sizes else 0.0


def _share(spans: Sequence[Any], names: re.Pattern[str], flag: int) -> float:
    """The share of letters in fonts of such a name or flag."""
    lengths = [(len(span["text"].strip()), span) for span in spans]
    chosen = sum(length for length, span in lengths if span["flags"] & flag or names.search(span["font"]))
    return chosen / max(sum(length for length, _ in lengths), 1)


def _find_tables(rows: Iterable[Row]) -> Iterator[Row]:
    """Mark the rows that make a table: some in succession with several cells, most of them with the same number."""
    for has_cells, run in groupby(rows, key=_has_cells):
        together = list(run)
        if has_cells:
            _, num_even = Counter(len(row.cells) for row in together).most_common(1)[0]
            if len(together) >= MIN_TABLE_ROWS and num_even >= MIN_EVEN_ROWS * len(together):
                together = [row._replace(style="cells") for row in together]
        yield from together


def _has_cells(row: Row) -> bool:
    """Whether what stands beside one another are cells, and not an item's or a heading's label and its text."""
    return len(row.cells) > 1 and not LABEL.fullmatch(row.cells[0]) and not SECTION.fullmatch(row.cells[0])


def _group_rows(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows of each heading, paragraph, item, listing and table."""
    group: list[Row] = []
    for row in rows:
        if group and not _goes_on(group[-1], row):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _goes_on(last: Row, row: Row) -> bool:
    gap = row.box[1] - last.box[3]
    if row.style != last.style or gap < -row.size:
        return False
    if row.style in ("code", "cells"):
        return gap < MAX_GAP * row.size
    same_size = max(row.size, last.size) < HEADING_RISE * min(row.size, last.size)
    return row.block == last.block and same_size and not LABEL.match(row.text)


def _make_block(rows: Sequence[Row]) -> Block:
    box, size = unite([row.box for row in rows]), rows[0].size
    if rows[0].style == "code":
        indents = (round((row.box[0] - box[0]) / (MONO_ADVANCE * size)) for row in rows)
        return Block(
            "code", "\n".join(" " * indent + row.text for indent, row in zip(indents, rows, strict=True)), box, size
        )
    if rows[0].style == "cells":
        return Block("table", "\n".join("\t".join(row.cells) for row in rows), box, size)
    text = CUT.sub("", "\n".join(row.text for row in rows)).replace("\n", " ")
    num_words = len(text.split())
    label = LABEL.match(text)
    if label and label[1] in BULLETS:
        return Block("list", text[label.end() :], box, size)
    if CAPTION.match(text) and num_words <= CAPTION_WORDS[1]:
        return Block("caption", text, box, size)
    is_heading = rows[0].style == "heading" or (len(rows) == 1 and NUMBERED.match(text) and text[-1] not in ".,;:")
    if is_heading and num_words <= HEADING_WORDS[1]:
        return Block("heading", text, box, size)
    if label:
        return Block("list", text, box, size)
    return Block("paragraph", text, box, size)


def _is_worth(block: Block) -> bool:
    """Whether a block is told in words that can be seen: formulas, rules of signs and contents with dots are not."""
    signs = "".join(block.text.split())
    if block.size < MIN_SIZE or LEADER.search(signs):
        return False
    if block.kind in MIN_SIGNS:
        return sum(map(str.isalnum, signs)) > MIN_SIGNS[block.kind] * len(signs)
    return sum(map(str.isalpha, signs)) > MIN_LETTERS * len(signs)


def _without_heads(page: PageText, heads: Counter[str]) -> PageText:
    edges = [block for block in _edges(page) if heads[_mark(block)] > 1 or not re.search("[a-z]", _mark(block))]
    return replace(page, blocks=tuple(block for block in page.blocks if not any(block is edge for edge in edges)))


def _edges(page: PageText) -> list[Block]:
    """The blocks at the top and the bottom that are as short as a head or foot."""
    if not page.blocks:
        return []
    edges = min(page.blocks, key=_top), max(page.blocks, key=_top)
    return [block for block in edges if len(block.text.split()) <= MAX_HEAD_WORDS]


def _top(block: Block) -> float:
    return block.box[1] if block.box else 0.0


def _mark(block: Block) -> str:
    """A head without what changes from page to page."""
    return re.sub(r"[\divxlc]+\b", "#", block.text.casefold())
