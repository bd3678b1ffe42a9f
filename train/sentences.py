"""Rows of stage two without pictures, out of documents: a sentence or a heading, and the passage that it stands in."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from moca_rag.errors import ConfigError

from .compose import SENTENCE_END
from .corruption import derive_seed
from .documents import Document, PageText, read_documents
from .numbered import NumberedRows
from .passages import HEADING_WORDS, SENTENCE_WORDS
from .rows import PairRow, Side
from .settings import Source

PASSAGE_WORDS = 60  # as many as a page's text is cut into when it is indexed
SHORT_WORDS = 12  # the fewest of a passage to learn from: short texts say as much of their neighbours and cost less
KINDS = ("sentence", "heading")
LEAST_WORDS = 4  # of a sentence that has a meaning of its own
KEPT_RATE = 0.5  # of the sentences stay in their passage; the others are to be found by what stands around them


class PassageRows(NumberedRows[PairRow]):
    """Pairs of texts: a sentence or a heading, and its passage."""

    def __init__(self, source: Source) -> None:
        """Raises ConfigError where the documents have no prose. Without a limit each page makes one row of each kind."""
        self._path = path = Path(source.path)
        self._documents = [
            pages
            for document in read_documents(path)
            if (pages := [page for page in document.pages if _count_prose(page) >= PASSAGE_WORDS])
        ]
        self._places = [(number, place) for number, pages in enumerate(self._documents) for place in range(len(pages))]
        if not self._places:
            raise ConfigError(
                f"{path} holds no page with {PASSAGE_WORDS} words of prose: make another with moca data corpus"
            )
        super().__init__(source, len(self._places) * len(KINDS))

    def _make(self, index: int) -> PairRow:
        rng = np.random.default_rng(derive_seed(0, index, "passages"))
        number, place = self._places[int(rng.integers(len(self._places)))]
        pages = self._documents[number]
        is_heading = KINDS[index % len(KINDS)] == "heading"
        query, passage = (_pair_heading if is_heading else _pair_sentence)(pages[place], rng)
        others = rng.permutation([other for other in range(len(pages)) if other != place])[: self.source.negatives]
        wrong = [Side(" ".join(_draw_words(list_sentences(pages[other]), rng))) for other in others.tolist()]
        return PairRow.of(self._task(index), Side(query), Side(passage), wrong)

    def _task(self, index: int) -> str:
        return f"passages-{KINDS[index % len(KINDS)]}"

    def fingerprint(self) -> str:
        """A hash of the bytes of the documents."""
        digest = hashlib.blake2b(repr((self._size, self.source.negatives)).encode(), digest_size=16)
        digest.update(hashlib.blake2b(self._path.read_bytes(), digest_size=16).digest())
        return digest.hexdigest()


def draw_sentences(documents: Iterable[Document], number: int, seed: int) -> list[str]:
    """At most so many texts of different documents to learn meanings from: sentences, headings, and some passages."""
    generator = np.random.default_rng(seed)
    found: list[str] = []
    for document in documents:
        for page in document.pages:
            sentences = list_sentences(page)
            found += [part for part in sentences if len(part.split()) >= LEAST_WORDS]
            found += [" ".join(block.text.split()) for block in page.blocks if block.kind == "heading"]
            if sentences:
                found.append(" ".join(_draw_words(sentences, generator)))
    every = list(dict.fromkeys(text for text in found if text))
    return [every[place] for place in np.sort(generator.permutation(len(every))[:number]).tolist()]


def list_sentences(page: PageText) -> list[str]:
    """The sentences of a page's paragraphs and lists, in reading order."""
    blocks = [block for block in page.blocks if block.kind in ("paragraph", "list")]
    return [part for block in blocks for part in SENTENCE_END.split(" ".join(block.text.split())) if part]


def _count_prose(page: PageText) -> int:
    return sum(len(block.text.split()) for block in page.blocks if block.kind in ("paragraph", "list"))


def _pair_sentence(page: PageText, rng: np.random.Generator) -> tuple[str, str]:
    """A sentence, and the words around it with it or without."""
    sentences = list_sentences(page)
    fit = [place for place, part in enumerate(sentences) if _fits(part, SENTENCE_WORDS)] or list(range(len(sentences)))
    chosen = fit[int(rng.integers(len(fit)))]
    words: list[str] = [] if len(sentences) > 1 and rng.random() > KEPT_RATE else sentences[chosen].split()
    before, after = sentences[:chosen], sentences[chosen + 1 :]
    enough = int(rng.integers(SHORT_WORDS, PASSAGE_WORDS + 1))
    while len(words) < enough and (before or after):
        goes_on = after and (not before or rng.random() < 0.5)
        words = words + after.pop(0).split() if goes_on else before.pop().split() + words
    return sentences[chosen], " ".join(words[: max(enough, 2 * SHORT_WORDS)])


def _pair_heading(page: PageText, rng: np.random.Generator) -> tuple[str, str]:
    """A heading and the words below it; a page without one gives a sentence."""
    places = [
        place
        for place, block in enumerate(page.blocks[:-1])
        if block.kind == "heading" and _fits(block.text, HEADING_WORDS) and page.blocks[place + 1].kind == "paragraph"
    ]
    if not places:
        return _pair_sentence(page, rng)
    chosen = places[int(rng.integers(len(places)))]
    below = [block.text for block in page.blocks[chosen + 1 :] if block.kind in ("paragraph", "list")]
    heading = " ".join(page.blocks[chosen].text.split()).lstrip("0123456789. ")
    return heading or page.blocks[chosen].text, " ".join(
        " ".join(below).split()[: int(rng.integers(SHORT_WORDS, PASSAGE_WORDS + 1))]
    )


def _draw_words(sentences: Sequence[str], rng: np.random.Generator) -> list[str]:
    words = " ".join(sentences).split()
    start = int(rng.integers(max(1, len(words) - PASSAGE_WORDS)))
    return words[start : start + int(rng.integers(SHORT_WORDS, PASSAGE_WORDS + 1))]


def _fits(text: str, words: tuple[int, int]) -> bool:
    return words[0] <= len(text.split()) <= words[1]
