"""Collections, disks and processes that fail: nothing committed is lost, and the next command goes on from there."""

import os
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from moca_rag import catalog as catalog_module
from moca_rag import collection as collection_module
from moca_rag.collection import Collection
from moca_rag.stores import LocalStore, StoreSizes
from tests.faults import Moca, children, is_alive, run_apart, running, wait_until
from tests.makers import PAGE_WORDS, PixelEncoder, make_pdf, make_slow_pdf

NUM_DOCS, NUM_PAGES = 14, 112  # more than the 100 that are ranked before fusion
REBUILD = "index", "--rebuild"


@pytest.fixture(scope="module")
def docs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library") / "docs"
    for number in range(NUM_DOCS):
        make_pdf(folder / f"{number:02}.pdf", [f"{words} {'Yes. ' * number}" for words in PAGE_WORDS])  # no ties
    return folder


@pytest.fixture(scope="module")
def originals(docs: Path) -> Path:
    """A text and a hybrid collection of the documents, to be copied."""
    from moca_rag.indexer.pipeline import index_documents

    index_documents([docs], docs.parent / "text")
    index_documents([docs], docs.parent / "hybrid", PixelEncoder())
    return docs.parent


@pytest.fixture
def moca(originals: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Moca:
    """The text collection, ready to be harmed."""
    return Moca(capsys, shutil.copytree(originals / "text", tmp_path / "collection"))


@pytest.fixture
def hybrid(
    originals: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Moca:
    """The hybrid collection, its model replaced by one that takes no time."""
    monkeypatch.setattr("moca_rag.deferred.DeferredEmbedder", PixelEncoder)
    return Moca(capsys, shutil.copytree(originals / "hybrid", tmp_path / "hybrid"))


# -- damaged files -----------------------------------------------------------------------------------------------------


def spoil(path: Path, where: str) -> None:
    data = bytearray(path.read_bytes())
    junk = os.urandom(len(data))
    ranges = {"middle": slice(len(data) // 4, None), "header": slice(0, 100), "all": slice(0, None)}
    if where in ranges:
        data[ranges[where]] = junk[ranges[where]]
    elif where == "truncated":
        del data[len(data) // 3 :]
    elif where == "empty":
        data.clear()
    path.write_bytes(data)


@pytest.mark.parametrize("where", ["middle", "header", "all", "truncated", "empty", "gone"])
def test_a_damaged_catalog_is_refused_in_one_line_and_rebuilt(moca: Moca, docs: Path, where: str) -> None:
    before, expected = moca.pages(), moca.hits("ferry timber")
    catalog = moca.collection / "catalog.sqlite"
    catalog.unlink() if where == "gone" else spoil(catalog, where)
    for command in (
        ["search", "ferry"],
        ["status"],
        ["ls"],
        ["show", "00.pdf#1"],
        ["rm", "00.pdf"],
        ["verify"],
        *([] if where == "middle" else [["verify", "--repair"]]),
        ["compact"],
        ["index", docs],
        ["index", docs, "--dry-run"],
    ):
        outcome = moca(*command)
        assert outcome.code == 1, command
        assert "catalog.sqlite" in outcome.complaint, command
        assert "--rebuild" in outcome.complaint, command
    assert moca(*REBUILD, docs).code == 0
    assert (moca.pages(), moca.hits("ferry timber")) == (before, expected)


def test_a_catalog_damaged_in_the_middle_is_saved_as_far_as_it_can_be_read(moca: Moca, docs: Path) -> None:
    before, expected = moca.pages(), moca.hits("ferry timber")
    spoil(moca.collection / "catalog.sqlite", "middle")
    repaired = moca("verify", "--repair")
    assert (repaired.code, "saved 14 documents" in repaired.out) == (0, True)
    assert moca("index", docs).code == 0
    assert (moca.pages(), moca.hits("ferry timber")) == (before, expected)
    assert moca("verify").code == 0


@pytest.mark.parametrize("where", ["middle", "header", "all", "truncated", "empty", "gone"])
def test_a_damaged_catalog_is_repaired_or_left_as_it_is(moca: Moca, docs: Path, where: str) -> None:
    before, expected = moca.pages(), moca.hits("ferry timber")
    catalog = moca.collection / "catalog.sqlite"
    catalog.unlink() if where == "gone" else spoil(catalog, where)
    damaged = catalog.read_bytes() if catalog.exists() else None
    outcome = moca("verify", "--repair")
    if outcome.code:
        assert "--rebuild" in outcome.complaint
        assert (catalog.read_bytes() if catalog.exists() else None) == damaged
        return
    assert moca("verify").code == 0
    assert moca.pages().keys() <= before.keys()
    assert moca("index", docs).code == 0
    assert (moca.pages(), moca.hits("ferry timber")) == (before, expected)


@pytest.mark.parametrize("text", ["garbage [[[", "", "format = 1\n", "format = 99\n", "\udcff\udcfe"])
def test_a_damaged_fingerprint_is_refused_in_one_line_and_rebuilt(moca: Moca, docs: Path, text: str) -> None:
    before = moca.pages()
    path = moca.collection / "collection.toml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    for command in (["search", "ferry"], ["status"], ["verify"], ["index", docs]):
        outcome = moca(*command)
        assert outcome.code == 1
        assert "collection.toml" in outcome.complaint
        assert "--rebuild" in outcome.complaint
    assert moca(*REBUILD, docs).code == 0
    assert moca.pages() == before


def test_a_lost_fingerprint_does_not_let_a_full_catalog_be_overwritten(moca: Moca, docs: Path) -> None:
    """Nothing committed is lost, whatever a person deletes by mistake."""
    fingerprint = moca.collection / "collection.toml"
    saved, before = fingerprint.read_bytes(), moca.pages()
    fingerprint.unlink()
    outcome = moca("index", docs.parent / "docs" / "00.pdf")
    fingerprint.write_bytes(saved)
    assert moca.pages() == before
    assert outcome.code == 1
    assert "collection.toml" in outcome.complaint


def test_a_cut_shard_is_named_and_what_it_held_comes_back(hybrid: Moca, docs: Path) -> None:
    before, expected = hybrid.pages(), hybrid.hits("ferry timber")
    (shard,) = (hybrid.collection / "vectors").iterdir()
    os.truncate(shard, shard.stat().st_size - 5 * 32)
    outcome = hybrid("search", "ferry timber")
    assert (outcome.code, shard.name in outcome.complaint, "verify" in outcome.complaint) == (1, True, True)
    assert hybrid("search", "ferry", "--mode", "text").code == 0
    verdict = hybrid("verify", "--json")
    assert (verdict.code, len(verdict.json["lost_pages"])) == (1, 5)
    assert hybrid("verify", "--repair").code == 0
    assert sum(hybrid.pages().values()) == sum(before.values()) - 5
    assert hybrid("index", docs, "--model", "pixels").code == 0
    assert (hybrid.pages(), hybrid.hits("ferry timber")) == (before, expected)
    assert hybrid("verify").code == 0


@pytest.mark.parametrize("where", ["middle", "header", "all", "truncated", "empty"])
def test_a_damaged_cache_rebuilds_itself(hybrid: Moca, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    pytest.importorskip("faiss")
    sizes = StoreSizes(exact=20, few=5, loose=5)
    monkeypatch.setattr(collection_module, "LocalStore", partial(LocalStore, sizes=sizes))
    expected = hybrid.hits("ferry timber")  # makes the cache, too
    (cache,) = (hybrid.collection / "index").iterdir()
    whole = cache.read_bytes()
    spoil(cache, where)
    assert hybrid.hits("ferry timber") == expected
    assert cache.read_bytes()[:20] == whole[:20]
    assert hybrid("verify").code == 0


def test_other_settings_are_refused_by_name(moca: Moca, hybrid: Moca, docs: Path) -> None:
    asked = moca("index", docs, "--model", "pixels")
    assert asked.code == 1
    assert "text -> hybrid" in asked.complaint
    assert "--rebuild" in asked.complaint
    changed = hybrid("index", docs, "--model", "pixels", "--mode", "vision")
    assert changed.code == 1
    assert "hybrid -> vision" in changed.complaint
    text = hybrid("index", docs, "--mode", "text")
    assert text.code == 1
    assert "hybrid -> text" in text.complaint
    assert len(moca.pages()) == len(hybrid.pages()) == NUM_DOCS


# -- disks -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 400 kB; only root may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400k", "none", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no right to mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_stops_a_run_and_the_same_command_resumes(
    small_disk: Path, docs: Path, moca: Moca, capsys: pytest.CaptureFixture[str]
) -> None:
    small = Moca(capsys, small_disk / "collection")
    small("index", docs / "00.pdf")
    kept = small.pages()
    (small_disk / "ballast").write_bytes(bytes(4096 * ((shutil.disk_usage(small_disk).free - 40_000) // 4096)))
    outcome = small("index", docs, "--set", "commit_pages=4")
    assert outcome.code == 1
    assert "full" in outcome.complaint or "no room" in outcome.complaint
    assert small.pages().items() >= kept.items()
    assert small.hits("ferry timber")
    (small_disk / "ballast").unlink()
    subprocess.run(["mount", "-o", "remount,size=9m", str(small_disk)], check=True)
    assert small("index", docs).code == 0
    assert (small.pages(), small.hits("copper prices")) == (moca.pages(), moca.hits("copper prices"))
    assert small("verify").code == 0


@pytest.mark.parametrize("share", [0.0, 0.2, 0.4, 0.6, 0.8, 0.95])
def test_a_catalog_that_cannot_grow_stops_a_run_and_the_same_command_resumes(
    docs: Path, moca: Moca, tmp_path: Path, capsys: pytest.CaptureFixture[str], share: float
) -> None:
    small = Moca(capsys, tmp_path / "small")
    small("index", docs / "00.pdf")
    least, most = (count_blocks(opened.collection) for opened in (small, moca))
    connect = catalog_module._connect
    with pytest.MonkeyPatch.context() as patch:

        def connect_small(path: Path, mode: str) -> sqlite3.Connection:
            connection = connect(path, mode)
            connection.execute(f"PRAGMA max_page_count = {int(least + share * (most - least))}")
            return connection

        patch.setattr(catalog_module, "_connect", connect_small)
        outcome = small("index", docs, "--set", "commit_pages=4")
        assert outcome.code == 1
        assert "full" in outcome.complaint
    assert set(small.pages()) <= set(moca.pages())
    assert small.pages()["00.pdf"] == 8
    assert small("index", docs).code == 0
    assert small.pages() == moca.pages()
    assert small("verify").code == 0


def count_blocks(collection: Path) -> int:
    with Collection.open(collection) as opened:
        return int(opened.catalog.db.execute("PRAGMA page_count").fetchone()[0])


def test_a_shard_that_cannot_grow_stops_a_run_and_the_same_command_resumes(
    hybrid: Moca, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    small = Moca(capsys, tmp_path / "small")
    (tmp_path / "new").mkdir()
    assert small("index", tmp_path / "new", "--model", "pixels").code == 0
    shard = small.collection / "vectors" / "0000-00000.f16"
    shard.symlink_to("/dev/full")
    make_pdf(tmp_path / "new" / "new.pdf", PAGE_WORDS[6:8])
    outcome = small("index", tmp_path / "new", "--model", "pixels")
    assert outcome.code == 1
    assert "no room" in outcome.complaint
    shard.unlink()
    assert small("index", tmp_path / "new", "--model", "pixels").code == 0
    assert small.pages() == {"new.pdf": 2}
    assert small("verify").code == 0


def test_a_folder_that_is_read_only_still_answers_and_says_why_it_cannot_be_written(
    moca: Moca, docs: Path, tmp_path: Path
) -> None:
    before = moca.pages()
    for folder in (moca.collection, moca.collection / "vectors", moca.collection / "index"):
        folder.chmod(0o555)
    for file in moca.collection.iterdir():
        file.chmod(0o555 if file.is_dir() else 0o444)
    place = ["-c", moca.collection]
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    assert run_apart("search", "ferry", *place, humble=True).code == 0
    assert run_apart("status", *place, humble=True).code == 0
    assert run_apart("verify", *place, humble=True).code == 0
    for command in (
        ["index", docs, *place],
        ["rm", "00.pdf", *place],
        ["compact", *place],
        ["verify", "--repair", *place],
        ["index", docs, "-c", locked / "new"],
        ["show", "00.pdf#1", "-o", locked / "page.png", *place],
        ["search", "ferry", "--save", locked / "hits", *place],
    ):
        outcome = run_apart(*command, humble=True)
        assert outcome.code == 1, command
        assert "ermission" in outcome.complaint, command
    moca.collection.chmod(0o755)
    assert moca.pages() == before


# -- processes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def hanging(docs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[tuple[Moca, Path, object]]:
    """A run that has committed every page but one, and hangs at that one: collection, documents, process."""
    folder = shutil.copytree(docs, tmp_path / "docs")
    make_slow_pdf(folder / "slow.pdf")
    moca = Moca(capsys, tmp_path / "hanging")
    options = ["--jobs", "2", "--set", "commit_pages=1", "-c", moca.collection]
    with running("index", folder, *options) as process:
        wait_until(lambda: count_pages(moca.collection) == NUM_PAGES or process.poll() is not None)
        assert process.poll() is None
        yield moca, folder, process


def count_pages(collection: Path) -> int:
    if not (collection / "collection.toml").exists():
        return 0
    with Collection.open(collection) as opened:
        return opened.catalog.count()["pages"]


Hanging = tuple[Moca, Path, "subprocess.Popen[str]"]


def test_ctrl_c_keeps_what_was_committed(hanging: Hanging, moca: Moca) -> None:
    small, folder, process = hanging
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130
    lines = [line for line in err.splitlines() if line.startswith("moca: ")]
    assert len(lines) == 1
    assert "Traceback" not in err
    complete = {name: pages for name, pages in small.pages().items() if name != "slow.pdf"}
    assert complete == moca.pages()
    (folder / "slow.pdf").unlink()
    report = small("index", folder, "--json").json
    assert (report["added"], report["changed"]) == (0, 0)
    assert small.pages() == moca.pages()
    assert out == ""


def test_a_second_writer_is_told_who_writes_and_readers_go_on(hanging: Hanging, moca: Moca) -> None:
    small, folder, process = hanging
    for command in (["index", folder], ["rm", "00.pdf"], ["compact"], ["verify", "--repair"], [*REBUILD, folder]):
        outcome = small(*command)
        assert outcome.code == 1
        assert f"process {process.pid}" in outcome.complaint, command
    assert sorted(small.hits("copper prices")) == sorted(moca.hits("copper prices"))
    assert process.poll() is None


def test_a_killed_run_leaves_no_process_and_loses_nothing(hanging: Hanging, moca: Moca) -> None:
    small, folder, process = hanging
    workers = children(process.pid)
    assert len(workers) == 2
    process.kill()
    process.wait()
    wait_until(lambda: not any(is_alive(worker) for worker in workers), seconds=5)
    (folder / "slow.pdf").unlink()
    assert small("index", folder).code == 0
    assert small.pages() == moca.pages()
    assert small("verify").code == 0
