"""A page's text layer: clean words with boxes, packed into a few kilobytes for the catalog."""

import struct
import unicodedata
import zlib
from collections.abc import Sequence

import numpy as np

from .records import Box, Word

BOX_SCALE = 65535  # a box coordinate in 0..1 as 16 bits: 0.01 mm on A4


def clean_word(text: str) -> str:
    """Text as it is searched: compatibility forms folded (NFKC), control signs and soft hyphens dropped.

    >>> clean_word("ﬁnancial\\u00ad\\x00 year")
    'financial year'
    """
    if text.isascii() and text.isprintable():
        return text
    folded = unicodedata.normalize("NFKC", text)
    kept = (sign if not sign.isspace() else " " for sign in folded if _is_text(sign))
    return "".join(kept).strip()


def _is_text(sign: str) -> bool:
    return sign.isspace() or (unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Cn") and sign != "�")


def join_hyphens(words: Sequence[tuple[Word, tuple[int, int]]]) -> tuple[Word, ...]:
    """Words made whole where a line ended in a hyphen: `infor-` + `mation` is `information` at the first part's place.

    Each word comes with its (block, line). A capital or a digit after the break keeps both parts: `Anglo-` `American`.
    """
    joined: list[Word] = []
    skip = False
    for index, (word, place) in enumerate(words):
        if skip:
            skip = False
            continue
        if index + 1 < len(words) and _is_cut(word, place, *words[index + 1]):
            word, skip = Word(word.text[:-1] + words[index + 1][0].text, word.box), True
        joined.append(word)
    return tuple(joined)


def _is_cut(word: Word, place: tuple[int, int], following: Word, following_place: tuple[int, int]) -> bool:
    stem = word.text[:-1]
    return (
        word.text[-1] in "-‐"
        and stem.isalpha()
        and following.text[:1].islower()
        and place != following_place
        and following.box.y0 > word.box.y0
    )


def pack_words(words: Sequence[Word]) -> bytes:
    """Words as one compressed blob; boxes keep 16 bits a coordinate."""
    boxes = np.array([word.box for word in words], dtype=np.float64).reshape(-1, 4)
    codes = np.round(boxes * BOX_SCALE).astype("<u2")
    text = "\n".join(word.text for word in words).encode()
    return zlib.compress(struct.pack("<I", len(words)) + codes.tobytes() + text, 6)


def unpack_words(blob: bytes) -> tuple[Word, ...]:
    """The words of `pack_words`."""
    raw = zlib.decompress(blob)
    (num_words,) = struct.unpack_from("<I", raw)
    if num_words == 0:
        return ()
    boxes = np.frombuffer(raw, "<u2", 4 * num_words, offset=4).reshape(-1, 4) / BOX_SCALE
    texts = raw[4 + 8 * num_words :].decode().split("\n")
    return tuple(Word(text, Box(*box)) for text, box in zip(texts, boxes.tolist(), strict=True))
