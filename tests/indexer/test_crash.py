"""A run that is stopped at any step of any commit goes on where it was, to the very collection of a run that was not.

    python -m tests.indexer.test_crash SCENARIO FOLDER

is how the tests below stop runs: for n = 1, 2, ... a forked process leaves by `os._exit` at the n-th named step of the
scenario, and its collection is kept for a look.
"""

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import pytest

from moca_rag import collection as collection_module
from moca_rag import upkeep
from moca_rag.collection import Collection
from moca_rag.errors import CollectionError, DocumentError
from moca_rag.indexer import pipeline, rebuild
from moca_rag.indexer.pool import Answer, Limits, Request
from moca_rag.indexer.report import IndexReport, IndexSettings
from moca_rag.records import Mode
from moca_rag.render import open_document
from moca_rag.upkeep import compact_collection, verify_collection
from moca_rag.writer import CollectionWriter
from tests.makers import PAGE_WORDS, PixelEncoder, make_pdf, make_picture

STEPS = ("begun", "vectors", "pages", "written", "committed")
SCENARIOS = ("text", "vision", "hybrid", "update", "compact")
QUERIES = ("ferry timber", "copper prices", "which pump needs oil", "rainfall", "closed for repairs", "solar panels")
STOPPED = 77
ROOT = Path(__file__).parents[2]
SETTINGS = IndexSettings(commit_pages=2, commit_seconds=1e9)


class InlinePool:
    """Reads pages in this process, in order: the render pool's answers without its processes."""

    def __init__(self, num_workers: int, limits: Limits, passwords: Iterable[str] = ()) -> None:
        self.requests: list[Request] = []

    def read(self, requests: Iterable[Request]) -> Iterator[Answer]:
        for request in requests:
            self.requests.append(request)
            try:
                document = open_document(request.path)
                if request.page == 0:
                    yield Answer(request, info=document.info)
                else:
                    content = document.read_page(request.page, request.pixels)
                    key = None if content.image is None else PixelEncoder.key(content.image)
                    yield Answer(request, content=content, image_key=key)
                document.close()
            except DocumentError as error:
                yield Answer(request, error=error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


# -- what is stopped ---------------------------------------------------------------------------------------------------


def make_documents(folder: Path) -> Path:
    make_pdf(folder / "a.pdf", PAGE_WORDS[:3], title="Harbours")
    make_pdf(folder / "deep" / "b.pdf", [*PAGE_WORDS[3:6], PAGE_WORDS[0]])  # its last page looks like a's first
    make_picture(folder / "c.png")
    shutil.copy(folder / "a.pdf", folder / "twin.pdf")
    return folder


def change_documents(folder: Path) -> Path:
    make_pdf(folder / "a.pdf", [PAGE_WORDS[6], PAGE_WORDS[1], PAGE_WORDS[7]], title="Changed")
    (folder / "twin.pdf").unlink()
    (folder / "c.png").unlink()
    make_pdf(folder / "new.pdf", PAGE_WORDS[6:8])
    return folder


def index(folder: Path, mode: Mode, log: Path | None = None, docs: str = "docs") -> IndexReport:
    """Bring the collection in the folder up to date with the documents in it."""
    encoder = None if mode == "text" else PixelEncoder(log=log)
    paths = [folder.parent / docs]
    return pipeline.index_documents(paths, folder / "collection", encoder, mode=mode, settings=SETTINGS)


def run_scenario(scenario: str, folder: Path) -> None:
    if scenario == "compact":
        compact_collection(folder / "collection")
    else:
        index(folder, mode_of(scenario), folder / "before.log")


def mode_of(scenario: str) -> Mode:
    return {"text": "text", "vision": "vision"}.get(scenario, "hybrid")  # type: ignore[return-value]


def watch_steps(on_step: Callable[[str], None], patch: Callable[[Any, str, Any], None]) -> None:
    """Have every writer call `on_step`, and compaction also where it copies vectors and deletes old shards."""
    patch(collection_module, "CollectionWriter", partial(CollectionWriter, on_step=on_step))
    patch(pipeline, "RenderPool", InlinePool)
    delete = upkeep.delete_generation

    def delete_after(*arguments: Any) -> int:
        on_step("copied over")
        freed = delete(*arguments)
        on_step("deleted")
        return freed

    patch(upkeep, "delete_generation", delete_after)


def stop_everywhere(scenario: str, work: Path) -> None:
    """Stop the scenario at each of its steps, each time in a process and a folder of its own below `work`."""
    for number in itertools.count(1):
        folder = work / f"{number:03}"
        if (work / "start").exists():
            shutil.copytree(work / "start", folder)
        else:
            folder.mkdir()
        child = os.fork()
        if child == 0:
            left = itertools.count(1)

            def stop(step: str, folder: Path = folder, number: int = number, left: Any = left) -> None:
                if next(left) == number:
                    (folder / "step").write_text(step)
                    os._exit(STOPPED)

            watch_steps(stop, setattr)
            run_scenario(scenario, folder)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            return
        assert code == STOPPED, f"{scenario} died at step {number} with {code}"


# -- what is compared --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """All that a person can see of a collection."""

    pages: list[tuple[str, int, int]]
    hits: dict[str, list[tuple[str, int, float]]]
    vectors: dict[tuple[str, int], np.ndarray]

    def assert_equal(self, other: "State") -> None:
        assert self.pages == other.pages
        assert self.hits == other.hits
        assert self.vectors.keys() == other.vectors.keys()
        for page, vector in self.vectors.items():
            same = other.vectors[page]
            cosine = vector @ same / np.linalg.norm(vector) / np.linalg.norm(same)
            assert cosine >= 0.9999, page


def hits_of(opened: Collection) -> dict[str, list[tuple[str, int, float]]]:
    return {q: [(hit.document, hit.page, round(hit.score, 5)) for hit in opened.search(q)] for q in QUERIES}


def look(path: Path) -> State:
    with Collection.open(path) as opened:
        if opened.fingerprint.model is not None:
            opened._encoder = PixelEncoder()
        names = {file.document_id: file.name for file in opened.catalog.files()}
        rows = opened.catalog.db.execute("SELECT page_id, document_id, number, num_words FROM pages").fetchall()
        pages = sorted((names[row[1]], row[2], row[3]) for row in rows if row[1] in names)
        links = opened.catalog.db.execute("SELECT page_id, vector_id FROM page_vectors").fetchall()
        place = {row[0]: (names[row[1]], row[2]) for row in rows if row[1] in names}
        vectors = {place[page]: opened.shards().read(np.array([row]))[0] for page, row in links if page in place}
        return State(pages, hits_of(opened), vectors)


def committed_keys(path: Path) -> set[str]:
    with Collection.open(path) as opened:
        return {row[0].hex() for row in opened.catalog.db.execute("SELECT image_key FROM vectors")}


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The steps that the runs of this process have passed."""
    passed: list[str] = []
    watch_steps(passed.append, monkeypatch.setattr)
    return passed


@dataclass(frozen=True)
class Stopped:
    """A scenario stopped everywhere: its work folder, the collection before it, and after it ran to its end."""

    work: Path
    before: State | None
    after: State
    folders: list[Path]
    steps: list[str]

    def at(self, step: str) -> list[Path]:
        return [folder for folder in self.folders if (folder / "step").read_text() == step]


_stopped: dict[str, Stopped] = {}


@pytest.fixture
def stopped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, steps: list[str]) -> Stopped:
    scenario: str = request.param
    if scenario not in _stopped:
        _stopped[scenario] = prepare(scenario, tmp_path_factory.mktemp(scenario), steps)
    return _stopped[scenario]


def prepare(scenario: str, work: Path, steps: list[str]) -> Stopped:
    """Make what the scenario begins with, run it to its end once, then stop it everywhere."""
    make_documents(work / "docs")
    before = None
    if scenario in ("update", "compact"):
        index(work / "start", "hybrid")
        change_documents(work / "docs")
        if scenario == "compact":
            index(work / "start", "hybrid")
        before = look(work / "start" / "collection")
        shutil.copytree(work / "start", work / "whole")
    steps.clear()
    run_scenario(scenario, work / "whole")
    passed = list(steps)
    after = look(work / "whole" / "collection")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}  # one thread: fork is safe
    command = [sys.executable, "-m", "tests.indexer.test_crash", scenario, str(work)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    folders = sorted(folder for folder in work.iterdir() if (folder / "step").exists())
    assert [(folder / "step").read_text() for folder in folders] == passed
    return Stopped(work, before, after, folders, passed)


each_scenario = pytest.mark.parametrize("stopped", SCENARIOS, indirect=True)
each_run = pytest.mark.parametrize("stopped", SCENARIOS[:-1], indirect=True)


# -- stopped at every step ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stopped", ["text", "hybrid"], indirect=True)
def test_a_run_passes_every_step_that_a_commit_has(stopped: Stopped) -> None:
    # one commit at the beginning, one for each of 3 documents, one for each 2 of 8 pages, one at the end
    assert Counter(stopped.steps) == {"begun": 9, "vectors": 4, "pages": 4, "written": 9, "committed": 9}


@each_run
@pytest.mark.parametrize("step", STEPS)
def test_a_run_stopped_at_a_step_ends_as_if_it_had_not_been(stopped: Stopped, step: str) -> None:
    mode = mode_of(stopped.work.name.rstrip("0123456789"))
    folders = stopped.at(step)
    assert folders
    for folder in folders:
        path = folder / "collection"
        known = committed_keys(path)
        index(folder, mode, folder / "after.log")
        look(path).assert_equal(stopped.after)
        assert not verify_collection(path).problems
        again = lines(folder / "after.log")
        assert not known & set(again), f"embedded twice: {folder}"
        assert len(again) == len(set(again))


@each_run
def test_what_is_seen_after_a_stop_is_sound_and_never_half_a_change(stopped: Stopped) -> None:
    after = set(stopped.after.pages)
    before = set(stopped.before.pages) if stopped.before else set()
    for folder in stopped.folders:
        copy = shutil.copytree(folder / "collection", folder / "copy")
        assert not verify_collection(copy).problems
        pages = set(look(copy).pages)
        assert pages <= after | before
        if stopped.before:
            seen = {page for page in pages if page[0] == "a.pdf"}
            assert seen in ({p for p in before if p[0] == "a.pdf"}, {p for p in after if p[0] == "a.pdf"}), folder
            assert {page for page in pages if page[0] == "deep/b.pdf"} == {p for p in after if p[0] == "deep/b.pdf"}


@pytest.mark.parametrize("stopped", ["compact"], indirect=True)
def test_compaction_stopped_anywhere_leaves_all_answers_and_can_be_done_again(stopped: Stopped) -> None:
    assert {"begun", "written", "committed", "copied over", "deleted"} == set(stopped.steps)
    assert stopped.before is not None
    stopped.after.assert_equal(stopped.before)
    for folder in stopped.folders:
        path = folder / "collection"
        look(path).assert_equal(stopped.after)
        assert not verify_collection(path).problems
        compact_collection(path)
        look(path).assert_equal(stopped.after)
        with Collection.open(path) as opened:
            assert opened.catalog.count()["dead_vectors"] == 0
            generations = {file.name.split("-")[0] for file in (path / "vectors").iterdir()}
            assert generations == {f"{opened.catalog.generation:04d}"}


if __name__ == "__main__":
    stop_everywhere(sys.argv[1], Path(sys.argv[2]))
