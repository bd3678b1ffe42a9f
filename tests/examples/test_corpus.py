"""The demo corpus: the same bytes on every run, and questions whose answers stand on the pages that qrels.tsv names."""

import collections
import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pymupdf
import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
VISUAL = {"table", "chart", "drawing"}
KINDS = VISUAL | {"printed", "paraphrase", "keywords", "scan", "language"}


def build_corpus(out_dir: Path, hash_seed: str) -> str:
    """Run the program as a person does, and hand out its summary line."""
    command = [sys.executable, "-m", "examples.corpus", str(out_dir)]
    env = {**os.environ, "PYTHONHASHSEED": hash_seed}
    return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout


def list_files(out_dir: Path) -> dict[str, Path]:
    return {path.relative_to(out_dir).as_posix(): path for path in sorted(out_dir.rglob("*")) if path.is_file()}


def split_runs(text: str, length: int = 4) -> set[tuple[str, ...]]:
    """All runs of that many words, case-folded and without punctuation."""
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of one build and the line that the program printed."""
    out_dir = tmp_path_factory.mktemp("corpus")
    return out_dir, build_corpus(out_dir, "1")


@pytest.fixture(scope="module")
def corpus(build: tuple[Path, str]) -> Path:
    return build[0]


@pytest.fixture(scope="module")
def pages(corpus: Path) -> dict[str, pymupdf.Page]:
    """Every page by its id: the document's path, `#`, and the number from 1."""
    docs = {name: pymupdf.open(path) for name, path in list_files(corpus).items()}
    return {f"{name}#{number}": page for name, doc in docs.items() for number, page in enumerate(doc, 1)}


@pytest.fixture(scope="module")
def queries() -> list[dict[str, str]]:
    return [json.loads(line) for line in (EXAMPLES / "queries.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def qrels() -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = collections.defaultdict(dict)
    with (EXAMPLES / "qrels.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            found[row["query-id"]][row["corpus-id"]] = int(row["score"])
    return found


def test_two_builds_are_equal_byte_for_byte(corpus: Path, tmp_path: Path) -> None:
    build_corpus(tmp_path, "2")
    first, second = list_files(corpus), list_files(tmp_path)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name].read_bytes() != second[name].read_bytes()] == []


def test_the_summary_line_counts_what_was_written(pages: dict[str, pymupdf.Page], build: tuple[Path, str]) -> None:
    documents = {name.split("#")[0] for name in pages}
    out_dir, summary = build
    assert summary == f"{len(documents)} documents with {len(pages)} pages in {out_dir}\n"
    assert len(documents) >= 16
    assert len(pages) >= 80


def test_every_page_has_ink(pages: dict[str, pymupdf.Page]) -> None:
    blank = [name for name, page in pages.items() if page.get_pixmap(dpi=20, colorspace=pymupdf.csGRAY).is_unicolor]
    assert blank == []


def test_no_word_leaves_its_page(pages: dict[str, pymupdf.Page]) -> None:
    outside = [
        (name, word[4])
        for name, page in pages.items()
        for word in page.get_text("words", clip=pymupdf.INFINITE_RECT())
        if not page.rect.contains(pymupdf.Rect(word[:4]) * page.rotation_matrix)
    ]
    assert outside == []


def test_scans_and_pictures_have_no_text_layer(pages: dict[str, pymupdf.Page]) -> None:
    scans = {name: page for name, page in pages.items() if name.startswith("scans/")}
    assert len(scans) >= 5
    assert all(page.get_text() == "" and page.get_images() for name, page in scans.items() if ".pdf#" in name)


def test_all_other_pages_have_a_text_layer(pages: dict[str, pymupdf.Page]) -> None:
    assert [name for name, page in pages.items() if not name.startswith("scans/") and not page.get_text().strip()] == []


def test_the_landscape_table_lies_on_a_rotated_page(pages: dict[str, pymupdf.Page]) -> None:
    (turned,) = [page for page in pages.values() if page.rotation]
    assert turned.rotation == 90
    assert turned.rect.width > turned.rect.height
    top_left = turned.search_for("Appendix")[0] * turned.rotation_matrix
    assert top_left.x0 < turned.rect.width / 4
    assert top_left.y0 < turned.rect.height / 4


def test_long_documents_have_a_title_and_an_outline(pages: dict[str, pymupdf.Page]) -> None:
    docs = {name.split("#")[0]: page.parent for name, page in pages.items() if ".pdf#" in name}
    assert [name for name, doc in docs.items() if not doc.metadata["title"]] == []
    reports = [doc for name, doc in docs.items() if name.startswith("reports/") and len(doc) > 3]
    assert len(reports) >= 4
    assert all(doc.get_toc() for doc in reports)


def test_there_are_sixty_questions_and_a_third_ask_for_what_is_drawn(queries: list[dict[str, str]]) -> None:
    kinds = collections.Counter(query["kind"] for query in queries)
    assert [query["_id"] for query in queries] == [f"q{number:02}" for number in range(1, 61)]
    assert set(kinds) == KINDS
    assert sum(kinds[kind] for kind in VISUAL) >= 20
    assert kinds["scan"] >= 4
    assert len({query["text"] for query in queries}) == 60


def test_five_questions_of_different_kinds_are_asked_in_the_demo(queries: list[dict[str, str]]) -> None:
    asked = [query["kind"] for query in queries if query.get("demo")]
    assert sorted(asked) == ["chart", "language", "paraphrase", "printed", "table"]


def test_every_question_has_pages_that_exist(
    queries: list[dict[str, str]], qrels: dict[str, dict[str, int]], pages: dict[str, pymupdf.Page]
) -> None:
    assert set(qrels) == {query["_id"] for query in queries}
    named = {name for relevant in qrels.values() for name in relevant}
    assert named <= set(pages)
    assert {score for relevant in qrels.values() for score in relevant.values()} <= {1, 2}


def test_scan_questions_are_answered_by_pages_without_text(
    queries: list[dict[str, str]], qrels: dict[str, dict[str, int]]
) -> None:
    scans = [query["_id"] for query in queries if query["kind"] == "scan"]
    assert all(name.startswith("scans/") for query_id in scans for name in qrels[query_id])


def test_no_question_shares_four_words_in_a_row_with_its_pages(
    queries: list[dict[str, str]], qrels: dict[str, dict[str, int]], pages: dict[str, pymupdf.Page]
) -> None:
    shared = [
        (query["_id"], name, run)
        for query in queries
        for name in qrels[query["_id"]]
        for run in split_runs(query["text"]) & split_runs(pages[name].get_text())
    ]
    assert shared == []


@pytest.mark.parametrize("module", ["canvas", "charts", "markup"])
def test_the_examples_in_docstrings_hold(module: str) -> None:
    program = f"import doctest, examples.{module} as module; result = doctest.testmod(module); print(result.attempted, result.failed)"
    output = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    attempted, failed = map(int, output.splitlines()[-1].split())
    assert attempted > 0
    assert failed == 0, output
