"""Measures `moca index` against the model alone: what finding, drawing, storing and committing pages add to embedding them.

    python benchmarks/indexing.py FOLDER --model MODEL

Both see the same pages in one process. The model's time is that of `encode_pages` over the pages drawn beforehand.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from moca_rag.indexer.discover import find_scopes, make_plan
from moca_rag.indexer.pipeline import index_documents
from moca_rag.indexer.report import IndexSettings

from moca_rag.embedder import Embedder
from moca_rag.errors import DocumentError
from moca_rag.records import Pixels
from moca_rag.render import open_document


def draw_pages(folder: Path, embedder: Embedder) -> Iterator[Pixels]:
    """Every page that the indexer would draw, each picture once."""
    seen: set[bytes] = set()
    for candidate in make_plan(find_scopes([folder], None), None, prune=False, retry=lambda _: False).candidates:
        try:
            with closing(open_document(candidate.path)) as document:
                for number in range(1, document.info.num_pages + 1):
                    image = document.read_page(number, embedder.card.pixels).image
                    if image is not None and image.tobytes() not in seen:
                        seen.add(image.tobytes())
                        yield image
        except DocumentError:
            continue


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", required=True)
    options = parser.parse_args()
    embedder = Embedder.open(options.model)
    start = time.perf_counter()
    pages = list(draw_pages(options.folder, embedder))
    drawing = time.perf_counter() - start
    next(embedder.encode_pages(pages))
    start = time.perf_counter()
    for _ in embedder.encode_pages(pages):
        pass
    alone = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        settings = IndexSettings(passages=False)  # pictures against pictures
        report = index_documents([options.folder], Path(folder) / "collection", embedder, settings=settings)
        wall = time.perf_counter() - start
    stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in report.seconds.items())
    print(f"{len(pages)} pages drawn in {drawing:.1f} s by one process; the model alone {alone:.1f} s")
    print(
        f"moca index {wall:.1f} s ({stages}): {wall / alone:.2f} of the model's time, {len(pages) / wall:.2f} pages/s"
    )


if __name__ == "__main__":
    main()
