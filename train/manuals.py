"""Reads a manual page of Unix as pages of blocks, from what groff sets of it in lines of even length."""

import gzip
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from moca_rag.errors import DocumentError, one_line
from moca_rag.textlayer import clean_word

from .blocks import merge_items, paginate
from .documents import Block, PageText
from .markup import clean_code

LINE_SIGNS = 78
GROFF = (
    *("groff", "-S", "-t", "-Kutf8", "-mandoc", "-Tutf8", f"-rLL={LINE_SIGNS}n"),
    *("-P-c", "-P-b", "-P-o", "-P-u"),  # no signs struck twice, no colours
)
RAGGED = (
    b".nh\n.de hy\n..\n.na\n.de ad\n..\n"  # words whole and one space between them: a filled line is told by its length
)
SECONDS = 60
BODY_INDENT = 5  # signs; what stands less deep is a heading
SLACK = 3  # signs by which a filled line may be shorter than it could be
GAP = re.compile(r"(?<=[^\s.!?:;)\"'*]) {2,}(?=\S)|(?<=\S) {3,}(?=\S)")  # two spaces end a sentence, too
RULES = str.maketrans("│┃║", "   ", "─━═┼┬┴├┤┌┐└┘╪╞╡")
MIN_TABLE_ROWS, MIN_EVEN_ROWS = 3, 0.7


def read_manual(path: Path) -> list[PageText]:
    """The sections of a manual page, gzipped or not; none where it only names another. The caller names the pages.

    Raises DocumentError where groff gives up.
    """
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    if re.match(rb"\s*(['.]\\\".*\s+)*\.so\s", data):
        return []
    try:
        done = subprocess.run(GROFF, input=RAGGED + data, capture_output=True, timeout=SECONDS, check=True)
    except subprocess.SubprocessError as error:
        raise DocumentError(f"groff cannot set it: {one_line(error)}", "broken") from error
    lines = done.stdout.decode(errors="replace").translate(RULES).split("\n")
    return paginate(merge_items(_read_lines([line.rstrip() for line in lines])))


def _read_lines(lines: Sequence[str]) -> Iterator[Block]:
    """Blocks of what stands between the head and the foot, which both begin at the margin as headings do."""
    margin = [index for index, line in enumerate(lines) if line[:1].strip()]
    group: list[str] = []
    for line in lines[margin[0] + 1 : margin[-1]] if margin else []:
        is_heading = bool(line[:BODY_INDENT].strip())
        if group and (not line or is_heading):
            yield from _read_group(group)
            group = []
        if is_heading:
            yield Block("heading", _join([line.capitalize() if line.isupper() else line]))
        elif line:
            group.append(line)
    if group:
        yield from _read_group(group)


def _read_group(lines: Sequence[str]) -> Iterator[Block]:
    """What stands between two empty lines: a paragraph, tags with what they mean, a table or code."""
    indents = [len(line) - len(line.lstrip()) for line in lines]
    first = min(indents)
    starts = [index for index, indent in enumerate(indents) if indent == first]
    items = [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]
    tagged = [item for item in items if len(item) > 1 or len(GAP.findall(item[0])) == 1]
    if _is_table(lines):
        yield Block("table", "\n".join("\t".join(map(clean_word, GAP.split(line.strip()))) for line in lines))
    elif indents[0] == first and len(tagged) == len(items) and all(_is_filled(item[1:]) for item in items):
        yield from (Block("list", _join(item)) for item in items)
    elif len(starts) == len(lines) and _is_filled(lines):
        yield Block("paragraph", _join(lines))
    else:
        yield Block("code", clean_code("\n".join(line[first:] for line in lines)))


def _is_filled(lines: Sequence[str]) -> bool:
    """Whether each line holds as much as it can: the next one's first word, up to a hyphen, had no room."""
    rooms = [LINE_SIGNS - SLACK - len(line) for line in lines[:-1]]
    firsts = [re.split("(?<=-)", line.split()[0])[0] for line in lines[1:]]
    return not any(GAP.search(line) for line in lines) and all(
        len(first) + 1 > room for first, room in zip(firsts, rooms, strict=True)
    )


def _is_table(lines: Sequence[str]) -> bool:
    widths = Counter(len(GAP.split(line.strip())) for line in lines)
    width, num_rows = widths.most_common(1)[0]
    return width > 1 and len(lines) >= MIN_TABLE_ROWS and num_rows >= MIN_EVEN_ROWS * len(lines)


def _join(lines: Sequence[str]) -> str:
    text = re.sub(r"(?<=\w-)\n(?=\w)", "", "\n".join(line.strip() for line in lines))
    return clean_word(" ".join(text.split()))
