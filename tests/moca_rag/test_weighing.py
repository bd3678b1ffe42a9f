"""Weights of hybrid search: the same search as ever with each, and those that cost pages with words nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from moca_rag.indexer.pipeline import index_documents

from moca_rag.errors import ConfigError
from moca_rag.judged import read_judged
from moca_rag.judging import judge_folder
from moca_rag.progress import SilentReporter
from moca_rag.records import FusionWeights
from moca_rag.scopes import Estimate
from moca_rag.weighing import TRIED, Found, Weighed, WeighedFolder, Weighing, list_weights, weigh_folders
from tests.fakes import ColourEncoder, write_pdf
from tests.makers import PixelEncoder

WORDS = ["the harbour ledger", "a red ledger", "blue ferries leave", "the green timetable", "coal and timber"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Five pages of words, of which three name a colour, and three pages that show one and say nothing."""
    folder = tmp_path / "judged"
    write_pdf(folder / "pdfs" / "words.pdf", WORDS)
    write_pdf(folder / "pdfs" / "looks.pdf", ["red:", "green:", "blue:"])
    asked = [(text, f"words.pdf#{number}") for number, text in enumerate(WORDS, 1)]
    asked += [(f"where is the {name} square", f"looks.pdf#{n}") for n, name in enumerate(("red", "green", "blue"), 1)]
    lines = [json.dumps({"_id": f"q{number}", "text": text}) for number, (text, _) in enumerate(asked)]
    (folder / "queries.jsonl").write_text("\n".join(lines))
    (folder / "qrels.tsv").write_text("".join(f"q{number}\t{page}\t1\n" for number, (_, page) in enumerate(asked)))
    return folder


@pytest.mark.parametrize("encoder", [ColourEncoder(), PixelEncoder()])
def test_weights_find_what_search_with_them_finds(place: Path, encoder: ColourEncoder | PixelEncoder) -> None:
    cache = place.parent / "cache"
    weighing = weigh_folders([read_judged(place)], index_documents, encoder, cache, SilentReporter())
    (folder,) = weighing.folders
    assert (folder.path, folder.with_words, folder.without_words) == (place, 5, 3)
    assert len(weighing.tried) == len(list_weights()) > 100
    assert len({one.mean for one in weighing.tried}) > 1
    for one in weighing.tried[::40]:
        encoder.card = replace(encoder.card, weights=one.weights)
        judged = judge_folder(
            read_judged(place), index_documents, encoder, ["text", "hybrid"], cache, SilentReporter()
        ).corpus
        assert folder.text == judged.estimate("text", "ndcg_cut_5")
        (found,) = one.found
        assert found.every == judged.estimate("hybrid", "ndcg_cut_5")
        means = [sum(judged.scores["hybrid"][f"q{n}"]["ndcg_cut_5"] for n in part) for part in (range(5), range(5, 8))]
        assert (found.with_words.mean, found.without_words.mean) == pytest.approx((means[0] / 5, means[1] / 3))
        text = sum(judged.scores["text"][f"q{n}"]["ndcg_cut_5"] for n in range(5))
        assert found.gain.mean == pytest.approx((means[0] - text) / 5)


def test_every_weight_is_tried_beside_every_other() -> None:
    every = list_weights()
    assert len(set(every)) == len(every)
    for name, values in TRIED.items():
        assert {getattr(weights, name) for weights in every} == set(values)


def test_the_best_is_the_best_of_those_that_cost_next_to_nothing_in_every_folder() -> None:
    def found(mean: float, low: float) -> Found:
        sure = Estimate(mean, mean, mean)
        return Found(sure, sure, sure, Estimate(0.0, low, 0.1))

    rows = [((0.5, -0.001), (0.5, 0.0)), ((0.4, -0.01), (0.8, 0.0)), ((0.9, 0.0), (0.9, -0.011))]
    tried = [Weighed(FusionWeights(text=n / 10), tuple(found(*one) for one in row)) for n, row in enumerate(rows)]
    folders = tuple(WeighedFolder(Path(name), 1, 1, tried[0].found[0].every) for name in ("d", "e"))
    assert Weighing(folders, "m", tried).best is tried[1]
    assert Weighing(folders, "m", tried[2:]).best is None


def test_a_folder_with_nothing_to_weigh_is_refused(place: Path) -> None:
    (place / "qrels.tsv").write_text("q1\twords.pdf#2\t1\nq2\tgone.pdf#1\t1\n")
    with pytest.raises(
        ConfigError, match="pages with words answer 1 of its questions and pages without 0: weighing needs both"
    ):
        weigh_folders([read_judged(place)], index_documents, ColourEncoder(), place.parent / "cache", SilentReporter())
