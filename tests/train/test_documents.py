"""The file of documents: what is written is read again, the same documents give the same bytes."""

import gzip
from pathlib import Path

import pytest
from moca_rag.train.blocks import PAGE_LINES, merge_items, paginate
from moca_rag.train.documents import Block, Document, PageText, read_documents, write_documents

from moca_rag.errors import ConfigError


def document(name: str = "pumps-doc/guide.pdf") -> Document:
    blocks = (
        Block("heading", "Oiling — the pump", (0.125, 0.1, 0.5, 0.13), 14.3),
        Block("table", "part\tdays\nseal\t90", (0.1, 0.2, 0.9, 0.4), 10.0),
        Block("code", "if old:\n    replace(seal)"),
    )
    return Document(name, "pumps-doc", "1:2.0-3", "pumps", "dev", (PageText(name, 7, blocks), PageText(name, 9, ())))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    documents = [document(), document("pumps-doc/faq.html")]
    assert write_documents(tmp_path / "d.jsonl.gz", documents) == 2
    assert list(read_documents(tmp_path / "d.jsonl.gz")) == documents


def test_the_same_documents_give_the_same_bytes_under_any_name(tmp_path: Path) -> None:
    for name in ("one.gz", "other.gz"):
        write_documents(tmp_path / name, iter([document()]))
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "other.gz").read_bytes()
    assert (tmp_path / "one.gz").read_bytes()[4:8] == bytes(4)  # no time


@pytest.mark.parametrize(
    "line", ["no json", '{"name": "a"}', "[1]", '{"pages": [[1, [["table", "a", 0.0, 0.1]]]], "name": "a"}']
)
def test_a_file_of_something_else_is_refused_by_its_name(tmp_path: Path, line: str) -> None:
    path = tmp_path / "documents.jsonl.gz"
    path.write_bytes(gzip.compress(line.encode()))
    with pytest.raises(ConfigError, match=r"documents\.jsonl\.gz holds no documents"):
        list(read_documents(path))


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "d.gz"
    write_documents(path, [document(str(number)) for number in range(50)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ConfigError, match="cut short"):
        list(read_documents(path))
    with pytest.raises(ConfigError, match="holds no documents"):
        list(read_documents(tmp_path / "missing.gz"))


def test_the_words_of_a_page_are_those_of_all_its_blocks() -> None:
    assert document().pages[0].num_words == 4 + 4 + 3


def test_items_become_one_list_but_not_across_columns() -> None:
    items = [Block("list", "a", (0.1, 0.1, 0.4, 0.2)), Block("list", "b", (0.1, 0.2, 0.45, 0.3))]
    assert list(merge_items(items)) == [Block("list", "a\nb", (0.1, 0.1, 0.45, 0.3))]
    next_column = Block("list", "c", (0.5, 0.1, 0.9, 0.2))
    assert list(merge_items([items[1], next_column])) == [items[1], next_column]
    assert list(merge_items([Block("list", "a"), Block("list", "b")])) == [Block("list", "a\nb")]


def test_running_text_fills_pages_and_none_ends_with_a_heading() -> None:
    blocks = [Block("paragraph", "word " * 60) for _ in range(20)]
    for place in range(0, 20, 3):
        blocks.insert(place, Block("heading", "Next part"))
    pages = paginate(blocks, 5)
    assert [page.number for page in pages] == list(range(5, 5 + len(pages)))
    assert [block for page in pages for block in page.blocks] == blocks
    assert all(page.blocks[-1].kind != "heading" for page in pages)
    assert all(page.num_words > 300 for page in pages[:-1])


def test_a_long_listing_goes_on_on_the_next_page() -> None:
    lines = [f"line {number}" for number in range(2 * PAGE_LINES + 5)]
    pages = paginate([Block("code", "\n".join(lines))])
    assert len(pages) == 3
    assert "\n".join(block.text for page in pages for block in page.blocks).split("\n") == lines
