"""Pairs of texts out of documents: by number alone, with the sentence in its passage or around it."""

from pathlib import Path

import pytest
from moca_rag.train.documents import Block, Document, PageText, read_documents, write_documents
from moca_rag.train.sentences import PASSAGE_WORDS, SHORT_WORDS, PassageRows, draw_sentences
from moca_rag.train.settings import Source

from moca_rag.errors import ConfigError

PROSE = " ".join(
    f"Sentence number {number} tells of the thing that is called {number} by most people." for number in range(20)
)


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    pages = tuple(
        PageText(
            "book",
            number,
            (Block("heading", f"{number}. Things and names of part {number}"), Block("paragraph", PROSE)),
        )
        for number in range(3)
    )
    write_documents(tmp_path / "texts.jsonl.gz", [Document("book", "book-doc", "1", "book", "train", pages)])
    return tmp_path / "texts.jsonl.gz"


def rows(documents: Path, **options: int) -> PassageRows:
    return PassageRows(Source(str(documents), format="passages", **options))  # type: ignore[arg-type]


def test_a_row_is_decided_by_its_number(documents: Path) -> None:
    one, two = rows(documents, limit=40), rows(documents, limit=40)
    assert len(one) == 40 and [one[place].row_id for place in (3, 0)] == [two[place].row_id for place in (3, 0)]
    assert len({one[place].row_id for place in range(0, 40, 2)}) > 10
    assert list(one.tasks())[:3] == ["passages-sentence", "passages-heading", "passages-sentence"]


def test_half_the_sentences_stay_in_their_passage(documents: Path) -> None:
    found = [rows(documents, limit=200)[place] for place in range(0, 200, 2)]
    kept = [row.query.text in row.positive.text for row in found]
    assert 20 < sum(kept) < 70
    assert all(SHORT_WORDS <= len(row.positive.text.split()) <= PASSAGE_WORDS for row in found)


def test_a_heading_asks_without_its_number_for_what_stands_below(documents: Path) -> None:
    row = rows(documents, limit=10)[1]
    assert row.query.text.startswith("Things and names of part")
    assert row.positive.text.startswith("Sentence number 0") and len(row.positive.text.split()) <= PASSAGE_WORDS
    assert len(row.negatives) == 2


def test_documents_without_prose_are_refused(tmp_path: Path) -> None:
    page = PageText("book", 1, (Block("code", PROSE),))
    write_documents(tmp_path / "code.jsonl.gz", [Document("book", "book-doc", "1", "book", "train", (page,))])
    with pytest.raises(ConfigError, match="60 words of prose"):
        rows(tmp_path / "code.jsonl.gz")


def test_texts_are_drawn_once_each_and_by_their_seed(documents: Path) -> None:
    read = list(read_documents(documents))
    every = draw_sentences(read, 1000, 0)
    assert len(every) == len(set(every)) and "0. Things and names of part 0" in every
    assert draw_sentences(read, 10, 0) == draw_sentences(read, 10, 0) != draw_sentences(read, 10, 1)
