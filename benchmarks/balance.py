"""Simulates how evenly many GPUs share the work of pre-training: useful work over the critical path, way by way.

    python benchmarks/balance.py [--num-ranks 32] [--num-rows 200000] [--seed 0]

No model runs: rows are drawn as lengths and image sizes alone, and cost what count_flops says for 3B. Sharded ranks meet
at every forward pass, so that a pass takes as long as its costliest rank; the sum of these is the critical path. Useful
is the cost of the rows themselves, without padding and without waiting.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from moca_rag.train.packing import plan_packs, price_row

from moca_rag.costs import count_flops, count_image_flops, count_text_flops
from moca_rag.pixels import MERGE_SIDE, PATCH_SIDE, Grid, image_size
from moca_rag.records import PixelBudget
from moca_rag.shapes import ModelShape, TextShape, VisionShape, VisionTokens

SHAPE = ModelShape(
    TextShape(151_936, 2048, 11_008, 36, 16, 2),
    VisionShape(hidden_size=1280, out_hidden_size=2048),
    VisionTokens(1, 2, 3),
)
UNIT = count_flops(SHAPE, 1)  # a text token, in which all costs are counted
MAX_TOKENS = 2048
BLOCK = PATCH_SIDE * MERGE_SIDE  # a visual token's side in pixels
PAD_TO = 32  # the multiple to which the released code pads
PACK_COST = 12_800  # of a forward pass on one GPU (MoCa, section 4.1)
ROOMY_COST = 16_384  # of a pass that takes a rank's whole share of a batch, which is a little over 12,800
PACK_TOKENS = 8192  # of a pass where no cost is known: about as much work


@dataclass(frozen=True, slots=True)
class Row:
    """A row as a sequence: its length with visual tokens, its images' grids in patches, and what it costs by itself.

    `guess` is what the released code takes for its cost: visual tokens of the image as stored count four text tokens.
    """

    length: int
    grids: tuple[Grid, ...]
    cost: float
    guess: float


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass of all ranks: what it costs each, and what of it all is useful."""

    costs: list[float]
    useful: float


def draw_rows(num_rows: int, generator: np.random.Generator) -> list[Row]:
    """A third each of texts, of single pages with a text, and of texts with one to four images."""
    kinds = generator.integers(3, size=num_rows)
    return [(draw_text, draw_page, draw_interleaved)[kind](generator) for kind in kinds]


def draw_text(generator: np.random.Generator) -> Row:
    """Web pages: half have under 600 tokens, one in seven is cut."""
    return make_row(draw_length(generator, 600, 1.1), ())


def draw_page(generator: np.random.Generator) -> Row:
    """A4 or Letter at 72 to 200 dpi, with questions and answers, or the text of the page."""
    inches = ((8.27, 11.69), (8.5, 11.0))[generator.integers(2)]
    dots = generator.uniform(72, 200)
    return make_row(draw_length(generator, 180, 0.8), ((round(inches[0] * dots), round(inches[1] * dots)),))


def draw_interleaved(generator: np.random.Generator) -> Row:
    """Pictures from thumbnails to cameras, most of them alone with a caption or a conversation."""
    number = 1 + min(int(generator.geometric(0.7)) - 1, 3)
    sides = np.clip(generator.lognormal(np.log(640), 0.5, (number, 2)), 112, 4096).astype(int)
    return make_row(draw_length(generator, 150, 0.8), tuple((int(width), int(height)) for width, height in sides))


def draw_length(generator: np.random.Generator, median: float, spread: float) -> int:
    """Tokens of a text, lognormal."""
    return max(8, round(generator.lognormal(np.log(median), spread)))


def make_row(num_words: int, stored: Sequence[tuple[int, int]]) -> Row:
    """The row that these images (width, height) and then the text make, cut at the limit; an image is cut off whole."""
    room, grids, guess = MAX_TOKENS, [], float(num_words)
    for width, height in stored:
        guess += 4 * -(-width // BLOCK) * -(-height // BLOCK) + 2
        rows, columns = (side // BLOCK for side in image_size(width, height, PixelBudget()))
        if rows * columns + 2 <= room:
            room -= rows * columns + 2
            grids.append(Grid(rows * MERGE_SIDE, columns * MERGE_SIDE))
    length = MAX_TOKENS - room + min(room, num_words)
    return Row(length, tuple(grids), price_row(SHAPE, length, grids), min(guess, MAX_TOKENS))


# -- ways to share rows out -------------------------------------------------------------------------------------------


def balance(rows: Sequence[Row], num_ranks: int, _: np.random.Generator, most: float = PACK_COST) -> Iterator[Pass]:
    """Ours: a global batch by cost after the resize, in packs of `most`; its last row takes it a little over its cost."""
    batch: list[float] = []
    total = 0.0
    for row in rows:
        batch.append(row.cost)
        total += row.cost
        if total >= PACK_COST * num_ranks:
            plans = plan_packs(batch, num_ranks, most)
            for packs in zip(*plans, strict=True):
                costs = [sum(batch[place] for place in pack) for pack in packs]
                yield Pass(costs, sum(costs))
            batch, total = [], 0.0


def pack_by_cost(rows: Sequence[Row], num_ranks: int, _: np.random.Generator) -> Iterator[Pass]:
    """Packs of rows as they come, closed before the row with which they would cost too much."""
    return fill_packs(rows, [row.cost for row in rows], PACK_COST, num_ranks)


def pack_by_length(rows: Sequence[Row], num_ranks: int, _: np.random.Generator) -> Iterator[Pass]:
    """Packs of rows as they come, closed before the row with which they would be too long."""
    return fill_packs(rows, [row.length for row in rows], PACK_TOKENS, num_ranks)


def fill_packs(rows: Sequence[Row], sizes: Sequence[float], most: float, num_ranks: int) -> Iterator[Pass]:
    """One pack a rank and pass, each filled until the next row's size would be over `most`."""
    packs: list[float] = []
    used, cost = 0.0, 0.0
    for row, size in zip(rows, sizes, strict=True):
        if cost and used + size > most:
            packs.append(cost)
            used, cost = 0.0, 0.0
        used, cost = used + size, cost + row.cost
        if len(packs) == num_ranks:
            yield Pass(packs, sum(packs))
            packs = []


def bucket(rows: Sequence[Row], num_ranks: int, generator: np.random.Generator) -> Iterator[Pass]:
    """The released code: buckets of like guesses, each batch out of one bucket and padded to its longest row."""
    limits = np.array(sorted({PAD_TO * int(1.3**step) for step in range(40)}))
    places = np.searchsorted(limits, [row.guess for row in rows])
    for place in np.unique(places):
        size = int(PACK_COST // limits[place])
        shuffled = generator.permutation(np.flatnonzero(places == place))
        for start in range(0, len(shuffled) - size * num_ranks + 1, size * num_ranks):
            chosen = [rows[index] for index in shuffled[start : start + size * num_ranks]]
            costs = [price_padded(chosen[rank::num_ranks]) for rank in range(num_ranks)]
            yield Pass(costs, sum(row.cost for row in chosen))


def price_padded(rows: Sequence[Row]) -> float:
    """What a padded batch costs: every row as long as the longest, images as they are."""
    longest = -(-max(row.length for row in rows) // PAD_TO) * PAD_TO
    images = sum(count_image_flops(SHAPE.vision, grid) for row in rows for grid in row.grids)
    return (len(rows) * count_text_flops(SHAPE.text, longest) + images) / UNIT


# -- the table --------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[Sequence[Row], int, np.random.Generator], Iterator[Pass]]] = {
    "released code: padded batches by guess": bucket,
    f"packs in order, up to {PACK_TOKENS:,} tokens": pack_by_length,
    f"packs in order, up to {PACK_COST:,} of cost": pack_by_cost,
    f"ours: balanced packs, up to {PACK_COST:,}": balance,
    f"ours: balanced packs, up to {ROOMY_COST:,}": partial(balance, most=ROOMY_COST),
}


def print_table(rows: Sequence[Row], num_ranks: int, seed: int) -> None:
    """One line a way; the costliest pass decides about memory."""
    visual = sum(grid.num_cells for row in rows for grid in row.grids)
    tokens = sum(row.length for row in rows)
    print(f"{len(rows):,} rows, {tokens / len(rows):,.0f} tokens each, {visual / tokens:.0%} visual; {num_ranks} ranks")
    print(f"{'':<40} useful/critical  padding  waiting  passes  mean cost  costliest")
    for name, way in WAYS.items():
        passes = list(way(rows, num_ranks, np.random.default_rng(seed)))
        critical = sum(max(one.costs) for one in passes) * num_ranks
        done, useful = sum(sum(one.costs) for one in passes), sum(one.useful for one in passes)
        print(
            f"{name:<40} {useful / critical:15.3f} {1 - useful / done:8.0%} {1 - done / critical:8.1%} "
            f"{len(passes):7,} {done / len(passes) / num_ranks:10,.0f} {max(max(one.costs) for one in passes):10,.0f}"
        )


def main() -> None:
    """Read the command line, simulate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-ranks", type=int, default=32)
    parser.add_argument("--num-rows", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = draw_rows(options.num_rows, np.random.default_rng(options.seed))
    print_table(rows, options.num_ranks, options.seed)


if __name__ == "__main__":
    main()
