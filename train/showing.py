"""Shows a few rows as a model restores them: original, hidden and restored pictures above sentences, as PNG and text."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tokenizers import Tokenizer

from moca_rag.inputs import BLOCK
from moca_rag.pixels import MERGE_SIDE, PATCH_SIDE, PATCHES_PER_TOKEN, PIXEL_MEAN, PIXEL_STD, TEMPORAL_COPIES, Grid
from moca_rag.records import Floats, Ids, Pixels

from .corruption import CorruptedRow
from .mixture import Mixture
from .rows import CptRow

NUM_IMAGES = NUM_SENTENCES = 4
NUM_LOOKED_AT = 64  # rows, at most, in the search for these
SENTENCE_TOKENS = 60
GREY, WHITE = 150, 255  # of a hidden cell, and of one that was not read
WIDTH, MARGIN, GAP = 1200, 30, 20
LINE, FONT_SIZE = 30, 19
GUESS_LINE, GUESS_SIZE = 20, 15
MAX_HEIGHT = 440  # of one image
INK, PALE, WRONG, FRAME = (30, 30, 30), (120, 120, 120), (190, 40, 40), (210, 210, 210)
PAPERS = {"shown": None, "found": (200, 236, 210), "missed": (252, 220, 217)}

Mark = Literal["shown", "found", "missed"]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a sentence: shown to the model, found by it, or missed, with what it put there instead."""

    text: str
    mark: Mark = "shown"
    guess: str = ""

    def __str__(self) -> str:
        """As plain text.

        >>> print(Piece("coal "), Piece("price", "found"), Piece("fell", "missed", "rose"))
        coal  [price] [rose, not fell]
        """
        return {"shown": self.text, "found": f"[{self.text}]", "missed": f"[{self.guess}, not {self.text}]"}[self.mark]


@dataclass(frozen=True, slots=True, eq=False)
class Restored:
    """What a model puts into one row: the ids [M] of its masked tokens, the normalised pixels [V, 4704] of its hidden ones."""

    ids: Ids
    pixels: Floats


def choose_rows(table: Mixture[CptRow], corrupt: Callable[[CptRow], CorruptedRow]) -> list[CorruptedRow]:
    """The first rows that have enough images and enough masked text to show, corrupted: the same ones all run long."""
    chosen: list[CorruptedRow] = []
    images = sentences = 0
    for number in range(min(len(table), NUM_LOOKED_AT)):
        row = table.take(number, corrupt)
        if row is None or not (
            (len(row.hidden) and images < NUM_IMAGES) or (len(row.masked) and sentences < NUM_SENTENCES)
        ):
            continue
        chosen.append(row)
        images += len(row.sequence.grids) if len(row.hidden) else 0
        sentences += len(row.masked) > 0
    return chosen


def write_shown(
    folder: Path,
    step: int,
    rows: Sequence[CorruptedRow],
    restored: Sequence[Restored],
    tokenizer: Tokenizer,
    unseen: Collection[int],
) -> None:
    """Write `step-000200.png` and, for scripts that the picture's font lacks, the sentences as `step-000200.txt`.

    `unseen` are the ids of special and vision tokens, which are no part of a sentence.
    """
    pairs = list(zip(rows, restored, strict=True))
    images = [views for row, found in pairs for views in view_images(row, found)][:NUM_IMAGES]
    sentences = [read_sentence(row, found, tokenizer, unseen) for row, found in pairs if len(row.masked)]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:06}.png"
    draw_sheet(f"step {step:,}", images, sentences[:NUM_SENTENCES]).save(path)
    lines = ["".join(map(str, sentence)) for sentence in sentences[:NUM_SENTENCES]]
    path.with_suffix(".txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def view_images(row: CorruptedRow, restored: Restored) -> list[tuple[Pixels, Pixels, Pixels]]:
    """Each image of a row of which something is hidden: as it was, its hidden cells grey, and restored there."""
    shape = (-1, PATCHES_PER_TOKEN, 3 * PATCH_SIDE**2)
    original = row.sequence.patches.reshape(shape)
    grey, guessed = original.copy(), original.copy()
    grey[row.hidden] = GREY
    guessed[row.hidden] = to_pixels(restored.pixels).reshape(shape)
    views, start = [], 0
    for grid in row.sequence.grids:
        end = start + grid.num_cells
        if ((row.hidden >= start) & (row.hidden < end)).any():
            first, second, third = (join_patches(cells[start:end], grid) for cells in (original, grey, guessed))
            views.append((first, second, third))
        start = end
    return views


def to_pixels(values: Floats) -> Pixels:
    """Pixels in 0..255 of normalised ones [V, 4704]: (patch, channel, temporal copy, y, x), the copies' mean taken."""
    copies = values.reshape(-1, PATCHES_PER_TOKEN, 3, TEMPORAL_COPIES, PATCH_SIDE**2).mean(axis=3)
    mean, std = (np.array(numbers, np.float32)[:, None] for numbers in (PIXEL_MEAN, PIXEL_STD))
    pixels: Pixels = ((copies * std + mean) * 255).round().clip(0, 255).astype(np.uint8)
    return pixels


def join_patches(cells: Pixels, grid: Grid) -> Pixels:
    """The image [H, W, 3] of the patch rows [V, 4, 588] of a grid: `patchify` undone, white where no cell was read."""
    whole = np.full((grid.rows * grid.columns, *cells.shape[1:]), WHITE, np.uint8)
    whole[grid.places] = cells
    parts = whole.reshape(grid.rows, grid.columns, MERGE_SIDE, MERGE_SIDE, 3, PATCH_SIDE, PATCH_SIDE)
    return parts.transpose(0, 2, 5, 1, 3, 6, 4).reshape(grid.rows * BLOCK, grid.columns * BLOCK, 3)


def read_sentence(row: CorruptedRow, restored: Restored, tokenizer: Tokenizer, unseen: Collection[int]) -> list[Piece]:
    """The text of a row up to SENTENCE_TOKENS, its masked tokens apart, each with what was put there."""
    ids, guesses = row.sequence.ids.copy(), dict(zip(row.masked.tolist(), restored.ids.tolist(), strict=True))
    ids[row.masked] = row.targets
    pieces: list[Piece] = []
    stretch: list[int] = []

    def decode(tokens: list[int]) -> str:
        return tokenizer.decode(tokens, skip_special_tokens=False).replace("\n", " ")

    for place in np.flatnonzero(~np.isin(ids, list(unseen)))[:SENTENCE_TOKENS].tolist():
        token = int(ids[place])
        if place not in guesses:
            stretch.append(token)
            continue
        pieces += [Piece(decode(stretch))] if stretch else []
        stretch = []
        found = guesses[place] == token
        pieces.append(Piece(decode([token]), "found" if found else "missed", decode([guesses[place]])))
    return [*pieces, Piece(decode(stretch))] if stretch else pieces


def draw_sheet(
    title: str, images: Sequence[tuple[Pixels, Pixels, Pixels]], sentences: Sequence[Sequence[Piece]]
) -> Image.Image:
    """A sheet of WIDTH pixels: a line for each image, original, hidden, restored, and under them the sentences."""
    column = (WIDTH - 2 * MARGIN - 2 * GAP) // 3
    lefts = [MARGIN + place * (column + GAP) for place in range(3)]
    sheet = Image.new("RGB", (WIDTH, 2 * MARGIN + LINE), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(FONT_SIZE)
    pen.text((MARGIN, MARGIN), title, PALE, font)
    if sentences:
        pen.text((WIDTH - MARGIN, MARGIN), "words: green found, red missed, the guess below", PALE, font, anchor="ra")
    if images:
        sheet = _grow(sheet, LINE)
        for left, name in zip(lefts, ("original", "hidden", "restored"), strict=True):
            ImageDraw.Draw(sheet).text((left + column / 2, MARGIN + LINE), name, INK, font, anchor="ma")
    for views in images:
        height, width = views[0].shape[:2]
        scale = min(column / width, MAX_HEIGHT / height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
        way = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
        top = sheet.height - MARGIN
        sheet = _grow(sheet, size[1] + GAP)
        for left, view in zip(lefts, views, strict=True):
            x = left + (column - size[0]) // 2
            sheet.paste(Image.fromarray(view).resize(size, way), (x, top))
            ImageDraw.Draw(sheet).rectangle((x - 1, top - 1, x + size[0], top + size[1]), outline=FRAME)
    for sentence in sentences:
        sheet = _draw_sentence(sheet, sentence)
    return sheet


def _grow(sheet: Image.Image, height: int) -> Image.Image:
    grown = Image.new("RGB", (sheet.width, sheet.height + height), "white")
    grown.paste(sheet, (0, 0))
    return grown


def _draw_sentence(sheet: Image.Image, sentence: Sequence[Piece]) -> Image.Image:
    """The true sentence under the sheet: green where it was found, red where it was missed, the guess below that."""
    font, small = ImageFont.load_default(FONT_SIZE), ImageFont.load_default(GUESS_SIZE)
    placed: list[tuple[float, int, float, Piece]] = []
    line, x = 0, float(MARGIN)
    for word in _split_words(sentence):
        width = max(font.getlength(word.text), small.getlength(word.guess) + 6 if word.mark == "missed" else 0)
        if x + width > WIDTH - MARGIN and x > MARGIN:
            line, x = line + 1, float(MARGIN)
        placed.append((x, line, width, word))
        x += width
    top = sheet.height - MARGIN
    sheet = _grow(sheet, (line + 1) * (LINE + GUESS_LINE) + GAP // 2)
    pen = ImageDraw.Draw(sheet)
    for x, line, width, word in placed:
        y = top + line * (LINE + GUESS_LINE)
        if paper := PAPERS[word.mark]:
            pen.rounded_rectangle((x + 1, y - 2, x + width - 1, y + LINE - 6), 4, paper)
        pen.text((x, y), word.text, INK, font)
        if word.mark == "missed":
            pen.text((x + 3, y + LINE - 4), word.guess, WRONG, small)
    return sheet


def _split_words(sentence: Sequence[Piece]) -> Iterator[Piece]:
    """What must not be broken over two lines; a blank guess is made visible."""
    for piece in sentence:
        if piece.mark == "shown":
            yield from (Piece(word) for word in re.findall(r" *[^ ]+| +", piece.text))
        else:
            yield replace(piece, guess=piece.guess.strip() or "_")
