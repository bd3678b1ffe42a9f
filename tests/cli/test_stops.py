"""Full disks, forbidden folders, killed and competing processes: nothing committed is lost, the same command resumes."""

import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from moca_rag import catalog as catalog_module
from moca_rag.collection import Collection
from tests.faults import Moca, children, is_alive, run_apart, running, wait_until
from tests.makers import PAGE_WORDS, make_pdf, make_slow_pdf

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
    num_pages = len(PAGE_WORDS) * len(list(docs.iterdir()))
    moca = Moca(capsys, tmp_path / "hanging")
    options = ["--jobs", "2", "--set", "commit_pages=1", "-c", moca.collection]
    with running("index", folder, *options) as process:
        wait_until(lambda: count_pages(moca.collection) == num_pages or process.poll() is not None)
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
    for command in (
        ["index", folder],
        ["rm", "00.pdf"],
        ["compact"],
        ["verify", "--repair"],
        ["index", "--rebuild", folder],
    ):
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
