"""Documents from text files: each block goes to the flow, each figure to the function that draws it."""

import tomllib
from collections.abc import Callable
from typing import Any

import pymupdf

from .canvas import Box, Canvas
from .charts import draw_chart
from .diagrams import draw_diagram, draw_time_bars
from .drawings import DRAWINGS
from .furniture import draw_cover, draw_facts, draw_title, dress_pages
from .layout import Flow, Look
from .markup import Block, read_document

LOOKS: dict[str, dict[str, Any]] = {
    "report": {},
    "bulletin": {"head_family": "serif", "family": "serif", "size": 10.5, "table": "rules"},
    "paper": {
        "dress": "paper",
        "columns": 2,
        "family": "serif",
        "head_family": "serif",
        "size": 9.4,
        "leading": 1.24,
        "justify": True,
        "table": "rules",
        "margins": (50, 62, 50, 56),
    },
    "slides": {
        "dress": "slides",
        "paper": (960, 540),
        "margins": (58, 44, 44, 44),
        "size": 19,
        "leading": 1.3,
        "page_per_heading": True,
    },
    "manual": {"dress": "manual", "margins": (56, 62, 56, 60), "table": "grid", "size": 9.8},
    "plain": {"dress": "plain", "margins": (72, 72, 72, 72), "table": "grid"},
    "letter": {"dress": "plain", "margins": (80, 60, 76, 64), "family": "serif", "size": 11, "table": "rules"},
    "typed": {"dress": "plain", "margins": (84, 80, 70, 70), "family": "mono", "head_family": "mono", "table": "grid"},
    "japanese": {"family": "cjk", "head_family": "cjk", "size": 10.5, "leading": 1.7},
}
LIST_FIELDS = ("paper", "margins")
SPEC_FIGURES = {"chart": draw_chart, "diagram": draw_diagram, "time": draw_time_bars}


def make_look(head: dict[str, Any]) -> Look:
    """The look that a document's head asks for by name, with what the head changes in it."""
    chosen = {**LOOKS[head.get("look", "report")], **head.get("dress_up", {})}
    chosen |= {key: tuple(chosen[key]) for key in LIST_FIELDS if key in chosen}
    return Look(**chosen, accent=head.get("accent", "teal"), head=head)


def place_block(flow: Flow, block: Block, room: float = 0) -> None:
    """Put one block into the flow; a heading stays with `room` points of what follows it.

    Raises ValueError on a kind of block that does not exist.
    """
    if block.kind in ("draw", *SPEC_FIGURES):
        place_figure(flow, block)
        return
    parts = block.text.split("\n")
    steps: dict[str, Callable[[], None]] = {
        "heading": lambda: flow.heading(block.text, int(block.options["level"]), room),
        "paragraph": lambda: flow.paragraph(block.text),
        "item": lambda: flow.item(block.text, block.options["mark"], float(block.options["after"])),
        "note": lambda: flow.note(block.text),
        "warning": lambda: flow.note(block.text, warning=True),
        "small": lambda: flow.paragraph(block.text, size=flow.look.size * 0.86, after=0.3),
        "table": lambda: flow.table(block.rows, block.options.get("caption", "")),
        "page": flow.break_page,
        "cover": lambda: draw_cover(flow, block.options["name"], parts),
        "title": lambda: draw_title(flow, parts),
        "facts": lambda: draw_facts(flow, parts),
    }
    if block.kind not in steps:
        raise ValueError(f"no block of kind {block.kind!r}: one of draw, {', '.join(SPEC_FIGURES)}, {', '.join(steps)}")
    steps[block.kind]()


def place_figure(flow: Flow, block: Block) -> None:
    """A figure from its TOML, or a drawing by its name, with its caption."""
    spec: dict[str, Any] = {"caption": block.text.replace("\n", " ")}
    if block.kind in SPEC_FIGURES:
        spec = tomllib.loads(block.text)

    def draw(canvas: Canvas, box: Box, palette: tuple[str, ...]) -> None:
        """The figure itself, wherever the flow finds room for it."""
        if block.kind in SPEC_FIGURES:
            SPEC_FIGURES[block.kind](canvas, box, spec, palette)
        else:
            DRAWINGS[block.options["name"]](canvas, box, palette)

    height, side = float(block.options.get("height", 190)), float(block.options.get("side", 0))
    flow.figure(height, draw, spec.get("caption", ""), side)


def guess_room(block: Block) -> float:
    """About how many points a short table takes; 0 for what may break anywhere."""
    return 24.0 * len(block.rows) if block.kind == "table" and len(block.rows) < 12 else 0


def make_document(name: str) -> pymupdf.Document:
    """The finished document of `texts/<name>.md`, with title, author, date and outline."""
    head, blocks = read_document(name)
    flow = Flow(make_look(head))
    for block, after in zip(blocks, [*blocks[1:], Block("page")], strict=True):
        place_block(flow, block, guess_room(after))
    doc = flow.finish()
    dress_pages(flow)
    if len(doc) > 2:
        doc.set_toc(flow.outline)
    describe(doc, head["title"], head.get("author", ""), head["date"])
    return doc


def describe(doc: pymupdf.Document, title: str, author: str, date: str) -> None:
    """Title, author and a fixed date (`YYYY-MM-DD`): the same bytes on every run."""
    stamp = f"D:{date.replace('-', '')}090000Z"
    doc.set_metadata({"title": title, "author": author, "creationDate": stamp, "modDate": stamp})
