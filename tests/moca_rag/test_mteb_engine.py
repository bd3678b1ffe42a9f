"""The whole engine through mteb's search protocol."""

import json
from pathlib import Path

import numpy as np
import pytest

from moca_rag.errors import ModelError
from moca_rag.mteb_engine import CheckedEncoder
from moca_rag.records import PixelBudget
from moca_rag.render import open_document
from tests.fakes import COLOURS, ColourEncoder, HalvesEncoder
from tests.toy_vidore import (
    OCR_TASK,
    draw_page,
    judge,
    judge_engine,
    rescore,
    stay_offline,
    use_encoder,
    write_copies,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_copies(tmp_path_factory.mktemp("vidore"))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stay_offline(monkeypatch, tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> ColourEncoder:
    return use_encoder(monkeypatch, ColourEncoder())


def test_the_engine_by_looks_scores_as_its_encoder_does(data: Path, encoder: ColourEncoder) -> None:
    alone = judge("v3.1", data, languages=["english", "french"])
    engine = judge_engine(data, "vision")
    assert engine.model == "local/colours-engine-vision"
    assert [task.subsets for task in engine.tasks] == [task.subsets for task in alone.tasks]
    assert encoder.num_pages == 12


def test_the_engine_finds_by_text_and_a_query_without_an_answer_counts_zero(data: Path) -> None:
    report = judge_engine(data, None, model=None)
    [task] = report.tasks
    kept = Path(f"out/runs/moca_rag__engine-text/{report.revision}/{OCR_TASK}")
    run = json.loads((kept / "french.json").read_text())["run"]
    assert list(run["13"]) == ["6"]
    assert run["14"] == {}
    for subset in task.subsets:
        assert rescore(kept / f"{subset.name}.json", 10) == pytest.approx(subset.ndcg_10)
    assert {subset.name: subset.ndcg_10 for subset in task.subsets}["french"] == 0.5


def test_a_query_that_is_left_out_counts_zero(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moca_rag.mteb_engine import EngineModel

    whole = EngineModel.search
    monkeypatch.setattr(EngineModel, "search", lambda *a, **b: {q: r for q, r in whole(*a, **b).items() if r})
    french = next(subset for subset in judge_engine(data, None, model=None).tasks[0].subsets if subset.name == "french")
    assert (french.num_queries, french.ndcg_10) == (2, 0.5)


def test_the_engine_joins_both_rankings(data: Path, encoder: ColourEncoder) -> None:
    means = {mode: judge_engine(data, mode).mean("ndcg_10") for mode in ("text", "vision", "hybrid")}
    assert means["hybrid"] > max(means["text"], means["vision"])


def test_a_page_with_text_is_drawn_as_its_picture_and_read_as_its_text(place: Path) -> None:
    from moca_rag.mteb_engine import write_page

    text = "| Ausgaben | 12 € |\nL'été à Łódź – Ελλάδα\n" + "word " * 900
    picture = draw_page(["red", "blue"])
    pages = []
    for name, layer in (("bare", ""), ("read", text)):
        document = open_document(write_page(place / name, picture, layer))
        pages.append(document.read_page(1, PixelBudget(28 * 28 * 4, 28 * 28 * 64)))
        document.close()
    bare, read = pages
    assert [word.text for word in read.words][:4] == ["|", "Ausgaben", "|", "12"]
    assert {"€", "L'été", "Łódź", "Ελλάδα"} <= {word.text for word in read.words}
    assert sum(word.text == "word" for word in read.words) == 900
    assert bare.image is not None and read.image is not None
    assert bare.image.shape == read.image.shape
    assert np.abs(bare.image.astype(int) - read.image).mean() < 8


def test_pages_are_told_apart_by_any_of_their_regions() -> None:
    halves = {name: np.full((28, 56, 3), np.array(colour) * 255, np.uint8) for name, colour in COLOURS.items()}
    red, blue = (np.concatenate([halves["green"], halves[name]]) for name in ("red", "blue"))
    encoder = CheckedEncoder(HalvesEncoder())
    assert [len(rows) for rows in encoder.encode_pages([red, "red", blue])] == [2, 4, 2]
    with pytest.raises(ModelError, match="all 2 embeddings are equal"):
        list(encoder.encode_pages([red, red]))
