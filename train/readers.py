"""Rows as a model reads them, each by its number alone: in this process, or in the processes of a crew."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from moca_rag.checkpoint import MOST_REGIONS, Checkpoint, ModelSettings, read_settings, read_values
from moca_rag.errors import ConfigError
from moca_rag.inputs import BLOCK, SequenceBuilder, TokenSequence, load_tokenizer
from moca_rag.pixels import PATCH_SIDE, Grid
from moca_rag.records import PixelBudget
from moca_rag.shapes import read_shape

from .corruption import CorruptedRow, MaskRates, corrupt_row
from .mixture import Fault, Mixture
from .rows import IMAGE_SLOT, CptRow, PairRow, Side, measure_image, split_parts, split_text
from .settings import ClSettings, CptSettings, RunSettings
from .sources import open_cpt, open_pairs

CptKey = tuple[int, int | None]
"""A row's number, and the epoch in which it is corrupted; None measures it only."""

Pair = tuple[list[TokenSequence], list[TokenSequence], list[int], tuple[str, ...]]
"""Queries, what answers them and then its negatives, the hashes of these, and the texts of all; () where one has a picture."""


@dataclass(frozen=True, slots=True)
class Size:
    """What a row will be as a sequence: its length, the grids of its images in patches, and what is cut off."""

    length: int
    grids: tuple[Grid, ...]
    text: str
    num_images: int


class Reader:
    """How a model takes texts and pictures: its tokenizer, its pixel budget, its limit."""

    def __init__(self, checkpoint: Checkpoint, settings: RunSettings) -> None:
        self.model_settings = read_settings(checkpoint)
        self.pixels = PixelBudget(self.model_settings.min_pixels, self.model_settings.max_pixels)
        self.tokenizer = load_tokenizer(checkpoint.file("tokenizer.json"))
        self.shape = read_shape(checkpoint.folder / "config.json", read_values(checkpoint))
        self.builder = SequenceBuilder(
            self.tokenizer,
            self.shape.tokens,
            self.pixels,
            settings.max_tokens,
            drop_blank=self.model_settings.drop_blank,
            tells=False,
        )


class CptReader(Reader):
    """Rows of stage one: measured by their heads, built and corrupted."""

    def __init__(self, checkpoint: Checkpoint, settings: CptSettings) -> None:
        super().__init__(checkpoint, settings)
        self._settings = settings
        self.mask_id = find_mask(self.tokenizer, self.model_settings, self.shape.text.vocab_size)
        self.kept = {*self.tokenizer.get_added_tokens_decoder(), self.mask_id}

    def read(self, rows: Mixture[CptRow], key: CptKey) -> Size | CorruptedRow | Fault:
        """The row as it is asked for, or why it cannot be had."""
        number, epoch = key
        return rows.attempt(number, self.measure if epoch is None else partial(self.corrupt, epoch=epoch))

    def measure(self, row: CptRow) -> Size:
        """A row's sequence without decoding its images: cut on the right, an image that the limit cuts removed whole.

        Blank cells count, though a model may leave them out: they are known only once an image is decoded.
        """
        room = self._settings.max_tokens
        pieces = split_text(row.text, len(row.images))
        kept, grids = pieces[0], []
        room -= min(room, self.builder.count(pieces[0]))
        for image, piece in zip(row.images, pieces[1:], strict=True):
            height, width = measure_image(image, self.pixels)
            room -= height * width // BLOCK**2 + 2
            if room < 0:
                room += height * width // BLOCK**2 + 2
                break
            grids.append(Grid(height // PATCH_SIDE, width // PATCH_SIDE))
            kept += IMAGE_SLOT + piece
            room -= min(room, self.builder.count(piece))
        return Size(self._settings.max_tokens - room, tuple(grids), kept, len(grids))

    def corrupt(self, row: CptRow, epoch: int) -> CorruptedRow:
        """The row as a sequence of which part is hidden."""
        size = self.measure(row)
        sequence = self.builder.build(split_parts(size.text, row.images[: size.num_images], self.pixels))
        rates = MaskRates(self._settings.mlm_probability, self._settings.mae_ratio)
        return corrupt_row(sequence, row.row_id, rates, self.mask_id, self.kept, self._settings.seed, epoch)


class PairReader(Reader):
    """Rows of stage two: a query and its documents as sequences."""

    def __init__(self, checkpoint: Checkpoint, settings: ClSettings) -> None:
        super().__init__(checkpoint, settings)
        self._num_negatives = settings.num_negatives
        if not 0 <= settings.regions <= MOST_REGIONS:
            raise ConfigError(f"regions={settings.regions}: give 1 to {MOST_REGIONS}, or 0 for what the model says")
        if settings.regions > 1 and not settings.bidirectional:
            raise ConfigError(f"regions={settings.regions}: a causal model has one embedding a page, its last token's")
        regions = settings.regions or self.model_settings.regions
        self.model_settings = replace(self.model_settings, causal=not settings.bidirectional, regions=regions)

    def read(self, rows: Mixture[PairRow], number: int) -> Pair | Fault:
        """The pair, or why it cannot be had."""
        return rows.attempt(number, self.encode)

    def encode(self, row: PairRow) -> Pair:
        """The sequences of a pair."""
        sides = [row.positive, *row.negatives[: self._num_negatives]]
        keys, every = [side.key for side in sides], [*row.questions, *sides]
        texts = () if any(side.images for side in every) else tuple(side.text for side in every)
        asked = [self._build(side) for side in row.questions]
        return asked, [self._build(side, self.model_settings.page_regions) for side in sides], keys, texts

    def _build(self, side: Side, regions: int = 1) -> TokenSequence:
        return self.builder.build(split_parts(side.text, side.images, self.pixels), regions)


def open_cpt_rows(checkpoint: Checkpoint, settings: CptSettings) -> Callable[[CptKey], Any]:
    """What reads a row of the data by its key, in another process."""
    rows = Mixture([open_cpt(source) for source in settings.data], settings.max_bad_rows)
    return partial(CptReader(checkpoint, settings).read, rows)


def open_pair_rows(checkpoint: Checkpoint, settings: ClSettings) -> Callable[[int], Any]:
    """What reads a pair of the data by its number, in another process."""
    rows = Mixture([open_pairs(source) for source in settings.data], settings.max_bad_rows)
    return partial(PairReader(checkpoint, settings).read, rows)


def find_mask(tokenizer: Any, settings: ModelSettings, num_tokens: int) -> int:
    """The id of `<|mask|>`: the model's own, the tokenizer's, or the first row of the embeddings that no token uses.

    Raises ConfigError where there is no such row.
    """
    found = settings.mask_token_id
    if found is None:
        found = tokenizer.token_to_id("<|mask|>")
    if found is None:
        found = tokenizer.get_vocab_size()
    if not 0 <= found < num_tokens:
        raise ConfigError(
            f"the mask's id {found} is outside the model's {num_tokens} tokens: set mask_token_id in moca.json"
        )
    return int(found)
