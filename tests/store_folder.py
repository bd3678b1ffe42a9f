"""Stores over a folder of small vectors in clusters, for the tests of ranking: made, filled and opened as processes do."""

import json
from pathlib import Path

import numpy as np

from moca_rag.records import Floats, Ids
from moca_rag.stores import CODES_NAME, LocalStore, Ranking, StoreSizes
from moca_rag.vectors import Shards

DIMENSION = 48
SIZES = {
    "exact": StoreSizes(exact=10**9),
    "exact without faiss": StoreSizes(exact=0),
    "codes": StoreSizes(exact=1, few=0, loose=20),
    "lists": StoreSizes(exact=1, codes=2, few=0, loose=20),
}
CODED = ("codes", "lists")


def unit(vectors: Floats) -> Floats:
    norms = np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return (vectors / norms).astype(np.float16).astype(np.float32)


def draw(num: int, seed: int = 0, shift: float = 0.0) -> Floats:
    """Rows in clusters of about 20, away from the origin by `shift`."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).standard_normal((100, DIMENSION))
    vectors = centres[rng.integers(100, size=num)] + 0.7 * rng.standard_normal((num, DIMENSION))
    return unit(vectors + shift * np.sqrt(DIMENSION) * np.sign(centres[0]))


def truth(vectors: Floats, query: Floats, top_k: int, allowed: Ids | None = None) -> Ranking:
    """The ranking by definition."""
    ids = np.arange(len(vectors)) if allowed is None else np.sort(np.asarray(allowed))
    scores = np.array([np.vecdot(vectors[i], query) for i in ids], np.float32)
    order = np.lexsort((ids, -scores))[:top_k]
    return Ranking(ids[order], scores[order])


class Folder:
    """Opens stores over one folder, as several processes would."""

    def __init__(self, path: Path, sizes: StoreSizes) -> None:
        self.path, self.sizes = path, sizes

    def open(self, num_rows: int = 0, dead: Ids | None = None, generation: int = 0) -> LocalStore:
        shards = Shards(self.path / "vectors", DIMENSION, generation, rows_per_shard=500)
        return LocalStore(shards, self.path / "index", num_rows, dead, self.sizes)

    def filled(self, vectors: Floats) -> LocalStore:
        store = self.open()
        store.upsert(np.arange(len(vectors)), vectors)
        return store

    @property
    def codes_path(self) -> Path:
        return self.path / "index" / CODES_NAME


def assert_same(found: Ranking, wanted: Ranking) -> None:
    assert found.ids.tolist() == wanted.ids.tolist()
    assert found.ids.dtype == np.int64
    assert found.scores.dtype == np.float32
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)


def read_header(path: Path) -> dict[str, int]:
    with path.open("rb") as file:
        file.readline()
        header: dict[str, int] = json.loads(file.readline())
    return header
