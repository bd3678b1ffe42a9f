"""One contract for every way of ranking vectors: what holds for one holds for all."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from moca_rag.errors import CollectionError
from moca_rag.records import Ids
from moca_rag.stores import Ranking, StorePart
from tests.store_folder import CODED, DIMENSION, SIZES, Folder, assert_same, draw, truth


@pytest.fixture(params=list(SIZES))
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    if request.param == "exact without faiss":
        monkeypatch.setitem(sys.modules, "faiss", None)  # importing it now fails
    elif request.param in CODED:
        pytest.importorskip("faiss")
    return Folder(tmp_path, SIZES[request.param])


def _named(mask: np.ndarray, num_rows: int) -> Ids:
    """The rows of a mask, and those between its end and the last row."""
    return np.concatenate([np.flatnonzero(mask), np.arange(len(mask), num_rows)])


class TestEveryEngine:
    def test_the_best_rows_come_first(self, folder: Folder) -> None:
        vectors, queries = draw(1_700), draw(20, seed=1)
        store = folder.filled(vectors)
        hits = sum(len(np.intersect1d(store.search(query, 10).ids, truth(vectors, query, 10).ids)) for query in queries)
        assert hits >= 198
        best = store.search(vectors[1_234], 1)
        assert best.ids.tolist() == [1_234]
        assert best.scores[0] == pytest.approx(1.0, abs=2e-3)

    def test_a_batch_gets_the_answers_of_its_queries(self, folder: Folder) -> None:
        store, queries = folder.filled(draw(700)), draw(19, seed=1)
        batch = store.search(queries, 5)
        assert batch.ids.shape == batch.scores.shape == (19, 5)
        for query, ids, scores in zip(queries, batch.ids, batch.scores, strict=True):
            assert_same(store.search(query, 5), Ranking(ids, scores))
        assert store.search(queries[:0], 5).ids.shape == (0, 5)

    def test_deleted_rows_never_answer_and_the_next_best_do(self, folder: Folder) -> None:
        vectors, query = draw(600), draw(1, seed=2)[0]
        store = folder.filled(vectors)
        dead = truth(vectors, query, 300).ids
        store.delete(np.append(dead, 9_999))
        alive = np.setdiff1d(np.arange(600), dead)
        assert store.count() == 300
        assert_same(store.search(query, 600), truth(vectors, query, 600, alive))
        assert not np.isin(store.search(query, 10).ids, dead).any()

    def test_a_part_of_a_store_is_searched_as_if_there_were_no_other_rows(self, folder: Folder) -> None:
        vectors, query = draw(1_500), draw(1, seed=4)[0]
        store = folder.filled(vectors)
        mask = np.arange(1_400) % 9 == 0  # made when there were fewer rows: the newer ones are of no part yet
        part = StorePart(store, mask)
        for top_k in (1, 20, 400):
            assert_same(part.search(query, top_k), truth(vectors, query, top_k, np.flatnonzero(mask)))
        within = np.array([0, 1, 9, 10, 900, 1_494])
        assert_same(part.search(query, 5, within), truth(vectors, query, 5, np.array([0, 9, 900])))
        assert_same(
            store.search(query, 9, np.append(mask, [True] * 900)), truth(vectors, query, 9, _named(mask, 1_500))
        )

    def test_a_filter_is_exact_and_never_costs_an_answer(self, folder: Folder) -> None:
        vectors, query = draw(1_500), draw(1, seed=3)[0]
        store = folder.filled(vectors)
        far_away = truth(vectors, -query, 700).ids
        for allowed in (far_away, far_away[:40], far_away[:3], np.array([7, 7, -1, 5_000, 3])):
            real = np.unique(allowed[(allowed >= 0) & (allowed < 1_500)])
            found = store.search(query, 30, allowed)
            assert len(found.ids) == min(30, len(real))
            assert_same(found, truth(vectors, query, 30, real))
        assert store.search(query, 5, np.empty(0, np.int64)).ids.shape == (0,)

    def test_a_filter_and_deletions_hold_together(self, folder: Folder) -> None:
        vectors, query = draw(800), draw(1, seed=4)[0]
        store = folder.filled(vectors)
        allowed = np.arange(0, 800, 2)
        dead = truth(vectors, query, 20, allowed).ids
        store.delete(dead)
        assert_same(store.search(query, 15, allowed), truth(vectors, query, 15, np.setdiff1d(allowed, dead)))

    def test_fewer_rows_than_asked_for_are_not_padded(self, folder: Folder) -> None:
        vectors = draw(7)
        store = folder.filled(vectors)
        assert_same(store.search(vectors[2], 50), truth(vectors, vectors[2], 50))

    def test_nearly_all_rows_can_be_asked_for(self, folder: Folder) -> None:
        vectors, query = draw(600), draw(1, seed=5)[0]
        assert_same(folder.filled(vectors).search(query, 590), truth(vectors, query, 590))

    def test_an_empty_store_has_no_answer(self, folder: Folder) -> None:
        store = folder.open()
        assert store.count() == 0
        assert store.search(draw(1)[0], 10).ids.shape == (0,)
        assert store.search(draw(3), 10).scores.shape == (3, 0)
        store.refresh()

    def test_one_row_is_found_until_it_is_deleted(self, folder: Folder) -> None:
        store = folder.filled(draw(1))
        assert store.search(-draw(1)[0], 10).ids.tolist() == [0]
        store.delete(np.array([0]))
        assert (store.count(), len(store.search(draw(1)[0], 10).ids)) == (0, 0)

    def test_equal_rows_tie_and_come_by_ascending_id_even_where_the_cut_goes_through(self, folder: Folder) -> None:
        vectors = draw(900)
        twins = np.array([3, 88, 412, 413, 700, 899])
        vectors[twins] = vectors[3]
        store = folder.filled(vectors)
        found = store.search(vectors[3], 4)
        assert found.ids.tolist() == twins[:4].tolist()
        assert len(set(found.scores.tolist())) == 1

    def test_a_store_of_nothing_but_duplicates_answers_in_order(self, folder: Folder) -> None:
        store = folder.filled(np.repeat(draw(1), 300, axis=0))
        assert store.search(draw(1)[0], 7).ids.tolist() == list(range(7))
        assert store.search(draw(1)[0], 3, np.arange(100, 300)).ids.tolist() == [100, 101, 102]

    def test_the_same_answers_after_reopening(self, folder: Folder) -> None:
        vectors, queries = draw(900), draw(5, seed=5)
        store = folder.filled(vectors)
        store.refresh()
        dead = np.array([4, 5, 6])
        store.delete(dead)
        reopened = folder.open(900, dead)
        assert reopened.count() == 897
        assert_same(reopened.search(queries[0], 10), store.search(queries[0], 10))
        assert np.array_equal(reopened.search(queries, 10).ids, store.search(queries, 10).ids)

    def test_an_upsert_replaces_a_row_and_brings_a_deleted_one_back(self, folder: Folder) -> None:
        vectors = draw(600)
        store = folder.filled(vectors)
        store.search(vectors[0], 3)
        store.delete(np.array([10, 11]))
        fresh = draw(3, seed=6)
        store.upsert(np.array([601, 10, 600]), fresh)
        vectors = np.concatenate([vectors, fresh[[2, 0]]])
        vectors[10] = fresh[1]
        assert store.count() == 601
        alive = np.setdiff1d(np.arange(602), [11])
        for query in fresh:
            assert_same(store.search(query, 5), truth(vectors, query, 5, alive))
        for query in fresh:
            assert_same(folder.open(602, np.array([11])).search(query, 5), truth(vectors, query, 5, alive))

    def test_ids_that_leave_a_gap_or_come_twice_are_refused(self, folder: Folder) -> None:
        store = folder.filled(draw(5))
        for ids in ([7, 8], [5, 5], [-1, 5]):
            with pytest.raises(ValueError, match="continue at 5"):
                store.upsert(np.array(ids), draw(2))
        store.upsert(np.empty(0, np.int64), draw(2)[:0])
        assert store.count() == 5

    def test_rows_that_another_process_committed_are_found_after_a_sync(self, folder: Folder) -> None:
        vectors = draw(400)
        reader = folder.filled(vectors[:300])
        reader.search(vectors[0], 3)
        folder.open(300).upsert(np.arange(300, 400), vectors[300:])
        assert len(reader.search(vectors[350], 1_000).ids) == 300
        reader.sync(400, np.array([1]))
        assert reader.count() == 399
        assert_same(reader.search(vectors[350], 8), truth(vectors, vectors[350], 8, np.delete(np.arange(400), 1)))

    def test_a_torn_tail_and_uncommitted_rows_are_never_found(self, folder: Folder) -> None:
        vectors = draw(450)
        folder.filled(vectors)
        with (folder.path / "vectors" / "0000-00000.f16").open("ab") as file:
            file.write(b"\xff" * 1_001)
        store = folder.open(400)
        found = store.search(vectors[430], 400)
        assert found.ids.max() < 400
        assert np.isfinite(found.scores).all()

    def test_a_cut_shard_is_refused_by_name(self, folder: Folder) -> None:
        folder.filled(draw(800))
        os.truncate(folder.path / "vectors" / "0000-00001.f16", 100)
        with pytest.raises(CollectionError, match=r"0000-00001\.f16 is cut"):
            folder.open(800).search(draw(1)[0], 3)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_queries_that_cannot_be_ranked_are_refused(self, folder: Folder, bad: float) -> None:
        store = folder.filled(draw(5))
        for query in (np.full(DIMENSION, bad, np.float32), np.zeros(DIMENSION + 1, np.float32)):
            with pytest.raises(ValueError, match="finite queries of 48"):
                store.search(query, 3)
        with pytest.raises(ValueError, match="top_k >= 1"):
            store.search(draw(1)[0], 0)


def test_importing_the_module_loads_neither_faiss_nor_torch() -> None:
    program = "import moca_rag.stores, sys; assert not {'faiss', 'torch'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
