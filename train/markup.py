"""Reads the files of a manual in HTML as pages of blocks; what returns in file after file, as navigation, is left out."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path

from moca_rag.textlayer import clean_word

from .blocks import merge_items, paginate
from .documents import Block, BlockKind, PageText

HIDDEN = frozenset("head script style nav header footer noscript svg math form button select template".split())
BLOCKS: dict[str, BlockKind] = {f"h{level}": "heading" for level in range(1, 7)}
BLOCKS |= {"li": "list", "pre": "code", "caption": "caption", "figcaption": "caption"}
BREAKS = frozenset(
    "address article blockquote body center dd details div dl dt fieldset figure hr main ol p section ul".split()
)
FURNITURE = re.compile(  # names of classes, ids and roles of what stands around the text
    r"nav(igation|bar|header|footer|path|links)?|(sphinx)?sidebar\w*|related|footer|breadcrumbs?|toc|toctree-wrapper|contents"
    r"|shortcontents|headerlink|menu|search|contentinfo|copyright|linenos",
    re.IGNORECASE,
)
VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
MAX_CELL_WORDS = 12.0  # on average; a table with more holds the page's columns, not data
MIN_TABLE = 2  # rows and columns
RETURNS = 0.1  # of a manual's files: a block in more of them is navigation


def read_markup(paths: Sequence[Path]) -> list[PageText]:
    """The files as one document, each on pages of its own; the caller names them."""
    files = [_read_file(path) for path in paths]
    returns = Counter(text for blocks in files for text in {block.text for block in blocks})
    most = max(2.0, RETURNS * len(files))
    pages: list[PageText] = []
    for blocks in files:
        pages += paginate(merge_items(block for block in blocks if returns[block.text] <= most), len(pages) + 1)
    return pages


def _read_file(path: Path) -> list[Block]:
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    reader = _MarkupReader()
    with suppress(AssertionError):  # what the parser makes of `<![` in the middle of a text: the file ends there
        reader.feed(text)
        reader.close()
    return reader.finish()


class _MarkupReader(HTMLParser):
    """Collects blocks; what is open decides the kind of a text, what is hidden is passed over."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: list[Block] = []
        self._texts: list[str] = []
        self._open: list[str] = []
        self._hidden: list[str] = []  # the tag that hides all below it, once for each time it is open
        self._tables: list[list[list[list[Block]]]] = []  # rows of cells of blocks, the innermost table last

    def finish(self) -> list[Block]:
        """All blocks, where the text has come to its end."""
        self._end_text()
        while self._tables:
            self._end_table()
        return self._blocks

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a tag; old pages leave items, rows and cells open."""
        if self._hidden:
            self._hidden += [tag] * (tag == self._hidden[0])
        elif _is_hidden(tag, attrs):
            self._end_text()
            self._hidden = [tag]
        elif tag == "br":
            self._texts.append("\n")
        elif tag in BREAKS or tag in BLOCKS or tag in ("table", "tr", "td", "th"):
            self._end_text()
            if tag in BLOCKS or tag in ("ul", "ol"):
                self._open.append(tag)
            self._open_cell(tag)

    def _open_cell(self, tag: str) -> None:
        if tag == "table":
            self._tables.append([])
        elif self._tables and tag == "tr":
            self._tables[-1].append([])
        elif self._tables and tag in ("td", "th"):
            if not self._tables[-1]:
                self._tables[-1].append([])
            self._tables[-1][-1].append([])

    def handle_endtag(self, tag: str) -> None:
        """Close a tag, and those left open within it."""
        if self._hidden:
            if tag == self._hidden[0]:
                self._hidden.pop()
        elif tag in BREAKS or tag in BLOCKS or tag in ("table", "td", "th"):
            self._end_text()
            if tag in self._open:
                del self._open[len(self._open) - 1 - self._open[::-1].index(tag) :]
            if tag == "table" and self._tables:
                self._end_table()

    def handle_data(self, data: str) -> None:
        """Take text where it can be seen."""
        if not self._hidden:
            self._texts.append(data)

    def _end_text(self) -> None:
        kind: BlockKind = next((BLOCKS[tag] for tag in reversed(self._open) if tag in BLOCKS), "paragraph")
        whole, self._texts = "".join(self._texts), []
        text = clean_code(whole) if kind == "code" else clean_word(" ".join(whole.split()))
        if any(map(str.isalnum, text)):
            self._add([Block(kind, text)])

    def _add(self, blocks: Iterable[Block]) -> None:
        """Add to the open cell, or to the page."""
        cells = self._tables[-1][-1] if self._tables and self._tables[-1] else []
        (cells[-1] if cells else self._blocks).extend(blocks)

    def _end_table(self) -> None:
        rows = [[cell for cell in row if cell] for row in self._tables.pop()]
        inner = [block for row in rows for cell in row for block in cell]
        texts = [[" ".join(" ".join(block.text for block in cell).split()) for cell in row] for row in rows if row]
        num_cells = sum(map(len, texts))
        is_data = (
            len(texts) >= MIN_TABLE
            and num_cells >= MIN_TABLE * len(texts)
            and sum(len(block.text.split()) for block in inner) <= MAX_CELL_WORDS * num_cells
            and all(block.kind in ("paragraph", "code") for block in inner)
        )
        self._add([Block("table", "\n".join("\t".join(row) for row in texts))] if is_data else inner)


def _is_hidden(tag: str, attrs: Iterable[tuple[str, str | None]]) -> bool:
    if tag in HIDDEN:
        return True
    names = " ".join(value or "" for name, value in attrs if name in ("class", "id", "role")).split()
    return tag not in (*VOID, "html", "body", "main") and any(map(FURNITURE.fullmatch, names))


def clean_code(text: str) -> str:
    """Code with its lines and indents, without empty lines around it."""
    lines = [line.expandtabs().rstrip() for line in text.replace("\r", "").split("\n")]
    kept = [" " * (len(line) - len(line.lstrip())) + clean_word(line.strip()) for line in lines]
    return "\n".join(kept).strip("\n").rstrip()
