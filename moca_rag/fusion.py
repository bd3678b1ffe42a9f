"""Turns the scores of several rankings into one score a page, and keeps what each ranking gave to it."""

from collections.abc import Hashable, Mapping, Set
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

DEPTH = 100  # a ranking's scores are scaled over its own best hundred
WEIGHTS: Mapping[str, float] = {"vision": 0.3, "passages": 0.25, "text": 0.45}
# Of a collection without passages: neither ranking is the better one on every kind of question.
PAIR_WEIGHTS: Mapping[str, float] = {"vision": 0.5, "text": 0.5}


def fuse(
    rankings: Mapping[str, Mapping[Key, float]],
    eligible: Mapping[str, Set[Key]],
    weights: Mapping[str, float] | None = None,
    depth: int = DEPTH,
) -> dict[Key, dict[str, float]]:
    """Shares of each ranking in each page's score; a page's score is their sum, between 0 and 1 up to rounding.

    A ranking's scores are scaled to 0..1 over its own best `depth`; where it ranks fewer, zero is the floor of a
    ranking by words (what it does not rank, it does not match). The weighted sum is divided by the weights of the
    rankings that the page is `eligible` for: a scan, which no word can match, is not held back for it. Without weights
    ours are taken: WEIGHTS where passages are ranked, else PAIR_WEIGHTS.

    >>> fuse({"vision": {"a": 0.9, "b": 0.5}, "text": {"b": 4.0}}, {"vision": {"a", "b"}, "text": {"b"}})
    {'a': {'vision': 1.0}, 'b': {'vision': 0.0, 'text': 0.5}}
    """
    if weights is None:
        weights = WEIGHTS if "passages" in rankings else PAIR_WEIGHTS
    scaled = {name: _scale(scores, name, depth) for name, scores in rankings.items()}
    fused: dict[Key, dict[str, float]] = {}
    for key in dict.fromkeys(key for scores in rankings.values() for key in scores):
        names = [name for name in rankings if key in eligible[name]]
        total = sum(weights[name] for name in names)
        fused[key] = {name: weights[name] * scaled[name].get(key, 0.0) / total for name in names}
    return fused


def _scale(scores: Mapping[Key, float], name: str, depth: int) -> dict[Key, float]:
    best = sorted(scores.values(), reverse=True)[:depth]
    if not best:
        return {}
    low = 0.0 if name == "text" and len(best) < depth else best[-1]
    span = best[0] - low
    return {key: min(max((score - low) / span, 0.0), 1.0) if span > 0 else 1.0 for key, score in scores.items()}
