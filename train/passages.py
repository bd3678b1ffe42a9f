"""Reads a page's words as paragraphs, and finds in them what a person could ask for: headings, captions, sentences."""

import re
from collections.abc import Iterator, Sequence
from statistics import median
from typing import NamedTuple

from moca_rag.records import PageContent, Word

HEADING_RISE = 1.2  # how much higher than the page's usual line a heading is set
MAX_GAP = 0.8  # of a line's height: a wider gap ends a paragraph
CAPTION = re.compile(
    r"(?:figure|fig|table|chart|diagram|exhibit|abbildung|abb|tabelle|tableau|figura|tabla|図|表|图)\.?\s*\d",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])")
WIDE_SIGN = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # scripts that set no spaces, or short words
SENTENCE_WORDS = (6, 40)
HEADING_WORDS = (2, 15)
CAPTION_WORDS = (4, 60)
MIN_LETTER_SHARE = 0.6  # below it a text is a row of numbers


class Paragraph(NamedTuple):
    """Lines that belong together, and how high one is set, in points."""

    text: str
    height: float


def read_paragraphs(page: PageContent) -> list[Paragraph]:
    """The paragraphs of a page, in reading order."""
    paragraphs: list[Paragraph] = []
    last: Word | None = None
    for line in _split_lines(page.words):
        height = median(word.box.y1 - word.box.y0 for word in line) * page.height
        text = " ".join(word.text for word in line)
        if last is not None and _goes_on(last, line[0], paragraphs[-1].height, height, page.height):
            paragraphs[-1] = Paragraph(f"{paragraphs[-1].text} {text}", height)
        else:
            paragraphs.append(Paragraph(text, height))
        last = line[-1]
    return paragraphs


def _split_lines(words: Sequence[Word]) -> Iterator[list[Word]]:
    line: list[Word] = []
    for word in words:
        middle = (word.box.y0 + word.box.y1) / 2
        if line and not (line[-1].box.y0 <= middle <= line[-1].box.y1 and word.box.x0 >= line[-1].box.x0):
            yield line
            line = []
        line.append(word)
    if line:
        yield line


def _goes_on(last: Word, word: Word, last_height: float, height: float, page_height: float) -> bool:
    gap = (word.box.y0 - last.box.y1) * page_height
    same_size = max(height, last_height) < HEADING_RISE * min(height, last_height)
    return same_size and -height < gap < MAX_GAP * height and word.box.y0 > last.box.y0


def find_queries(paragraphs: Sequence[Paragraph]) -> dict[str, str]:
    """What stands on a page and could be asked for: text to kind (heading, caption, sentence), in reading order."""
    if not paragraphs:
        return {}
    usual = median(paragraph.height for paragraph in paragraphs for _ in paragraph.text.split())
    queries: dict[str, str] = {}
    for text, height in paragraphs:
        if CAPTION.match(text):
            if _is_told(text, CAPTION_WORDS):
                queries.setdefault(text, "caption")
        elif height >= HEADING_RISE * usual:
            if _is_told(text, HEADING_WORDS):
                queries.setdefault(text, "heading")
        else:
            for sentence in SENTENCE_END.split(text):
                if sentence.endswith(tuple(".!?。！？")) and _is_told(sentence, SENTENCE_WORDS):
                    queries.setdefault(sentence, "sentence")
    return queries


def is_name(text: str) -> bool:
    """Whether a title or an outline's entry says enough to be asked for: `untitled.doc` does not.

    >>> is_name("Energy costs of the northern mills"), is_name("report_final.docx")
    (True, False)
    """
    return _is_told(text, HEADING_WORDS) and not re.search(r"\.\w{2,4}$|^(microsoft|untitled)\b", text, re.IGNORECASE)


def _is_told(text: str, words: tuple[int, int]) -> bool:
    """Whether a text has so many words with letters (two wide signs are one), and mostly letters."""
    signs = "".join(text.split())
    wide = len(WIDE_SIGN.findall(signs))
    num_words = wide / 2 + sum(any(map(str.isalpha, word)) and not WIDE_SIGN.search(word) for word in text.split())
    return words[0] <= num_words <= words[1] and sum(map(str.isalpha, signs)) >= MIN_LETTER_SHARE * len(signs)
