"""Turns ranked pages and the pages that answer into figures."""

from collections.abc import Collection, Sequence
from math import comb


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
