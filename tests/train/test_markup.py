"""Manuals in HTML as pages of blocks: kinds from tags, data told from layout, navigation left out."""

from pathlib import Path

import pytest
from moca_rag.train.documents import Block
from moca_rag.train.markup import read_markup

PAGE = """<html><head><title>Hidden</title><style>p {}</style></head><body class="sidebar-on">
<div class="navheader"><p>Home of <div>all</div> pumps</p></div>
<h1>Oiling the pump<a class="headerlink" href="#x">¶</a></h1>
<p>The pump is oiled <b>every</b>
   ninety&nbsp;days, the &#64257;rst time by its maker.<p>Nobody closed the paragraph before.
<ul><li>Open the lid<li><p>Fill in oil</p><ul><li>not petrol</li></ul></ul>
Text after the list.
<pre>
if old:
    replace(seal)   &amp;&amp; go

</pre>
<table><caption>Parts and days</caption><tr><th>part<th>days</tr><tr><td>seal</td><td>90</td></tr></table>
<table><tr><td><h2>Left</h2></td><td>None</td></tr><tr><td>a</td><td>b</td></tr></table>
<table><tr><td>One</td><td>The words of a whole column stand in this cell of a table that is none, for it holds a text
and not a number, a name or a short phrase as the cells of a table do, so that it is read by itself, from its
first word on and to the last one that it has.</td></tr><tr><td>c</td><td>d</td></tr></table>
<script>var x = "<p>no</p>";</script></body></html>"""


def read(folder: Path, *pages: str) -> list[list[Block]]:
    paths = [folder / f"{number}.html" for number in range(len(pages))]
    for path, text in zip(paths, pages, strict=True):
        path.write_text(text, encoding="utf-8")
    return [list(page.blocks) for page in read_markup(paths)]


def test_tags_decide_the_kind_and_what_is_hidden_stays_hidden(tmp_path: Path) -> None:
    (blocks,) = read(tmp_path, PAGE)
    assert [(block.kind, block.text) for block in blocks] == [
        ("heading", "Oiling the pump"),
        ("paragraph", "The pump is oiled every ninety days, the first time by its maker."),
        ("paragraph", "Nobody closed the paragraph before."),
        ("list", "Open the lid\nFill in oil\nnot petrol"),
        ("paragraph", "Text after the list."),
        ("code", "if old:\n    replace(seal)   && go"),
        ("caption", "Parts and days"),
        ("table", "part\tdays\nseal\t90"),
        ("heading", "Left"),
        *(("paragraph", text) for text in ("None", "a", "b", "One")),
        (
            "paragraph",
            "The words of a whole column stand in this cell of a table that is none, for it holds a text and not a number, "
            "a name or a short phrase as the cells of a table do, so that it is read by itself, from its first word on and "
            "to the last one that it has.",
        ),
        *(("paragraph", text) for text in ("c", "d")),
    ]


def test_what_returns_in_file_after_file_is_left_out(tmp_path: Path) -> None:
    pages = [f"<p>Next chapter of the manual</p><p>Only chapter {'abcd'[number]} says this.</p>" for number in range(4)]
    assert read(tmp_path, *pages) == [
        [Block("paragraph", f"Only chapter {'abcd'[number]} says this.")] for number in range(4)
    ]


def test_files_follow_one_another_on_numbered_pages(tmp_path: Path) -> None:
    words = "".join(f"<p>{letter} {'word ' * 80}</p>" for letter in "abcdefghijkl")
    (tmp_path / "a.html").write_text(words)
    (tmp_path / "b.html").write_bytes(b"<p>caf\xe9 in Latin-1")
    pages = read_markup([tmp_path / "a.html", tmp_path / "b.html"])
    assert [page.number for page in pages] == list(range(1, len(pages) + 1))
    assert pages[-1].blocks == (Block("paragraph", "café in Latin-1"),)
    assert len(pages) > 2


@pytest.mark.parametrize(
    "text", ["", "<", "<table><tr><td>", "</li></table></p>", "<![CDATA[", "<pre><h1><ul></pre>x y"]
)
def test_broken_markup_ends_nothing(tmp_path: Path, text: str) -> None:
    assert len(read(tmp_path, text)) <= 1
