"""Composed pages with questions: only what stands on one page, and on its picture, is asked."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from moca_rag.train.asking import Sheet, ask, find_keywords
from moca_rag.train.canvas import ComposedPage
from moca_rag.train.documents import Block, PageText
from moca_rag.train.exam import read_sheet, write_exam
from moca_rag.train.settings import ExamSettings
from PIL import Image

from moca_rag.errors import ConfigError
from moca_rag.judged import read_judged
from moca_rag.progress import SilentReporter
from moca_rag.records import PixelBudget
from moca_rag.render import open_document
from tests.fonts import write_fonts
from tests.small_documents import write_small_documents


def test_an_exam_is_a_judged_folder_and_the_same_seed_writes_the_same(tmp_path: Path) -> None:
    texts = write_small_documents(tmp_path / "texts.jsonl.gz")
    (tmp_path / "fonts").mkdir()
    write_fonts(tmp_path / "fonts")
    for name in ("one", "two"):
        settings = ExamSettings(pages=4, min_words=20)
        report = write_exam(texts, tmp_path / "fonts", tmp_path / name, settings, SilentReporter())
    judged = read_judged(tmp_path / "one")
    assert report.pages == len(list(judged.pdfs.iterdir())) == 4
    assert Counter(query.kind for query in judged.queries) == report.questions
    assert report.questions["heading"] >= 3
    for grades in judged.qrels.values():
        ((page, grade),) = grades.items()
        assert grade == 1 and (judged.pdfs / page.removesuffix("#1")).is_file()
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert all((tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes() for path in files)
    with Image.open(next(judged.pdfs.iterdir())) as picture:
        assert picture.width % 28 == picture.height % 28 == 0


def test_a_searchable_page_is_drawn_as_it_was_and_its_words_can_be_read(tmp_path: Path) -> None:
    texts = write_small_documents(tmp_path / "texts.jsonl.gz")
    (tmp_path / "fonts").mkdir()
    write_fonts(tmp_path / "fonts")
    for name, share in (("pictures", 0.0), ("layers", 1.0), ("mixed", 0.5), ("again", 0.5)):
        settings = ExamSettings(pages=6, min_words=20, searchable=share)
        write_exam(texts, tmp_path / "fonts", tmp_path / name, settings, SilentReporter())
    budget = PixelBudget(784, 10**7)
    for picture in (tmp_path / "pictures" / "pdfs").iterdir():
        layer = open_document(tmp_path / "layers" / "pdfs" / f"{picture.stem}.pdf").read_page(1, budget)
        assert np.array_equal(layer.image, open_document(picture).read_page(1, budget).image)
        assert len(layer.words) > 20
    pictures, layers, mixed = (read_judged(tmp_path / name) for name in ("pictures", "layers", "mixed"))
    assert {query.text for query in pictures.queries} == {query.text for query in mixed.queries}
    words = " ".join(word.text for word in layer.words)
    last = f"{picture.stem}.pdf#1"
    asked = [query for query in layers.queries if last in layers.qrels[query.query_id]]
    assert asked and all(set(query.text.split()) <= set(words.split()) for query in asked if query.kind == "sentence")
    for query in mixed.queries:
        assert query.kind.split()[1] == next(iter(mixed.qrels[query.query_id])).removesuffix("#1")[-3:]
    assert len({query.kind.split()[1] for query in mixed.queries}) == 2
    for file in (tmp_path / "mixed" / "pdfs").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / "pdfs" / file.name).read_bytes()


def test_what_found_no_room_on_the_picture_is_not_asked() -> None:
    said = "The northern mills sold their last timber. Nobody in the whole valley had seen it coming at all."
    text = PageText("d", 1, (Block("heading", "Timber of the north"), Block("paragraph", said)))
    none = np.zeros((0, 4), np.float32)
    page = ComposedPage(np.zeros((28, 28, 3), np.uint8), ("(Mills,", "of", "mills"), none, np.zeros(0, np.int32),
                        none[:, :2], "Timber of the north\n\nThe northern mills sold\ntheir last timber.", "flow")  # fmt: skip
    sheet = read_sheet("d-1", text, page)
    assert sheet.texts == {
        "sentence": ["The northern mills sold their last timber."],
        "heading": ["Timber of the north"],
    }
    assert sheet.words == {"mills": 2}


def test_what_two_pages_say_asks_for_neither() -> None:
    words = Counter({"coal": 3, "iron": 2, "wool": 1, "clay": 1, "with": 9})
    sheet = Sheet("a", {"sentence": ("Both pages say this very sentence.",), "heading": ("Own heading",)}, words)
    counts = {"Both pages say this very sentence.": 2, "Own heading": 1} | dict.fromkeys(words, 1) | {"with": 10}
    asked = {question.kind: question.text for question in ask(sheet, counts, 10, ExamSettings())}
    assert asked == {"heading": "Own heading", "keywords": "coal iron clay wool"}
    assert find_keywords({"coal": 1}, {"coal": 1}, 10) == ["coal"]


def test_too_few_pages_and_a_taken_folder_are_said(tmp_path: Path) -> None:
    texts = write_small_documents(tmp_path / "texts.jsonl.gz")
    with pytest.raises(ConfigError, match="has 6 pages of 20 words"):
        write_exam(texts, tmp_path, tmp_path / "out", ExamSettings(pages=7, min_words=20), SilentReporter())
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"--searchable 1.5: give a share"):
        write_exam(texts, tmp_path, tmp_path / "out", ExamSettings(searchable=1.5), SilentReporter())
    with pytest.raises(ConfigError, match="is there already"):
        write_exam(texts, tmp_path, tmp_path, ExamSettings(), SilentReporter())
