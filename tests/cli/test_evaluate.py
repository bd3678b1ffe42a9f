"""The command `moca eval folder`: figures for a person, for a program, and as a page."""

import json
import re
from collections.abc import Iterable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from moca_rag.cli.main import run

from moca_rag.records import Floats, Pixels
from tests.fakes import write_pdf
from tests.makers import PixelEncoder, make_picture


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A judged folder, and a model that takes no time."""
    monkeypatch.setattr("moca_rag.deferred.DeferredEmbedder", PixelEncoder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MOCA_MODEL", "none")
    pages = [
        "the harbour <b>",
        "a timetable",
        "ferries leave at nine",
        "when nothing else moves, some ferries still go",
    ]
    write_pdf(tmp_path / "judged" / "pdfs" / "a.pdf", pages)
    queries = [("q1", "harbour", "words"), ("q2", "When do <ferries> sail?", "words"), ("q3", "what time", "meaning")]
    lines = [json.dumps({"_id": key, "text": text, "kind": kind}) for key, text, kind in queries]
    (tmp_path / "judged" / "queries.jsonl").write_text("\n".join(lines))
    (tmp_path / "judged" / "qrels.tsv").write_text("q1\ta.pdf#1\t1\nq2\ta.pdf#4\t2\nq3\tgone.pdf#2\t1\n")
    return tmp_path / "judged"


def test_the_json_that_is_promised(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "folder", str(place), "--model", "m", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == [
        "folder",
        "kept",
        "model",
        "documents",
        "pages",
        "corpus",
        "document",
        "notes",
        "weights",
        "report",
    ]
    assert (found["documents"], found["pages"], found["report"]) == (1, 4, None)
    corpus = found["corpus"]
    assert list(corpus) == ["questions", "modes", "random", "ties", "differences", "kinds"]
    assert list(corpus["modes"]) == ["text", "vision", "passages", "hybrid"]
    assert corpus["modes"]["text"]["recip_rank_10"] == {"mean": 0.5, "low": 0, "high": 1}
    assert corpus["random"]["recall_5"] == pytest.approx(2 / 3)
    assert {kind: part["questions"] for kind, part in corpus["kinds"].items()} == {"words": 2, "meaning": 1}
    assert len(corpus["differences"]) == 30
    assert found["weights"] == {"text": 0.8, "passages": 0.5, "vision": 0.75, "wordless": 0.94}
    assert found["notes"] == ["1 right pages are not in the collection and count as missed: gone.pdf#2"]
    assert Path(found["kept"]).is_relative_to(place.parent / "cache")
    assert (Path(found["kept"]) / "corpus.hybrid.run").is_file()


def test_a_person_sees_each_mode_beside_chance(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "folder", str(place)]) == 0
    shown = capsys.readouterr()
    assert "3 questions, 1 document, 4 pages" in shown.out
    assert re.search(r"text +0\.544 0\.00-1\.00", shown.out)
    assert re.search(r"random +0\.\d{3} +0\.\d{3} +0\.667", shown.out)
    assert re.search(r"words +2 +0\.815", shown.out)
    assert "vision" not in shown.out
    assert "count as missed: gone.pdf#2" in shown.err
    assert "hybrid believes" not in shown.err
    assert run(["eval", "folder", str(place), "--model", "m"]) == 0
    told = "hybrid believes text 0.80, passages 0.50, vision 0.75; a page without words 0.94"
    assert told in capsys.readouterr().err


def test_documents_of_one_page_are_judged_in_the_whole_corpus_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["eval", "folder", str(place)]) == 0
    assert "within the right document" in capsys.readouterr().out
    write_pdf(place / "pdfs" / "a.pdf", ["the harbour"])
    write_pdf(place / "pdfs" / "b.pdf", ["a timetable"])
    (place / "qrels.tsv").write_text("q1\ta.pdf#1\t1\nq2\tb.pdf#1\t1\n")
    assert run(["eval", "folder", str(place), "--report", str(place.parent / "page.html")]) == 0
    shown = capsys.readouterr().out
    assert "whole corpus, 2 questions" in shown and "within the right document" not in shown
    assert "Within the right document" not in (place.parent / "page.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """The tags of a page, and what they point to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_stands_alone_and_shows_the_misses(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = place.parent / "out" / "report.html"
    assert run(["eval", "folder", str(place), "--modes", "text", "--report", str(report)]) == 0
    page = report.read_text(encoding="utf-8")
    outline = Outline(page)
    assert all(target.startswith("data:image/jpeg;base64,") for target in outline.targets)
    assert not {"script", "link", "iframe"} & set(outline.tags)
    assert "url(" not in page
    assert outline.tags.count("article") == 2
    assert len(outline.targets) == 2  # q2: wanted and got; of q3 there is neither
    assert "When do &lt;ferries&gt; sail?" in page
    assert "<dt>text</dt><dd>2</dd>" in page
    assert "<b>wanted</b> page 4 <small>a.pdf</small>" in page
    assert "<b>got</b> page 3 <small>a.pdf</small>" in page
    assert "no document is named &#x27;gone.pdf&#x27;" in page
    assert "0.544" in page
    assert f"page: {report}" in capsys.readouterr().err


class NothingEncoder(PixelEncoder):
    """Every page is a row of NaN."""

    def _vector(self, data: bytes) -> Floats:
        return np.full(self.card.dimension, np.nan, np.float32)


class SameEncoder(PixelEncoder):
    """Every page is the same, so that the order of the pages wins."""

    def encode_pages(self, images: Iterable[Pixels]) -> Iterator[Floats]:
        for _ in images:
            yield self._vector(b"")


@pytest.mark.parametrize(("encoder", "complaint"), [(NothingEncoder, "not finite"), (SameEncoder, "are equal")])
def test_a_model_that_tells_nothing_apart_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, encoder: type, complaint: str
) -> None:
    monkeypatch.setattr("moca_rag.deferred.DeferredEmbedder", encoder)
    assert run(["eval", "folder", str(place), "--model", "m"]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert re.fullmatch(rf"moca: pixel-encoder, pages: .*{complaint}.*\n", shown.err)


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["--modes", "text,sound"], 2, "there is no mode 'sound', only text, vision, passages, hybrid"),
        (["--modes", "hybrid"], 2, "need a model: name one with --model"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    place: Path, capsys: pytest.CaptureFixture[str], words: list[str], code: int, complaint: str
) -> None:
    assert run(["eval", "folder", str(place), *words]) == code
    said = capsys.readouterr().err
    assert complaint in said
    assert said.count("\n") == 1


def test_weights_are_told_as_moca_json_has_them(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "weights", str(place)]) == 2
    assert "there is no look to weigh without a model" in capsys.readouterr().err
    assert run(["eval", "weights", str(place), "--model", "m"]) == 2
    assert (
        "pages with words answer 2 of its questions and pages without 0: weighing needs both" in capsys.readouterr().err
    )
    make_picture(place / "pdfs" / "b.png")
    (place / "qrels.tsv").write_text("q1\ta.pdf#1\t1\nq2\tb.png#1\t1\n")
    assert run(["eval", "weights", str(place), "--model", "m"]) == 0
    shown = capsys.readouterr().out
    assert "1 question for pages with words, 1 for pages without" in shown
    assert run(["eval", "weights", str(place), str(place), "--model", "m", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert [folder["path"] for folder in values["folders"]] == [str(place)] * 2
    assert values["best"] in values["tried"]
    assert {len(one["found"]) for one in values["tried"]} == {2}
    assert f'moca.json: "weights": {json.dumps(values["best"]["weights"])}' in shown
