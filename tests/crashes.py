"""Stops runs of the indexer at every named step of every commit, and compares collections.

    python -m tests.crashes FOLDER...

Each folder is named like its scenario. For n = 1, 2, ... a forked process leaves by `os._exit` at the n-th step of it;
what it had done by then stays in a folder of its own.
"""

import itertools
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from moca_rag.indexer import pipeline
from moca_rag.indexer.pool import Answer, Limits, Request
from moca_rag.indexer.report import IndexReport, IndexSettings

from moca_rag import collection as collection_module
from moca_rag import upkeep
from moca_rag.collection import Collection
from moca_rag.errors import DocumentError
from moca_rag.records import Mode
from moca_rag.render import OpenDocument, open_document
from moca_rag.upkeep import compact_collection
from moca_rag.writer import CollectionWriter
from tests.makers import PAGE_WORDS, PixelEncoder, make_pdf, make_picture

QUERIES = ("ferry timber", "copper prices", "which pump needs oil", "rainfall", "closed for repairs", "solar panels")
STOPPED = 77
SETTINGS = IndexSettings(commit_pages=2, commit_seconds=1e9)


class InlinePool:
    """Reads pages in this process, in order: the render pool's answers without its processes."""

    def __init__(self, num_workers: int, limits: Limits, passwords: Iterable[str] = ()) -> None:
        pass

    def read(self, requests: Iterable[Request]) -> Iterator[Answer]:
        for request in requests:
            try:
                document = open_document(request.path)
                try:
                    answer = self._answer(document, request)
                finally:
                    document.close()
            except DocumentError as error:
                answer = Answer(request, error=error)
            yield answer

    @staticmethod
    def _answer(document: OpenDocument, request: Request) -> Answer:
        if request.page == 0:
            return Answer(request, info=document.info)
        content = document.read_page(request.page, request.pixels)
        key = None if content.image is None else PixelEncoder.key(content.image)
        return Answer(request, content=content, image_key=key)

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


def stop_everywhere(work: Path) -> None:
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
            run_scenario(work.name, folder)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == 0:
            return
        assert code == STOPPED, f"{work.name} died at step {number} with {code}"


# -- what is compared --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class State:
    """All that a person can see of a collection."""

    pages: list[tuple[str, int, int]]
    hits: dict[str, list[tuple[str, int, float]]]
    vectors: dict[tuple[str, int, str], np.ndarray]

    def assert_equal(self, other: "State") -> None:
        assert self.pages == other.pages
        assert self.hits == other.hits
        assert self.vectors.keys() == other.vectors.keys()
        for place, vector in self.vectors.items():
            same = other.vectors[place]
            cosine = vector @ same / np.linalg.norm(vector) / np.linalg.norm(same)
            assert cosine >= 0.9999, place


def hits_of(opened: Collection) -> dict[str, list[tuple[str, int, float]]]:
    return {q: [(hit.document, hit.page, round(hit.score, 5)) for hit in opened.search(q)] for q in QUERIES}


def look(path: Path) -> State:
    with Collection.open(path) as opened:
        if opened.fingerprint.model is not None:
            opened._encoder = PixelEncoder()
        names = {file.document_id: file.name for file in opened.catalog.files()}
        rows = opened.catalog.db.execute("SELECT page_id, document_id, number, num_words FROM pages").fetchall()
        pages = sorted((names[row[1]], row[2], row[3]) for row in rows if row[1] in names)
        query = "SELECT page_id, vector_id, hex(image_key) FROM page_vectors JOIN vectors USING (vector_id)"
        place = {row[0]: (names[row[1]], row[2]) for row in rows if row[1] in names}
        links = [row for row in opened.catalog.db.execute(query) if row[0] in place]
        vectors = {(*place[page], key): opened.shards().read(np.array([row]))[0] for page, row, key in links}
        return State(pages, hits_of(opened), vectors)


def committed_keys(path: Path) -> set[str]:
    with Collection.open(path) as opened:
        return {row[0].hex() for row in opened.catalog.db.execute("SELECT image_key FROM vectors")}


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        stop_everywhere(Path(argument))
