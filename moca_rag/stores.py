"""Stored vectors and a query into a ranking: exactly while they are few, else through one-bit codes and re-ranking."""

import importlib.util
import logging
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import CollectionError
from .records import Floats, Ids
from .vectors import Shards, amplify, widen

if TYPE_CHECKING:
    from .codes import Candidates, Codes, Mask

Engine: TypeAlias = Literal["exact", "codes", "lists"]

CODES_NAME = "codes.faiss"

_CERTAINTY = (
    2.33  # standard deviations: a row of the true top k lies further below its estimate once in a hundred times
)
_FIRST_CANDIDATES = 128
_BLOCK_ROWS = 256  # of a scan: converted where the processor's cache still holds them
_RERANK_ROWS = 64  # first; a search that goes on takes more at a time
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

    def search(self, queries: Floats, top_k: int, allowed: "Ids | Mask | None" = None) -> Ranking:
        """The best `top_k` for one query [D] or each of N [N, D], among those that `allowed` names, by ids or as a mask.

        Always min(top_k, vectors that may answer) of them: a filter never costs an answer.
        """
        ...

    def count(self) -> int:
        """How many vectors can answer."""
        ...


@dataclass(frozen=True, slots=True)
class StoreSizes:
    """Up to `exact` rows every one is scored, up to `codes` every code is scanned; above, codes are filed in lists."""

    exact: int = 50_000
    codes: int = 2_000_000
    few: int = 1_000  # a filter that leaves no more is scored exactly: under 2 ms at 2,048 numbers
    loose: int = 2_000  # rows newer than the codes are scored exactly until they are more: 1 ms


class LocalStore:
    """The vectors of a collection on this machine; safe for several threads at once.

    Codes are a cache in `index_folder`: made, or made again, whenever they are missing, damaged or of other rows. Where
    faiss is not installed every size is scored exactly, which takes longer.

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
        self._live = _all_but(num_rows, dead)  # replaced, never changed: a search keeps the one it began with

    def upsert(self, ids: Ids, vectors: Floats) -> None:
        """Store vectors [N, D] under these ids, durable on return.

        New ids follow those stored before, without a gap. Replacing an older row drops the codes made of it. Raises
        ValueError on ids that leave a gap or come twice, and CollectionError when the disk does not take the vectors.
        """
        ids = np.asarray(ids, np.int64)
        order = np.argsort(ids, kind="stable")
        ids, vectors = ids[order], np.asarray(vectors)[order]
        with self._changing:
            num_rows = len(self._live)
            fresh = ids[ids >= num_rows]
            steps = np.diff(ids)
            if (ids < 0).any() or (steps == 0).any() or not np.array_equal(fresh, num_rows + np.arange(len(fresh))):
                raise ValueError(f"ids must be distinct, and new ones continue at {num_rows}: got {ids[:5]} and so on")
            if len(fresh) < len(ids):
                self._drop_codes()
            for run in np.split(np.arange(len(ids)), np.flatnonzero(steps != 1) + 1):
                if len(run):
                    self._shards.write(int(ids[run[0]]), vectors[run])
            live = np.concatenate([self._live, np.zeros(len(fresh), np.bool_)])
            live[ids] = True
            self._live = live

    def delete(self, ids: Ids) -> None:
        """Let these ids answer no more; their rows stay until the collection is compacted."""
        with self._changing:
            self._live = self._live & _all_but(len(self._live), ids)

    def sync(self, num_rows: int, dead: Ids) -> None:
        """Take over what the catalog says now: rows that others committed since, and every id that may not answer."""
        with self._changing:
            self._live = _all_but(num_rows, dead)

    @property
    def generation(self) -> int:
        """Which set of shards it ranks; a compaction makes another, which needs another store."""
        return self._shards.generation

    @property
    def num_rows(self) -> int:
        """Rows of the shards that it knows, dead ones included."""
        return len(self._live)

    def engine(self) -> Engine:
        """How a search without a filter goes: every row scored, every code scanned, or the codes of the lists nearby."""
        return self._engine_of(len(self._live))

    def count(self) -> int:
        """How many vectors can answer."""
        return int(np.count_nonzero(self._live))

    def refresh(self) -> None:
        """Bring the codes up to date, as at the end of an index run, so that no search has to."""
        self._fresh_codes(len(self._live))

    def search(self, queries: Floats, top_k: int, allowed: "Ids | Mask | None" = None) -> Ranking:
        """The best min(top_k, live and allowed) for one query [D] or each of N [N, D]; unknown ids are passed over.

        A mask [rows] allows where it is true, and no row beyond its end. Exact up to `sizes.exact` rows, and always for
        rows newer than the codes and for narrow filters. Else a row of the true top `top_k` may be missed, less often than
        once in a hundred. Raises ValueError on a query of another dimension or not finite.
        """
        queries = np.asarray(queries, np.float32)
        batch = np.atleast_2d(queries)
        if batch.ndim != 2 or batch.shape[1] != self._shards.dimension or not np.isfinite(batch).all() or top_k < 1:
            wanted = f"finite queries of {self._shards.dimension} numbers and top_k >= 1"
            raise ValueError(f"expected {wanted}, got {queries.shape=} and {top_k=}")
        mask = self._live if allowed is None else self._live & _only(len(self._live), allowed)
        top_k = min(top_k, int(np.count_nonzero(mask)))
        codes = self._fresh_codes(len(mask)) if np.count_nonzero(mask) > max(self._sizes.few, top_k) else None
        if codes is None:
            rankings = self._search_exactly(batch, top_k, mask)
        else:
            rankings = [self._search_codes(codes, query, top_k, mask, allowed is not None) for query in batch]
        if queries.ndim == 1:
            return rankings[0]
        ids = np.array([ranking.ids for ranking in rankings], np.int64).reshape(len(batch), top_k)
        return Ranking(ids, np.array([ranking.scores for ranking in rankings], np.float32).reshape(len(batch), top_k))

    def _engine_of(self, num_rows: int) -> Engine:
        if num_rows <= self._sizes.exact or not _has_faiss():
            return "exact"
        return "codes" if num_rows <= self._sizes.codes else "lists"

    def _drop_codes(self) -> None:
        try:
            self._codes_path.unlink(missing_ok=True)
        except OSError as error:
            reason = f"cannot remove {self._codes_path}, which tells of older vectors: {error.strerror}"
            raise CollectionError(f"{reason}. Check its permissions.") from error
        self._codes = None

    def _fresh_codes(self, num_rows: int) -> "Codes | None":
        """Codes of all but at most `sizes.loose` rows; None where the rows are scored exactly."""
        engine = self._engine_of(num_rows)
        if engine == "exact":
            return None
        from .codefile import load_codes, save_codes
        from .codes import build_codes

        use_lists = engine == "lists"
        codes = self._codes
        if codes is None or not self._suits(codes, num_rows):
            with self._changing:
                codes = self._codes or load_codes(self._codes_path, self._shards, num_rows)
                known = codes
                if codes is None or bool(codes.num_lists) != use_lists or num_rows > 2 * codes.fitted_rows:
                    codes = build_codes(self._shards, num_rows, use_lists)
                elif not self._suits(codes, num_rows):
                    codes = codes.extended(self._shards, num_rows)
                if codes is not known:
                    save_codes(codes, self._codes_path)
                self._codes = codes
        return codes

    def _suits(self, codes: "Codes", num_rows: int) -> bool:
        right_kind = bool(codes.num_lists) == (self._engine_of(num_rows) == "lists")
        return right_kind and num_rows <= codes.num_rows + self._sizes.loose

    def _search_codes(self, codes: "Codes", query: Floats, top_k: int, mask: "Mask", filtered: bool) -> Ranking:
        """Estimate, then score exactly from the best estimate down, until no further row can plausibly reach the top k.

        That is where estimates fall `_CERTAINTY` standard deviations below the k-th best exact score, whatever the
        rows' distribution: few rows when the neighbours stand out, thousands when all rows are alike.
        """
        loose = np.flatnonzero(mask[codes.num_rows :]) + codes.num_rows
        coded = np.zeros(codes.num_rows, np.bool_)
        coded[: len(mask)] = mask[: codes.num_rows]  # another thread may have coded rows newer than this search
        turned = codes.turn(query[None])
        margin = _CERTAINTY * codes.doubt(query)
        first = codes.nearest(turned, max(_FIRST_CANDIDATES, 4 * top_k), coded, filtered)
        found = self._rerank(query, _best(*self._score_rows(query, loose), top_k), first, top_k, margin)
        bound = _reach(found, top_k) - margin
        if len(first.ids) and first.estimates[-1] > bound:
            more = codes.above(turned, bound, coded, filtered)
            new = ~np.isin(more.ids, first.ids, assume_unique=True)
            found = self._rerank(
                query, found, more._replace(estimates=more.estimates[new], ids=more.ids[new]), top_k, margin
            )
        if len(found.ids) < top_k:  # the lists near the query held too few
            return self._search_exactly(query[None], top_k, mask)[0]
        return found

    def _rerank(self, query: Floats, found: Ranking, candidates: "Candidates", top_k: int, margin: float) -> Ranking:
        """The best of what was found before and of the candidates, which are scored while they may still reach it."""
        start, num_rows = 0, _RERANK_ROWS
        while start < len(candidates.ids) and candidates.estimates[start] >= _reach(found, top_k) - margin:
            scored = self._score_rows(query, candidates.ids[start : start + num_rows])
            ids, scores = np.concatenate([found.ids, scored.ids]), np.concatenate([found.scores, scored.scores])
            found = _best(ids, scores, top_k)
            start, num_rows = start + num_rows, min(2 * num_rows, _BLOCK_ROWS)
        return found

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


@dataclass(frozen=True, slots=True, eq=False)
class StorePart:
    """Those vectors of a store that a mask [rows] names, searched as if there were no others."""

    store: LocalStore
    mask: "Mask"

    def search(self, queries: Floats, top_k: int, allowed: Ids | None = None) -> Ranking:
        """See `LocalStore.search`."""
        if allowed is None:
            return self.store.search(queries, top_k, self.mask)
        known = allowed[allowed < len(self.mask)]
        return self.store.search(queries, top_k, known[self.mask[known]])


def _best(ids: Ids, scores: Floats, top_k: int) -> Ranking:
    """The `top_k` of highest score, ties by ascending id, also where the cut goes through a tie."""
    if len(ids) > top_k:
        least = np.partition(scores, len(scores) - top_k)[len(scores) - top_k] if top_k else np.inf
        kept = scores >= least
        ids, scores = ids[kept], scores[kept]
    order = np.lexsort((ids, -scores))[:top_k]
    return Ranking(ids[order], scores[order])


def _reach(found: Ranking, top_k: int) -> float:
    """What a row must score to belong to the top k; minus infinity while there are fewer."""
    return float(found.scores[-1]) if len(found.scores) == top_k else -np.inf


def _all_but(num_rows: int, ids: Ids | None) -> NDArray[np.bool_]:
    """False at these ids, True at the other rows; ids of no row are passed over."""
    kept = np.ones(num_rows, np.bool_)
    if ids is not None:
        ids = np.asarray(ids, np.int64)
        kept[ids[(ids >= 0) & (ids < num_rows)]] = False
    return kept


def _only(num_rows: int, allowed: "Ids | Mask") -> "Mask":
    """True at the rows that ids, or a mask of any length, name; False at the others."""
    given: NDArray[Any] = np.asarray(allowed)
    if given.dtype != np.bool_:
        return ~_all_but(num_rows, given)
    return np.pad(given[:num_rows], (0, max(0, num_rows - len(given))))


def _has_faiss() -> bool:
    return importlib.util.find_spec("faiss") is not None
