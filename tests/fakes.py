"""A model whose embeddings can be predicted by hand, and documents to embed: all that it understands are colours."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pymupdf

from moca_rag.records import Explanation, Floats, ModelCard, Part, PixelBudget, Pixels, Query

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0), "white": (1.0, 1.0, 1.0)}
SHADES = {"scarlet": "red", "emerald": "green", "azure": "blue"}  # other words of the same meaning
CELL = 28
SMALL = PixelBudget(28 * 28 * 4, 28 * 28 * 16)


class ColourEncoder:
    """Embeds a page as the share of red, green and blue ink on it, and a text as the colours that it names."""

    def __init__(self, revision: str = "1") -> None:
        self.card = ModelCard("colours", revision, 4, "mean", "", "", SMALL)
        self.num_pages = 0
        self.num_passages = 0

    def encode_queries(self, queries: Sequence[Query]) -> Floats:
        """Unit embeddings [N, 4]."""
        return np.stack([self._embed_query(query) for query in queries])

    def encode_pages(self, parts: Iterable[Part]) -> Iterator[Floats]:
        """One unit embedding [4] a page or passage, two at a time."""
        batch: list[Part] = []
        for part in parts:
            batch.append(part)
            if len(batch) == 2:
                yield from map(self._embed_part, batch)
                batch = []
        yield from map(self._embed_part, batch)

    def explain(self, query: Query, image: Pixels) -> Explanation:
        """A cell's share is what its ink adds to the mean colour; the constant fourth number is the remainder."""
        asked = self._embed_query(query)
        rows, columns = image.shape[0] // CELL, image.shape[1] // CELL
        flat = image.astype(np.float64) / 255
        inked = flat.max(2) - flat.min(2) > 0.5
        ink = (flat * inked[..., None] / max(inked.sum(), 1)) @ asked[:3]
        length = np.linalg.norm([*(flat[inked].mean(0) if inked.any() else (0.0, 0.0, 0.0)), 0.1])
        shares = (ink.reshape(rows, CELL, columns, CELL).sum((1, 3)) / length).astype(np.float32)
        return Explanation(float(asked @ embed_colours(image)), shares, float(asked[3] * 0.1 / length))

    def _embed_query(self, query: Query) -> Floats:
        if query.image is not None:
            return embed_colours(query.image)
        return embed_meaning(query.text)

    def _embed_part(self, part: Part) -> Floats:
        if isinstance(part, str):
            self.num_passages += 1
            return embed_meaning(part)
        self.num_pages += 1
        return embed_colours(part)


class HalvesEncoder(ColourEncoder):
    """Sees the upper and the lower half of a page by themselves; two halves alike are one region."""

    def __init__(self) -> None:
        super().__init__()
        self.card = replace(self.card, regions=2)

    def encode_pages(self, parts: Iterable[Part]) -> Iterator[Floats]:
        """Unit embeddings [1 or 2, 4] of a page, or one [4] of a passage."""
        for part in parts:
            if isinstance(part, str):
                yield self._embed_part(part)
                continue
            self.num_pages += 1
            rows = np.stack([embed_colours(half) for half in np.array_split(part, 2)])
            yield rows[:1] if np.allclose(rows[0], rows[1]) else rows


def embed_meaning(text: str) -> Floats:
    """The sum of the colours that a text names, by whatever word."""
    words = [SHADES.get(word, word) for word in text.lower().split()]
    named = [COLOURS[word] for word in words if word in COLOURS]
    return unit([*np.sum(named, axis=0), 0.1]) if named else unit([0.1, 0.1, 0.1, 1.0])


def embed_colours(image: Pixels) -> Floats:
    """The colour of a page's ink: the mean of its coloured pixels."""
    flat = image.reshape(-1, 3).astype(np.float64) / 255
    inked = flat[flat.max(1) - flat.min(1) > 0.5]
    return unit([*(inked.mean(0) if len(inked) else (0.0, 0.0, 0.0)), 0.1])


def unit(numbers: Sequence[float]) -> Floats:
    """The numbers as a unit vector."""
    vector = np.asarray(numbers, np.float32)
    return vector / np.float32(np.linalg.norm(vector))


def write_pdf(
    path: Path, pages: Sequence[str], *, title: str = "", outline: Sequence[tuple[int, str, int]] = ()
) -> Path:
    """A PDF with a page for each text; a text that begins with a colour and a colon has a square of that colour."""
    document = pymupdf.open()
    for text in pages:
        page = document.new_page(width=420, height=595)
        colour, sign, rest = text.partition(":")
        if sign and colour in COLOURS:
            page.draw_rect((60, 300, 360, 540), color=COLOURS[colour], fill=COLOURS[colour])
            text = rest.strip()
        page.insert_textbox((40, 40, 380, 280), text, fontsize=11)
    document.set_metadata({"title": title} if title else {})
    if outline:
        document.set_toc([list(entry) for entry in outline])
    path.parent.mkdir(parents=True, exist_ok=True)
    document.save(path)
    document.close()
    return path
