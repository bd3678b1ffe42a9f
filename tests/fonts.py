"""Fonts to compose pages in: those that come with the PDF reader, four faces each of three families."""

from pathlib import Path

import pymupdf

NAMES = ("helv", "heit", "hebo", "hebi", "tiro", "tiit", "tibo", "tibi", "cour", "coit", "cobo", "cobi")


def write_fonts(folder: Path) -> Path:
    """Sans (helv ...), serif (tiro ...) and mono (cour ...), upright, italic, bold and both."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        (folder / f"{name}.otf").write_bytes(pymupdf.Font(name).buffer)
    return folder
