"""Decides which pages are worth learning from: English prose of some length, unlike every page kept before."""

import hashlib
import re
from collections import defaultdict
from functools import cache

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

WORD = re.compile(r"[^\W_]+")
LATIN = re.compile(r"[A-Za-z]")
COMMON_WORDS = frozenset(
    "the of and to that is for with this are be by it or not from which as an on if can will at its has you".split()
)
MIN_COMMON = 0.15  # of a page's words; running English has twice as many, listings and other languages fewer
MAX_SINGLE = 0.2  # of them, as lone letters and digits; formulas have more, and words broken by an odd font
MIN_LATIN = 0.6  # of all signs
SHINGLE = 5  # words
SKETCH = 128  # hashes of shingles that stand for a page: the lowest are a random sample of them (Broder 1997)
KEYS = 16  # of them, one of which two pages must share to be compared: near pages miss by a chance of (1 - near) ** 16


def is_english(text: str) -> bool:
    """Whether a text is mostly English in Latin letters.

    >>> is_english("The pump is to be oiled by the keeper."), is_english("Die Pumpe ist vom Wärter zu ölen.")
    (True, False)
    """
    words = WORD.findall(text.casefold())
    num_signs = sum(not sign.isspace() for sign in text)
    return (
        sum(word in COMMON_WORDS for word in words) >= MIN_COMMON * max(len(words), 1)
        and sum(len(word) == 1 and word not in "ai" for word in words) <= MAX_SINGLE * len(words)
        and len(LATIN.findall(text)) >= MIN_LATIN * num_signs
    )


class Sieve:
    """Knows the pages that were kept, and tells which page is the same as one of them, or near it."""

    def __init__(self, near: float) -> None:
        """`near`: the share of shingles in common (Jaccard) from which two pages are near."""
        self._near = near
        self._seen: set[bytes] = set()
        self._sketches: list[Hashes] = []
        self._holders: defaultdict[int, list[int]] = defaultdict(list)  # of each key, the pages that have it

    def refuse(self, text: str) -> str:
        """`same page` or `near page`; or nothing, and the page is kept."""
        words = WORD.findall(text.casefold())
        digest = hashlib.blake2b(" ".join(words).encode(), digest_size=16).digest()
        if digest in self._seen:
            return "same page"
        sketch = sketch_words(words)
        keys = sketch[:KEYS].tolist()
        for page in sorted({page for key in keys for page in self._holders.get(key, ())}):
            if compare_sketches(sketch, self._sketches[page]) >= self._near:
                return "near page"
        self._seen.add(digest)
        for key in keys:
            self._holders[key].append(len(self._sketches))
        self._sketches.append(sketch)
        return ""


def sketch_words(words: list[str]) -> Hashes:
    """The lowest hashes of the runs of five words, in order; all of them where the page is short."""
    codes = np.array([_hash_word(word) for word in words], np.uint64)
    num_shingles = max(len(codes) - SHINGLE + 1, 1)
    mixed = np.zeros(num_shingles, np.uint64)
    for place in range(min(SHINGLE, len(codes))):
        mixed = (mixed ^ codes[place : place + num_shingles]) * np.uint64(0x9E3779B97F4A7C15)  # the golden ratio's bits
    return np.unique(mixed)[:SKETCH]


def compare_sketches(one: Hashes, other: Hashes) -> float:
    """The Jaccard similarity of two sets of shingles, estimated on the lowest hashes of both together."""
    lowest = np.union1d(one, other)[:SKETCH]
    common = np.intersect1d(one, other, assume_unique=True)
    return float(np.isin(lowest, common, assume_unique=True).mean())


@cache
def _hash_word(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "little")
