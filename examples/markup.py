"""Text files to blocks: a TOML head between `+++` lines, then headings, paragraphs, lists, tables and fenced figures.

    # Heading            > a note          ```chart height=180      ```draw floor_plan height=240
    - a list item        >! a warning      kind = "bar"             Caption of the drawing
    1. a step            ^ small print     ...                      ```
    | a | table |        ---  new page     ```                      (also: cover, title, facts)

A table may follow a line `Table: caption`; a cell `+` is the sum of the numbers above it, in their format.
"""

import re
import tomllib
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).parent / "texts"
CLOSERS = "。、」）』・％ー！？っゃゅょ"
NUMBER = re.compile(r"[−+-]?\d[\d ]*(?:[.,]\d+)?")
BREAK = re.compile(r"(?<!\d) | (?!\d{3}\b)")  # a space, unless it parts the thousands of a number

Word = list[tuple[str, str]]


@dataclass(frozen=True)
class Block:
    """One piece of a document: `kind` names it, `text` or `rows` fill it, `options` come from a fence's first line."""

    kind: str
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)


def read_document(name: str) -> tuple[dict[str, Any], list[Block]]:
    """The head and the blocks of `texts/<name>.md`."""
    _, head, body = (TEXTS / f"{name}.md").read_text(encoding="utf-8").split("+++\n", 2)
    return tomllib.loads(head), parse_blocks(body)


def read_data(name: str) -> dict[str, Any]:
    """The tables of `texts/<name>.toml`."""
    return tomllib.loads((TEXTS / f"{name}.toml").read_text(encoding="utf-8"))


def parse_blocks(body: str) -> list[Block]:
    """Cut a text into its blocks."""
    blocks: list[Block] = []
    lines = iter(body.splitlines())
    chunk: list[str] = []
    for line in lines:
        if line.startswith("```"):
            blocks += parse_chunk(chunk)
            chunk = []
            inside = []
            for inner in lines:
                if inner.startswith("```"):
                    break
                inside.append(inner)
            blocks.append(parse_fence(line[3:], inside))
        elif line.strip():
            chunk.append(line)
        else:
            blocks += parse_chunk(chunk)
            chunk = []
    return blocks + parse_chunk(chunk)


def parse_fence(head: str, inside: list[str]) -> Block:
    """A fenced figure: its kind, then a bare word (its name) and `key=value` options."""
    kind, *words = head.split()
    options = dict(word.split("=", 1) if "=" in word else ("name", word) for word in words)
    return Block(kind, "\n".join(inside).strip(), options=options)


def parse_chunk(chunk: list[str]) -> list[Block]:
    """Lines without an empty one between them: a list, a table, or one block."""
    if not chunk:
        return []
    first = chunk[0]
    options = {}
    if first.startswith("Table:"):
        options, chunk = {"caption": first[6:].strip()}, chunk[1:]
        first = chunk[0]
    if first.startswith("|"):
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in chunk]
        return [Block("table", rows=fill_sums(rows), options=options)]
    if first.strip() == "---":
        return [Block("page")]
    if re.match(r"#+ ", first):
        level, text = first.split(" ", 1)
        return [Block("heading", text, options={"level": str(len(level))}), *parse_chunk(chunk[1:])]
    if re.match(r"- |\d+\. ", first):
        items: list[str] = []
        for line in chunk:
            if re.match(r"- |\d+\. ", line):
                items.append(line)
            else:
                items[-1] += " " + line.strip()
        marks, texts = zip(*(item.split(" ", 1) for item in items), strict=True)
        gaps = ["0.25"] * (len(items) - 1) + ["0.8"]
        return [Block("item", t, options={"mark": m, "after": a}) for t, m, a in zip(texts, marks, gaps, strict=True)]
    for sign, kind in ((">! ", "warning"), ("> ", "note"), ("^ ", "small")):
        if first.startswith(sign):
            return [Block(kind, join_lines([line.removeprefix(sign).removeprefix("> ") for line in chunk]))]
    return [Block("paragraph", join_lines(chunk))]


def join_lines(lines: list[str]) -> str:
    """The lines of one paragraph; a trailing backslash keeps its line break, Japanese lines join without a space."""
    text = "\n".join(line.strip() for line in lines)
    text = re.sub(r"(?<=[^\x00-\xff])\n(?=[^\x00-\xff])", "", text)
    return re.sub(r"(?<!\\)\n", " ", text).replace("\\\n", "\n")


def parse_number(cell: str) -> Decimal | None:
    """The number that a table cell starts with, or None; thousands may stand apart by spaces."""
    found = NUMBER.match(cell.strip("*"))
    if not found:
        return None
    return Decimal(found[0].replace(" ", "").replace("−", "-").replace(",", "."))


def fill_sums(rows: list[list[str]]) -> list[list[str]]:
    """Replace every cell `+` by the sum of the numbers above it, down from the last such sum or the head.

    >>> fill_sums([["Year", "Crashes"], ["2021", "9"], ["2022", "1 300"], ["Sum", "+"]])[-1]
    ['Sum', '**1 309**']
    """
    starts = [1] * len(rows[0])
    for number, row in enumerate(rows):
        for column, cell in enumerate(row):
            if cell.strip("*") != "+":
                continue
            above = [rows[i][column] for i in range(starts[column], number)]
            values = [value for value in map(parse_number, above) if value is not None]
            comma = any("," in cell for cell in above)
            text = f"{sum(values):,}".replace(",", " ").replace("-", "−")
            row[column] = f"**{text.replace('.', ',') if comma else text}**"
            starts[column] = number + 1
    return rows


def split_words(text: str) -> list[Word]:
    """Words as runs of (text, style); style is "" or "b" or "i".

    >>> split_words("**Wait** 1 350 s, *then* go")
    [[('Wait', 'b')], [('1 350', '')], [('s,', '')], [('then', 'i')], [('go', '')]]
    """
    words: list[Word] = [[]]
    for run in re.split(r"(\*\*.+?\*\*|\*.+?\*)", text):
        style = "b" if run.startswith("**") else "i" if run.startswith("*") and len(run) > 2 else ""
        for index, piece in enumerate(BREAK.split(run.strip("*") if style else run)):
            if index:
                words.append([])
            if piece:
                words[-1].append((piece, style))
    return [word for word in words if word]


def split_signs(text: str) -> list[Word]:
    """Japanese text as breakable signs: closing marks stay with the sign before them, Latin words stay whole.

    >>> [word[0][0] for word in split_signs("水は、pH 7です。")]
    ['水', 'は、', 'pH', ' ', '7', 'で', 'す。']
    """
    signs: list[str] = []
    for sign in re.findall(r"[A-Za-z0-9.,:%/-]+|.", text.replace("**", "")):
        if signs and (sign[0] in CLOSERS or signs[-1][-1] in "「（『"):
            signs[-1] += sign
        else:
            signs.append(sign)
    return [[(sign, "")] for sign in signs]
