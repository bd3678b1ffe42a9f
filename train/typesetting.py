"""Sets the blocks of a page, headings, paragraphs, lists, code, captions and tables, as strips in the page's style."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from .canvas import Canvas, Colour
from .documents import Block, BlockKind
from .faces import Face, Family, Piece, TypeSet, draw_item
from .strips import Strip, Voice, enclose, join_pieces, part_strips, set_beside, set_rule, set_text, shape_words
from .styles import WHITE, PageStyle, blend
from .tabular import TableStyle, set_table

BLOCK_JOINT = "\n\n"
MARKED = re.compile(r"^(\d+(?:\.\d+)*[.)]?|[A-Z]\.|[•▪◦‣*–—·-])(\s|$)")
SET_OFF = ("table", "code", "caption")
AIR = 0.6  # of a line, before and after what is set off
MAX_BOXED_LINES = 14
MAX_CODE_COLUMNS = 400
WIDE_CELL = 0.55  # ems: wider mono letters are set smaller than the text around them
CAPTION = re.compile(r"^((?:Figure|Fig\.|Table|Listing|Example|Chart)\s*[\d.]*[:.]?)\s+(.*)", re.DOTALL)


class Typesetter:
    """Turns blocks into strips for columns of any width; it counts the headings that it numbers."""

    def __init__(self, style: PageStyle, types: TypeSet, rng: np.random.Generator) -> None:
        self.style, self.types, self.rng = style, types, rng
        self._section = [int(rng.integers(1, 9)), int(rng.integers(0, 6))]
        self._setters: dict[BlockKind, Callable[[str, float, Voice], list[Strip]]] = {
            "heading": self.set_heading,
            "paragraph": self.set_paragraph,
            "list": self.set_list,
            "code": self.set_code,
            "caption": self.set_caption,
            "table": self.set_table,
        }

    def set_block(self, block: Block, width: float, voice: Voice | None = None) -> list[Strip]:
        """The strips of a block in the page's voice or another, the gap above them included."""
        voice = voice or self.style.body
        setter = self._setters[block.kind]
        boxed = block.kind in ("paragraph", "code", "list") and self.rng.random() < self.style.box_rate
        strips = self._set_boxed(setter, block.text, width, voice) if boxed else []
        strips = strips or setter(block.text, width, voice)
        air = AIR * voice.leading if boxed or block.kind in SET_OFF else 0.0
        return part_strips(strips, air, air)

    def set_heading(self, text: str, width: float, voice: Voice) -> list[Strip]:
        """A heading that stays with what follows, numbered on from the one before where the page does so."""
        style = self.style.heading
        if style.numbered and text.strip() and not MARKED.match(text):
            text = f"{self._count_section()} {text}"
        family = self.types.heading
        faces = ((family.regular, family.italic), (family.bold, family.bold_italic))
        face = faces[style.bold][style.italic]
        pieces = shape_words(text.upper() if style.capitals else text, face, BLOCK_JOINT)
        is_band = style.trim == "band"
        large = replace(voice.sized(style.scale), ink=WHITE if is_band else style.ink)
        large = replace(large, leading=1.18 * large.size, align="centre" if style.centred else "left")
        padding = 0.4 * large.size if is_band else 0.0
        strips = set_text(pieces, width - 2 * padding, large)
        if not strips:
            return []
        gap = max(0.5 * voice.leading, self.style.gap) + 0.35 * large.size
        if is_band:
            dark = self.style.accent if sum(self.style.accent) < 400 else blend(self.style.accent, (0, 0, 0), 0.6)
            return [replace(enclose(strips, width, padding, dark), gap=gap, binds=True)]
        if style.trim == "rule":
            strips.append(set_rule(width, 0.4 * voice.size, self.style.accent))
        return [replace(strip, gap=0.0 if number else gap, binds=True) for number, strip in enumerate(strips)]

    def set_paragraph(self, text: str, width: float, voice: Voice) -> list[Strip]:
        """Running text, now and then with words in italics, bold or mono."""
        pieces = self.shape_run(text, self.types.body, BLOCK_JOINT)
        return part_strips(set_text(pieces, width, voice, min(self.style.indent, width / 8)), self.style.gap)

    def set_list(self, text: str, width: float, voice: Voice) -> list[Strip]:
        """Items with bullets, or numbers, beside them, where they bring none of their own."""
        items = [item.strip() for item in text.split("\n") if item.strip()]
        counts = self.rng.random() < 0.25
        regular = self.types.body.regular
        hang = (2.0 if counts else 1.4) * voice.size
        strips: list[Strip] = []
        for number, item in enumerate(items, 1):
            joint = "\n" if strips else BLOCK_JOINT
            mark = f"{number}." if counts else self.style.bullet
            if MARKED.match(item):
                mark, _, item = item.partition(" ")
            marks = set_text(shape_words(mark, regular, joint), hang, replace(voice, align="left"))
            lines = set_text(self.shape_run(item, self.types.body, " " if marks else joint), width - 2 * hang, voice)
            if not lines:
                continue
            first = set_beside([(0.5 * hang, marks[:1]), (1.5 * hang, lines[:1])])
            rest = [set_beside([(1.5 * hang, [line])]) for line in lines[1:]]
            strips += part_strips([first, *rest], self.style.gap if number == 1 else 0.15 * voice.size)
        return strips

    def set_code(self, text: str, width: float, voice: Voice) -> list[Strip]:
        """Lines of a program in mono, each on its own line with its indent; what is wider than the column is cut."""
        face = self.types.mono.regular
        cell = face.advances["n"]
        small = voice.sized(1.0 if cell < WIDE_CELL else 0.88)
        height = max(1.15 * small.size, (face.ascent + face.descent) * small.size + 0.5)
        strips: list[Strip] = []
        for line in text.expandtabs(4).split("\n"):
            pieces, lefts = _shape_code(line[:MAX_CODE_COLUMNS], face, "\n" if strips else BLOCK_JOINT, cell)
            spots = [left * small.size for left in lefts]
            fits = sum(x + piece.width * small.size <= width for piece, x in zip(pieces, spots, strict=True))
            strips.append(Strip(height, partial(_write_spots, pieces[:fits], spots[:fits], small, face)))
        return strips

    def set_caption(self, text: str, width: float, voice: Voice) -> list[Strip]:
        """Small type, its label in bold; a short one is centred."""
        family = self.types.body
        small = voice.sized(0.9)
        found = CAPTION.match(text)
        label, rest = found.groups() if found else ("", text)
        pieces = [family.bold.shape(word) for word in label.split()]
        face = draw_item(self.rng, (family.regular, family.italic))
        pieces = join_pieces([*pieces, *(face.shape(word) for word in rest.split())], BLOCK_JOINT)
        strips = set_text(pieces, width, replace(small, align="left"))
        if len(strips) == 1:
            strips = set_text(pieces, width, replace(small, align="centre"))
        return strips

    def set_table(self, text: str, width: float, voice: Voice) -> list[Strip]:
        """A table in the body's family."""
        tint = blend(self.style.paper, self.style.accent, 0.14)
        bold_head, centred = (bool(self.rng.random() < rate) for rate in (0.75, 0.6))
        style = TableStyle(self.style.table_rules, voice.ink, tint, bold_head, centred)
        return set_table(text, self.types.body, width, voice, style)

    def shape_run(self, text: str, family: Family, joint: str) -> list[Piece]:
        """Words of a text, runs of one to four of them set apart as often as the page's style says."""
        words = text.split()
        pieces = [family.regular.shape(word) for word in words]
        if words and self.rng.random() < self.style.emphasis:
            for _ in range(1 + len(words) // 60):
                start, length = int(self.rng.integers(len(words))), int(self.rng.integers(1, 5))
                face: Face = draw_item(self.rng, (family.italic, family.bold, self.types.mono.regular))
                pieces[start : start + length] = [face.shape(word) for word in words[start : start + length]]
        return join_pieces(pieces, joint)

    def _set_boxed(
        self, setter: Callable[[str, float, Voice], list[Strip]], text: str, width: float, voice: Voice
    ) -> list[Strip]:
        """A short block in a tinted or framed box; nothing where it is too long for one."""
        padding = 0.7 * voice.size
        strips = setter(text, width - 2 * padding, voice)
        if not 0 < len(strips) <= MAX_BOXED_LINES:
            return []
        tint = blend(self.style.paper, self.style.accent, 0.1) if self.rng.random() < 0.7 else None
        edge: Colour | None = self.style.accent if tint is None or self.rng.random() < 0.3 else None
        return [enclose(strips, width, padding, tint, edge)]

    def _count_section(self) -> str:
        if self.rng.random() < 0.3:
            self._section = [self._section[0] + 1, 0]
            return str(self._section[0])
        self._section[1] += 1
        return f"{self._section[0]}.{self._section[1]}"


def _shape_code(line: str, face: Face, joint: str, cell: float) -> tuple[list[Piece], list[float]]:
    """A line's words, with the spaces before them, and where they stand in ems."""
    pieces: list[Piece] = []
    lefts: list[float] = []
    last = 0
    for found in re.finditer(r"\S+", line):
        spaces = " " * (found.start() - last)
        piece = face.shape(found.group(), spaces if pieces else joint + spaces)
        if piece.text:
            pieces.append(piece)
            lefts.append(found.start() * cell)
            last = found.end()
    return pieces, lefts


def _write_spots(
    pieces: Sequence[Piece], spots: Sequence[float], voice: Voice, face: Face, canvas: Canvas, left: float, top: float
) -> None:
    canvas.write(pieces, [left + spot for spot in spots], top + face.ascent * voice.size, voice.size, voice.ink)
