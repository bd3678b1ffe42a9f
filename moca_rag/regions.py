"""Splits a page over its visual tokens: the weights of its regions, and each token's share of a score."""

from collections.abc import Sequence

import numpy as np

from .errors import ConfigError
from .pixels import Grid
from .records import Box, Explanation, Floats

REGION_SHARE = 0.4  # of a region's embedding, by its own tokens' mean; the rest is the page's


def make_grid(rows: int, columns: int) -> list[Box]:
    """The boxes of a grid over a page, row by row.

    >>> make_grid(1, 2)
    [Box(x0=0.0, y0=0.0, x1=0.5, y1=1.0), Box(x0=0.5, y0=0.0, x1=1.0, y1=1.0)]
    """
    return [
        Box(column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
        for row in range(rows)
        for column in range(columns)
    ]


def weigh_runs(is_image: np.ndarray[tuple[int], np.dtype[np.bool_]], number: int) -> Floats:
    """Pooling weights [R, L] of a page cut into `number` equal runs of its visual tokens, in reading order.

    A region is the mean of its own tokens and, so that it can be told what page it is of, the mean of them all. A page of
    fewer visual tokens has a region for each.

    >>> np.rint(100 * weigh_runs(np.array([True, True, True, True, False]), 2)).astype(int).tolist()
    [[32, 32, 12, 12, 12], [12, 12, 32, 32, 12]]
    """
    [places] = np.nonzero(is_image)
    weights = np.full((min(number, len(places)), len(is_image)), (1 - REGION_SHARE) / len(is_image), np.float32)
    for row, run in zip(weights, np.array_split(places, len(weights)), strict=True):
        row[run] += REGION_SHARE / len(run)
    return weights


def weigh_regions(is_image: np.ndarray[tuple[int], np.dtype[np.bool_]], grid: Grid, boxes: Sequence[Box]) -> Floats:
    """Pooling weights [R, L] of boxes on a page whose visual tokens are marked in `is_image` [L].

    A visual token weighs as much of it as the box covers; the prompt and the frame weigh the box's share of the page.
    So the whole page is one region equal to the page, and the parts of any partition add up to it. Raises ConfigError
    on a box without area.
    """
    weights = np.empty((len(boxes), len(is_image)), np.float32)
    for place, box in enumerate(boxes):
        cover = np.outer(_overlaps(box.y0, box.y1, grid.rows), _overlaps(box.x0, box.x1, grid.columns))
        if not cover.any():
            raise ConfigError(
                f"{box} covers nothing of a page: give shares of its width and height, x0 < x1 and y0 < y1"
            )
        weights[place] = cover.mean()
        weights[place, is_image] = cover.ravel()[grid.places]
    return weights


def _overlaps(start: float, end: float, count: int) -> Floats:
    """How much of each of `count` equal cells of 0..1 lies between start and end, as a share of the cell."""
    edges = np.arange(count + 1, dtype=np.float64) / count
    covered = np.minimum(edges[1:], end) - np.maximum(edges[:-1], start)
    return np.asarray(np.clip(covered, 0, None) * count, np.float32)


def split_score(
    query: Floats,
    states: Floats,
    is_image: np.ndarray[tuple[int], np.dtype[np.bool_]],
    grid: Grid,
    weights: Floats | None = None,
) -> Explanation:
    """The cosine of a query [D] and a page, split exactly over the page's token states [L, D].

    The page's embedding is m / |m| with m the mean of its L states, so that cos = sum of query.state / (L |m|): one
    share for each visual token, and the remainder of the prompt and the frame. Of a page's regions, by their `weights`
    [R, L], it is the cosine of the one that is nearest.
    """
    exact = states.astype(np.float64)
    weights = np.ones((1, len(exact)), np.float32) if weights is None else weights
    sums = weights.astype(np.float64) @ exact
    lengths = np.linalg.norm(sums, axis=1)
    nearest = int(np.argmax(sums @ query / lengths))
    shares = weights[nearest] * (exact @ query.astype(np.float64)) / lengths[nearest]
    spread = np.zeros(grid.rows * grid.columns, np.float32)
    spread[grid.places] = shares[is_image]
    return Explanation(
        score=float(shares.sum()),
        shares=spread.reshape(grid.rows, grid.columns),
        remainder=float(shares[~is_image].sum()),
    )
