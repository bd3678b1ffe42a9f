"""Documents and words that are wrong: each is one clear line and a code, and costs nothing else."""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import Moca, age, run_apart
from tests.makers import (
    PAGE_WORDS,
    PixelEncoder,
    make_huge_image_pdf,
    make_hungry_pdf,
    make_pdf,
    make_picture,
    make_raw_pdf,
    make_slow_pdf,
)


@pytest.fixture
def moca(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Moca:
    return Moca(capsys, tmp_path / "collection")


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    """One good document; tests put the bad ones beside it."""
    folder = tmp_path / "docs"
    make_pdf(folder / "good.pdf", PAGE_WORDS[:2])
    return folder


# -- documents that cannot be read -------------------------------------------------------------------------------------


def write_broken(path: Path) -> None:
    path.write_bytes(b"%PDF-1.7\n" + b"\x80nothing\n" * 400)


def write_truncated(path: Path) -> None:
    make_pdf(path, PAGE_WORDS[:3])
    os.truncate(path, 200)


def write_text(path: Path) -> None:
    path.write_text("Dear reader, this is a letter and no PDF.\n" * 50)


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "broken": (write_broken, "broken"),
    "truncated": (write_truncated, "broken"),
    "empty": (lambda path: path.write_bytes(b""), "empty_file"),
    "zero_pages": (lambda path: make_raw_pdf(path, kids="[]"), "no_pages"),
    "no_pdf": (write_text, "not_a_document"),
    "broken_picture": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40)), "broken"),
    "locked": (lambda path: make_pdf(path, ["secret"], password="sesame"), "password_required"),
}


def test_bad_files_are_recorded_with_reason_and_code_and_the_run_goes_on(moca: Moca, docs: Path) -> None:
    for name, (write, _) in BAD_FILES.items():
        write(docs / f"{name}.pdf")
    outcome = moca("index", docs, "--json")
    assert outcome.code == 3
    codes = outcome.codes
    assert codes.keys() == {f"{name}.pdf" for name in BAD_FILES}
    assert {name: codes[f"{name}.pdf"] for name in BAD_FILES} == {name: code for name, (_, code) in BAD_FILES.items()}
    assert all(row["reason"] for row in outcome.json["failed"])
    assert moca.pages() == {"good.pdf": 2}
    status = moca("status", "--json").json
    assert {row["path"]: row["code"] for row in status["failed"]} == codes
    again = moca("index", docs, "--json")
    assert (again.code, again.codes) == (3, codes)


def test_a_page_that_hangs_is_given_up_and_the_others_are_read(moca: Moca, docs: Path) -> None:
    make_slow_pdf(docs / "slow.pdf")
    began = time.monotonic()
    outcome = moca("index", docs, "--json", "--set", "page_timeout_s=3")
    assert (outcome.code, outcome.codes) == (3, {"slow.pdf": "page_timeout"})
    assert time.monotonic() - began < 20
    assert moca.pages() == {"good.pdf": 2}


def test_a_page_that_eats_memory_is_given_up_and_the_others_are_read(moca: Moca, docs: Path) -> None:
    hungry = make_hungry_pdf(docs / "a1.pdf").read_bytes()
    for number in range(1, 5):
        (docs / f"a{number}.pdf").write_bytes(hungry + b"%% %d\n" % number)  # the reader's next page is a good one
        make_pdf(docs / f"b{number}.pdf", [f"{PAGE_WORDS[number]} {number}"])
    options = ["--jobs", "1", "--set", "page_memory_mb=128"]
    outcome = moca("index", docs, "--json", *options)
    assert (outcome.code, outcome.codes) == (3, {f"a{number}.pdf": "page_memory" for number in range(1, 5)})
    assert moca.pages() == {"good.pdf": 2} | {f"b{number}.pdf": 1 for number in range(1, 5)}


def test_a_picture_that_claims_ten_gigabytes_takes_no_such_memory(
    moca: Moca, docs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("moca_rag.deferred.DeferredEmbedder", PixelEncoder)
    make_huge_image_pdf(docs / "huge.pdf")
    outcome = moca("index", docs, "--json", "--model", "pixels", "--set", "page_memory_mb=256")
    assert outcome.code in (0, 3)
    assert set(outcome.codes.values()) <= {"page_memory", "page_crashed", "page_broken"}
    assert moca.pages()["good.pdf"] == 2


@pytest.mark.parametrize("box", ["0 0 0 0", "0 0 1000000 1000000", "0 0 1 1000000", "0 0 -50 -50", "0 0 1e-9 1e-9"])
@pytest.mark.parametrize("mode", ["text", "hybrid"])
def test_a_page_of_absurd_size_is_clamped_or_recorded(
    moca: Moca, docs: Path, monkeypatch: pytest.MonkeyPatch, box: str, mode: str
) -> None:
    monkeypatch.setattr("moca_rag.deferred.DeferredEmbedder", PixelEncoder)
    make_raw_pdf(docs / "odd.pdf", b"0 0 m 100 100 l S", media_box=box)
    options = ["--set", "page_memory_mb=256", "--json", "--model", "pixels", "--mode", mode]
    outcome = moca("index", docs, *options)
    assert outcome.code in (0, 3)
    assert moca.pages().get("odd.pdf") == 1 or set(outcome.codes) == {"odd.pdf"}
    assert moca.pages()["good.pdf"] == 2


def test_a_locked_pdf_opens_with_its_password_only(moca: Moca, docs: Path) -> None:
    make_pdf(docs / "locked.pdf", ["The secret recipe of the bakery"], password="sesame")
    age(docs)
    assert moca("index", docs, "--json").codes == {"locked.pdf": "password_required"}
    wrong = moca("index", docs, "--json", "--password", "simsim")
    assert (wrong.code, wrong.codes) == (3, {"locked.pdf": "password_wrong"})
    right = moca("index", docs, "--json", "--password", "simsim", "--password", "sesame")
    assert (right.code, right.codes) == (0, {})
    assert moca.hits("recipe") == [("locked.pdf", 1)]
    assert moca("index", docs).code == 0


def test_a_reader_that_starts_slowly_takes_none_of_a_pages_time(moca: Moca, docs: Path, tmp_path: Path) -> None:
    slow_start = "import sys, time\nif 'moca_rag.indexer.worker' in sys.orig_argv: time.sleep(2)\n"
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(slow_start)
    options = ["-c", moca.collection, "--json", "--set", "page_timeout_s=1"]
    search_path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    outcome = run_apart("index", docs, *options, PYTHONPATH=search_path)
    assert (outcome.code, outcome.codes) == (0, {})


# -- folders and names -------------------------------------------------------------------------------------------------


def test_loops_of_links_end_and_hidden_files_are_left_out(moca: Moca, docs: Path) -> None:
    (docs / "loop").symlink_to(docs, target_is_directory=True)
    (docs / "self").symlink_to(docs / "self")
    (docs / "dead.pdf").symlink_to(docs / "nowhere.pdf")
    make_pdf(docs / ".hidden.pdf", ["hidden"])
    make_pdf(docs / ".trash" / "old.pdf", ["hidden"])
    outcome = moca("index", docs, "--json")
    assert set(outcome.codes) <= {"dead.pdf"}
    assert moca.pages() == {"good.pdf": 2}


def test_equal_bytes_are_one_document_that_knows_both_paths(moca: Moca, docs: Path) -> None:
    (docs / "copies").mkdir()
    shutil.copy(docs / "good.pdf", docs / "copies" / "same.pdf")
    report = moca("index", docs, "--json").json
    assert (report["documents"], report["pages"]) == (1, 2)
    assert moca.pages() == {"good.pdf": 2, "copies/same.pdf": 2}
    (docs / "good.pdf").unlink()
    moca("index", docs, "--json")
    assert moca.pages() == {"copies/same.pdf": 2}


def test_a_deleted_file_leaves_and_a_vanished_half_stays_until_prune(moca: Moca, docs: Path) -> None:
    for number in range(1, 5):
        make_pdf(docs / f"{number}.pdf", [PAGE_WORDS[number]])
    moca("index", docs)
    (docs / "1.pdf").unlink()
    report = moca("index", docs, "--json").json
    assert (report["removed"], len(moca.pages())) == (1, 4)
    for number in range(2, 5):
        (docs / f"{number}.pdf").unlink()
    kept = moca("index", docs, "--json")
    assert kept.code == 0
    assert kept.json["kept"]
    assert len(moca.pages()) == 4
    assert moca("index", docs, "--prune", "--json").json["removed"] == 3
    assert moca.pages() == {"good.pdf": 2}


def test_a_folder_that_cannot_be_reached_keeps_its_pages(moca: Moca, docs: Path) -> None:
    make_pdf(docs / "deep" / "below.pdf", PAGE_WORDS[4:5])
    for number in range(3):
        make_pdf(docs / f"{number}.pdf", PAGE_WORDS[number : number + 1])
    moca("index", docs)
    before = moca.pages()
    (docs / "deep").chmod(0)
    outcome = run_apart("index", docs, "-c", moca.collection, "--json", humble=True)
    (docs / "deep").chmod(0o755)
    assert outcome.json["removed"] == 0
    assert moca.pages() == before
    docs.rename(docs.with_name("elsewhere"))
    for paths in ([], [docs]):
        assert moca("index", *paths, "--json").json["removed"] == 0
        assert moca.pages() == before


def test_a_file_without_permission_is_recorded(moca: Moca, docs: Path) -> None:
    make_pdf(docs / "private.pdf", ["private"]).chmod(0)
    outcome = run_apart("index", docs, "-c", moca.collection, "--json", humble=True)
    assert (outcome.code, outcome.codes) == (3, {"private.pdf": "unreadable"})
    (docs / "private.pdf").chmod(0o644)
    assert moca("index", docs, "--json").code == 0


def test_an_unchanged_file_is_not_read_again(moca: Moca, docs: Path) -> None:
    age(docs)
    moca("index", docs)
    path = docs / "good.pdf"
    stat = path.stat()
    path.write_bytes(b"x" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert moca("index", docs, "--json").json["unchanged"] == 1
    os.utime(path)
    assert moca("index", docs, "--json").codes.keys() == {"good.pdf"}


def test_a_picture_named_pdf_is_read_as_a_picture(moca: Moca, docs: Path) -> None:
    make_picture(docs / "scan.pdf")
    assert moca("index", docs, "--json").code == 0
    assert moca.pages() == {"good.pdf": 2, "scan.pdf": 1}


def test_names_of_any_script_are_kept_and_names_that_are_no_text_are_recorded(moca: Moca, docs: Path) -> None:
    names = ["Größe – 東京 🚲.pdf", "two\nlines.pdf", "[bold]loud[/].pdf", "a#1.pdf", "-k.pdf", "spa ce.PDF"]
    for number, name in enumerate(names):
        make_pdf(docs / name, [f"{PAGE_WORDS[3]} {number}"])
    shutil.copy(docs / "good.pdf", os.fsencode(docs) + b"/caf\xe9.pdf")  # type: ignore[type-var]
    outcome = moca("index", docs, "--json")
    assert outcome.code == 3
    assert list(outcome.codes.values()) == ["bad_name"]
    assert set(moca.pages()) == {"good.pdf", *names}
    assert set(moca.hits("rainfall valley")) == {(name, 1) for name in names}
    assert moca("search", "rainfall").code == moca("status").code == moca("ls").code == 0
    assert moca("show", f"{names[0]}#1", "-o", docs.parent / "page.png").code == 0


def test_a_folder_named_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    docs = tmp_path / "[/red]" / "docs"
    moca = Moca(capsys, tmp_path / "[/red]" / "collection")
    make_pdf(docs / "good.pdf", PAGE_WORDS[:1])
    assert moca("index", docs).code == 0
    (docs / "good.pdf").unlink()
    assert moca("index", docs).code == 0
    for outcome in (moca("status"), moca("ls"), moca("search", "ferry"), moca("verify")):
        assert outcome.code == 0
        assert "Traceback" not in outcome.err
