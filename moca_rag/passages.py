"""Turns the words of a page into passages: overlapping stretches of text that are embedded one by one."""

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from .terms import sign_pairs

PASSAGE_WORDS = 60
OVERLAP_WORDS = 15  # a sentence that one passage cuts stands whole in its neighbour
LEAST_NEW_WORDS = 20  # a tail that adds fewer belongs to the passage before it
MAX_PASSAGES = 32  # of a page; where it has more words, its passages are longer
LONG_WORD = 16  # signs; a longer word counts for several


def cut_passages(words: Sequence[str]) -> list[str]:
    """The distinct passages of a page's words, in order: about 60 words each, the last 15 shared with the next.

    A short tail is joined to the passage before it; a page without words has none, and none has more than 32. All
    words are in some passage.

    >>> [passage.split()[0] + " to " + passage.split()[-1] for passage in cut_passages([f"w{n}" for n in range(130)])]
    ['w0 to w59', 'w45 to w104', 'w90 to w129']
    >>> cut_passages("A short page.".split()), cut_passages([])
    (['A short page.'], [])
    """
    places = list(accumulate(map(_count_words, words), initial=0))
    spare = max(0, places[-1] - OVERLAP_WORDS - LEAST_NEW_WORDS)
    step = max(PASSAGE_WORDS - OVERLAP_WORDS, spare // MAX_PASSAGES + 1)
    starts = [step * number for number in range(spare // step + 1)]
    stops = [start + step + OVERLAP_WORDS for start in starts[:-1]] + [places[-1]]
    spans = [(bisect_left(places, start), bisect_left(places, stop)) for start, stop in zip(starts, stops, strict=True)]
    texts = (" ".join(words[start:stop]).strip() for start, stop in spans)
    return list(dict.fromkeys(text for text in texts if text))


def _count_words(word: str) -> int:
    """How many words this one is worth; in scripts without spaces, where it may be a line, two signs are one."""
    return 1 + len(word) // LONG_WORD if word.isascii() else max(1 + len(word) // LONG_WORD, len(sign_pairs(word)) // 2)


def passage_key(text: str) -> bytes:
    """The key of a passage's embedding: equal passages share one, and no page picture has the same.

    >>> passage_key("a").hex()
    'f59e2e99d58e476cea720e8d76fed622'
    """
    return hashlib.sha256(b"passage\n" + text.encode()).digest()[:16]
