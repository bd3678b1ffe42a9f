"""Shards: what is written is read back, what is damaged is refused by name, what was never committed is never read."""

import errno
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from moca_rag.errors import CollectionError
from moca_rag.records import Floats
from moca_rag.vectors import Shards, amplify, delete_generation, list_generations, widen


def rows(num: int, dimension: int = 8, seed: int = 0) -> Floats:
    vectors = np.random.default_rng(seed).standard_normal((num, dimension))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float16).astype(np.float32)


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    return Shards(tmp_path / "vectors", dimension=8, generation=3, rows_per_shard=10)


def test_what_is_written_is_read_back_across_shards_in_any_order(shards: Shards) -> None:
    vectors = rows(25)
    shards.write(0, vectors)
    ids = np.array([24, 0, 9, 10, 24, 19])
    assert np.array_equal(shards.read(ids), vectors[ids])
    assert shards.read(ids).dtype == np.float32


def test_the_files_are_bare_rows_named_by_generation_and_shard(shards: Shards) -> None:
    vectors = rows(12)
    shards.write(0, vectors)
    assert sorted(path.name for path in shards.folder.iterdir()) == ["0003-00000.f16", "0003-00001.f16"]
    assert np.array_equal(np.fromfile(shards.shard_path(1), np.float16).reshape(2, 8), vectors[10:])


def test_checksums_are_those_of_each_rows_bytes_and_notice_one_flipped_bit(shards: Shards) -> None:
    vectors = rows(12)
    written = shards.write(0, vectors)
    assert written.dtype == np.uint32
    assert written.tolist() == [zlib.crc32(row.astype(np.float16).tobytes()) for row in vectors]
    with shards.shard_path(1).open("r+b") as file:
        file.seek(16)
        byte = file.read(1)[0]
        file.seek(16)
        file.write(bytes([byte ^ 1]))
    ids = np.arange(12)
    assert np.flatnonzero(shards.checksum(ids) != written).tolist() == [11]


def test_writing_over_an_uncommitted_tail_replaces_it_and_nothing_else(shards: Shards) -> None:
    before, after = rows(15), rows(7, seed=1)
    shards.write(0, before)
    shards.read(np.arange(15))
    shards.write(8, after)
    assert np.array_equal(shards.read(np.arange(15)), np.concatenate([before[:8], after]))


def test_a_reader_sees_rows_that_another_handle_appended(shards: Shards) -> None:
    reader = Shards(shards.folder, 8, 3, rows_per_shard=10)
    vectors = rows(25)
    shards.write(0, vectors[:5])
    assert np.array_equal(reader.read(np.arange(5)), vectors[:5])
    shards.write(5, vectors[5:])
    assert np.array_equal(reader.read(np.arange(25)), vectors)


def test_blocks_cover_the_committed_rows_once_and_stop_there(shards: Shards) -> None:
    vectors = rows(25)
    shards.write(0, vectors)
    blocks = list(shards.blocks(23, block_rows=4))
    assert np.array_equal(np.concatenate([block for _, block in blocks]), vectors[:23].astype(np.float16))
    assert [first for first, _ in blocks] == [0, 4, 8, 10, 14, 18, 20]
    assert [first for first, _ in shards.blocks(23, first_id=19, block_rows=4)] == [19, 20]
    assert list(shards.blocks(0)) == []


def test_a_torn_tail_is_no_reason_to_refuse(shards: Shards) -> None:
    vectors = rows(13)
    shards.write(0, vectors)
    with shards.shard_path(1).open("ab") as file:
        file.write(b"\xff" * 21)
    fresh = Shards(shards.folder, 8, 3, rows_per_shard=10)
    fresh.check(13)
    assert np.array_equal(fresh.read(np.arange(13)), vectors)
    fresh.write(13, vectors[:2])
    assert np.array_equal(fresh.read(np.array([13, 14])), vectors[:2])


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


@pytest.mark.parametrize(("damage", "word"), [(cut, "cut"), (Path.unlink, "missing")])
def test_a_damaged_shard_is_refused_by_name_with_the_way_out(
    shards: Shards, damage: Callable[[Path], None], word: str
) -> None:
    shards.write(0, rows(25))
    damage(shards.shard_path(1))
    fresh = Shards(shards.folder, 8, 3, rows_per_shard=10)
    fresh.check(10)
    for use in (lambda: fresh.check(25), lambda: fresh.read(np.array([19])), lambda: list(fresh.blocks(25))):
        with pytest.raises(CollectionError, match=rf"0003-00001\.f16 is {word}.*moca verify --repair"):
            use()


def test_a_full_disk_is_told_in_one_line_and_the_rows_can_be_written_again(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(CollectionError, match=r"no room .*0003-00000\.f16.* are free\. Free some space") as caught:
            shards.write(0, rows(3))
    assert "\n" not in str(caught.value)
    shards.write(0, rows(3))
    assert np.array_equal(shards.read(np.arange(3)), rows(3))


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "vectors").write_text("a file stands where the folder belongs")
    with pytest.raises(CollectionError, match=r"cannot write .*vectors"):
        Shards(tmp_path / "vectors", 8, 0).write(0, rows(1))


def test_rows_and_the_entry_of_a_new_file_are_synced_before_write_returns(
    shards: Shards, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def note(handle: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        real(handle)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("the names of open files cannot be asked here")
    monkeypatch.setattr(os, "fsync", note)
    shards.write(0, rows(12))
    shards.write(12, rows(1))
    assert synced == ["0003-00000.f16", "vectors", "0003-00001.f16", "vectors", "0003-00001.f16"]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_numbers_that_fp16_cannot_hold_are_refused_before_anything_is_written(shards: Shards, bad: float) -> None:
    vectors = rows(3)
    vectors[1, 2] = bad
    with pytest.raises(ValueError, match="ids 40 to 42 is not finite"):
        shards.write(40, vectors)
    assert not shards.folder.exists()


def test_another_dimension_and_negative_ids_are_refused(shards: Shards) -> None:
    with pytest.raises(ValueError, match=r"expected vectors \[N, 8\]"):
        shards.write(0, rows(2, dimension=7))
    with pytest.raises(ValueError, match="id -1"):
        shards.read(np.array([0, -1]))


def test_nothing_to_write_or_read_is_fine(shards: Shards) -> None:
    assert len(shards.write(0, np.empty((0, 8), np.float32))) == 0
    assert shards.read(np.empty(0, np.int64)).shape == (0, 8)
    shards.check(0)


def test_generations_live_side_by_side_and_strangers_are_left_alone(shards: Shards) -> None:
    newer = Shards(shards.folder, 8, 4, rows_per_shard=10)
    shards.write(0, rows(25))
    newer.write(0, rows(5, seed=1))
    (shards.folder / "notes.txt").write_text("mine")
    (shards.folder / "0003-copy.f16").write_text("mine too")
    assert list_generations(shards.folder) == [3, 4]
    assert delete_generation(shards.folder, 3) == 25 * 16
    assert list_generations(shards.folder) == [4]
    assert (shards.folder / "notes.txt").exists()
    assert (shards.folder / "0003-copy.f16").exists()
    assert np.array_equal(newer.read(np.arange(5)), rows(5, seed=1))
    assert list_generations(shards.folder / "nowhere") == []
    assert delete_generation(shards.folder / "nowhere", 3) == 0


def test_widening_is_exact_for_every_finite_half() -> None:
    halves = np.arange(1 << 16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    assert np.array_equal(amplify(widen(halves)).view(np.uint32), halves.astype(np.float32).view(np.uint32))
