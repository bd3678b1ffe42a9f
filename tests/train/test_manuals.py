"""Manual pages as blocks: sections, options with what they do, code and tables, from what groff sets."""

import gzip
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from moca_rag.train.documents import Block
from moca_rag.train.manuals import read_manual

from moca_rag.errors import DocumentError

pytestmark = pytest.mark.skipif(shutil.which("groff") is None, reason="manual pages are set by groff")

PAGE = """.TH PUMP 1 2020-01-01 "Harbour" "Pumps"
.SH NAME
pump \\- move water out of a ship
.SH DESCRIPTION
The pump moves water out of the ship until it is told to stop, or until there is no water left.
It is oiled by its keeper; see also its well-known handbook.  Its second sentence goes on for quite a while here.
.SS Keepers and seals
.TP
.BR \\-f ", " \\-\\-fast
Move twice as much water in the same time, which costs twice as much oil and three times as much coal.
.TP
.B \\-q
Say nothing.
.PP
.nf
pump --fast
    --until dry
report
.fi
.SH FILES
.TS
l l l.
ship	pumps	keepers
north	4	2
south	6	3
.TE
"""


def read(path: Path, text: str = PAGE) -> list[Block]:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return [block for page in read_manual(path) for block in page.blocks]


@pytest.mark.parametrize("name", ["pump.1", "pump.1.gz"])
def test_a_manual_page_becomes_blocks(tmp_path: Path, name: str) -> None:
    assert [(block.kind, block.text) for block in read(tmp_path / name)] == [
        ("heading", "Name"),
        ("paragraph", "pump - move water out of a ship"),
        ("heading", "Description"),
        (
            "paragraph",
            "The pump moves water out of the ship until it is told to stop, or until there is no water left. It is oiled by "
            "its keeper; see also its well-known handbook. Its second sentence goes on for quite a while here.",
        ),
        ("heading", "Keepers and seals"),
        (
            "list",
            "-f, --fast Move twice as much water in the same time, which costs twice as much oil and three times as much "
            "coal.\n-q Say nothing.",
        ),
        ("code", "pump --fast\n    --until dry\nreport"),
        ("heading", "Files"),
        ("table", "ship\tpumps\tkeepers\nnorth\t4\t2\nsouth\t6\t3"),
    ]


def test_a_page_that_only_names_another_is_none(tmp_path: Path) -> None:
    assert read(tmp_path / "link.1", '.\\" A comment\n.so man1/pump.1\n') == []


@pytest.mark.parametrize("request_", ["sy touch {}", "pso touch {}", "open out {}"])
def test_a_page_runs_no_command_and_writes_no_file(tmp_path: Path, request_: str) -> None:
    proof = tmp_path / "proof"
    with suppress(DocumentError):  # groff may refuse the whole page
        read(tmp_path / "evil.1", f".TH A 1\n.SH NAME\n.{request_.format(proof)}\ntext\n")
    assert not proof.exists()
