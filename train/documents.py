"""Writes the text of documents, page by page and block by block, as gzipped JSON lines, and reads it again.

Needs nothing beyond the standard library: what was gathered on one machine is read where no PDF reader is at hand.
"""

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from moca_rag.errors import ConfigError

BlockKind: TypeAlias = Literal["heading", "paragraph", "list", "code", "caption", "table"]
Split: TypeAlias = Literal["train", "dev", "test"]


@dataclass(frozen=True, slots=True)
class Block:
    """What stands together on a page. Rows of a table, items of a list and lines of code end in a line feed."""

    kind: BlockKind
    text: str
    """A table's cells have tabs between them."""
    box: tuple[float, float, float, float] | None = None
    """Left, top, right, bottom as shares of the page; None where its source has no pages."""
    size: float = 0.0
    """Of its type in points; 0 where its source names none."""


@dataclass(frozen=True, slots=True)
class PageText:
    """A page's blocks in reading order."""

    document: str
    number: int
    blocks: tuple[Block, ...]

    @property
    def num_words(self) -> int:
        """Words of all blocks."""
        return sum(len(block.text.split()) for block in self.blocks)


@dataclass(frozen=True, slots=True)
class Document:
    """A document of a package. Splits are drawn by family, so that no two of them share authors and subject."""

    name: str
    """The package and the path inside it."""
    package: str
    version: str
    family: str
    split: Split
    pages: tuple[PageText, ...]


def write_documents(path: Path, documents: Iterable[Document]) -> int:
    """Write documents, one a line. How many; the same ones give the same bytes."""
    num_documents = 0
    with path.open("wb") as file, gzip.GzipFile("", "wb", compresslevel=9, fileobj=file, mtime=0) as packed:
        for document in documents:
            line = json.dumps(_to_json(document), ensure_ascii=False, separators=(",", ":"))
            packed.write(line.encode() + b"\n")
            num_documents += 1
    return num_documents


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a file that `write_documents` wrote. Raises ConfigError where it is another, or cut short."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for line in file:
                yield _from_json(json.loads(line))
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} holds no documents, or was cut short: `moca data corpus` writes them") from error


def _to_json(document: Document) -> dict[str, Any]:
    pages = [[page.number, [_list_block(block) for block in page.blocks]] for page in document.pages]
    head = {key: getattr(document, key) for key in ("name", "package", "version", "family", "split")}
    return head | {"pages": pages}


def _list_block(block: Block) -> list[Any]:
    return [block.kind, block.text, block.size, *(block.box or ())]


def _from_json(line: dict[str, Any]) -> Document:
    pages = tuple(
        PageText(line["name"], number, tuple(_read_block(*values) for values in blocks))
        for number, blocks in line.pop("pages")
    )
    return Document(**line, pages=pages)


def _read_block(kind: BlockKind, text: str, size: float, *box: float) -> Block:
    if len(box) not in (0, 4):
        raise ValueError(f"a box has 4 sides, not {len(box)}")
    return Block(kind, text, (box[0], box[1], box[2], box[3]) if box else None, size)
