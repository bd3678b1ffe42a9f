"""Ranks stored vectors against queries: exactly while they are few, through one-bit codes with exact re-ranking when they are many."""

import importlib.util
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .records import Floats, Ids
from .vectors import Shards, amplify, widen

if TYPE_CHECKING:
    from .codes import Codes, Mask

CODES_NAME = "codes.faiss"

_CERTAINTY = (
    2.33  # standard deviations: a row of the true top k lies further below its estimate once in a hundred times
)
_FIRST_CANDIDATES = 128
_BLOCK_ROWS = 256  # of a scan: converted where the processor's cache still holds them
_RERANK_ROWS = 64
_FEW_ROWS = 1_000  # a filter that leaves no more is scored exactly: under 2 ms
_LOOSE_ROWS = 2_000  # newer than the codes, and scored exactly until they are more: 1 ms
_QUERIES_AT_ONCE = 16
_log = logging.getLogger(__name__)


class Ranking(NamedTuple):
    """Vector ids and their scores by descending score, ties by ascending id: [K] for one query, [N, K] for N."""

    ids: Ids
    scores: Floats


class VectorStore(Protocol):
    """An engine that ranks vectors. Ids are the catalog's; scores are inner products, so cosines of unit vectors."""

    def upsert(self, ids: Ids, vectors: Floats) -> None:
        """Store vectors [N, D] under these ids, in place of what they held."""
        ...

    def delete(self, ids: Ids) -> None:
        """Let these ids answer no more; unknown ones are passed over."""
        ...

    def search(self, queries: Floats, top_k: int, allowed: Ids | None = None) -> Ranking:
        """The best `top_k` for one query [D] or each of N [N, D], among the ids of `allowed` if given.

        Always min(top_k, vectors that may answer) of them: a filter never costs an answer.
        """
        ...

    def count(self) -> int:
        """How many vectors can answer."""
        ...


@dataclass(frozen=True, slots=True)
class StoreSizes:
    """Up to how many rows they are scored exactly, and up to how many codes are scanned whole; above, codes are filed in lists."""

    exact: int = 50_000
    codes: int = 2_000_000


class LocalStore:
    """The vectors of a collection on this machine; safe for several threads at once.

    Codes are a cache in `index_folder`: made, or made again, whenever they are missing, damaged or of other rows. Where faiss is not
    installed every size is scored exactly, which takes longer.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> store = LocalStore(Shards(folder / "vectors", dimension=2, generation=0), folder / "index")
    >>> store.upsert(np.array([0, 1]), np.array([[1, 0], [0.6, 0.8]], np.float32))
    >>> store.search(np.array([0, 1], np.float32), top_k=5).ids
    array([1, 0])
    """

    def __init__(
        self,
        shards: Shards,
        index_folder: Path,
        num_rows: int = 0,
        dead: Ids | None = None,
        sizes: StoreSizes = StoreSizes(),
    ) -> None:
        self._shards = shards
        self._codes_path = index_folder / CODES_NAME
        self._sizes = sizes
        self._codes: Codes | None = None
        self._changing = threading.Lock()
        self._live = _live_rows(num_rows, dead)  # replaced, never changed: a search keeps the one it began with

    def upsert(self, ids: Ids, vectors: Floats) -> None:
        """Store vectors [N, D] under these ids, durable on return.

        New ids follow those stored before, without a gap. Replacing an older row drops the codes made of it. Raises ValueError on
        ids that leave a gap or come twice, and CollectionError when the disk does not take the vectors.
        """
        ids = np.asarray(ids, np.int64)
        order = np.argsort(ids, kind="stable")
        ids, vectors = ids[order], np.asarray(vectors)[order]
        with self._changing:
            num_rows = len(self._live)
            fresh = ids[ids >= num_rows]
            if ids.size and (
                ids[0] < 0 or (np.diff(ids) == 0).any() or not np.array_equal(fresh, np.arange(len(fresh)) + num_rows)
            ):
                raise ValueError(
                    f"ids must be distinct and new ones continue at {num_rows}: got {ids[:5].tolist()} and so on"
                )
            starts = np.flatnonzero(np.diff(ids, prepend=-2) != 1)
            for start, stop in zip(starts, [*starts[1:], len(ids)], strict=True):
                self._shards.write(int(ids[start]), vectors[start:stop])
            if ids.size and ids[0] < num_rows:
                self._codes_path.unlink(missing_ok=True)
                self._codes = None
            live = np.concatenate([self._live, np.zeros(len(fresh), np.bool_)])
            live[ids] = True
            self._live = live

    def delete(self, ids: Ids) -> None:
        """Let these ids answer no more; their rows stay until the collection is compacted."""
        with self._changing:
            self._live = self._live & _live_rows(len(self._live), ids)

    def sync(self, num_rows: int, dead: Ids) -> None:
        """Take over what the catalog says now: rows that others committed since, and every id that may not answer."""
        with self._changing:
            self._live = _live_rows(num_rows, dead)

    def count(self) -> int:
        """How many vectors can answer."""
        return int(np.count_nonzero(self._live))

    def refresh(self) -> None:
        """Bring the codes up to date, as at the end of an index run, so that no search has to; quick when little is new."""
        self._fresh_codes(len(self._live))

    def search(self, queries: Floats, top_k: int, allowed: Ids | None = None) -> Ranking:
        """The best min(top_k, live and allowed) for one query [D] or each of N [N, D]; dead and unknown ids are passed over.

        Exact up to `sizes.exact` rows, and always for rows newer than the codes and for narrow filters. Else a row of the true top
        `top_k` may be missed, less often than once in a hundred. Raises ValueError on a query of another dimension or not finite.
        """
        queries = np.asarray(queries, np.float32)
        batch = np.atleast_2d(queries)
        if batch.ndim != 2 or batch.shape[1] != self._shards.dimension or not np.isfinite(batch).all() or top_k < 1:
            raise ValueError(
                f"expected finite queries of {self._shards.dimension} numbers and top_k >= 1: {queries.shape=}, {top_k=}"
            )
        mask = self._live if allowed is None else self._live & ~_live_rows(len(self._live), allowed)
        top_k = min(top_k, int(np.count_nonzero(mask)))
        codes = self._fresh_codes(len(mask)) if np.count_nonzero(mask) > max(_FEW_ROWS, top_k) else None
        if codes is None:
            rankings = self._search_exactly(batch, top_k, mask)
        else:
            rankings = [self._search_codes(codes, query, top_k, mask, allowed is not None) for query in batch]
        if queries.ndim == 1:
            return rankings[0]
        ids = np.array([ranking.ids for ranking in rankings], np.int64).reshape(len(batch), top_k)
        return Ranking(ids, np.array([ranking.scores for ranking in rankings], np.float32).reshape(len(batch), top_k))

    def _fresh_codes(self, num_rows: int) -> "Codes | None":
        """Codes of all but at most `_LOOSE_ROWS` of the rows; None where the rows are scored exactly."""
        if num_rows <= self._sizes.exact or not _has_faiss():
            return None
        from .codes import build_codes, load_codes, save_codes

        use_lists = num_rows > self._sizes.codes
        codes = self._codes
        if codes is None or not _suits(codes, num_rows, use_lists):
            with self._changing:
                codes = self._codes or load_codes(self._codes_path, self._shards, num_rows)
                known = codes
                if codes is None or bool(codes.num_lists) != use_lists or num_rows > 2 * codes.fitted_rows:
                    codes = build_codes(self._shards, num_rows, use_lists)
                elif not _suits(codes, num_rows, use_lists):
                    codes = codes.extended(self._shards, num_rows)
                if codes is not known:
                    save_codes(codes, self._codes_path)
                self._codes = codes
        return codes

    def _search_codes(self, codes: "Codes", query: Floats, top_k: int, mask: "Mask", filtered: bool) -> Ranking:
        """Estimate, then score exactly from the best estimate down, until no further row can plausibly reach the top k.

        That is where estimates fall `_CERTAINTY` standard deviations below the k-th best exact score, whatever the rows' distribution:
        few rows when the neighbours stand out, thousands when all rows are alike.
        """
        loose = np.flatnonzero(mask[codes.num_rows :]) + codes.num_rows
        coded = mask[: codes.num_rows]
        found = self._score_rows(query, loose)
        turned = codes.turn(query[None])
        margin = _CERTAINTY * codes.doubt(query)
        candidates = codes.nearest(turned, max(_FIRST_CANDIDATES, 4 * top_k), coded, filtered)
        found, bound = self._rerank(query, top_k, found, candidates.ids, candidates.estimates, margin)
        if len(candidates.ids) and candidates.estimates[-1] > bound:
            seen = np.sort(candidates.ids)
            candidates = codes.above(turned, bound, coded, filtered)
            further = ~np.isin(candidates.ids, seen, assume_unique=True)
            found, _ = self._rerank(query, top_k, found, candidates.ids[further], candidates.estimates[further], margin)
        if len(found.ids) < top_k:  # lists that hold too few, or estimates that are no numbers
            return self._search_exactly(query[None], top_k, mask)[0]
        return _best(found.ids, found.scores, top_k)

    def _rerank(
        self, query: Floats, top_k: int, found: Ranking, ids: Ids, estimates: Floats, margin: float
    ) -> tuple[Ranking, float]:
        """What was found before and the exact scores of the rows with these estimates, until they fall below the bound; the bound."""
        all_ids, all_scores = [found.ids], [found.scores]
        best = np.sort(found.scores)[-top_k:]
        bound = -np.inf
        for start in range(0, len(ids), _RERANK_ROWS):
            if len(best) == top_k:
                bound = float(best[0]) - margin
            if estimates[start] < bound:
                break
            ranking = self._score_rows(query, ids[start : start + _RERANK_ROWS])
            all_ids.append(ranking.ids)
            all_scores.append(ranking.scores)
            best = np.sort(np.concatenate([best, ranking.scores]))[-top_k:]
        bound = float(best[0]) - margin if len(best) == top_k else -np.inf
        return Ranking(np.concatenate(all_ids), np.concatenate(all_scores)), bound

    def _score_rows(self, query: Floats, ids: Ids) -> Ranking:
        """These ids and their exact scores, in the same order."""
        blocks = [ids[start : start + _BLOCK_ROWS] for start in range(0, len(ids), _BLOCK_ROWS)]
        scores = [np.vecdot(self._shards.read_scaled(block), amplify(query)) for block in blocks]
        return Ranking(ids, np.concatenate([np.empty(0, np.float32), *scores]))

    def _search_exactly(self, queries: Floats, top_k: int, mask: "Mask") -> list[Ranking]:
        """Every row of the mask scored: gathered when they are few, else in one pass over the shards."""
        ids = np.flatnonzero(mask)
        if 4 * len(ids) < len(mask):
            return [_best(*self._score_rows(query, ids), top_k) for query in queries]
        rankings = []
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            scores = self._scan(queries[start : start + _QUERIES_AT_ONCE], len(mask))
            rankings += [_best(ids, row if len(ids) == len(row) else row[ids], top_k) for row in scores]
        return rankings

    def _scan(self, queries: Floats, num_rows: int) -> Floats:
        """The scores [N, num_rows] of every row, dead or alive."""
        loud = amplify(queries)
        scores = np.empty((len(queries), num_rows), np.float32)
        lent = np.empty((_BLOCK_ROWS, queries.shape[1]), np.int32)
        for first_id, halves in self._shards.blocks(num_rows, block_rows=_BLOCK_ROWS):
            rows = widen(halves, lent[: len(halves)])
            for query, found in zip(loud, scores, strict=True):
                # vecdot scores each row by itself, so that equal rows tie; a matrix product may not, and wakes threads that wait
                np.vecdot(rows, query, out=found[first_id : first_id + len(rows)])
        return scores


def _best(ids: Ids, scores: Floats, top_k: int) -> Ranking:
    """The `top_k` of highest score, ties by ascending id, also where the cut goes through a tie."""
    if len(ids) > top_k:
        least = np.partition(scores, len(scores) - top_k)[len(scores) - top_k] if top_k else np.inf
        kept = scores >= least
        ids, scores = ids[kept], scores[kept]
    order = np.lexsort((ids, -scores))[:top_k]
    return Ranking(ids[order], scores[order])


def _live_rows(num_rows: int, dead: Ids | None) -> NDArray[np.bool_]:
    """True for each of the rows but the dead ones; ids of no row are passed over."""
    live = np.ones(num_rows, np.bool_)
    if dead is not None:
        dead = np.asarray(dead, np.int64)
        live[dead[(dead >= 0) & (dead < num_rows)]] = False
    return live


def _suits(codes: "Codes", num_rows: int, use_lists: bool) -> bool:
    return codes.num_rows <= num_rows <= codes.num_rows + _LOOSE_ROWS and bool(codes.num_lists) == use_lists


def _has_faiss() -> bool:
    return importlib.util.find_spec("faiss") is not None
