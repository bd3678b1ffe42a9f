"""What the readers of PDFs, HTML and manual pages share: items become lists, running text becomes pages."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias, TypeVar

from .documents import Block, PageText

Item = TypeVar("Item")
Box: TypeAlias = tuple[float, float, float, float]

PAGE_LINES = 46  # of a text that has no pages
LINE_SIGNS = 85
EMPTY_LINES = {"heading": 2}  # beside a block; others have one


def spread(items: Sequence[Item], most: int) -> list[Item]:
    """At most so many of the items (0: all), at even distances.

    >>> spread("abcdefghij", 3)
    ['b', 'f', 'i']
    """
    if not 0 < most < len(items):
        return list(items)
    return [items[(2 * index + 1) * len(items) // (2 * most)] for index in range(most)]


def merge_items(blocks: Iterable[Block]) -> Iterator[Block]:
    """Items that follow one another become one list, unless the next stands at the head of another column."""
    last: Block | None = None
    for block in blocks:
        if last is not None and last.kind == block.kind == "list" and _is_below(last, block):
            boxes = [box for box in (last.box, block.box) if box]
            last = replace(last, text=f"{last.text}\n{block.text}", box=unite(boxes) if boxes else None)
            continue
        if last is not None:
            yield last
        last = block
    if last is not None:
        yield last


def _is_below(last: Block, block: Block) -> bool:
    return last.box is None or block.box is None or block.box[1] >= last.box[1]


def unite(boxes: Sequence[Box]) -> Box:
    """The smallest box around them all."""
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def paginate(blocks: Iterable[Block], first: int = 1) -> list[PageText]:
    """Running text as numbered pages, each about as full as a printed one; no page ends with a heading."""
    pages: list[list[Block]] = [[]]
    lines = 0
    for block in (piece for whole in blocks for piece in _cut_long(whole)):
        height = _count_lines(block)
        if pages[-1] and lines + height > PAGE_LINES:
            pages.append([pages[-1].pop()] if pages[-1][-1].kind == "heading" and len(pages[-1]) > 1 else [])
            lines = sum(map(_count_lines, pages[-1]))
        pages[-1].append(block)
        lines += height
    return [PageText("", number, tuple(page)) for number, page in enumerate(pages, first) if page]


def _count_lines(block: Block) -> int:
    return sum(1 + len(line) // LINE_SIGNS for line in block.text.split("\n")) + EMPTY_LINES.get(block.kind, 1)


def _cut_long(block: Block) -> Iterator[Block]:
    """A block of several lines in pieces that fit on a page."""
    lines = block.text.split("\n")
    for start in range(0, len(lines), PAGE_LINES):
        yield replace(block, text="\n".join(lines[start : start + PAGE_LINES]))
