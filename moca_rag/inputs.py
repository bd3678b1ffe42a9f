"""Turns texts and pictures into packed token sequences with their 3-D positions; needs tokenizers, never torch."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from tokenizers import Tokenizer

from .errors import ConfigError, ModelError, one_line
from .pixels import MERGE_SIDE, PATCH_SIDE, PATCHES_PER_TOKEN, Grid, find_ink, fit_image, patchify
from .records import Floats, Ids, PixelBudget, Pixels
from .regions import weigh_runs
from .shapes import VisionTokens

BLOCK = PATCH_SIDE * MERGE_SIDE  # a visual token's side in pixels

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TokenSequence:
    """One sequence of an encoder: token ids [L], positions [3, L], and the patch rows [P, 588] of its images.

    `grids` holds each image's size in patches, and which of its cells are read, in order. `weights` [R, L] ask for R embeddings, each
    a weighted mean over the tokens, instead of their one mean.
    """

    ids: Ids
    positions: Ids
    patches: Pixels
    grids: tuple[Grid, ...]
    weights: Floats | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Pack:
    """Several sequences end to end: ids [T], positions [3, T], patches [P, 588], grids, each sequence's length."""

    ids: Ids
    positions: Ids
    patches: Pixels
    grids: tuple[Grid, ...]
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


class SequenceBuilder:
    """Builds token sequences for one model: raw text without chat template, images as start, n pads, end."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        tokens: VisionTokens,
        budget: PixelBudget,
        max_tokens: int,
        *,
        drop_blank: bool = False,
        tells: bool = True,
    ) -> None:
        """`drop_blank`: whether the cells of an image that hold one even colour are left out.

        `tells`: whether the log says that a text was cut, as it should to a person who asks.
        """
        self.tokens = tokens
        self._tokenizer = tokenizer
        # A person's text is text: a literal "<|image_pad|>" in it must not become an image slot.
        self._tokenizer.encode_special_tokens = True
        self._budget = budget
        self._max_tokens = max_tokens
        self._drop_blank = drop_blank
        self._tells = tells

    def check_room(self, text: str) -> None:
        """Raises ConfigError where the largest image and this text are more than one sequence may hold."""
        num_tokens = self._budget.max_pixels // BLOCK**2 + 2 + (len(self._encode(text)) if text else 0)
        if num_tokens > self._max_tokens:
            most = (self._max_tokens - num_tokens) * BLOCK**2 + self._budget.max_pixels
            raise ConfigError(
                f"pages of up to {self._budget.max_pixels:,} pixels are {num_tokens:,} tokens, over the model's limit of "
                f"{self._max_tokens:,}: give max_pixels of at most {most:,}, or raise max_tokens in its moca.json"
            )

    def build(self, parts: Sequence[str | Pixels], regions: int = 1) -> TokenSequence:
        """The sequence of texts and images [H, W, 3] in the order given, each text tokenised by itself.

        Over the model's limit a text is cut on the right, and the log says so; an image never is: raises ConfigError.
        With several `regions`, what has an image asks for an embedding of each of them, see `weigh_runs`.
        """
        images = [self._cover(fit_image(part, self._budget)) for part in parts if not isinstance(part, str)]
        grids = tuple(grid for grid, _ in images)
        frames = [self._frame(grid.num_cells) for grid in grids]
        room = self._max_tokens - sum(map(len, frames))
        if room < 0:
            raise ConfigError(
                f"images of {self._max_tokens - room:,} tokens are over the model's limit of {self._max_tokens:,}: "
                "give fewer or smaller ones"
            )
        pending = iter(frames)
        ids: list[Ids] = []
        for part in parts:
            if isinstance(part, str):
                ids.append(self._cut(self._encode(part), room))
                room -= len(ids[-1])
            else:
                ids.append(next(pending))
        joined = np.concatenate(ids)
        is_image = joined == self.tokens.pad
        return TokenSequence(
            ids=joined,
            positions=rope_positions(is_image, grids),
            patches=np.concatenate([np.zeros((0, 3 * PATCH_SIDE**2), np.uint8), *(patches for _, patches in images)]),
            grids=grids,
            weights=weigh_runs(is_image, regions) if regions > 1 and is_image.any() else None,
        )

    def _cover(self, image: Pixels) -> tuple[Grid, Pixels]:
        """An image's grid and the patch rows that are read."""
        patches = patchify(image)
        grid = Grid(image.shape[0] // PATCH_SIDE, image.shape[1] // PATCH_SIDE)
        if not self._drop_blank:
            return grid, patches
        cells = find_ink(patches)
        kept = patches.reshape(grid.num_cells, PATCHES_PER_TOKEN, -1)[cells].reshape(PATCHES_PER_TOKEN * len(cells), -1)
        return replace(grid, cells=tuple(cells.tolist())), kept

    def _cut(self, ids: Ids, room: int) -> Ids:
        if len(ids) > room and self._tells:
            logger.warning("a text of %d tokens was cut to %d, the model's limit", len(ids), room)
        return ids[:room]

    def count(self, text: str) -> int:
        """The tokens of a text."""
        return len(self._encode(text))

    def _encode(self, text: str) -> Ids:
        clean = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair is no text
        return np.asarray(self._tokenizer.encode(clean, add_special_tokens=False).ids, np.int64)

    def _frame(self, num_tokens: int) -> Ids:
        frame = np.full(num_tokens + 2, self.tokens.pad, np.int64)
        frame[0], frame[-1] = self.tokens.start, self.tokens.end
        return frame


def rope_positions(is_image: np.ndarray[tuple[int], np.dtype[np.bool_]], grids: Sequence[Grid]) -> Ids:
    """Positions [3, L] (time, row, column) of a sequence whose image tokens are marked (Qwen2-VL, section 2.1).

    A text token counts on in all three; an image's tokens share one time, and what follows it goes on after
    the larger side of its merged grid.

    >>> rope_positions(np.array([False, True, True, False]), [Grid(2, 4)]).tolist()
    [[0, 1, 1, 3], [0, 1, 1, 3], [0, 1, 2, 3]]
    """
    positions = np.empty((3, len(is_image)), np.int64)
    place, following = 0, 0
    for grid in grids:
        first = place + int(np.argmax(is_image[place:]))
        positions[:, place:first] = following + np.arange(first - place)
        following += first - place
        place = first + grid.num_cells
        downs, rights = np.divmod(grid.places, grid.columns)
        positions[:, first:place] = following + np.stack([np.zeros_like(downs), downs, rights])
        following += max(grid.rows, grid.columns)
    positions[:, place:] = following + np.arange(len(is_image) - place)
    return positions


def load_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer in a tokenizer.json, straight from the file; raises ModelError where there is none."""
    if not path.is_file():
        raise ModelError(
            f"the model folder {path.parent} has no tokenizer.json: copy the one that the model was trained with"
        )
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
