"""Rows of stage two out of plain lists: a word or sentence a line, to be found among a few others.

What a teacher makes of such texts is what they are for: words that documents seldom use, or use in one sense.
"""

import gzip
import hashlib
from pathlib import Path

import numpy as np

from moca_rag.errors import ConfigError, one_line

from .corruption import derive_seed
from .numbered import NumberedRows
from .rows import PairRow, Side
from .settings import Source

MOST_OTHERS = 4
MOST_WORDS = 40  # of the lines together: no other is taken beyond them
JOINS = (" ", ", ", "; ", " and ", " of ")


class LineRows(NumberedRows[PairRow]):
    """Pairs of texts: a line, and that line among others."""

    def __init__(self, source: Source) -> None:
        """Raises ConfigError where the file is no text, or has no two lines. Without a limit each line makes one row."""
        path = Path(source.path)
        try:
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            lines = [" ".join(line.split()) for line in content.decode("utf-8").splitlines()]
        except (OSError, EOFError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} is no list of lines in UTF-8 ({one_line(error)}): give a plain text") from error
        self._lines = list(dict.fromkeys(line for line in lines if line))
        if len(self._lines) < 2:
            raise ConfigError(f"{path} has {len(self._lines)} lines: give a word or sentence a line, two or more")
        super().__init__(source, len(self._lines))

    def _make(self, index: int) -> PairRow:
        rng = np.random.default_rng(derive_seed(0, index, "lines"))
        asked = self._lines[index % len(self._lines)]
        found, number = [asked], int(rng.integers(1, MOST_OTHERS + 1))
        for place in rng.integers(len(self._lines), size=number).tolist():
            if len(" ".join(found).split()) < MOST_WORDS:
                found.insert(int(rng.integers(len(found) + 1)), self._lines[place])
        text = found[0]
        for line in found[1:]:
            text += JOINS[int(rng.integers(len(JOINS)))] + line
        return PairRow.of(self._task(index), Side(asked), Side(text), [])

    def _task(self, index: int) -> str:
        return f"lines-{self.name}"

    def fingerprint(self) -> str:
        """A hash of the lines."""
        content = "\n".join((str(self._size), *self._lines)).encode()
        return hashlib.blake2b(content, digest_size=16).hexdigest()
