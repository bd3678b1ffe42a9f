"""Random, clustered and shifted vectors into one table: how fast and how completely each way of ranking finds the top 10.

python benchmarks/vectors.py [--rows 100000] [--dimension 2048] [--queries 100]

Queries are never stored rows: they are drawn from the rows' clusters with more noise, and in the last case moved as a
whole, as questions lie beside pages. The numbers are of embedded queries: encoding the question comes on top.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from moca_rag.records import Floats, Ids
from moca_rag.stores import LocalStore, Ranking, StoreSizes
from moca_rag.vectors import Shards

TOP_K = 10
ROWS_PER_CLUSTER = 50
HEADINGS = (
    "vectors, queries",
    "engine",
    "build s",
    "open s",
    "p50 ms",
    "p95 ms",
    "x",
    "recall@10",
    "depth",
    "bytes RAM",
)


class Case(NamedTuple):
    """Stored rows, and the query sets asked of them by name."""

    name: str
    rows: Floats
    queries: dict[str, Floats]


class Timing(NamedTuple):
    """What a peer or engine took and found."""

    milliseconds: list[float]
    ids: list[Ids]


class CountingStore(LocalStore):
    """A store that counts the rows it scores exactly."""

    num_scored = 0

    def _score_rows(self, query: Floats, ids: Ids) -> Ranking:
        self.num_scored += len(ids)
        return super()._score_rows(query, ids)


def unit(vectors: Floats) -> Floats:
    """The vectors over their lengths, in place."""
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors


def draw_cases(num_rows: int, dimension: int, num_queries: int) -> Iterator[Case]:
    """The four collections and query sets of the table, from one seed."""
    rng = np.random.default_rng(0)

    def noise(num: int) -> Floats:
        """Random directions [num, dimension]."""
        return unit(rng.standard_normal((num, dimension), dtype=np.float32))

    yield Case("uniform", noise(num_rows), {"alike": noise(num_queries)})
    centres = noise(max(1, num_rows // ROWS_PER_CLUSTER))

    def clustered(num: int, spread: float, shift: Floats) -> Floats:
        """Directions [num, dimension] round random centres, all moved by one shift."""
        return unit(centres[rng.integers(len(centres), size=num)] + np.float32(spread) * noise(num) + shift)

    origin = np.zeros(dimension, np.float32)
    yield Case("clustered", clustered(num_rows, 0.8, origin), {"alike": clustered(num_queries, 1.0, origin)})
    pages, texts = 1.5 * noise(2)
    queries = {"alike": clustered(num_queries, 1.0, pages), "shifted": clustered(num_queries, 1.0, texts)}
    yield Case("strong mean", clustered(num_rows, 0.8, pages), queries)


def measure(search: Callable[[Floats], Ids], queries: Floats) -> Timing:
    """Each query alone, after three to warm up."""
    for query in queries[:3]:
        search(query)
    milliseconds, found = [], []
    for query in queries:
        started = time.perf_counter()
        found.append(search(query))
        milliseconds.append(1e3 * (time.perf_counter() - started))
    return Timing(milliseconds, found)


def report(
    name: str,
    engine: str,
    times: tuple[str, str],
    timing: Timing,
    peer: Timing,
    truth: list[Ids],
    tail: tuple[str, str],
) -> None:
    """One line of the table; x is how many times faster than the peer."""
    p50, p95 = np.quantile(timing.milliseconds, [0.5, 0.95])
    recall = np.mean([len(np.intersect1d(a, b)) / TOP_K for a, b in zip(timing.ids, truth, strict=True)])
    ratio = np.median(peer.milliseconds) / p50
    row = (name, engine, *times, f"{p50:.2f}", f"{p95:.2f}", f"{ratio:.1f}", f"{recall:.3f}", *tail)
    print_row(row)


def print_row(cells: tuple[str, ...]) -> None:
    """The cells under their headings, words to the left and numbers to the right."""
    print(f"{cells[0]:<24}{cells[1]:<16}" + "".join(f"{cell:>11}" for cell in cells[2:]), flush=True)


def find_ids(store: LocalStore, query: Floats) -> Ids:
    """What a store ranks first for one query."""
    return store.search(query, TOP_K).ids


def search_by_numpy(rows: Floats, query: Floats) -> Ids:
    """The top 10 by a matrix product in fp32."""
    scores = rows @ query
    best = np.argpartition(scores, -TOP_K)[-TOP_K:]
    return best[np.argsort(-scores[best])]


def run_case(case: Case, folder: Path) -> None:
    """Every engine and peer on one collection."""
    import faiss

    num_rows, dimension = case.rows.shape
    shards = Shards(folder / "vectors", dimension, 0)
    shards.write(0, case.rows)
    flat = faiss.IndexFlatIP(dimension)
    started = time.perf_counter()
    flat.add(case.rows)
    flat_build = f"{time.perf_counter() - started:.1f}"
    exact = LocalStore(shards, folder / "index", num_rows, sizes=StoreSizes(exact=num_rows))
    sizes = StoreSizes(exact=0, codes=num_rows)
    writer = LocalStore(shards, folder / "index", num_rows, sizes=sizes)
    started = time.perf_counter()
    writer.refresh()
    build = f"{time.perf_counter() - started:.1f}"
    for kind, queries in case.queries.items():
        name = f"{case.name}, {kind}"
        started = time.perf_counter()
        store = CountingStore(Shards(folder / "vectors", dimension, 0), folder / "index", num_rows, sizes=sizes)
        store.search(queries[0], TOP_K)
        opened = f"{time.perf_counter() - started:.2f}"
        truth = list(exact.search(queries, TOP_K).ids)
        peer = measure(lambda query: search_by_numpy(case.rows, query), queries)
        report(name, "numpy fp32", ("", ""), peer, peer, truth, (str(num_rows), str(4 * dimension)))
        some = queries[:20]
        timing = measure(lambda query: flat.search(query[None], TOP_K)[1][0], some)
        report(name, "faiss flat", (flat_build, ""), timing, peer, truth[:20], (str(num_rows), str(4 * dimension)))
        timing = measure(partial(find_ids, exact), some)
        report(name, "moca exact", ("", "0.00"), timing, peer, truth[:20], (str(num_rows), "0"))
        store.num_scored = 0
        timing = measure(partial(find_ids, store), queries)
        depth = f"{store.num_scored / (len(queries) + 3):.0f}"
        report(name, "moca codes", (build, opened), timing, peer, truth, (depth, str(dimension // 8 + 8)))


def main() -> None:
    """Read the sizes, print the table."""
    parser = argparse.ArgumentParser(description="measure how fast and how completely stored vectors are ranked")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dimension", type=int, default=2_048)
    parser.add_argument("--queries", type=int, default=100)
    options = parser.parse_args()
    print(
        f"{options.rows:,} vectors of {options.dimension:,} numbers, {options.queries} queries one at a time, top {TOP_K}"
    )
    print_row(HEADINGS)
    for case in draw_cases(options.rows, options.dimension, options.queries):
        with tempfile.TemporaryDirectory() as folder:
            run_case(case, Path(folder))


if __name__ == "__main__":
    main()
