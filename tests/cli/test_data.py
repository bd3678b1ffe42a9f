"""The command `moca data from-pdfs`."""

import json
from pathlib import Path

import pytest
from moca_rag.cli.main import run

from tests.makers import PAGE_WORDS, make_pdf


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    for number in range(4):
        make_pdf(tmp_path / "papers" / "deep" / f"{number}.pdf", [PAGE_WORDS[number], f"{PAGE_WORDS[number + 4]} Yes."])
    return tmp_path / "papers"


@pytest.fixture
def damaged(papers: Path) -> Path:
    """The same folder with a document that cannot be read."""
    (papers / "bad.pdf").write_bytes(b"%PDF-1.7")
    return papers


def test_a_folder_of_pdfs_becomes_rows(papers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = papers.parent / "rows"
    assert run(["data", "from-pdfs", str(papers), str(out), "--json"]) == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert shown.err == ""
    assert report == {
        "folder": str(out),
        "documents": 4,
        "pages": 8,
        "dropped": {},
        "rows": {"cpt.parquet": 6, "cpt.heldout.parquet": 2, "cl.parquet": 6, "cl.heldout.parquet": 2},
        "tasks": {"pdf-sentence": 8},
        "size": sum(path.stat().st_size for path in out.iterdir()),
        "failed": [],
    }


def test_a_person_reads_what_was_written_and_what_failed(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = damaged.parent / "rows"
    assert run(["data", "from-pdfs", str(damaged), str(out), "--stage", "cpt", "--held-out", "0"]) == 3
    said = capsys.readouterr().out
    assert f"{out}: 4 documents, 8 pages, " in said
    assert "cpt.parquet           8 rows" in said
    assert "cl.parquet" not in said
    assert "bad.pdf: is broken beyond repair" in said


def test_what_cannot_be_done_is_one_line(papers: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, complaint in (
        ([papers, papers], "is there already: give a folder that is new or empty"),
        (["nowhere", papers.parent / "rows"], "nowhere does not exist"),
        ([papers, papers.parent / "rows", "--held-out", "2"], "held_out is 2.0"),
        ([papers], "OUT"),
    ):
        assert run(["data", "from-pdfs", *map(str, words)]) == 2
        said = capsys.readouterr().err
        assert complaint in said
        assert "Traceback" not in said


def test_an_exam_of_ones_own_pdfs_is_judged_as_it_stands(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = damaged.parent / "exam"
    assert run(["data", "exam-pdfs", str(damaged), str(out), "--min-words", "5", "--searchable", "1"]) == 3
    said = capsys.readouterr().out
    assert f"{out}: 8 pages, asked for by 8 sentence" in said
    assert "bad.pdf: is broken beyond repair" in said
    assert run(["eval", "folder", str(out), "--modes", "text", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["corpus"]["modes"]["text"]["ndcg_cut_5"]["mean"] == 1.0
    assert run(["data", "exam-pdfs", "nowhere", str(out)]) == 2
    assert "nowhere does not exist" in capsys.readouterr().err
