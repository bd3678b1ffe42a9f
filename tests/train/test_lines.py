"""Pairs of texts out of a plain list: by number alone, each line among others."""

import gzip
from pathlib import Path

import pytest
from moca_rag.train.lines import MOST_OTHERS, MOST_WORDS, LineRows
from moca_rag.train.settings import Source
from moca_rag.train.sources import open_pairs

from moca_rag.errors import ConfigError

WORDS = [f"word{number:02}" for number in range(30)]


def rows(path: Path, **options: int) -> LineRows:
    found = open_pairs(Source(str(path), format="lines", **options))  # type: ignore[arg-type]
    assert isinstance(found, LineRows)
    return found


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("\n".join([*WORDS, "", "  word03 ", "a whole\tsentence of six words"]), encoding="utf-8")
    return path


def test_each_line_asks_once_and_is_found_among_others(words: Path) -> None:
    found = rows(words)
    assert len(found) == 31 and set(found.tasks()) == {"lines-words"}
    assert [row.query.text for row in map(found.__getitem__, range(31))] == [*WORDS, "a whole sentence of six words"]
    for row in map(found.__getitem__, range(31)):
        assert row.query.text in row.positive.text and row.query.text != row.positive.text
        assert sum(word in row.positive.text for word in WORDS) <= MOST_OTHERS + 1
    assert [found[place].row_id for place in (30, 2)] == [rows(words)[place].row_id for place in (30, 2)]


def test_a_limit_goes_through_the_list_again_with_other_company(words: Path) -> None:
    found = rows(words, limit=62)
    assert len(found) == 62 and found[0].query == found[31].query
    assert any(found[index].positive != found[index + 31].positive for index in range(31))
    with pytest.raises(IndexError):
        found[62]


def test_long_lines_get_little_company(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("\n".join(f"{mark} " * MOST_WORDS for mark in "abc"), encoding="utf-8")
    found = rows(tmp_path / "long.txt")
    assert all(found[index].query.text == found[index].positive.text for index in range(3))


def test_the_fingerprint_is_of_the_lines_and_packed_ones_are_the_same(words: Path, tmp_path: Path) -> None:
    packed = tmp_path / "words.gz"
    packed.write_bytes(gzip.compress(words.read_bytes()))
    assert rows(packed).fingerprint() == rows(words).fingerprint() != rows(words, limit=3).fingerprint()
    words.write_text("other\nlines")
    assert rows(packed).fingerprint() != rows(words).fingerprint()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"one line", "has 1 lines"), (b"\xff\xfe\x00", "no list of lines in UTF-8"), (None, "no list of lines")],
)
def test_what_is_no_list_is_refused(content: bytes | None, complaint: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(ConfigError, match=complaint):
        rows(tmp_path / "list.txt")


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list.gz").write_bytes(gzip.compress(b"one\ntwo\nthree\n" * 99)[:-20])
    with pytest.raises(ConfigError, match="no list of lines"):
        rows(tmp_path / "list.gz")
