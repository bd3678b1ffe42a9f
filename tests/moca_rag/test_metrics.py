import math
import sys
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from moca_rag.errors import ConfigError, ModelError
from moca_rag.metrics import (
    MEASURES,
    Qrels,
    Run,
    bootstrap_interval,
    check_embeddings,
    count_ties,
    first_pages,
    mean_scores,
    paired_difference,
    random_scores,
    score_run,
)


def score_by_hand(grades: dict[str, int], ranked: list[str]) -> dict[str, float]:
    """The five measures in loops of their own."""
    gains = [max(grades.get(page, 0), 0) for page in ranked]
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    found: dict[str, float] = {}
    for top_k in (5, 10):
        best = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(ideal[:top_k]))
        found[f"ndcg_cut_{top_k}"] = sum(g / math.log2(rank + 2) for rank, g in enumerate(gains[:top_k])) / best
        found[f"recall_{top_k}"] = sum(gain > 0 for gain in gains[:top_k]) / len(ideal)
    found["recip_rank_10"] = next((1 / rank for rank, gain in enumerate(gains[:10], 1) if gain > 0), 0.0)
    return {measure: found[measure] for measure in MEASURES}


@pytest.fixture
def drawn() -> tuple[Qrels, Run]:
    """Forty queries over thirty pages, graded, with many ties."""
    rng = np.random.default_rng(7)
    pages = [f"d{number}.pdf#{number % 4}" for number in range(30)]
    qrels, run = {}, {}
    for number in range(40):
        judged = rng.choice(pages, 6, replace=False).tolist()
        qrels[f"q{number}"] = {
            page: int(grade) for page, grade in zip(judged, [2, *rng.integers(0, 3, 5)], strict=True)
        }
        ranked = rng.choice(pages, 20, replace=False).tolist()
        run[f"q{number}"] = {page: float(score) for page, score in zip(ranked, rng.integers(0, 9, 20) / 7, strict=True)}
    return qrels, run


def test_a_case_worked_by_hand() -> None:
    scores = score_run({"q": {"a#1": 2, "b#1": 1, "c#1": 0}}, {"q": {"c#1": 0.9, "b#1": 0.8, "a#1": 0.7}})["q"]
    dcg, ideal = 1 / math.log2(3) + 2 / math.log2(4), 2 / math.log2(2) + 1 / math.log2(3)
    assert scores == pytest.approx(
        {"ndcg_cut_5": dcg / ideal, "ndcg_cut_10": dcg / ideal, "recall_5": 1, "recall_10": 1, "recip_rank_10": 0.5}
    )


def test_scores_equal_loops_of_our_own(drawn: tuple[Qrels, Run]) -> None:
    qrels, run = drawn
    assert count_ties(run) > 200
    for query, scores in score_run(qrels, run).items():
        assert scores == pytest.approx(score_by_hand(qrels[query], list(first_pages(run[query], 100))))


def test_scores_equal_those_of_ir_measures(drawn: tuple[Qrels, Run]) -> None:
    ir_measures = pytest.importorskip("ir_measures")
    qrels, tied = drawn
    run = {q: {page: score + n / 1000 for n, (page, score) in enumerate(scores.items())} for q, scores in tied.items()}
    assert count_ties(run) == 0  # its RR@10 is MS MARCO's, which orders ties the other way
    names = ("nDCG@5", "nDCG@10", "R@5", "R@10", "RR@10")
    ours, measures = score_run(qrels, run), [ir_measures.parse_measure(name) for name in names]
    theirs = list(ir_measures.iter_calc(measures, qrels, run))
    assert len(theirs) == len(names) * len(qrels)
    for value in theirs:
        assert ours[value.query_id][MEASURES[measures.index(value.measure)]] == pytest.approx(value.value)


def test_a_query_that_the_run_lacks_scores_nothing() -> None:
    qrels: Qrels = {"a": {"x#1": 1}, "b": {"x#1": 1}, "c": {"x#1": 1}, "d": {}}
    scores = score_run(qrels, {"a": {"x#1": 1.0}, "b": {}, "d": {"x#1": 1.0}, "z": {}})
    assert {query: row["ndcg_cut_5"] for query, row in scores.items()} == {"a": 1, "b": 0, "c": 0, "d": 0}
    assert mean_scores(scores)["recall_10"] == pytest.approx(1 / 4)


def test_scores_count_as_32_bit_floats_and_ties_go_by_descending_id() -> None:
    run = {"q": {"a#1": 1.0 + 1e-12, "b#1": 1.0}}
    assert score_run({"q": {"a#1": 1}}, run)["q"]["recip_rank_10"] == 0.5
    assert count_ties(run) == 2
    assert count_ties({"q": {"a#1": 1.1, "b#1": 1.0}, "r": {"a#1": 1.0}}) == 0


def test_only_ten_pages_can_have_a_reciprocal_rank() -> None:
    run = {"q": {f"{number:02}#1": float(-number) for number in range(12)}}
    ranks = [score_run({"q": {f"{number:02}#1": 1}}, run)["q"]["recip_rank_10"] for number in (9, 10)]
    assert ranks == [pytest.approx(0.1), 0]


@pytest.mark.parametrize("score", [math.nan, math.inf, 1e39])
def test_a_score_that_is_no_number_is_refused(score: float) -> None:
    with pytest.raises(ModelError, match=r"the score of b#1 for query q is"):
        score_run({"q": {"a#1": 1}}, {"q": {"a#1": 1.0, "b#1": score}})


def test_an_unknown_measure_and_a_missing_package_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="no measure 'nice_5'"):
        score_run({"q": {"a#1": 1}}, {}, ["nice_5"])
    monkeypatch.setitem(sys.modules, "pytrec_eval", None)
    with pytest.raises(ConfigError, match=r"pip install 'moca_rag\[eval\]'"):
        score_run({"q": {"a#1": 1}}, {})


@pytest.mark.parametrize("grades", [{"a": 1}, {"a": 2, "b": 1, "c": 0}, {"a": 1, "elsewhere": 2}, {"elsewhere": 1}])
def test_chance_is_the_mean_over_all_orders(grades: dict[str, int]) -> None:
    orders = list(permutations("abcdef"))
    scores = {str(number): score_by_hand(grades, list(order)) for number, order in enumerate(orders)}
    assert random_scores(grades, set("abcdef")) == pytest.approx(mean_scores(scores))


def test_an_interval_is_as_wide_as_the_error_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.2, 400)
    low, high = bootstrap_interval(values)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)
    assert bootstrap_interval(values) == (low, high)
    assert bootstrap_interval(values, seed=1) != (low, high)
    assert bootstrap_interval([0.3]) == pytest.approx((0.3, 0.3))


def test_a_pair_tells_apart_what_two_intervals_cannot() -> None:
    rng = np.random.default_rng(2)
    first = rng.uniform(0, 0.9, 50)
    second = first + rng.uniform(0, 0.1, 50)
    difference, low, high = paired_difference(second.tolist(), first.tolist())
    assert 0 < low < difference < high < 0.1
    assert bootstrap_interval(first)[1] > bootstrap_interval(second)[0]
    with pytest.raises(ValueError, match="shorter"):
        paired_difference([1.0, 2.0], [1.0])


def make_rows() -> np.ndarray[Any, np.dtype[np.float32]]:
    rows = np.random.default_rng(3).standard_normal((6, 8)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_embeddings_that_tell_nothing_apart_are_refused() -> None:
    rows = make_rows()
    check_embeddings(rows, unit=True, name="m")
    check_embeddings(rows * 3, unit=False, name="m")
    check_embeddings(rows[:1], unit=True, name="m")
    check_embeddings(rows[:0], unit=True, name="m")
    check_embeddings(rows.astype(np.float16), unit=True, name="m")
    close = np.repeat(rows[:1], 6, axis=0) + np.float32(0.02) * rows
    check_embeddings(close / np.linalg.norm(close, axis=1, keepdims=True), unit=True, name="m")
    with pytest.raises(ModelError, match=r"m: embedding 3 of 6 has the length 1\.1, not 1"):
        check_embeddings(rows * np.array([[1], [1], [1.1], [1], [1], [1]], np.float32), unit=True, name="m")
    same = np.repeat(rows[:1], 6, axis=0)
    for shaken in (same, same + np.float32(1e-6) * rows, 0 * same):
        with pytest.raises(ModelError, match="all 6 embeddings are equal"):
            check_embeddings(shaken, unit=False, name="m")
    for number in (np.nan, np.inf):
        bad = rows.copy()
        bad[4, 2] = number
        with pytest.raises(ModelError, match="m: embedding 5 of 6 is not finite"):
            check_embeddings(bad, unit=False, name="m")


def test_pages_of_several_embeddings_are_looked_at_one_by_one_and_told_apart_by_any() -> None:
    rows = make_rows()
    pages = np.stack([np.repeat(rows[:1], 6, axis=0), rows], axis=1)  # [6, 2, 8]: the first embeddings are all equal
    check_embeddings(pages, unit=True, name="m")
    check_embeddings(pages[:1, [0, 0]], unit=True, name="m")  # a blank page's are equal
    with pytest.raises(ModelError, match="all 6 embeddings are equal"):
        check_embeddings(np.repeat(pages[1:2], 6, axis=0), unit=True, name="m")
    pages[3, 1] *= 1.2
    with pytest.raises(ModelError, match=r"m: embedding 4 of 6 has the length 1\.2, not 1"):
        check_embeddings(pages, unit=True, name="m")
    pages[4, 0, 0] = np.nan
    with pytest.raises(ModelError, match="m: embedding 5 of 6 is not finite"):
        check_embeddings(pages, unit=True, name="m")
