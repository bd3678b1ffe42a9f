"""Cuts the upright, bold and italic faces of font packages to Latin letters, so that many of them travel lightly."""

import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from moca_rag.errors import ConfigError

from .debian import list_files

SUFFIXES = (".ttf", ".otf")
STYLES = frozenset("regular book roman normal text bold italic oblique slanted bolditalic boldoblique".split())
# Latin with its accents, Greek, and the dashes, quotes, arrows, signs of mathematics and bullets of printed English.
RANGES = (
    *((0x20, 0x7F), (0xA0, 0x180), (0x391, 0x3CA), (0x2010, 0x2028), (0x2030, 0x203B), (0x20AC, 0x20AD)),
    *((0x2122, 0x2123), (0x2190, 0x2194), (0x2200, 0x2266), (0x25A0, 0x25D0)),
)
LATIN = frozenset(code for first, end in RANGES for code in range(first, end))
NEEDED = frozenset(code for code in range(0x20, 0x7F) if chr(code).isalnum() or chr(code) in " .,;:!?()'-")
TABLES = [
    "BASE",
    "GDEF",
    "GPOS",
    "GSUB",
    "JSTF",
    "DSIG",
    "FFTM",
    "PfEd",
    "Silf",
    "Silt",
    "Glat",
    "Gloc",
    "Feat",
    "MATH",
]
NAMES = [1, 2, 4, 6, 16, 17]  # family, style, whole name, PostScript name, family and style as typographers count them


class FontFile(NamedTuple):
    """A face that was written."""

    path: Path
    family: str
    style: str


def cut_fonts(folder: Path, patterns: Sequence[str], out: Path) -> list[FontFile]:
    """Write the text faces (upright, bold, italic) of an unpacked package as files of Latin letters, their names kept.

    Left out are other weights and widths, faces without all of English, variable fonts, and files that fonttools cannot
    read. The same package gives the same bytes. Raises ConfigError without fonttools.
    """
    try:
        from fontTools.ttLib import TTFont, TTLibError
    except ImportError as error:
        raise ConfigError("fonts are cut by fonttools, which is not here: pip install fonttools") from error
    logging.getLogger("fontTools").setLevel(logging.ERROR)  # it warns of each table that is dropped
    out.mkdir(parents=True, exist_ok=True)
    files: dict[str, FontFile] = {}
    for path in list_files(folder, patterns):
        if path.name in files or path.suffix not in SUFFIXES:
            continue
        try:
            with TTFont(path) as font:
                family, style = _read_name(font, 16, 1), _read_name(font, 17, 2)
                if is_text_style(style) and "fvar" not in font and (font.getBestCmap() or {}).keys() >= NEEDED:
                    (out / path.name).write_bytes(_cut(font))
                    files[path.name] = FontFile(out / path.name, family, style)
        except (TTLibError, OSError, KeyError):
            continue
    return list(files.values())


def is_text_style(style: str) -> bool:
    """Whether running text is set in a style; sizes in its name do not matter.

    >>> is_text_style("10 Bold Italic"), is_text_style("Condensed Light")
    (True, False)
    """
    return re.sub(r"[\W\d]", "", style).casefold() in STYLES


def _read_name(font: Any, *ids: int) -> str:
    return next((str(name) for name in map(font["name"].getDebugName, ids) if name), "")


def _cut(font: Any) -> bytes:
    from fontTools.subset import Options, Subsetter

    options = Options()
    options.drop_tables += TABLES
    options.layout_features = []
    options.name_IDs = NAMES
    options.legacy_kern = True  # the only kerning that FreeType itself applies
    options.notdef_outline = True
    subsetter = Subsetter(options)
    subsetter.populate(unicodes=LATIN & font.getBestCmap().keys())
    subsetter.subset(font)
    file = io.BytesIO()
    font.recalcTimestamp = False  # equal packages give equal files
    font.save(file)
    return file.getvalue()
