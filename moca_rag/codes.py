"""Stored vectors into one-bit codes held in memory, which say what rows are worth an exact score, and how surely.

Each row is turned by a fixed rotation, the collection's mean is subtracted, and the signs are kept beside two numbers
that make the estimated score unbiased (RaBitQ, Gao and Long 2024; `faiss.IndexRaBitQ`): dimension / 8 + 8 bytes a row.
The rotation spreads a coordinate that dominates over all of them, so that the error of an estimate is nearly Gaussian
and its size is known: `spread` times the distance of the query from the mean. It is measured on the collection itself
when the codes are made.
"""

import importlib
import logging
import math
import os
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .records import Floats, Ids
from .vectors import Shards

Mask: TypeAlias = NDArray[np.bool_]

_QUERY_BITS = 4  # of a turned query's coordinates: 1.4 ms a scan of 100,000 x 2,048; 8 bits 2.2 ms for 2% less error
_ROWS_PER_THREAD = 50_000  # below, handing work to a second thread costs more than it saves
_ADD_ROWS = 8_192  # rows in flight while coding: 64 MiB at 2,048 numbers
_SAMPLE_ROWS, _PROBES = 2_048, 256
_LAST_ROWS = 64
_log = logging.getLogger(__name__)


class Candidates(NamedTuple):
    """Rows by descending estimated score: `estimates` [N] and `ids` [N]."""

    estimates: Floats
    ids: Ids


@dataclass(frozen=True, eq=False)
class Codes:
    """The codes of rows 0 to `num_rows` of one generation; never changed once made, so threads may share them.

    `num_lists` is 0 for a flat scan; else rows are filed under that many centroids and a query reads the `num_probes`
    nearest lists. `fitted_rows` is how many rows decided mean and centroids, `last_checksum` a CRC-32 of the last rows
    that were coded.
    """

    generation: int
    num_rows: int
    fitted_rows: int
    last_checksum: int
    num_lists: int
    num_probes: int
    spread: float
    mean: Floats
    left: Floats
    right: Floats
    index: Any

    def turn(self, vectors: Floats) -> Floats:
        """The vectors [N, D] rotated."""
        return _turn(vectors, self.left, self.right)

    def doubt(self, query: Floats) -> float:
        """The standard deviation of estimate minus exact score for this query [D]."""
        return self.spread * float(np.linalg.norm(query - self.mean))

    def nearest(self, turned: Floats, top_k: int, mask: Mask, every_list: bool) -> Candidates:
        """The `top_k` rows of highest estimate among those of the mask [num_rows], for one turned query [1, D].

        Fewer come back when fewer are found, as in the lists near a query. A filtered query asks for every list: those
        near it may hold none of the rows that pass.
        """

        def scan(params: Any) -> Candidates:
            estimates, ids = self.index.search(turned, top_k, params=params)
            found = ids[0] >= 0
            return Candidates(estimates[0][found], ids[0][found])

        return _merge(self._scan(scan, mask, every_list), top_k)

    def above(self, turned: Floats, estimate: float, mask: Mask, every_list: bool) -> Candidates:
        """Every row of the mask whose estimate is higher, for one turned query [1, D]."""

        def scan(params: Any) -> Candidates:
            _, estimates, ids = self.index.range_search(turned, estimate, params=params)
            return Candidates(estimates, ids)

        return _merge(self._scan(scan, mask, every_list), None)

    def extended(self, shards: Shards, num_rows: int) -> "Codes":
        """These codes and those of the newer rows up to `num_rows`, in the frame fitted before."""
        faiss = load_faiss()

        index = faiss.clone_index(self.index)
        _add_rows(index, shards, self.num_rows, num_rows, self.left, self.right)
        grown = replace(self, index=index, num_rows=num_rows, last_checksum=checksum_last(shards, num_rows))
        return replace(grown, spread=_measure_spread(grown, shards))

    def _scan(self, scan: Callable[[Any], Candidates], mask: Mask, every_list: bool) -> list[Candidates]:
        num_parts = 1 if self.num_lists else max(1, min(_num_threads(), self.num_rows // _ROWS_PER_THREAD))
        return list(_pool().map(scan, [self.parameters(part, every_list) for part in _cut(mask, num_parts)]))

    def parameters(self, mask: Mask, every_list: bool) -> Any:
        """Search parameters of faiss that let the mask's rows through."""
        faiss = load_faiss()

        chosen = {} if mask.all() else {"sel": faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))}
        if self.num_lists:
            num_probes = self.num_lists if every_list else self.num_probes
            return faiss.IVFRaBitQSearchParameters(qb=_QUERY_BITS, nprobe=num_probes, **chosen)
        return faiss.RaBitQSearchParameters(qb=_QUERY_BITS, **chosen)


def build_codes(shards: Shards, num_rows: int, use_lists: bool) -> Codes:
    """Code rows 0 to `num_rows` (at least one), in one pass over the shards.

    `use_lists` files them under centroids as well (IVF): reading fewer codes, at the price of a training.
    """
    faiss = load_faiss()

    started = time.monotonic()
    left, right = _draw_rotation(shards.dimension)
    num_lists = max(1, math.isqrt(num_rows)) if use_lists else 0
    sample = shards.read(_spaced(num_rows, max(16_384, 40 * num_lists)))
    if num_lists:
        coarse = faiss.IndexFlatIP(shards.dimension)
        index = faiss.IndexIVFRaBitQ(coarse, shards.dimension, num_lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.min_points_per_centroid = 1  # few rows a list are legal, and no reason to print
        index.cp.niter = 10
    else:
        index = faiss.IndexRaBitQ(shards.dimension, faiss.METRIC_INNER_PRODUCT)
    index.train(_turn(sample, left, right))
    _add_rows(index, shards, 0, num_rows, left, right)
    codes = Codes(
        generation=shards.generation,
        num_rows=num_rows,
        fitted_rows=num_rows,
        last_checksum=checksum_last(shards, num_rows),
        num_lists=num_lists,
        num_probes=_enough_probes(index, num_lists, _turn(sample[:: max(1, len(sample) // 64)], left, right)),
        spread=0.0,
        mean=sample.mean(axis=0),
        left=left,
        right=right,
        index=index,
    )
    codes = replace(codes, spread=_measure_spread(codes, shards))
    _log.info("coded %d vectors in %.1f s: spread %.4f", num_rows, time.monotonic() - started, codes.spread)
    return codes


def checksum_last(shards: Shards, num_rows: int) -> int:
    """A CRC-32 over the last rows before `num_rows`, which tells whether the rows that were coded are still these."""
    last = np.arange(max(0, num_rows - _LAST_ROWS), num_rows, dtype=np.int64)
    return zlib.crc32(shards.checksum(last).tobytes())


def _spaced(num_rows: int, count: int) -> Ids:
    """At most `count` ids spread evenly over 0 to num_rows - 1."""
    return np.unique(np.linspace(0, num_rows - 1, min(count, num_rows)).astype(np.int64))


def _draw_rotation(dimension: int) -> tuple[Floats, Floats]:
    """Random orthogonal matrices [a, a] and [b, b] with a * b = dimension, as near as its divisors allow.

    Their Kronecker product turns a vector with dimension * (a + b) products where a dense rotation takes dimension ** 2.
    """
    rows = next(a for a in range(math.isqrt(dimension), 0, -1) if dimension % a == 0)
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.standard_normal((side, side)))[0] for side in (rows, dimension // rows))
    return left.astype(np.float32), right.astype(np.float32)


def _turn(vectors: Floats, left: Floats, right: Floats) -> Floats:
    """The vectors [N, a * b] turned by left and right: as matrices [a, b], multiplied from both sides."""
    matrices = vectors.reshape(len(vectors), len(left), len(right))
    turned: Floats = np.matmul(left, np.matmul(matrices, right)).reshape(vectors.shape)
    return turned


def _add_rows(index: Any, shards: Shards, first_id: int, num_rows: int, left: Floats, right: Floats) -> None:
    for start in range(first_id, num_rows, _ADD_ROWS):
        ids = np.arange(start, min(start + _ADD_ROWS, num_rows), dtype=np.int64)
        index.add(_turn(shards.read(ids), left, right))


def _measure_spread(codes: Codes, shards: Shards) -> float:
    """The standard deviation of estimate minus score, per unit of the query's distance from the mean.

    Some stored rows play the queries against a sample of the others. Of the sampled rows' root mean square errors the
    95th percentile counts, so that a collection of two kinds of pages is judged by the kind that lies further from the
    mean.
    """
    faiss = load_faiss()

    row_ids, probe_ids = _spaced(codes.num_rows, _SAMPLE_ROWS), _spaced(codes.num_rows, _PROBES)
    rows, probes = shards.read(row_ids), shards.read(probe_ids)
    trial = faiss.clone_index(codes.index)
    trial.reset()
    trial.add(codes.turn(rows))
    parameters = codes.parameters(np.ones(len(rows), np.bool_), every_list=True)
    estimates, found = trial.search(codes.turn(probes), len(rows), params=parameters)
    errors = estimates - np.take_along_axis(probes @ rows.T, found, axis=1)
    errors /= np.maximum(np.linalg.norm(probes - codes.mean, axis=1), 1e-6)[:, None]
    # a row's estimate against itself is better than that of any real query
    errors[row_ids[found] == probe_ids[:, None]] = np.nan
    squares = np.full_like(errors, np.nan)
    np.put_along_axis(squares, found, errors**2, axis=1)
    known = squares[:, ~np.isnan(squares).all(axis=0)]
    return float(np.quantile(np.sqrt(np.nanmean(known, axis=0)), 0.95)) if known.size else 1.0


def _enough_probes(index: Any, num_lists: int, turned: Floats) -> int:
    """How many lists to read: four times those that hold 99 of 100 neighbours of stored rows, and one in 32 at least.

    Questions lie further off than rows do: with twice as many, recall fell to 0.98 for queries moved away as a whole.
    """
    faiss = load_faiss()

    def neighbours(num_probes: int) -> list[set[int]]:
        parameters = faiss.IVFRaBitQSearchParameters(qb=_QUERY_BITS, nprobe=num_probes)
        return [set(row) for row in index.search(turned, 11, params=parameters)[1].tolist()]

    every = neighbours(num_lists) if num_lists else []
    num_probes = 1
    while num_probes < num_lists:
        shared = sum(len(found & wanted) for found, wanted in zip(neighbours(num_probes), every, strict=True))
        if shared >= 0.99 * sum(map(len, every)):
            break
        num_probes *= 2
    return min(max(4 * num_probes, num_lists // 32), num_lists)


def _cut(mask: Mask, num_parts: int) -> list[Mask]:
    """The mask as `num_parts` masks, each with one stretch of it."""
    edges = np.linspace(0, len(mask), num_parts + 1).astype(int).tolist()
    parts = [np.zeros_like(mask) for _ in range(num_parts)]
    for part, start, stop in zip(parts, edges[:-1], edges[1:], strict=True):
        part[start:stop] = mask[start:stop]
    return parts


def _merge(parts: list[Candidates], top_k: int | None) -> Candidates:
    estimates = np.concatenate([part.estimates for part in parts])
    order = np.argsort(-estimates, kind="stable")[:top_k]
    return Candidates(
        estimates[order], np.concatenate([part.ids for part in parts])[order].astype(np.int64, copy=False)
    )


def load_faiss() -> Any:
    """faiss, at the first need and without its types: they describe C++, not what Python may call."""
    return importlib.import_module("faiss")


def _num_threads() -> int:
    return int(load_faiss().omp_get_max_threads())


def _pool() -> ThreadPoolExecutor:
    return _start_pool(os.getpid())


@cache
def _start_pool(_process: int) -> ThreadPoolExecutor:
    """One pool a process: a fork does not inherit threads.

    Each thread scans alone. A team of OpenMP waits for its slowest member: where other programs want the processor too,
    that made a scan of 0.8 ms one of 8.
    """
    faiss = load_faiss()

    return ThreadPoolExecutor(_num_threads(), "codes", initializer=faiss.omp_set_num_threads, initargs=(1,))
