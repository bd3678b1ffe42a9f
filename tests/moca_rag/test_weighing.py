"""Weights of a look: the same search as ever with each pair, and the pair that costs pages with words nothing."""

import json
from pathlib import Path

import pytest
from moca_rag.indexer.pipeline import index_documents

from moca_rag.errors import ConfigError
from moca_rag.judged import read_judged
from moca_rag.judging import judge_folder
from moca_rag.progress import SilentReporter
from moca_rag.scopes import Estimate
from moca_rag.weighing import VISION_WEIGHTS, WORDLESS_WEIGHTS, Weighed, Weighing, weigh_folder
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
def test_each_pair_is_the_search_that_a_model_with_it_would_make(
    place: Path, encoder: ColourEncoder | PixelEncoder
) -> None:
    cache = place.parent / "cache"
    weighing = weigh_folder(read_judged(place), index_documents, encoder, cache, SilentReporter())
    judged = judge_folder(
        read_judged(place), index_documents, encoder, ["text", "hybrid"], cache, SilentReporter()
    ).corpus
    assert (weighing.with_words, weighing.without_words, len(weighing.tried)) == (5, 3, 56)
    assert weighing.text == judged.estimate("text", "ndcg_cut_5")
    (own,) = (one for one in weighing.tried if (one.vision_weight, one.wordless_weight) == (0.3, 1.0))
    assert own.every == judged.estimate("hybrid", "ndcg_cut_5")
    means = [sum(judged.scores["hybrid"][f"q{n}"]["ndcg_cut_5"] for n in part) for part in (range(5), range(5, 8))]
    assert (own.with_words.mean, own.without_words.mean) == pytest.approx((means[0] / 5, means[1] / 3))
    text = sum(judged.scores["text"][f"q{n}"]["ndcg_cut_5"] for n in range(5))
    assert own.gain.mean == pytest.approx((means[0] - text) / 5)
    assert len({one.every.mean for one in weighing.tried}) > 1
    assert {one.vision_weight for one in weighing.tried} == set(VISION_WEIGHTS)
    assert {one.wordless_weight for one in weighing.tried} == set(WORDLESS_WEIGHTS)


def test_the_best_is_the_best_of_those_that_cost_next_to_nothing() -> None:
    def tried(mean: float, low: float) -> Weighed:
        sure = Estimate(mean, mean, mean)
        return Weighed(mean, 1.0, sure, sure, sure, Estimate(0.0, low, 0.1))

    rows = [tried(0.5, -0.001), tried(0.6, -0.01), tried(0.9, -0.011)]
    weighing = Weighing(Path("d"), Path("c"), "m", 1, 1, rows[0].every, rows)
    assert weighing.best is rows[1]
    assert Weighing(Path("d"), Path("c"), "m", 1, 1, rows[0].every, rows[2:]).best is None


def test_a_folder_with_nothing_to_weigh_is_refused(place: Path) -> None:
    (place / "qrels.tsv").write_text("q1\twords.pdf#2\t1\nq2\tgone.pdf#1\t1\n")
    with pytest.raises(
        ConfigError, match="pages with words answer 1 of its questions and pages without 0: weighing needs both"
    ):
        weigh_folder(read_judged(place), index_documents, ColourEncoder(), place.parent / "cache", SilentReporter())
