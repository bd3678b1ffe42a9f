"""Turns the scores of several rankings into one score a page, and keeps what each ranking gave to it."""

from collections.abc import Hashable, Mapping, Set
from typing import TypeVar

from .records import VISION_WEIGHT

Key = TypeVar("Key", bound=Hashable)

DEPTH = 100  # a ranking's scores are scaled over its own best hundred
PASSAGES_SHARE = 5 / 14  # of what vision leaves; the rest is the words'


def weigh_rankings(vision: float = VISION_WEIGHT, *, passages: bool) -> dict[str, float]:
    """The weights of the rankings, where a model's vision has this one of them and the others share the rest.

    Without passages words weigh as much as the vision of a model that says nothing else: neither of the two is the
    better one on every kind of question.

    >>> weigh_rankings(passages=False)
    {'vision': 0.5, 'text': 0.5}
    """
    if not passages:
        return {"vision": vision / (vision + VISION_WEIGHT), "text": VISION_WEIGHT / (vision + VISION_WEIGHT)}
    share = (1 - vision) * PASSAGES_SHARE
    return {"vision": vision, "passages": share, "text": 1 - vision - share}


def fuse(
    rankings: Mapping[str, Mapping[Key, float]],
    eligible: Mapping[str, Set[Key]],
    weights: Mapping[str, float] | None = None,
    wordless: float = 1.0,
    depth: int = DEPTH,
) -> dict[Key, dict[str, float]]:
    """Shares of each ranking in each page's score; a page's score is their sum, between 0 and 1 up to rounding.

    A ranking's scores are scaled to 0..1 over its own best `depth`; where it ranks fewer, zero is the floor of a
    ranking by words (what it does not rank, it does not match). The weighted sum is divided by the weights of the
    rankings that the page is `eligible` for: a scan, which no word can match, is not held back for it. Such a page counts
    `wordless` of that, which is less than all where a model's vision is no match for words. Without weights ours are
    taken.

    >>> fuse({"vision": {"a": 0.9, "b": 0.5}, "text": {"b": 4.0}}, {"vision": {"a", "b"}, "text": {"b"}})
    {'a': {'vision': 1.0}, 'b': {'vision': 0.0, 'text': 0.5}}
    """
    if weights is None:
        weights = weigh_rankings(passages="passages" in rankings)
    scaled = {name: _scale(scores, name, depth) for name, scores in rankings.items()}
    fused: dict[Key, dict[str, float]] = {}
    for key in dict.fromkeys(key for scores in rankings.values() for key in scores):
        names = [name for name in rankings if key in eligible[name]]
        counts = (1.0 if len(names) == len(rankings) else wordless) / sum(weights[name] for name in names)
        fused[key] = {name: weights[name] * scaled[name].get(key, 0.0) * counts for name in names}
    return fused


def _scale(scores: Mapping[Key, float], name: str, depth: int) -> dict[Key, float]:
    best = sorted(scores.values(), reverse=True)[:depth]
    if not best:
        return {}
    low = 0.0 if name == "text" and len(best) < depth else best[-1]
    span = best[0] - low
    return {key: min(max((score - low) / span, 0.0), 1.0) if span > 0 else 1.0 for key, score in scores.items()}
