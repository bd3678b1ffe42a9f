"""Made-up labels, numbers and tables: the words are a page's own, in the order of its text, the numbers drawn at random."""

from collections.abc import Callable, Sequence

import numpy as np

from .documents import Block
from .faces import draw_item

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SIGNS = ("%", "", "", " kg", " km", " ms", " MB", "k")
MONEY = ("$", "€", "£")
LETTERS = "ABCDEFHKLMNPRSTX"
SHORTEST_WORD = 4
EDGES = ".,;:!?()[]{}\"'`“”‘’<>=*/\\|"


class Invention:
    """Draws from the words of some blocks, and from a generator."""

    def __init__(self, blocks: Sequence[Block], rng: np.random.Generator) -> None:
        stripped = (word.strip(EDGES) for block in blocks for word in block.text.split())
        self.words = [word for word in stripped if len(word) >= SHORTEST_WORD and word.isalpha()]
        self.rng = rng

    def label(self, most: int = 3) -> str:
        """One to `most` words that follow one another in the text, the first with a capital; none where it has none."""
        if not self.words:
            return ""
        start, length = int(self.rng.integers(len(self.words))), int(self.rng.integers(1, most + 1))
        label = " ".join(self.words[start : start + length])
        return label[0].upper() + label[1:]

    def labels(self, count: int, most: int = 2) -> list[str]:
        """Different labels, as many as there are up to `count`."""
        return list(dict.fromkeys(self.label(most) for _ in range(3 * count) if self.words))[:count]

    def series(self, count: int) -> list[str]:
        """What stands below an axis: years, months, quarters or labels."""
        kind = int(self.rng.integers(4))
        if kind == 0:
            first = int(self.rng.integers(1950, 2025 - count))
            return [str(first + number) for number in range(count)]
        if kind == 1 and count <= len(MONTHS):
            first = int(self.rng.integers(12))
            return [MONTHS[(first + number) % 12] for number in range(count)]
        if kind == 2:
            year = int(self.rng.integers(1990, 2025))
            return [f"Q{number % 4 + 1} {year + number // 4}" for number in range(count)]
        return self.labels(count, 1)

    def number(self) -> str:
        """A number as it is printed somewhere on a page."""
        return self._number_maker()()

    def value(self) -> str:
        """What somebody filled into a form."""
        rng = self.rng
        kind = int(rng.integers(6))
        if kind == 0:
            return f"{rng.integers(1, 29):02d}/{rng.integers(1, 13):02d}/{rng.integers(1950, 2026)}"
        if kind == 1:
            return f"{draw_item(rng, LETTERS)}{draw_item(rng, LETTERS)}-{rng.integers(1000, 99999)}"
        if kind == 2:
            return self.number()
        return self.label(4)

    def caption(self, kind: str) -> Block:
        """`Figure 3: a few words`."""
        mark = draw_item(self.rng, (":", ".", ""))
        number = draw_item(
            self.rng, (f"{self.rng.integers(1, 30)}", f"{self.rng.integers(1, 9)}.{self.rng.integers(1, 20)}")
        )
        return Block("caption", f"{kind} {number}{mark} {self.label(9)}")

    def table(self) -> Block:
        """A head, and rows of a label and figures; each column writes its figures in one way."""
        rng = self.rng
        num_rows, num_columns = int(rng.integers(2, 15)), int(rng.integers(1, 7))
        makers = [self._column_maker() for _ in range(num_columns)]
        heads = self.series(num_columns) if rng.random() < 0.4 else [self.label(2) for _ in makers]
        rows = ["\t".join([self.label(1), *heads])]
        for name in self.labels(num_rows, 4):
            rows.append("\t".join([name, *(make() for make in makers)]))
        return Block("table", "\n".join(rows))

    def _column_maker(self) -> Callable[[], str]:
        share = self.rng.random()
        if share < 0.12:
            return lambda: self.label(3)
        if share < 0.2:
            marks = draw_item(self.rng, (("yes", "no"), ("Yes", "No", "n/a"), ("+", "-"), ("high", "low", "medium")))
            return lambda: draw_item(self.rng, marks)
        return self._number_maker()

    def _number_maker(self) -> Callable[[], str]:
        rng = self.rng
        kind, sign = int(rng.integers(6)), draw_item(rng, SIGNS)
        if kind == 0:
            digits, top = int(rng.integers(1, 4)), 10.0 ** rng.integers(0, 4)
            return lambda: f"{rng.uniform(0, top):.{digits}f}"
        if kind == 1:
            most = 10 ** int(rng.integers(4, 8))
            return lambda: f"{rng.integers(most):,}"
        if kind == 2:
            money = draw_item(rng, MONEY)
            return lambda: f"{money}{rng.uniform(1, 5000):,.2f}"
        if kind == 3:
            return lambda: f"{rng.uniform(0, 100):.1f}%"
        if kind == 4:
            return lambda: f"{rng.uniform(-9, 9):+.1f}"
        size = 10 ** int(rng.integers(1, 5))
        return lambda: f"{rng.integers(size)}{sign}"
