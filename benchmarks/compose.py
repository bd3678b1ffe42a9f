"""Measures how many pages, scans and crops a second are composed, by one core and by several processes.

    python benchmarks/compose.py FONTS [--documents documents-train.jsonl.gz] [--processes 4] [--seconds 20]

FONTS is a folder of .ttf and .otf files. Without documents the demo corpus's texts are composed. Each process opens the
fonts itself; its first second is not counted: that is when letters are drawn for the first time. One core's
figure counts the processor's time, so that it holds on a machine that has other work to do.
"""

import argparse
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from moca_rag.train.canvas import ComposedPage
from moca_rag.train.compose import compose_crop, compose_page
from moca_rag.train.documents import Block, read_documents
from moca_rag.train.faces import Faces
from moca_rag.train.scanning import scan_page

TEXTS = Path(__file__).resolve().parents[1] / "examples" / "texts"
MOST_DOCUMENTS = 300
WARM_UP = 1.0
CROP_WORDS = 600
KINDS = ("page", "scan", "crop")


def read_pages(documents: Path | None) -> list[list[Block]]:
    """The blocks of many pages."""
    if documents is not None:
        return [
            list(page.blocks)
            for document in islice(read_documents(documents), MOST_DOCUMENTS)
            for page in document.pages
        ]
    return [
        [Block("heading" if part.startswith("#") else "paragraph", part.strip("# ")) for part in text.split("\n\n")]
        for text in (path.read_text(encoding="utf-8") for path in sorted(TEXTS.glob("*.md")))
    ]


def make_composer(kind: str, pages: list[list[Block]], faces: Faces) -> Callable[[int], ComposedPage]:
    """Seed in, page out."""
    words = [word for blocks in pages for block in blocks for word in block.text.split()]

    def compose(seed: int) -> ComposedPage:
        rng = np.random.default_rng(seed)
        if kind == "crop":
            start = int(rng.integers(max(1, len(words) - CROP_WORDS)))
            return compose_crop(words[start : start + CROP_WORDS], faces, rng)
        page = compose_page(pages[int(rng.integers(len(pages)))], faces, rng)
        return scan_page(page, rng) if kind == "scan" else page

    return compose


def measure(kind: str, fonts: Path, documents: Path | None, process: int, seconds: float) -> tuple[float, float, float]:
    """Pictures a second, pictures a second of the processor's time, and words on a picture."""
    compose = make_composer(kind, read_pages(documents), Faces.open(fonts))
    seed = 1_000_000 * process
    start = time.perf_counter()
    while time.perf_counter() < start + WARM_UP:
        compose(seed := seed + 1)
    pictures, words, start, cpu_start = 0, 0, time.perf_counter(), time.process_time()
    while time.perf_counter() < start + seconds:
        words += len(compose(seed := seed + 1).words)
        pictures += 1
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    return pictures / wall, pictures / cpu, words / max(pictures, 1)


def main() -> None:
    """Measure and print one line a kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("--documents", type=Path)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    print(f"{'':<6}{'one core':>14}{f'{options.processes} processes':>16}{'words each':>13}   (pictures a second)")
    given = (options.fonts, options.documents)
    for kind in KINDS:
        _, alone, words = measure(kind, *given, 0, options.seconds)
        with ProcessPoolExecutor(options.processes, mp_context=get_context("spawn")) as pool:
            futures = [
                pool.submit(measure, kind, *given, number, options.seconds) for number in range(options.processes)
            ]
            together = sum(future.result()[0] for future in futures)
        print(f"{kind:<6}{alone:>14.1f}{together:>16.1f}{words:>13.0f}")


if __name__ == "__main__":
    main()
