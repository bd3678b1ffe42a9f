"""What a composed page teaches, place by place."""

from pathlib import Path

import numpy as np
import pytest
from moca_rag.train.canvas import ComposedPage
from moca_rag.train.letters import ALPHABET, CODE_SIZE, WordPieces, code_word, code_words, place_patches, read_lesson

from moca_rag.inputs import load_tokenizer
from moca_rag.pixels import patchify


def page(words: tuple[str, ...], boxes: list[list[float]], centres: list[list[float]]) -> ComposedPage:
    return ComposedPage(
        pixels=np.full((56, 84, 3), 255, np.uint8),
        words=words,
        word_boxes=np.array(boxes, np.float32),
        letters=np.array([ord(letter) for word in words for letter in word], np.int32),
        letter_centres=np.array(centres, np.float32),
        text=" ".join(words),
        kind="crop",
    )


def test_a_place_is_the_patch_row_that_patchify_puts_it_in() -> None:
    generator = np.random.default_rng(0)
    points = np.stack([generator.integers(0, 84, 40), generator.integers(0, 56, 40)], axis=1)
    for x, y in points:
        pixels = np.zeros((56, 84, 3), np.uint8)
        pixels[y, x] = 255
        (marked,) = np.flatnonzero(patchify(pixels).any(axis=1))
        assert place_patches(np.array([[x, y]]), 3).tolist() == [marked]


def test_letters_lie_in_their_patches_once_and_words_in_the_cell_of_their_middle(model: Path) -> None:
    tokenizer = load_tokenizer(model / "tokenizer.json")
    lesson = read_lesson(
        page(
            ("(No,", "é–", "on"),
            [[0, 0, 27, 12], [30, 0, 50, 12], [20, 28, 50, 40]],
            [[2, 5], [5, 5], [8, 5], [12, 5], [33, 5], [40, 5], [25, 33], [26, 34]],
        ),
        WordPieces(tokenizer),
    )
    named = sorted((patch, ALPHABET[place]) for patch, place in lesson.letters.tolist())
    assert named == [(0, "("), (0, ","), (0, "N"), (0, "o"), (13, "n"), (13, "o")]
    assert lesson.words == ("no", "é–", "on")
    assert lesson.cells.tolist() == [0, 1, 4]
    printed = [
        (cell, token) for cell, word in ((0, " (No,"), (1, " é–"), (3, " on")) for token in tokenizer.encode(word).ids
    ]
    assert [tuple(pair) for pair in lesson.tokens.tolist()] == printed


def test_codes_are_unit_fixed_and_near_where_letters_are_shared() -> None:
    codes = code_words(["colour", "colours", "engine"])
    assert codes.shape == (3, CODE_SIZE)
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1, rtol=1e-5)
    assert codes[0] @ codes[1] > 0.4 > 0.25 > abs(codes[0] @ codes[2])
    # Any machine at any time must give the same lesson.
    assert code_word("colour")[:2] == pytest.approx(PINNED, abs=1e-6)
    assert code_words([]).shape == (0, CODE_SIZE)


PINNED = [0.03998489, 0.0264669]
