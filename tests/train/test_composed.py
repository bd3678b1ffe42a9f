"""Rows whose pages are composed when they are asked for."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from moca_rag.train.composed import PAGE_TEXT
from moca_rag.train.documents import Block, Document, PageText, write_documents
from moca_rag.train.rows import IMAGE_SLOT, PairRow, decode_image
from moca_rag.train.runs import run_cl, run_cpt
from moca_rag.train.settings import Source
from moca_rag.train.sources import open_cpt, open_pairs

from moca_rag.errors import ConfigError
from moca_rag.progress import SilentReporter
from tests.fonts import write_fonts
from tests.small_documents import write_small_documents


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("composed")
    (folder / "fonts").mkdir()
    write_fonts(folder / "fonts")
    documents = write_small_documents(folder / "texts.jsonl.gz", num_pages=4)
    return Source(str(documents), format="composed", images=str(folder / "fonts"))


def test_a_row_of_stage_one_is_a_page_and_what_is_written_on_it(source: Source) -> None:
    rows, again = open_cpt(source), open_cpt(source)
    assert len(rows) == 4
    for number in (3, 0):
        row = rows[number]
        assert row == again[number]
        assert row.text.count(IMAGE_SLOT) == len(row.images) == 1
        assert "Chapter" in row.text
        assert min(decode_image(row.images[0]).shape[:2]) >= 112
    assert rows.fingerprint() == again.fingerprint()


def test_a_pair_asks_for_what_its_page_says_and_has_its_neighbours_as_negatives(source: Source) -> None:
    rows = open_pairs(source)
    assert len(rows) == 12
    assert list(rows.tasks()) == [row.task for row in rows]
    assert len({row.row_id for row in rows}) == 12
    for row in rows:
        assert row.positive.text == PAGE_TEXT and len(row.negatives) == 2
        assert row.positive.key not in {side.key for side in row.negatives}
        assert row.query.text.strip()
    assert rows[1].query.text.startswith("Chapter")


def test_a_page_may_be_asked_for_in_several_ways(source: Source, model: Path, tmp_path: Path) -> None:
    rows = open_pairs(replace(source, questions=4))
    assert set(rows.tasks()) == {"composed"} == {row.task for row in rows}
    for row, alone in zip(rows, open_pairs(source), strict=True):
        assert 2 <= len({side.text for side in row.questions}) == len(row.questions) <= 4
        assert (row.query, row.positive) == (alone.query, alone.positive)
    data = f"data=[{{path: {source.path}, format: composed, images: {source.images}, limit: 6, questions: 4}}]"
    words = [data, f"model={model}", f"out={tmp_path}", "steps=3", "batch_size=2", "num_negatives=0", "log_steps=1"]
    run_cl("tiny-pages", words, SilentReporter(), "cpu")
    asked = [json.loads(line)["queries"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert sum(asked) == sum(len(rows[number].questions) for number in range(6))
    with pytest.raises(ConfigError, match="questions=0"):
        open_pairs(replace(source, questions=0))


def test_neighbours_are_pages_of_one_document_set_alike_and_asked_for_what_they_alone_say(
    source: Source, tmp_path: Path
) -> None:
    sizes = {"harbour": 4, "quarry": 2}
    documents = [
        Document(name, name, "1.0", name, "train", tuple(make_page(name, number) for number in range(size)))
        for name, size in sizes.items()
    ]
    write_documents(tmp_path / "texts.jsonl.gz", documents)
    source = replace(source, path=str(tmp_path / "texts.jsonl.gz"), questions=4, limit=60)
    together, apart = open_pairs(replace(source, neighbours=3)), open_pairs(source)
    assert together.fingerprint() != apart.fingerprint()
    groups = [[together[number] for number in range(start, start + 3)] for start in range(0, 60, 3)]
    named = [[find_names(row, sizes) for row in group] for group in groups]
    for first, second, third in named:
        assert first == second and len(first) == len(third) == 1
        assert third == first or first == {"quarry"}  # which has two pages, so that the third row is of any
    assert {name for names in named for name in names[0]} == set(sizes)
    for group in groups:
        assert len({row.positive.key for row in group}) == 3
        assert len({decode_image(row.positive.images[0]).shape for row in group}) == 1
    asked = [{side.text for row in rows for side in row.questions} for rows in (together, apart)]
    assert ["What all of them say" in texts for texts in asked] == [False, True]
    with pytest.raises(ConfigError, match="neighbours=0"):
        open_pairs(replace(source, neighbours=0))


def make_page(name: str, number: int) -> PageText:
    own = " ".join(f"the {name} page {word} number {number}" for word in ("ledger", "timber", "winter", "ferry"))
    blocks = (Block("heading", "What all of them say"), Block("paragraph", f"It is {own}. {own.title()} ends here."))
    return PageText(name, number + 1, tuple(blocks))


def find_names(row: PairRow, names: Iterable[str]) -> set[str]:
    asked = " ".join(side.text for side in row.questions).lower()
    return {name for name in names if name in asked}


def test_a_limit_makes_more_rows_than_pages(source: Source) -> None:
    rows = open_cpt(Source(source.path, format="composed", images=source.images, limit=9))
    assert len(rows) == len({row.row_id for row in rows}) == 9


def test_both_stages_learn_from_it(source: Source, model: Path, tmp_path: Path) -> None:
    data = f"data=[{{path: {source.path}, format: composed, images: {source.images}, limit: 6}}]"
    for run, size in ((run_cpt, "batch_tokens=500"), (run_cl, "batch_size=2")):
        words = [data, f"model={model}", f"out={tmp_path / run.__name__}", "steps=1", "max_tokens=2048", size]
        assert run("tiny-pages", words, SilentReporter(), "cpu").steps == 1


def test_fonts_that_are_not_named_are_asked_for(source: Source) -> None:
    with pytest.raises(ConfigError, match="set images to their folder"):
        open_cpt(Source(source.path, format="composed"))
