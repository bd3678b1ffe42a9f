"""How the demo judges its questions: every mode that the collection has, side by side, beside chance."""

import re
from pathlib import Path
from typing import Self

import pytest

from examples import demo
from moca_rag import index_documents
from moca_rag.records import Encoder, ModelCard
from tests.fakes import ColourEncoder, write_pdf

QUESTIONS = [
    {"_id": "q1", "text": "Which page is red", "kind": "looks"},
    {"_id": "q2", "text": "scarlet iron prices", "kind": "words"},
]
QRELS = {"q1": {"a.pdf#1"}, "q2": {"a.pdf#3"}}


class Colours(ColourEncoder):
    """The model of a collection, found again by its card."""

    @classmethod
    def of(cls, card: ModelCard) -> Self:
        return cls(card.revision)


def make_collection(folder: Path, encoder: Encoder | None) -> Path:
    write_pdf(folder / "pdfs" / "a.pdf", ["red: A square", "green: Something else", "blue: Iron prices fell"])
    assert index_documents([folder / "pdfs"], folder / "collection", encoder).failed == []
    return folder / "collection"


@pytest.fixture
def floors(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    found: dict[str, float] = {}
    monkeypatch.setattr(demo, "FLOORS", found)
    monkeypatch.setattr("moca_rag.deferred.DeferredEmbedder", Colours)
    return found


def test_a_hybrid_collection_is_judged_in_three_modes_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], floors: dict[str, float]
) -> None:
    assert demo.judge(QUESTIONS, QRELS, make_collection(tmp_path, Colours())) == 0
    said = capsys.readouterr().out
    assert re.search(r"^hit@1 +questions +text +vision +hybrid +random$", said, re.MULTILINE)
    assert re.search(r"^looks +1 +0\.00 +1\.00 +1\.00 +0\.33$", said, re.MULTILINE)
    assert re.search(r"^words +1 +1\.00 +0\.00 +1\.00 +0\.33$", said, re.MULTILINE)
    assert re.search(r"^all +2 +0\.50 +0\.50 +1\.00 +0\.33$", said, re.MULTILINE)
    assert re.search(r"^all, hit@3 +2 +0\.50 +1\.00 +1\.00$", said, re.MULTILINE)
    assert said.endswith("demo: hit@1 over 2 questions: text 0.50, vision 0.50, hybrid 1.00\n")


def test_a_text_collection_is_judged_by_words_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], floors: dict[str, float]
) -> None:
    assert demo.judge(QUESTIONS, QRELS, make_collection(tmp_path, None)) == 0
    said = capsys.readouterr().out
    assert "vision" not in said
    assert said.endswith("demo: hit@1 over 2 questions: text 0.50\n")


def test_a_mode_below_its_floor_is_named_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], floors: dict[str, float]
) -> None:
    floors |= {"text": 0.5, "vision": 0.6}
    assert demo.judge(QUESTIONS, QRELS, make_collection(tmp_path, Colours())) == 1
    assert (
        capsys.readouterr().err == "demo: vision is below 0.60, which it reached before: something has become worse\n"
    )
