"""What a page teaches a reader, place by place: the letters in each patch, the words in each visual token.

Dense lessons have no plateau: a model that is told of every patch which letters stand in it learns to read within minutes,
where one that only hears whether a page answers a question stays at chance.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from moca_rag.pixels import MERGE_SIDE, PATCH_SIDE
from moca_rag.records import Floats

from .canvas import ComposedPage

ALPHABET = "".join(map(chr, range(33, 127)))
CODE_SIZE = 256  # numbers that stand for a word
CODED_WORDS = 65_536  # words whose codes are kept: 64 MB
TRIM = "".join(letter for letter in ALPHABET if not letter.isalnum())
_PLACES = np.full(128, -1, np.int32)
_PLACES[[ord(letter) for letter in ALPHABET]] = np.arange(len(ALPHABET))


@dataclass(frozen=True, slots=True, eq=False)
class Lesson:
    """What stands where on a page, in the order of its patch rows.

    `letters` [K, 2] are pairs of a patch and a place in `ALPHABET`; `cells` [N] the visual token of each word, and
    `words` the words as they are compared: in small letters, without the signs around them. `tokens` [M, 2] are pairs of
    a visual token and a text token that is printed there.
    """

    letters: NDArray[np.int32]
    cells: NDArray[np.int32]
    words: tuple[str, ...]
    tokens: NDArray[np.int32]


class WordPieces:
    """The text tokens of words, each with the place of its middle letter."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.cut = lru_cache(CODED_WORDS)(self._cut)

    def _cut(self, word: str) -> tuple[tuple[int, int], ...]:
        """Pairs of a token's id and a place in the word, which is read as it stands within a line."""
        found = self._tokenizer.encode(f" {word}", add_special_tokens=False)
        middles = [max((start + end - 1) // 2 - 1, 0) for start, end in found.offsets]
        return tuple(zip(found.ids, (min(middle, len(word) - 1) for middle in middles), strict=True))


def read_lesson(page: ComposedPage, pieces: WordPieces) -> Lesson:
    """The lesson of a page whose sides are multiples of 28; letters, words and tokens count where their middles stand."""
    columns = page.pixels.shape[1] // (PATCH_SIDE * MERGE_SIDE)
    known = np.where(page.letters < len(_PLACES), _PLACES[page.letters % len(_PLACES)], -1)
    patches = place_patches(page.letter_centres, columns)
    letters = np.unique(np.stack([patches, known], axis=1)[known >= 0], axis=0)
    middles = (page.word_boxes[:, :2] + page.word_boxes[:, 2:]) / 2
    words = [clean_word(word) for word in page.words]
    kept = [number for number, word in enumerate(words) if word]
    cells = place_patches(middles, columns)[kept] // MERGE_SIDE**2
    starts = np.cumsum([0, *map(len, page.words)])
    printed = [
        (patches[start + place] // MERGE_SIDE**2, token)
        for start, word in zip(starts.tolist(), page.words, strict=False)
        for token, place in pieces.cut(word)
    ]
    return Lesson(
        letters=letters.astype(np.int32),
        cells=cells.astype(np.int32),
        words=tuple(words[number] for number in kept),
        tokens=np.array(printed, np.int32).reshape(-1, 2),
    )


def place_patches(points: NDArray[Any], columns: int) -> NDArray[np.int64]:
    """The patch row in which each point [N, 2] (x, y in pixels) lies, on a picture of so many columns of visual tokens.

    The four patches of a visual token stand together.

    >>> place_patches(np.array([[0.0, 0.0], [15, 0], [0, 15], [29, 0], [0, 29]]), 2).tolist()
    [0, 1, 2, 4, 8]
    """
    across, down = (points // PATCH_SIDE).astype(np.int64).T
    tokens = down // MERGE_SIDE * columns + across // MERGE_SIDE
    places: NDArray[np.int64] = tokens * MERGE_SIDE**2 + down % MERGE_SIDE * MERGE_SIDE + across % MERGE_SIDE
    return places


def clean_word(word: str) -> str:
    """A word as it is compared with others.

    >>> clean_word("(Page"), clean_word("U.S."), clean_word("--")
    ('page', 'u.s', '')
    """
    return word.strip(TRIM).lower()


@lru_cache(CODED_WORDS)
def code_word(word: str, size: int = CODE_SIZE) -> Floats:
    """The code [size] of a word: random numbers of its letter triples and of the whole, at unit length.

    Words that share letters have codes that are near, so what was learnt of some is worth something for others.
    """
    framed = f"<{word}>"
    grams = [framed, *(framed[start : start + 3] for start in range(len(framed) - 2))]
    total = np.sum([code_gram(gram, size) for gram in grams], axis=0) + code_gram(framed, size)
    code: Floats = (total / np.linalg.norm(total)).astype(np.float32)
    return code


@lru_cache(CODED_WORDS)
def code_gram(gram: str, size: int = CODE_SIZE) -> Floats:
    """Random numbers [size] that are always the same for the same letters."""
    seed = int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big")
    return np.random.default_rng(seed).standard_normal(size, dtype=np.float32)


def code_words(words: Sequence[str]) -> Floats:
    """The codes [N, 256] of words."""
    return np.stack([code_word(word) for word in words]) if words else np.zeros((0, CODE_SIZE), np.float32)
