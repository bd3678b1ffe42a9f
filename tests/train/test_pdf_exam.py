"""An exam of a user's own PDFs: every page by itself, asked for by what it alone says."""

from collections import Counter
from pathlib import Path
from typing import Any

import pymupdf
import pytest
from moca_rag.train.pdf_exam import write_pdf_exam
from moca_rag.train.settings import ExamReport, ExamSettings

from moca_rag.errors import ConfigError
from moca_rag.judged import read_judged
from moca_rag.progress import SilentReporter
from moca_rag.records import PixelBudget
from moca_rag.render import open_document
from tests.makers import PAGE_WORDS, make_pdf, make_picture
from tests.train.test_pdf_rows import make_report

HEADER = "Every page of every report says the same sentence at its top."


def write(folder: Path, out: Path, **settings: Any) -> ExamReport:
    chosen = ExamSettings(**{"pages": 50, "min_words": 20, "searchable": 0.5} | settings)
    return write_pdf_exam(folder.iterdir(), out, chosen, SilentReporter())


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    for number in range(4):
        make_report(folder / f"{number}.pdf", number)
    (folder / "again.pdf").write_bytes((folder / "1.pdf").read_bytes())
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 nothing")
    make_picture(folder / "picture.png")  # has no words
    return folder


def test_each_page_stands_alone_as_it_was_or_as_a_picture(reports: Path, tmp_path: Path) -> None:
    report = write(reports, tmp_path / "exam")
    judged = read_judged(tmp_path / "exam")
    files = sorted(judged.pdfs.iterdir())
    assert report.pages == len(files) == 16
    assert [(failure.path, failure.code) for failure in report.failed] == [(str(reports / "broken.pdf"), "broken")]
    assert {file.suffix for file in files} == {".pdf", ".png"}
    for file in files:
        _, source, number, _ = f"x-{file.stem}".split("-")
        path = reports / ("again.pdf" if source == "again" else f"{source}.pdf")
        page = open_document(path).read_page(int(number), PixelBudget())
        alone = open_document(file)
        assert alone.info.num_pages == 1
        found = alone.read_page(1, PixelBudget())
        assert (found.image == page.image).all()
        assert [word.text for word in found.words] == (
            [word.text for word in page.words] if file.suffix == ".pdf" else []
        )


def test_what_is_asked_stands_on_that_page_alone(reports: Path, tmp_path: Path) -> None:
    report = write(reports, tmp_path / "exam", searchable=1)
    judged = read_judged(tmp_path / "exam")
    assert Counter(query.kind for query in judged.queries) == report.questions
    assert {"sentence", "heading", "caption"} <= set(report.questions)
    texts = {}
    for file in judged.pdfs.iterdir():
        with pymupdf.open(file) as document:
            texts[file.name] = " ".join(document[0].get_text().split())
    for query in judged.queries:
        (answer,) = judged.qrels[query.query_id]
        if query.kind != "keywords":
            assert [name for name, text in texts.items() if query.text in text] == [answer.removesuffix("#1")]
    assert not any(HEADER in query.text for query in judged.queries)


def test_the_same_seed_writes_the_same_and_only_so_many_pages(reports: Path, tmp_path: Path) -> None:
    names = ("one", "two", "other")
    for name, seed in zip(names, (0, 0, 1), strict=True):
        assert write(reports, tmp_path / name, pages=5, seed=seed).pages == 5
    one, two, other = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in names
    )
    assert one == two != other


def test_no_page_of_words_and_a_taken_folder_are_said(reports: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no page has 900 words"):
        write(reports, tmp_path / "exam", min_words=900)
    assert not (tmp_path / "exam").exists()
    with pytest.raises(ConfigError, match="--pages 0: give 1 or more"):
        write(reports, tmp_path / "exam", pages=0)
    with pytest.raises(ConfigError, match="is there already"):
        write(reports, reports)


@pytest.mark.parametrize("searchable", [0.0, 1.0])
def test_an_encrypted_pdf_is_opened_by_its_password_alone(tmp_path: Path, searchable: float) -> None:
    make_pdf(tmp_path / "pdfs" / "locked.pdf", PAGE_WORDS[:3], password="open")
    for passwords, reason in (((), "is encrypted: give --password"), (("shut",), "and no given password opens it")):
        with pytest.raises(ConfigError, match=f"no page has 3 words .*locked.pdf.* {reason}"):
            write(tmp_path / "pdfs", tmp_path / "exam", min_words=3, searchable=searchable, passwords=passwords)
    settings = {"min_words": 3, "searchable": searchable, "passwords": ("shut", "open")}
    assert write(tmp_path / "pdfs", tmp_path / "exam", **settings).pages == 3
    files = [path.suffix for path in (tmp_path / "exam" / "pdfs").iterdir()]
    assert files == [".pdf" if searchable else ".png"] * 3
