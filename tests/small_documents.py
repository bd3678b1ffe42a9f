"""A few documents of composed pages, for what reads and renders them."""

from pathlib import Path

from moca_rag.train.documents import Block, Document, PageText, write_documents

from tests.small_model import SENTENCES


def write_small_documents(path: Path, num_pages: int = 6) -> Path:
    """One document of so many pages, each with a heading and paragraphs of its own."""
    pages = []
    for number in range(1, num_pages + 1):
        name = f"Chapter {number} of the report"
        text = " ".join(SENTENCES[number % 5 :] + SENTENCES[: number % 5])
        blocks = [Block("heading", name), Block("paragraph", text), Block("paragraph", text[::-1].title())]
        pages.append(PageText("report", number, tuple(blocks)))
    write_documents(path, [Document("report", "small-doc", "1.0", "small", "train", tuple(pages))])
    return path
