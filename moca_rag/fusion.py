"""Turns the scores of several rankings into one score a page, and keeps what each ranking gave to it."""

import math
from collections.abc import Hashable, Mapping, Set
from dataclasses import replace
from typing import TypeVar

from .records import FusionWeights

Key = TypeVar("Key", bound=Hashable)

DEPTH = 100  # a ranking's scores are scaled over its own best hundred
SHARPNESS = 3  # the power of a scaled cosine: a ranking by vectors ranks all pages, and only its first few say anything
CERTAIN = 1 - 1e-6  # the most that one ranking is believed, so that the others still part what it holds equal


def fuse(
    rankings: Mapping[str, Mapping[Key, float]],
    with_words: Set[Key],
    weights: FusionWeights | None = None,
    share_without_words: float = 0.5,
    depth: int = DEPTH,
) -> dict[Key, dict[str, float]]:
    """Shares of each ranking in each page's score; a page's score is their sum, between 0 and 1.

    A ranking's scores are scaled to 0..1 over its own best `depth`, and what they come to, times the ranking's weight,
    is how far it is believed that the page is right. The score is how far any is: 1 - (1 - text) (1 - passages) (1 - vision).
    So a ranking that knows nothing takes nothing from one that does. A page without words cannot be in the rankings by
    words: its look alone speaks for it, as far as `wordless` goes, and less where such pages are few: by Bayes's rule,
    with their share of all pages as the odds beforehand, but no less than a look is believed beside words. Where no word
    matches any page, passages are believed in the words' place.

    >>> weights = FusionWeights(text=0.5, vision=0.5, wordless=0.75)
    >>> fuse({"vision": {"a": 0.9, "b": 0.9, "c": 0.5}, "text": {"b": 4.0}}, {"b", "c"}, weights)
    {'a': {'vision': 0.75}, 'b': {'vision': 0.375, 'text': 0.375}, 'c': {'vision': 0.0, 'text': 0.0}}
    """
    weights = weights or FusionWeights()
    if "text" in rankings and not rankings["text"]:
        weights = replace(weights, passages=max(weights.passages, weights.text))
    scaled = {name: _scale(scores, name, depth) for name, scores in rankings.items()}
    fused: dict[Key, dict[str, float]] = {}
    for key in dict.fromkeys(key for scores in rankings.values() for key in scores):
        if key in with_words:
            fused[key] = _share({name: getattr(weights, name) * scaled[name].get(key, 0.0) for name in rankings})
        else:
            look = scaled["vision"].get(key, 0.0)
            fused[key] = {"vision": max(weights.vision * look, _temper(weights.wordless * look, share_without_words))}
    return fused


def _temper(belief: float, share: float) -> float:
    """A belief that took both kinds of pages for equally many, where this one has a smaller share of them."""
    belief, share = min(belief, CERTAIN), min(share, 0.5)
    return belief * share / (belief * share + (1 - belief) * (1 - share))


def _share(beliefs: Mapping[str, float]) -> dict[str, float]:
    """How far any of them is right, shared out by what each leaves in doubt."""
    doubts = {name: -math.log1p(-min(belief, CERTAIN)) for name, belief in beliefs.items()}
    together = sum(doubts.values())
    score = -math.expm1(-together)
    return {name: score * doubt / together if together else 0.0 for name, doubt in doubts.items()}


def _scale(scores: Mapping[Key, float], name: str, depth: int) -> dict[Key, float]:
    """Between 0 and 1: words from nothing, where they match fewer than `depth`, else all from a ranking's own last."""
    best = sorted(scores.values(), reverse=True)[:depth]
    if not best:
        return {}
    by_words = name == "text"
    low = 0.0 if by_words and len(best) < depth else best[-1]
    span, power = best[0] - low, 1 if by_words else SHARPNESS
    return {
        key: min(max((score - low) / span, 0.0), 1.0) ** power if span > 0 else 1.0 for key, score in scores.items()
    }
