"""Turns a page's words and a full-text match into what a person wants to see: a snippet, and boxes round the matches."""

from collections.abc import Collection, Sequence

from .records import Box, Word

SNIPPET_SIGNS = 220  # about three lines of a terminal
LEAD_SIGNS = 40
MARK_OPEN, MARK_CLOSE = "\x01", "\x02"


def marked_words(highlighted: str) -> set[int]:
    """Which words of a body, highlighted by FTS5 and split at single spaces, hold a match (from 0).

    A mark may run over several words, as a phrase does.
    """
    found, inside = set(), False
    for index, word in enumerate(highlighted.split(" ")):
        if inside or MARK_OPEN in word:
            found.add(index)
        inside = word.rfind(MARK_OPEN) > word.rfind(MARK_CLOSE) or (inside and MARK_CLOSE not in word)
    return found


def match_boxes(words: Sequence[Word], marked: Collection[int], pairs: Collection[str]) -> list[tuple[int, str, Box]]:
    """(index of the word, matched text, box) for each match.

    A match of sign pairs lies inside a run that has no spaces: its box is that share of the run's box.
    """
    found = []
    for index, word in enumerate(words):
        if index in marked:
            found.append((index, word.text, word.box))
        elif pairs:
            found.extend((index, word.text[a:b], _part(word, a, b)) for a, b in _pair_spans(word.text, pairs))
    return found


def _pair_spans(text: str, pairs: Collection[str]) -> list[tuple[int, int]]:
    """Spans of the text covered by pairs, overlapping ones joined; a lone pair counts only if it stands alone."""
    covered: set[int] = set()
    for pair in pairs:
        start = text.find(pair)
        while start >= 0:
            covered.update(range(start, start + len(pair)))
            start = text.find(pair, start + 1)
    spans: list[tuple[int, int]] = []
    for position in sorted(covered):
        if spans and spans[-1][1] == position:
            spans[-1] = (spans[-1][0], position + 1)
        else:
            spans.append((position, position + 1))
    return spans


def _part(word: Word, start: int, end: int) -> Box:
    """The box of a run's signs `start` to `end`, along its longer side: such scripts run across or down."""
    x0, y0, x1, y1 = word.box
    first, last = start / len(word.text), end / len(word.text)
    if y1 - y0 > 2 * (x1 - x0):
        return Box(x0, y0 + (y1 - y0) * first, x1, y0 + (y1 - y0) * last)
    return Box(x0 + (x1 - x0) * first, y0, x0 + (x1 - x0) * last, y1)


def cut_snippet(words: Sequence[Word], matched: Collection[int]) -> str:
    """The stretch of the page with the most different matched words; the page's beginning where nothing matched."""
    texts = [word.text for word in words]
    if not texts:
        return ""
    start = _best_start(texts, sorted(matched)) if matched else 0
    lead = 0
    while matched and start > 0 and lead + len(texts[start - 1]) < LEAD_SIGNS:
        start -= 1
        lead += len(texts[start]) + 1
    stretch = texts[start : _end_of_stretch(texts, start)]
    text = " ".join(stretch)[: SNIPPET_SIGNS + LEAD_SIGNS]
    return ("… " if start > 0 else "") + text + (" …" if start + len(stretch) < len(texts) else "")


def _end_of_stretch(texts: Sequence[str], start: int) -> int:
    length, end = 0, start
    while end < len(texts) and (end == start or length + len(texts[end]) < SNIPPET_SIGNS):
        length += len(texts[end]) + 1
        end += 1
    return end


def _best_start(texts: Sequence[str], matched: Sequence[int]) -> int:
    best, best_worth = matched[0], (0, 0)
    for start in matched:
        end = _end_of_stretch(texts, start)
        inside = [texts[index].casefold() for index in matched if start <= index < end]
        worth = (len(set(inside)), len(inside))
        if worth > best_worth:
            best, best_worth = start, worth
    return best
