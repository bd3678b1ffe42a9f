"""Turns ranked pages and the pages that answer into figures: pytrec_eval's arithmetic, and what surrounds it."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from math import comb, log2
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .errors import ConfigError, ModelError
from .records import Floats

if TYPE_CHECKING:
    from types import ModuleType

Qrels: TypeAlias = dict[str, dict[str, int]]
Run: TypeAlias = dict[str, dict[str, float]]

MEASURES = ("ndcg_cut_5", "ndcg_cut_10", "recall_5", "recall_10", "recip_rank_10")
_UNIT_ERROR = 0.01  # bf16 and fp16 lengths stay far nearer to 1
_ALIKE = 1e-3  # a distance between unit vectors whose cosine is 1 - 5e-7: 32-bit scores hardly tell them apart
_SAMPLES_AT_ONCE = 100


def hit_at(ranked: Sequence[str], relevant: Collection[str], top_k: int) -> float:
    """1 if one of the first `top_k` pages answers, else 0; nothing ranked is 0.

    >>> hit_at(["a#1", "b#2"], {"b#2"}, 1), hit_at(["a#1", "b#2"], {"b#2"}, 2)
    (0.0, 1.0)
    """
    return float(any(page in relevant for page in ranked[:top_k]))


def chance_at(num_pages: int, num_relevant: int, top_k: int) -> float:
    """What `hit_at` is on average for pages in random order.

    >>> round(chance_at(100, 1, 1), 4), round(chance_at(100, 2, 10), 4)
    (0.01, 0.1909)
    """
    top_k = min(top_k, num_pages)
    return 1 - comb(num_pages - num_relevant, top_k) / comb(num_pages, top_k)


def score_run(qrels: Qrels, run: Run, measures: Sequence[str] = MEASURES) -> dict[str, dict[str, float]]:
    """The measures of each query of the qrels, by trec_eval's arithmetic: linear gain, ties by descending id.

    Scores count as 32-bit floats. A query that the run lacks scores 0. Besides trec_eval's own names there is
    `recip_rank_10`: the reciprocal rank of the first right page among ten. Raises ModelError on a score that is not
    finite, ConfigError on an unknown measure or where pytrec_eval is not installed.

    >>> score_run({"q": {"a#1": 1}}, {"q": {"a#1": 0.5, "b#1": 0.7}}, ["ndcg_cut_5", "recip_rank_10"])
    {'q': {'ndcg_cut_5': 0.6309297535714575, 'recip_rank_10': 0.5}}
    """
    ranked = {query: _as_single(query, run.get(query, {})) for query in qrels}
    scores: dict[str, dict[str, float]] = {query: {} for query in qrels}
    for measure in measures:
        found = _evaluate(qrels, ranked, measure)
        for query in qrels:
            scores[query][measure] = found.get(query, 0.0)
    return scores


def _as_single(query: str, scores: Mapping[str, float]) -> dict[str, float]:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        values = np.fromiter(scores.values(), np.float32, len(scores))
    if not np.isfinite(values).all():
        page = list(scores)[int(np.flatnonzero(~np.isfinite(values))[0])]
        raise ModelError(f"the score of {page} for query {query} is {scores[page]}: the ranking cannot be believed")
    return dict(zip(scores, values.tolist(), strict=True))


def _evaluate(qrels: Qrels, run: Run, measure: str) -> dict[str, float]:
    """One measure by query; pytrec_eval leaves out a query that has no judgement."""
    trec = load_trec()
    name, _, cut = measure.rpartition("_")
    if name == "recip_rank" and cut.isdecimal():
        run = {query: first_pages(scores, int(cut)) for query, scores in run.items()}
        name, key = "recip_rank", "recip_rank"
    else:
        name, key = (f"{name}.{cut}" if cut.isdecimal() else measure), measure
    try:
        evaluator = trec.RelevanceEvaluator(qrels, {name})
    except ValueError as error:
        raise ConfigError(f"there is no measure {measure!r}: name one of trec_eval's, as in ndcg_cut_5") from error
    return {query: values[key] for query, values in evaluator.evaluate(run).items()}


def load_trec() -> "ModuleType":
    """pytrec_eval. Raises ConfigError where it is not installed."""
    try:
        import pytrec_eval
    except ImportError as error:
        raise ConfigError("evaluation needs pytrec_eval: pip install 'moca_rag[eval]'") from error
    module: ModuleType = pytrec_eval
    return module


def first_pages(scores: Mapping[str, float], top_k: int) -> dict[str, float]:
    """The best `top_k` in trec_eval's order: by descending score, ties by descending id.

    >>> first_pages({"a#1": 1.0, "b#1": 1.0, "c#1": 2.0}, 2)
    {'c#1': 2.0, 'b#1': 1.0}
    """
    return dict(sorted(scores.items(), key=lambda item: (item[1], item[0]), reverse=True)[:top_k])


def mean_scores(per_query: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Each measure's mean over the queries; no query, no measure.

    >>> mean_scores({"a": {"recall_5": 1.0}, "b": {"recall_5": 0.5}})
    {'recall_5': 0.75}
    """
    rows = list(per_query.values())
    return {measure: sum(row[measure] for row in rows) / len(rows) for measure in (rows[0] if rows else ())}


def random_scores(grades: Mapping[str, int], candidates: Collection[str]) -> dict[str, float]:
    """What `MEASURES` are on average where the candidates come in random order; exact, nothing is drawn.

    `grades` are one query's judged pages. One that is no candidate cannot be found, but is missed all the same.

    >>> [round(value, 4) for value in random_scores({"a#1": 1}, {"a#1", "a#2"}).values()]
    [0.8155, 0.8155, 1.0, 1.0, 0.75]
    """
    gains = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    there = [grade for page, grade in grades.items() if grade > 0 and page in candidates]
    if not there:
        return dict.fromkeys(MEASURES, 0.0)
    num, scores = len(candidates), {}
    for top_k in (5, 10):
        discounts = sum(1 / log2(rank + 1) for rank in range(1, min(top_k, num) + 1))
        ideal = sum(gain / log2(rank + 1) for rank, gain in enumerate(gains[:top_k], 1))
        scores[f"ndcg_cut_{top_k}"] = sum(there) / num * discounts / ideal
        scores[f"recall_{top_k}"] = len(there) / len(gains) * min(top_k, num) / num
    first = [comb(num - rank, len(there) - 1) / comb(num, len(there)) for rank in range(1, min(10, num) + 1)]
    scores["recip_rank_10"] = sum(share / rank for rank, share in enumerate(first, 1))
    return {measure: scores[measure] for measure in MEASURES}


def count_ties(run: Run) -> int:
    """Ranked pages whose score, as a 32-bit float, another page of the same query has too.

    >>> count_ties({"q": {"a#1": 0.5, "b#1": 0.5, "c#1": 0.1}})
    2
    """
    tied = 0
    for scores in run.values():
        _, counts = np.unique(np.fromiter(scores.values(), np.float32, len(scores)), return_counts=True)
        tied += int(counts[counts > 1].sum())
    return tied


def check_embeddings(rows: Floats, *, unit: bool, name: str) -> None:
    """Refuse embeddings that would score all the same: not finite, all equal or, with `unit`, of another length.

    Embeddings are [N, D], or [N, R, D] of pages that have several each. A ranking of equal scores is a ranking by page id,
    which can score far above nothing. `name` says whose they are. Equal ones are refused from two on: pass distinct pages
    or queries. Raises ModelError.
    """
    rows = np.asarray(rows, np.float32)
    rows = rows if rows.ndim == 3 else rows[:, None]
    if not np.isfinite(rows).all():
        bad = int(np.flatnonzero(~np.isfinite(rows).all((1, 2)))[0])
        raise ModelError(f"{name}: embedding {bad + 1} of {len(rows)} is not finite: the model cannot be judged")
    lengths = np.linalg.norm(rows, axis=2)
    if unit and len(rows) and np.abs(lengths - 1).max() > _UNIT_ERROR:
        bad, part = np.unravel_index(np.abs(lengths - 1).argmax(), lengths.shape)
        raise ModelError(f"{name}: embedding {bad + 1} of {len(rows)} has the length {lengths[bad, part]:.4g}, not 1")
    if len(rows) > 1 and np.linalg.norm(rows - rows[0], axis=2).max() <= _ALIKE * lengths.max():
        raise ModelError(f"{name}: all {len(rows)} embeddings are equal: the model tells nothing apart")


def bootstrap_interval(values: Iterable[float], seed: int = 0, num_samples: int = 2000) -> tuple[float, float]:
    """The 95% interval of the mean: percentiles over means of queries drawn again with replacement.

    Raises ValueError without values.

    >>> low, high = bootstrap_interval([0.0, 1.0] * 50)
    >>> round(low, 2), round(high, 2)
    (0.4, 0.6)
    """
    drawn, rng = np.fromiter(values, np.float64), np.random.default_rng(seed)
    blocks = [min(_SAMPLES_AT_ONCE, num_samples - start) for start in range(0, num_samples, _SAMPLES_AT_ONCE)]
    means = np.concatenate([rng.choice(drawn, (block, len(drawn))).mean(1) for block in blocks])
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def paired_difference(
    first: Sequence[float], second: Sequence[float], seed: int = 0, num_samples: int = 2000
) -> tuple[float, float, float]:
    """The mean of `first - second`, query by query, and its 95% interval: (difference, low, high).

    Both hold the same queries in the same order. An interval without 0 in it tells the two apart.

    >>> paired_difference([1.0, 0.5], [0.5, 0.0])
    (0.5, 0.5, 0.5)
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    return sum(differences) / len(differences), *bootstrap_interval(differences, seed, num_samples)
