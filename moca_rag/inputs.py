"""Turns texts and pictures into packed token sequences with their 3-D positions; needs tokenizers, never torch."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from tokenizers import Tokenizer

from .errors import ModelError, one_line
from .pixels import MERGE_SIDE, PATCH_SIDE, fit_image, patchify
from .records import Ids, PixelBudget, Pixels

# The longest sequence that MoCa was trained on (MoCa, table 6); a text is cut on the right, an image never.
MAX_TOKENS = 2048


@dataclass(frozen=True, slots=True, eq=False)
class TokenSequence:
    """One sequence of an encoder: token ids [L], positions [3, L], and the patch rows [P, 588] of its images.

    `grids` holds each image's size in patches, (height, width), in order.
    """

    ids: Ids
    positions: Ids
    patches: Pixels
    grids: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Several sequences end to end: ids [T], positions [3, T], patches [P, 588], grids, each sequence's length."""

    ids: Ids
    positions: Ids
    patches: Pixels
    grids: tuple[tuple[int, int], ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, sequences: Sequence[TokenSequence]) -> Self:
        """The sequences in one row, in order."""
        return cls(
            ids=np.concatenate([sequence.ids for sequence in sequences]),
            positions=np.concatenate([sequence.positions for sequence in sequences], axis=1),
            patches=np.concatenate([sequence.patches for sequence in sequences]),
            grids=tuple(grid for sequence in sequences for grid in sequence.grids),
            lengths=tuple(len(sequence.ids) for sequence in sequences),
        )


@dataclass(frozen=True, slots=True)
class VisionTokens:
    """The ids that frame and stand for an image in a token sequence."""

    start: int
    pad: int
    end: int


class SequenceBuilder:
    """Builds token sequences for one model: raw text without chat template, images as start, n pads, end."""

    def __init__(self, tokenizer: Tokenizer, tokens: VisionTokens, budget: PixelBudget) -> None:
        self._tokenizer = tokenizer
        # A person's text is text: a literal "<|image_pad|>" in it must not become an image slot.
        self._tokenizer.encode_special_tokens = True
        self._tokens = tokens
        self._budget = budget

    def build(self, parts: Sequence[str | Pixels]) -> TokenSequence:
        """The sequence of texts and images [H, W, 3] in the order given, texts cut where it grows over MAX_TOKENS.

        Each text is tokenised by itself, as the image's special tokens split it anyway.
        """
        ids: list[Ids] = []
        patches: list[Pixels] = []
        grids: list[tuple[int, int]] = []
        images = [fit_image(part, self._budget) for part in parts if not isinstance(part, str)]
        room = MAX_TOKENS - sum(_image_tokens(image) + 2 for image in images)
        pending = iter(images)
        for part in parts:
            if isinstance(part, str):
                ids.append(self._encode(part)[: max(0, room)])
                room -= len(ids[-1])
                continue
            image = next(pending)
            ids.append(self._frame(_image_tokens(image)))
            patches.append(patchify(image))
            grids.append((image.shape[0] // PATCH_SIDE, image.shape[1] // PATCH_SIDE))
        joined = np.concatenate(ids)
        return TokenSequence(
            ids=joined,
            positions=rope_positions(joined == self._tokens.pad, grids),
            patches=np.concatenate([np.zeros((0, 3 * PATCH_SIDE**2), np.uint8), *patches]),
            grids=tuple(grids),
        )

    def _encode(self, text: str) -> Ids:
        clean = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text
        return np.asarray(self._tokenizer.encode(clean, add_special_tokens=False).ids, np.int64)

    def _frame(self, num_tokens: int) -> Ids:
        frame = np.full(num_tokens + 2, self._tokens.pad, np.int64)
        frame[0], frame[-1] = self._tokens.start, self._tokens.end
        return frame


def _image_tokens(image: Pixels) -> int:
    block = PATCH_SIDE * MERGE_SIDE
    return int(image.shape[0] // block) * int(image.shape[1] // block)


def rope_positions(is_image: np.ndarray[tuple[int], np.dtype[np.bool_]], grids: Sequence[tuple[int, int]]) -> Ids:
    """Positions [3, L] (time, row, column) of a sequence whose image tokens are marked (Qwen2-VL, section 2.1).

    A text token counts on in all three; an image's tokens share one time, and what follows it goes on after
    the larger side of its merged grid.

    >>> rope_positions(np.array([False, True, True, False]), [(2, 4)]).tolist()
    [[0, 1, 1, 3], [0, 1, 1, 3], [0, 1, 2, 3]]
    """
    positions = np.empty((3, len(is_image)), np.int64)
    place, following = 0, 0
    for height, width in grids:
        rows, columns = height // MERGE_SIDE, width // MERGE_SIDE
        first = place + int(np.argmax(is_image[place:]))
        positions[:, place:first] = following + np.arange(first - place)
        following += first - place
        place = first + rows * columns
        cells = np.indices((1, rows, columns)).reshape(3, -1)
        positions[:, first:place] = following + cells
        following += max(rows, columns)
    positions[:, place:] = following + np.arange(len(is_image) - place)
    return positions


def batch_sequences(sequences: Iterable[TokenSequence], token_budget: int) -> Iterator[list[TokenSequence]]:
    """Batches of at most `token_budget` tokens, in order and lazily; a longer sequence stands alone."""
    batch: list[TokenSequence] = []
    num_tokens = 0
    for sequence in sequences:
        if batch and num_tokens + len(sequence.ids) > token_budget:
            yield batch
            batch, num_tokens = [], 0
        batch.append(sequence)
        num_tokens += len(sequence.ids)
    if batch:
        yield batch


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a model folder, straight from its tokenizer.json; raises ModelError where there is none."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"the model folder {folder} has no tokenizer.json: copy the one the model was trained with")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the Rust side raises bare Exception
        raise ModelError(f"{path} is not a tokenizer ({one_line(error)}): copy it again") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def check_tokenizer(tokenizer: Tokenizer, tokens: VisionTokens, num_tokens: int) -> None:
    """Raises ModelError where a tokenizer and a model with `num_tokens` embedding rows do not belong together."""
    named = {"<|vision_start|>": tokens.start, "<|image_pad|>": tokens.pad, "<|vision_end|>": tokens.end}
    for text, token in named.items():
        if tokenizer.token_to_id(text) != token:
            raise ModelError(
                f"the tokenizer's id of {text} is {tokenizer.token_to_id(text)} where config.json says {token}: "
                "tokenizer and model are of different models"
            )
    if tokenizer.get_vocab_size() > num_tokens:
        raise ModelError(
            f"the tokenizer knows {tokenizer.get_vocab_size()} tokens and the model {num_tokens}: "
            "tokenizer and model are of different models"
        )
