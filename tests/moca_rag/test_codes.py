"""What only the one-bit codes and their file can get wrong: recall, growth, damage, and whose rows they are of."""

import os
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from moca_rag import codes
from moca_rag.records import Floats
from moca_rag.stores import CODES_NAME, LocalStore, StoreSizes
from moca_rag.vectors import Shards
from tests.store_folder import CODED, DIMENSION, SIZES, Folder, assert_same, draw, read_header, truth, unit


@pytest.fixture(params=CODED)
def coded(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    pytest.importorskip("faiss")
    return Folder(tmp_path, SIZES[request.param])


class TestCodes:
    @pytest.mark.parametrize("shift", [0.0, 3.0])
    def test_they_find_what_exact_search_finds_also_far_from_the_origin(self, coded: Folder, shift: float) -> None:
        vectors, queries = draw(5_000, shift=shift), draw(100, seed=1, shift=shift)
        store = coded.filled(vectors)
        exact = Folder(coded.path, SIZES["exact"]).open(5_000).search(queries, 10).ids
        found = store.search(queries, 10).ids
        assert np.mean([len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]) >= 9.9

    @pytest.mark.parametrize("query_shift", [3.0, -1.0])
    def test_their_doubt_covers_the_real_error_also_for_queries_from_elsewhere(
        self, coded: Folder, query_shift: float
    ) -> None:
        vectors, queries = draw(2_000, shift=0.2), draw(20, seed=1, shift=query_shift)
        store = coded.filled(vectors)
        store.refresh()
        made = store._codes
        assert made is not None
        for query in queries:
            estimates, ids = made.nearest(made.turn(query[None]), 2_000, np.ones(2_000, np.bool_), every_list=True)
            errors = estimates - vectors[ids] @ query
            assert abs(errors.mean()) < 0.2 * errors.std()
            assert 0.5 < errors.std() / made.doubt(query) < 1.1

    def test_few_rows_are_scored_when_neighbours_stand_out(
        self, coded: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = coded.filled(draw(5_000, shift=3.0))
        store.refresh()
        scored: list[int] = []
        real = LocalStore._score_rows
        monkeypatch.setattr(LocalStore, "_score_rows", lambda s, q, ids: (scored.append(len(ids)), real(s, q, ids))[1])
        for query in draw(20, seed=1, shift=3.0):
            store.search(query, 10)
        assert sum(scored) / 20 < 500

    def test_the_codes_stay_small_on_disk(self, coded: Folder) -> None:
        coded.filled(draw(5_000)).refresh()
        assert coded.codes_path.stat().st_size < 5_000 * (DIMENSION // 8 + 8 + 8) + 60_000

    def test_the_engine_is_told_by_the_number_of_rows(self, tmp_path: Path) -> None:
        sizes = StoreSizes(exact=10, codes=20)
        engines = [Folder(tmp_path, sizes).open(num_rows).engine() for num_rows in (0, 10, 11, 20, 21)]
        assert engines == ["exact", "exact", "codes", "codes", "lists"]

    def test_rows_newer_than_the_codes_are_found_without_new_codes_until_they_are_many(self, coded: Folder) -> None:
        vectors = draw(1_100)
        coded.filled(vectors[:1_000]).refresh()
        before = coded.codes_path.read_bytes()
        coded.open(1_000).upsert(np.arange(1_000, 1_100), vectors[1_000:])
        for num_rows, is_kept in ((1_020, True), (1_021, False), (1_100, False)):
            store = coded.open(num_rows)
            newest = vectors[num_rows - 1]
            assert_same(store.search(newest, 5), truth(vectors[:num_rows], newest, 5))
            assert (coded.codes_path.read_bytes() == before) is is_kept

    def test_codes_that_grew_answer_like_codes_made_at_once(self, coded: Folder) -> None:
        vectors = draw(1_900)
        store = coded.filled(vectors[:1_000])
        store.refresh()
        store.upsert(np.arange(1_000, 1_900), vectors[1_000:])
        store.refresh()
        assert read_header(coded.codes_path)["num_rows"] == 1_900
        assert read_header(coded.codes_path)["fitted_rows"] == 1_000
        for query in draw(10, seed=7):
            assert_same(store.search(query, 5), truth(vectors, query, 5))
        more = draw(200, seed=8)
        store.upsert(np.arange(1_900, 2_100), more)
        store.refresh()
        assert read_header(coded.codes_path)["fitted_rows"] == 2_100

    def test_codes_of_interrupted_rows_that_were_overwritten_are_not_believed(self, coded: Folder) -> None:
        vectors, others = draw(600), draw(600, seed=9)
        coded.filled(vectors).refresh()
        vectors[500:] = others[500:]
        coded.open(500)._shards.write(500, others[500:])  # as the catalog's writer does: only 500 rows were committed
        reopened = coded.open(600)
        for query in others[500:520]:
            assert_same(reopened.search(query, 5), truth(vectors, query, 5))
        assert read_header(coded.codes_path)["last_checksum"] == reopened._codes.last_checksum

    def test_codes_of_more_rows_than_are_committed_are_not_believed(self, coded: Folder) -> None:
        vectors = draw(600)
        coded.filled(vectors).refresh()
        store = coded.open(400)
        assert_same(store.search(vectors[500], 10), truth(vectors[:400], vectors[500], 10))
        assert read_header(coded.codes_path)["num_rows"] == 400

    def test_codes_of_another_generation_are_made_again(self, coded: Folder) -> None:
        coded.filled(draw(600)).refresh()
        vectors = np.concatenate(
            [draw(500, seed=1), draw(600)[500:]]
        )  # as after a compaction, the last rows are the same
        store = coded.open(generation=1)
        store.upsert(np.arange(600), vectors)
        again = coded.open(600, generation=1)
        assert_same(again.search(vectors[5], 5), truth(vectors, vectors[5], 5))
        assert read_header(coded.codes_path)["generation"] == 1

    def test_codes_of_the_other_kind_are_made_again(self, coded: Folder) -> None:
        vectors = draw(600)
        coded.filled(vectors).refresh()
        other = SIZES["lists" if coded.sizes is SIZES["codes"] else "codes"]
        store = Folder(coded.path, other).open(600)
        assert_same(store.search(vectors[5], 5), truth(vectors, vectors[5], 5))
        assert bool(read_header(coded.codes_path)["num_lists"]) is (other is SIZES["lists"])

    def test_damaged_codes_never_crash_and_never_answer_wrongly(self, coded: Folder) -> None:
        vectors, query = draw(600), draw(1, seed=3)[0]
        coded.filled(vectors).refresh()
        whole = coded.codes_path.read_bytes()
        header = whole.index(b"\n", 25)
        places = [
            0,
            5,
            14,
            20,
            30,
            header - 3,
            header + 5,
            header + 100,
            len(whole) // 2,
            len(whole) - 700,
            len(whole) - 1,
        ]
        for place in places:
            damaged = bytearray(whole)
            damaged[place] ^= 0x10
            self.check_rebuilt(coded, bytes(damaged), vectors, query)
        for size in (0, 1, 21, header, len(whole) - 1):
            self.check_rebuilt(coded, whole[:size], vectors, query)
        self.check_rebuilt(coded, whole + b"\0", vectors, query)

    def check_rebuilt(self, folder: Folder, damaged: bytes, vectors: Floats, query: Floats) -> None:
        folder.codes_path.write_bytes(damaged)
        assert_same(folder.open(len(vectors)).search(query, 5), truth(vectors, query, 5))
        assert folder.codes_path.read_bytes() != damaged

    def test_a_whole_file_whose_index_cannot_be_read_is_made_again(self, coded: Folder) -> None:
        vectors, query = draw(600), draw(1, seed=3)[0]
        coded.filled(vectors).refresh()
        payload = coded.codes_path.read_bytes().split(b"\n", 1)[1]
        index_at = payload.rindex(b"\x93NUMPY") + 128
        for strange in (payload[:index_at] + b"Qqqq" + payload[index_at + 4 :], payload[: len(payload) // 2]):
            head = b"moca-codes-1 %08x\n" % zlib.crc32(strange)
            self.check_rebuilt(coded, head + strange, vectors, query)

    @pytest.mark.parametrize("obstacle", ["file", "read-only"])
    def test_where_codes_cannot_be_kept_searching_works(self, coded: Folder, obstacle: str) -> None:
        vectors = draw(600)
        index = coded.path / "index"
        if obstacle == "file":
            index.write_text("a file stands where the folder belongs")
        else:
            index.mkdir()
            index.chmod(0o500)
        store = coded.filled(vectors)
        store.refresh()
        assert_same(store.search(vectors[9], 5), truth(vectors, vectors[9], 5))
        index.chmod(0o700)

    def test_no_half_written_file_stays_and_old_leftovers_go(
        self, coded: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        index = coded.path / "index"
        index.mkdir()
        old, recent = index / f"{CODES_NAME}.1.part", index / f"{CODES_NAME}.2.part"
        for leftover in (old, recent):
            leftover.write_bytes(b"half")
        os.utime(old, (0, 0))
        store = coded.filled(draw(600))
        store.refresh()
        assert sorted(path.name for path in index.iterdir()) == [CODES_NAME, recent.name]

        def fail(*_: object) -> None:
            raise OSError("no room")

        coded.codes_path.unlink()
        monkeypatch.setattr(Path, "replace", fail)
        coded.open(600).refresh()
        assert [path.name for path in index.iterdir()] == [recent.name]

    @pytest.mark.parametrize("dimension", [1, 7, 20, 33, 64])
    def test_any_dimension_can_be_coded(self, tmp_path: Path, dimension: int) -> None:
        pytest.importorskip("faiss")
        vectors = unit(np.random.default_rng(0).standard_normal((300, dimension)).astype(np.float32))
        store = LocalStore(Shards(tmp_path / "v", dimension, 0), tmp_path / "i", sizes=SIZES["codes"])
        store.upsert(np.arange(300), vectors)
        assert_same(store.search(vectors[17], 3), truth(vectors, vectors[17], 3))

    def test_scans_on_several_threads_agree_with_one(self, coded: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
        store, queries = coded.filled(draw(3_000)), draw(10, seed=1)
        alone = store.search(queries, 10)
        allowed = np.arange(0, 3_000, 3)
        alone_filtered = store.search(queries, 10, allowed)
        monkeypatch.setattr(codes, "_ROWS_PER_THREAD", 100)
        monkeypatch.setattr(codes, "_num_threads", lambda: 7)
        assert np.array_equal(store.search(queries, 10).ids, alone.ids)
        assert np.array_equal(store.search(queries, 10, allowed).ids, alone_filtered.ids)

    def test_lists_that_hold_too_few_rows_never_cost_an_answer(self, tmp_path: Path) -> None:
        pytest.importorskip("faiss")
        vectors, query = draw(600), draw(1, seed=5)[0]
        store = Folder(tmp_path, SIZES["lists"]).filled(vectors)
        store.refresh()
        assert store._codes is not None
        store._codes = replace(store._codes, num_probes=1)
        assert_same(store.search(query, 590), truth(vectors, query, 590))
